//! The logical link without any I/O: which message goes out, which is delivered, what is sent again.
//!
//! Messages of a socket are numbered and may travel on any device, so they can arrive out of order,
//! twice (sent again after a device died) or not at all (lost with a device). This core gives each
//! socket's messages to the caller exactly once and in order, as long as one device is left.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::DownReason;
use crate::frame::{BODY_LEN_BYTES_MAX, FrameKind};
use crate::hello::DEVICES_MAX;

/// Sockets of a link are numbered from 0 to one less than this.
pub const SOCKETS_MAX: u16 = 64;
/// Messages of one socket that may wait for their ack.
pub const UNACKED_MAX: usize = 1024;

/// Bytes of the messages of one priority that may wait for their acks. One more message, of any length, always may.
pub const UNACKED_BYTES_MAX: usize = 16 << 20;

/// Which of a link's message streams; the number also says how urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u16);

/// What goes first when several things wait for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before everything else.
    High = 0,
    /// Before transfers.
    Normal = 1,
    /// When no transfer waits.
    Low = 2,
}

impl SocketId {
    /// Socket `number`, below [`SOCKETS_MAX`].
    pub const fn new(number: u16) -> Option<Self> {
        if number < SOCKETS_MAX { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Sockets 0–15 are high, 16–31 normal, 32–63 low.
    pub const fn priority(self) -> Priority {
        match self.0 {
            0..=15 => Priority::High,
            16..=31 => Priority::Normal,
            _ => Priority::Low,
        }
    }
}

/// A frame without payload from guest storage, ready for any device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// [`FrameKind::Message`] or [`FrameKind::Ack`].
    pub kind: FrameKind,
    /// Its socket.
    pub socket: SocketId,
    /// Message number, or the last one that is acknowledged.
    pub sequence: u64,
    /// A message's bytes.
    pub body: Arc<[u8]>,
}

/// What the core wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this on any device.
    Transmit(Outgoing),
    /// Give this to the caller.
    Deliver(SocketId, Vec<u8>),
    /// The last device is gone.
    LinkDown(DownReason),
}

/// Why a call makes no sense now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// Too many messages wait for their acks.
    #[error("{UNACKED_MAX} messages or {UNACKED_BYTES_MAX} bytes of them wait for the peer to take them")]
    Backpressure,
    /// The message is longer than a frame's body.
    #[error("message of {0} bytes, at most {BODY_LEN_BYTES_MAX} allowed")]
    TooLong(usize),
    /// The peer sends more ahead of a message that is missing than a correct peer does.
    #[error("messages of {0} bytes wait for one before them, at most {UNACKED_BYTES_MAX} and one more may")]
    Early(usize),
    /// The peer numbers messages in a way no correct peer does.
    #[error("message {sequence} on socket {socket} while {expected} is the next")]
    Sequence {
        /// The socket.
        socket: u16,
        /// Number that came.
        sequence: u64,
        /// Number that is next.
        expected: u64,
    },
}

#[derive(Debug)]
struct Unacked {
    sequence: u64,
    body: Arc<[u8]>,
    carrier: Option<u8>,
}

#[derive(Debug, Default)]
struct Socket {
    next_tx: u64,
    unacked: VecDeque<Unacked>,
    next_rx: u64,
    early: BTreeMap<u64, Vec<u8>>,
}

/// The state of one side of a logical link.
#[derive(Debug)]
pub struct Core {
    devices_up: u16,
    sockets: BTreeMap<SocketId, Socket>,
    /// Bytes of unacknowledged messages, and of those that came early, by priority.
    unacked_bytes: [usize; 3],
    early_bytes: [usize; 3],
    last_reason: Option<DownReason>,
}

impl Core {
    /// A link of `devices` devices, all of them up.
    pub fn new(devices: u8) -> Self {
        debug_assert!((1..=DEVICES_MAX).contains(&devices));
        let devices_up = ((1u32 << devices) - 1) as u16;
        Self {
            devices_up,
            sockets: BTreeMap::new(),
            unacked_bytes: [0; 3],
            early_bytes: [0; 3],
            last_reason: None,
        }
    }

    /// Bit `n` set: device `n` is up.
    pub fn devices_up(&self) -> u16 {
        self.devices_up
    }

    /// Why the link is down, once it is.
    pub fn down_reason(&self) -> Option<&DownReason> {
        if self.devices_up == 0 { self.last_reason.as_ref() } else { None }
    }

    /// Numbers a message and remembers it until it is acknowledged.
    ///
    /// # Errors
    /// [`CoreError::Backpressure`], [`CoreError::TooLong`].
    pub fn send(&mut self, id: SocketId, body: Arc<[u8]>) -> Result<Outgoing, CoreError> {
        if body.len() as u64 > BODY_LEN_BYTES_MAX {
            return Err(CoreError::TooLong(body.len()));
        }
        let socket = self.sockets.entry(id).or_default();
        let waiting = &mut self.unacked_bytes[id.priority() as usize];
        if socket.unacked.len() >= UNACKED_MAX || *waiting >= UNACKED_BYTES_MAX {
            return Err(CoreError::Backpressure);
        }
        *waiting += body.len();
        let sequence = socket.next_tx;
        socket.next_tx += 1;
        socket.unacked.push_back(Unacked { sequence, body: body.clone(), carrier: None });
        Ok(Outgoing { kind: FrameKind::Message, socket: id, sequence, body })
    }

    /// Messages not yet acknowledged, over all sockets.
    pub fn unacked(&self) -> usize {
        self.sockets.values().map(|socket| socket.unacked.len()).sum()
    }

    /// `device` has taken message `sequence` to carry it.
    pub fn carried(&mut self, device: u8, id: SocketId, sequence: u64) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if let Some(message) = socket.unacked.iter_mut().find(|message| message.sequence == sequence) {
            message.carrier = Some(device);
        }
    }

    /// The peer has taken over everything up to and including `sequence`.
    pub fn ack(&mut self, id: SocketId, sequence: u64) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        while socket.unacked.front().is_some_and(|message| message.sequence <= sequence) {
            let acked = socket.unacked.pop_front().map_or(0, |message| message.body.len());
            self.unacked_bytes[id.priority() as usize] -= acked;
        }
    }

    /// A message came in on some device.
    ///
    /// # Errors
    /// [`CoreError::Sequence`] if it is further ahead than a correct peer can be.
    pub fn message(
        &mut self,
        id: SocketId,
        sequence: u64,
        body: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), CoreError> {
        let socket = self.sockets.entry(id).or_default();
        if sequence >= socket.next_rx.saturating_add(UNACKED_MAX as u64) {
            let expected = socket.next_rx;
            return Err(CoreError::Sequence { socket: id.number(), sequence, expected });
        }
        let early = &mut self.early_bytes[id.priority() as usize];
        if sequence >= socket.next_rx
            && let Entry::Vacant(place) = socket.early.entry(sequence)
        {
            *early += body.len();
            place.insert(body);
        }
        while let Some(body) = socket.early.remove(&socket.next_rx) {
            *early -= body.len();
            effects.push(Effect::Deliver(id, body));
            socket.next_rx += 1;
        }
        if *early > UNACKED_BYTES_MAX + BODY_LEN_BYTES_MAX as usize {
            return Err(CoreError::Early(*early));
        }
        effects.extend(ack_of(id, socket));
        Ok(())
    }

    /// Message `sequence` was lost on its way: it goes out again, if it has not been acknowledged since.
    pub fn message_lost(&mut self, id: SocketId, sequence: u64, effects: &mut Vec<Effect>) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if let Some(message) = socket.unacked.iter_mut().find(|message| message.sequence == sequence) {
            message.carrier = None;
            let body = message.body.clone();
            effects.push(Effect::Transmit(Outgoing { kind: FrameKind::Message, socket: id, sequence, body }));
        }
    }

    /// Number of the last message of a socket that this side has taken over from the peer.
    pub fn taken_over(&self, id: SocketId) -> Option<u64> {
        self.sockets.get(&id)?.next_rx.checked_sub(1)
    }

    /// An acknowledgement was lost on its way: it is repeated.
    pub fn ack_lost(&mut self, id: SocketId, effects: &mut Vec<Effect>) {
        effects.extend(self.sockets.get(&id).and_then(|socket| ack_of(id, socket)));
    }

    /// A device is there (again). Nothing revives a link that is down.
    pub fn device_up(&mut self, device: u8) {
        if self.devices_up != 0 {
            self.devices_up |= 1 << device;
        }
    }

    /// A device is gone: what it carried goes to the others, and acks it may have carried are
    /// repeated.
    pub fn device_down(&mut self, device: u8, reason: DownReason, effects: &mut Vec<Effect>) {
        let bit = 1u16 << device;
        if self.devices_up & bit == 0 {
            return;
        }
        self.devices_up &= !bit;
        self.last_reason = Some(reason.clone());
        if self.devices_up == 0 {
            effects.push(Effect::LinkDown(reason));
            return;
        }
        for (id, socket) in &mut self.sockets {
            for message in socket.unacked.iter_mut().filter(|message| message.carrier == Some(device)) {
                message.carrier = None;
                effects.push(Effect::Transmit(Outgoing {
                    kind: FrameKind::Message,
                    socket: *id,
                    sequence: message.sequence,
                    body: message.body.clone(),
                }));
            }
            effects.extend(ack_of(*id, socket));
        }
    }
}

fn ack_of(id: SocketId, socket: &Socket) -> Option<Effect> {
    let sequence = socket.next_rx.checked_sub(1)?;
    Some(Effect::Transmit(Outgoing { kind: FrameKind::Ack, socket: id, sequence, body: Arc::new([]) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn socket(number: u16) -> SocketId {
        SocketId::new(number).unwrap()
    }

    #[test]
    fn a_peer_far_ahead_is_an_error_not_memory() {
        let mut core = Core::new(1);
        let error = core.message(socket(0), 5000, vec![], &mut Vec::new()).unwrap_err();
        assert_eq!(error, CoreError::Sequence { socket: 0, sequence: 5000, expected: 0 });
    }

    #[test]
    fn a_sender_without_acks_is_held_back() {
        let mut core = Core::new(1);
        for _ in 0..UNACKED_MAX {
            core.send(socket(1), Arc::new([])).unwrap();
        }
        assert_eq!(core.send(socket(1), Arc::new([])), Err(CoreError::Backpressure));
        core.ack(socket(1), 3);
        assert!(core.send(socket(1), Arc::new([])).is_ok());
    }

    #[test]
    fn long_messages_are_held_back_by_their_bytes() {
        let (mut tx, mut rx) = (Core::new(1), Core::new(1));
        let body: Arc<[u8]> = vec![0; BODY_LEN_BYTES_MAX as usize].into();
        let sent = (0..).map_while(|_| tx.send(socket(40), body.clone()).ok()).count();
        assert_eq!(sent, UNACKED_BYTES_MAX / body.len());
        assert!(tx.send(socket(41), body.clone()).is_err(), "the limit is of a priority, not of a socket");
        assert!(tx.send(socket(0), body.clone()).is_ok(), "and does not hold others back");
        // All but the first arrive, as a correct peer may have it; then they are delivered.
        let mut effects = Vec::new();
        for sequence in 1..sent as u64 {
            rx.message(socket(40), sequence, body.to_vec(), &mut effects).unwrap();
        }
        rx.message(socket(40), 0, body.to_vec(), &mut effects).unwrap();
        let delivered = effects.iter().filter(|effect| matches!(effect, Effect::Deliver(..))).count();
        assert_eq!((delivered, rx.early_bytes), (sent, [0; 3]));
        tx.ack(socket(40), 0);
        assert!(tx.send(socket(41), body.clone()).is_ok());
        // A peer that goes on and on without the first one is cut off.
        let mut rx = Core::new(1);
        let mut early = (1..).map(|sequence| rx.message(socket(40), sequence, body.to_vec(), &mut effects));
        assert!(matches!(early.find_map(Result::err), Some(CoreError::Early(_))));
    }

    #[test]
    fn the_last_device_takes_the_link_with_it() {
        let mut core = Core::new(2);
        let mut effects = Vec::new();
        core.device_down(0, DownReason::Closed, &mut effects);
        assert!(effects.is_empty());
        core.device_down(1, DownReason::Silent { limit_ms: 5000 }, &mut effects);
        assert_eq!(effects, [Effect::LinkDown(DownReason::Silent { limit_ms: 5000 })]);
        assert_eq!(core.down_reason(), Some(&DownReason::Silent { limit_ms: 5000 }));
    }

    /// One direction of a link whose wire shuffles, and whose devices die with what they carry.
    struct Wire {
        tx: Core,
        rx: Core,
        queued: Vec<Outgoing>,
        flying: Vec<(u8, Outgoing)>,
        delivered: Vec<u8>,
    }

    impl Wire {
        fn apply(&mut self, effects: Vec<Effect>, from_rx: bool) {
            for effect in effects {
                match effect {
                    Effect::Deliver(_, body) => self.delivered.push(body[0]),
                    Effect::Transmit(ack) if from_rx => self.tx.ack(ack.socket, ack.sequence),
                    Effect::Transmit(message) => self.queued.push(message),
                    Effect::LinkDown(_) => {}
                }
            }
        }

        fn step(&mut self, choice: u8) {
            let device = choice % 4;
            let alive = self.tx.devices_up() & (1 << device) != 0;
            match choice / 4 % 8 {
                0 if self.tx.devices_up().count_ones() > 1 => {
                    self.flying.retain(|(carrier, _)| *carrier != device);
                    let mut effects = Vec::new();
                    self.tx.device_down(device, DownReason::Closed, &mut effects);
                    self.apply(effects, false);
                }
                1..=3 if alive && !self.queued.is_empty() => {
                    let message = self.queued.remove(usize::from(choice) % self.queued.len());
                    self.tx.carried(device, message.socket, message.sequence);
                    self.flying.push((device, message));
                }
                _ if !self.flying.is_empty() => {
                    let (_, message) = self.flying.remove(usize::from(choice) % self.flying.len());
                    let mut effects = Vec::new();
                    let body = message.body.to_vec();
                    self.rx.message(message.socket, message.sequence, body, &mut effects).unwrap();
                    self.apply(effects, true);
                }
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn messages_arrive_once_and_in_order_whatever_devices_do(
            count in 1u8..40,
            choices in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut wire =
                Wire { tx: Core::new(4), rx: Core::new(4), queued: vec![], flying: vec![], delivered: vec![] };
            for number in 0..count {
                let message = wire.tx.send(socket(0), Arc::new([number])).unwrap();
                wire.queued.push(message);
            }
            for choice in choices {
                wire.step(choice);
            }
            // Whatever is left travels on a device that is still up.
            let device = wire.tx.devices_up().trailing_zeros() as u8;
            while !wire.queued.is_empty() || !wire.flying.is_empty() {
                wire.step(4 + device);
                wire.step(16 + device);
            }
            prop_assert_eq!(wire.delivered, (0..count).collect::<Vec<_>>());
            prop_assert_eq!(wire.tx.unacked(), 0);
        }
    }
}
