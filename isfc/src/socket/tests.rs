//! The core's rules, one by one. tests/sim_socket.rs has them all at once.

use super::wire::{PeerMessage, WireError};
use super::*;

const HIGH: Priority = Priority::High;
const GONE: fn(bool) -> Receipt = |may_have_been_delivered| Receipt::PeerGone { may_have_been_delivered };

/// One side, and what it was told.
struct Side {
    core: Core,
    epoch: Epoch,
    effects: Vec<Effect>,
}

impl Side {
    fn new(instance: u64) -> Self {
        let mut core = Core::new(instance);
        let mut effects = Vec::new();
        let epoch = core.link_up(&mut effects);
        Self { core, epoch, effects }
    }

    fn open(&mut self, name: &str, window: u16) -> EndpointId {
        self.core.open(EndpointName::new(name).unwrap(), HIGH, window).unwrap()
    }

    fn send(&mut self, from: EndpointId, body: &[u8]) -> Result<MessageId, SendError> {
        self.core.send(from, body, &mut self.effects)
    }

    fn outgoing(&mut self) -> Vec<(Priority, Vec<u8>)> {
        let mut all = Vec::new();
        for priority in PRIORITIES {
            let mut give = |bytes: &[u8]| -> Result<(), ()> {
                all.push((priority, bytes.to_vec()));
                Ok(())
            };
            while self.core.transmit(priority, &mut give).unwrap() {}
        }
        all
    }

    fn hear(&mut self, message: &PeerMessage) -> Result<(), ProtocolError> {
        self.core.peer_message(self.epoch, HIGH, &message.encode(), &mut self.effects)
    }

    fn link_down(&mut self) {
        self.core.link_down(self.epoch, &mut self.effects);
    }

    /// The receipts since the last call.
    fn receipts(&mut self) -> Vec<(EndpointId, MessageId, Receipt)> {
        let told = std::mem::take(&mut self.effects);
        let receipts = told.into_iter().filter_map(|effect| match effect {
            Effect::Settled(endpoint, message, receipt) => Some((endpoint, message, receipt)),
            _ => None,
        });
        receipts.collect()
    }
}

/// Carries everything that waits on both sides over.
fn exchange(near: &mut Side, far: &mut Side) {
    for (priority, bytes) in near.outgoing() {
        far.core.peer_message(far.epoch, priority, &bytes, &mut far.effects).unwrap();
    }
    for (priority, bytes) in far.outgoing() {
        near.core.peer_message(near.epoch, priority, &bytes, &mut near.effects).unwrap();
    }
}

/// Two sides with an endpoint of the same name that know of each other.
fn pair(window: u16) -> (Side, EndpointId, Side, EndpointId) {
    let (mut near, mut far) = (Side::new(1), Side::new(2));
    let (here, there) = (near.open("SSILOCK", window), far.open("ssilock", window));
    exchange(&mut near, &mut far);
    (near, here, far, there)
}

fn named(name: &str) -> EndpointName {
    EndpointName::new(name).unwrap()
}

#[test]
fn delivered_is_told_when_the_application_has_taken_the_message() {
    let (mut near, here, mut far, there) = pair(4);
    let message = near.send(here, b"hold").unwrap();
    exchange(&mut near, &mut far);
    assert_eq!(near.receipts(), []);
    assert!(far.effects.contains(&Effect::Readable(there)));
    let received = far.core.take(there).unwrap();
    assert_eq!((received.body, received.epoch), (b"hold".to_vec(), far.epoch));
    exchange(&mut near, &mut far);
    assert_eq!(near.receipts(), [(here, message, Receipt::Delivered)]);
    assert_eq!(far.core.take(there), None);
}

#[test]
fn nothing_is_sent_before_the_peer_has_told_its_endpoints() {
    let mut near = Side::new(1);
    let here = near.open("LGR", 4);
    assert_eq!(near.send(here, b"x"), Err(SendError::WouldBlock));
    assert_eq!(near.core.peer_instance(), None);
    near.hear(&PeerMessage::Open { name: named("LGR"), incarnation: 1, window: 1 }).unwrap();
    near.hear(&PeerMessage::Close { name: named("LGR"), incarnation: 1, number: 0 }).unwrap();
    near.hear(&PeerMessage::Open { name: named("LGR"), incarnation: 2, window: 1 }).unwrap();
    assert_eq!(near.send(here, b"x"), Err(SendError::WouldBlock));
    assert!(!near.core.peer_has(here));
    near.effects.clear();
    near.hear(&PeerMessage::Ready { instance: 7 }).unwrap();
    assert_eq!(near.effects, [Effect::Sendable(here)]);
    assert_eq!(near.core.peer_instance(), Some(7));
    assert!(near.core.peer_has(here) && near.send(here, b"x").is_ok());
    near.outgoing();
    near.hear(&PeerMessage::Close { name: named("LGR"), incarnation: 2, number: 1 }).unwrap();
    assert_eq!(near.receipts().len(), 1);
    let message = near.send(here, b"x").unwrap();
    assert_eq!(near.receipts(), [(here, message, Receipt::Refused(Refusal::NoSuchEndpoint))]);
}

#[test]
fn the_window_stops_the_sender_and_opens_again() {
    let (mut near, here, mut far, there) = pair(2);
    let other = (near.open("SSIMEMB", 1), far.open("SSIMEMB", 1));
    exchange(&mut near, &mut far);
    near.send(here, b"1").unwrap();
    near.send(here, b"2").unwrap();
    assert_eq!(near.send(here, b"3"), Err(SendError::WouldBlock));
    near.send(other.0, b"another endpoint goes on").unwrap();
    exchange(&mut near, &mut far);
    assert_eq!((far.core.waiting(there), far.core.waiting(other.1)), (2, 1));
    assert_eq!(near.send(here, b"3"), Err(SendError::WouldBlock));
    far.core.take(there).unwrap();
    near.effects.clear();
    exchange(&mut near, &mut far);
    assert!(near.effects.contains(&Effect::Sendable(here)));
    assert!(near.send(here, b"3").is_ok());
}

#[test]
fn closing_refuses_what_waits_and_what_is_on_its_way() {
    let (mut near, here, mut far, there) = pair(4);
    let sent: Vec<_> = (0..3).map(|_| near.send(here, b"x").unwrap()).collect();
    exchange(&mut near, &mut far);
    let late = near.send(here, b"crosses the close").unwrap();
    far.core.take(there).unwrap();
    far.core.close(there);
    exchange(&mut near, &mut far);
    let refused = Receipt::Refused(Refusal::Closed);
    let told = [(sent[0], Receipt::Delivered), (sent[1], refused), (sent[2], refused), (late, refused)];
    assert_eq!(near.receipts(), told.map(|(message, receipt)| (here, message, receipt)));
    let message = near.send(here, b"x").unwrap();
    assert_eq!(near.receipts(), [(here, message, Receipt::Refused(Refusal::NoSuchEndpoint))]);
}

#[test]
fn nothing_sent_to_an_earlier_incarnation_gets_to_a_later_one() {
    let (mut near, here, mut far, there) = pair(4);
    let crosses = near.send(here, b"for the first").unwrap();
    far.core.close(there);
    let again = far.open("SSILOCK", 4);
    exchange(&mut near, &mut far);
    assert_eq!(far.core.waiting(again), 0);
    assert_eq!(near.receipts(), [(here, crosses, Receipt::Refused(Refusal::Closed))]);
    near.send(here, b"for the second").unwrap();
    exchange(&mut near, &mut far);
    assert_eq!(far.core.take(again).unwrap().body, b"for the second");
}

#[test]
fn a_closed_endpoint_still_gets_its_receipts_and_shares_the_window_with_the_next() {
    let (mut near, here, mut far, there) = pair(1);
    let message = near.send(here, b"last words").unwrap();
    near.core.close(here);
    assert_eq!(near.send(here, b"x"), Err(SendError::NotOpen));
    let next = near.open("SSILOCK", 1);
    assert_eq!(near.send(next, b"x"), Err(SendError::WouldBlock));
    exchange(&mut near, &mut far);
    assert_eq!(far.core.take(there).unwrap().body, b"last words");
    exchange(&mut near, &mut far);
    assert_eq!(near.receipts(), [(here, message, Receipt::Delivered)]);
    assert!(near.send(next, b"x").is_ok());
}

#[test]
fn two_priorities_for_one_name_refuse_each_other() {
    let (mut near, mut far) = (Side::new(1), Side::new(2));
    let here = near.open("LGR", 4);
    let there = far.core.open(named("LGR"), Priority::Low, 4).unwrap();
    exchange(&mut near, &mut far);
    let messages = (near.send(here, b"x").unwrap(), far.send(there, b"x").unwrap());
    assert_eq!(near.receipts(), [(here, messages.0, Receipt::Refused(Refusal::Priority))]);
    assert_eq!(far.receipts(), [(there, messages.1, Receipt::Refused(Refusal::Priority))]);
}

#[test]
fn a_lost_link_tells_what_can_have_been_delivered() {
    let (mut near, here, mut far, there) = pair(4);
    let sent = near.send(here, b"1").unwrap();
    exchange(&mut near, &mut far);
    let kept = near.send(here, b"2").unwrap();
    near.link_down();
    assert_eq!(near.receipts(), [(here, sent, GONE(true)), (here, kept, GONE(false))]);
    assert_eq!(near.send(here, b"3"), Err(SendError::PeerGone));
    far.link_down();
    assert_eq!(far.core.take(there), None);
}

#[test]
fn endpoints_outlive_links_and_old_bytes_do_not() {
    let (mut near, here, mut far, there) = pair(2);
    near.send(here, b"old").unwrap();
    let old = near.outgoing();
    let old_epoch = far.epoch;
    // One side hears of the loss, the other just gets a new link.
    near.link_down();
    near.epoch = near.core.link_up(&mut near.effects);
    far.epoch = far.core.link_up(&mut far.effects);
    assert!(far.epoch > old_epoch);
    assert_eq!(near.receipts().len(), 1);
    exchange(&mut near, &mut far);
    for (priority, bytes) in old {
        far.core.peer_message(old_epoch, priority, &bytes, &mut far.effects).unwrap();
    }
    far.core.link_down(old_epoch, &mut far.effects);
    near.send(here, b"new").unwrap();
    exchange(&mut near, &mut far);
    assert_eq!(far.core.take(there), Some(Received { epoch: far.epoch, body: b"new".to_vec() }));
    assert_eq!(far.core.take(there), None);
}

#[test]
fn opening_and_closing_while_nothing_moves_costs_nothing() {
    let (mut near, here, ..) = pair(4);
    near.core.close(here);
    for number in 0..10_000 {
        let id = near.open(&format!("N{number}"), 256);
        near.core.close(id);
    }
    assert_eq!(near.core.backlog(HIGH), 1);
}

#[test]
fn limits_hold_on_this_side() {
    let mut core = Core::new(1);
    assert_eq!(core.open(named("A"), HIGH, 0), Err(OpenError::Window(0)));
    assert_eq!(core.open(named("A"), HIGH, 257), Err(OpenError::Window(257)));
    let id = core.open(named("A"), HIGH, 256).unwrap();
    assert_eq!(core.open(named("A"), Priority::Low, 1), Err(OpenError::AlreadyOpen(named("A"))));
    core.open(named("B"), HIGH, 256).unwrap();
    assert_eq!(core.open(named("C"), HIGH, 1), Err(OpenError::TooMuchOpen));
    for number in 2..ENDPOINTS_MAX {
        core.open(named(&format!("L{number}")), Priority::Low, 1).unwrap();
    }
    assert_eq!(core.open(named("C"), Priority::Low, 1), Err(OpenError::TooMuchOpen));
    let long = vec![0; BODY_LEN_BYTES_MAX + 1];
    assert_eq!(core.send(id, &long, &mut Vec::new()), Err(SendError::TooLong(long.len())));
}

/// What comes of each message from a peer that has opened SSILOCK as its incarnation 5 with a window of 2, has been sent
/// one message, and talks to an endpoint LGR of window 1.
fn misbehaves(make: impl Fn(u64) -> Vec<PeerMessage>) -> ProtocolError {
    let mut near = Side::new(1);
    let here = near.open("SSILOCK", 1);
    let lgr = near.open("LGR", 1);
    near.hear(&PeerMessage::Open { name: named("SSILOCK"), incarnation: 5, window: 2 }).unwrap();
    near.hear(&PeerMessage::Ready { instance: 7 }).unwrap();
    let sent = near.send(here, b"x").unwrap();
    near.outgoing();
    assert!(near.core.peer_has(here) && !near.core.peer_has(lgr));
    let mut outcome = Ok(());
    for message in make(lgr.incarnation()) {
        outcome = outcome.and_then(|()| near.hear(&message));
    }
    // The link is over for the core, and everybody knows.
    assert_eq!(near.receipts(), [(here, sent, GONE(true))]);
    assert!(!near.core.is_up());
    outcome.unwrap_err()
}

#[test]
fn a_peer_that_breaks_the_rules_is_told_apart_and_loses_the_link() {
    let data = |name: &str, incarnation, number| PeerMessage::Data {
        name: named(name),
        incarnation,
        number,
        body: vec![],
    };
    let open = |name: &str, incarnation| PeerMessage::Open { name: named(name), incarnation, window: 256 };
    let taken = |incarnation, number| PeerMessage::Taken { name: named("SSILOCK"), incarnation, number };
    let close = |incarnation, number| PeerMessage::Close { name: named("SSILOCK"), incarnation, number };
    use ProtocolError as E;
    assert!(matches!(misbehaves(|_| vec![PeerMessage::Ready { instance: 7 }]), E::ReadyTwice));
    assert!(matches!(misbehaves(|_| vec![open("NEW", 5)]), E::Incarnation { last: 5, .. }));
    assert!(matches!(misbehaves(|_| vec![open("SSILOCK", 6)]), E::OpenTwice(_)));
    assert!(matches!(misbehaves(|_| vec![open("NEW", 6), open("MORE", 7)]), E::TooMuchOpen(_)));
    assert!(matches!(misbehaves(|_| vec![taken(4, 1)]), E::NotOpen { incarnation: 4, .. }));
    assert!(matches!(misbehaves(|_| vec![taken(5, 2)]), E::Taken { from: 1, to: 1, .. }));
    assert!(matches!(misbehaves(|_| vec![close(6, 0)]), E::NotOpen { .. }));
    assert!(matches!(misbehaves(|_| vec![close(5, 2)]), E::Taken { .. }));
    assert!(matches!(misbehaves(|lgr| vec![data("LGR", lgr + 1, 1)]), E::NeverOpened { .. }));
    assert!(matches!(misbehaves(|lgr| vec![data("SSILOCK", lgr, 1)]), E::NeverOpened { .. }));
    assert!(matches!(misbehaves(|lgr| vec![data("LGR", lgr, 2)]), E::Number { expected: 1, .. }));
    let twice = |lgr| vec![data("LGR", lgr, 1), data("LGR", lgr, 2)];
    assert!(matches!(misbehaves(twice), E::Window { window: 1, .. }));
}

#[test]
fn a_peer_that_talks_before_it_is_ready_or_as_two_or_garbage_loses_the_link() {
    let mut near = Side::new(1);
    let early = PeerMessage::Data { name: named("LGR"), incarnation: 1, number: 1, body: vec![] };
    assert_eq!(near.hear(&early), Err(ProtocolError::NotReady(named("LGR"))));
    let mut near = Side::new(1);
    near.hear(&PeerMessage::Ready { instance: 7 }).unwrap();
    let other = PeerMessage::Ready { instance: 8 }.encode();
    let error = near.core.peer_message(near.epoch, Priority::Low, &other, &mut near.effects).unwrap_err();
    assert_eq!(error, ProtocolError::TwoInstances(7, 8));
    let mut near = Side::new(1);
    let error = near.core.peer_message(near.epoch, HIGH, b"garbage", &mut near.effects).unwrap_err();
    assert_eq!(error, ProtocolError::Wire(WireError::Short(7)));
    assert_eq!(error.to_string(), "endpoints: a message of 7 bytes is shorter than its header of 32");
}

#[test]
fn sockets_and_priorities_belong_together() {
    for (priority, number) in PRIORITIES.into_iter().zip([15, 31, 63]) {
        let socket = socket_of(priority);
        assert_eq!((socket.number(), socket.priority()), (number, priority));
        assert_eq!(priority_of(socket), Some(priority));
    }
    assert_eq!(priority_of(SocketId::new(0).unwrap()), None);
}
