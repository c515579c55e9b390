//! What a peer may say to this side's endpoints. Each message of the input is a byte of choices, a length and its bytes.

use isfc::link::Priority;
use isfc::socket::wire::PeerMessage;
use isfc::socket::{Core, Effect, EndpointName, MessageId};

const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
const WINDOW: u16 = 2;

/// Whatever the peer says, the window holds and each message has one receipt.
pub fn run(bytes: &[u8]) {
    if let Ok(message) = PeerMessage::decode(bytes) {
        assert_eq!(message.encode(), bytes);
    }
    let (mut core, mut effects) = (Core::new(1), Vec::new());
    let open = |(name, priority)| core.open(EndpointName::new(name).unwrap(), priority, WINDOW).unwrap();
    let endpoints = ["SSIMEMB", "SSILOCK", "LGR"].into_iter().zip(PRIORITIES).map(open).collect::<Vec<_>>();
    let epoch = core.link_up(&mut effects);
    let mut sent = Vec::<MessageId>::new();
    let mut rest = bytes;
    while let [choice, len, tail @ ..] = rest {
        let (message, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        rest = tail;
        let lane = usize::from(choice % 3);
        let _ = core.peer_message(epoch, PRIORITIES[lane], message, &mut effects);
        assert!(endpoints.iter().all(|endpoint| core.waiting(*endpoint) <= usize::from(WINDOW)));
        if choice & 0x10 != 0 {
            sent.extend(core.send(endpoints[lane], b"x", &mut effects));
        }
        if choice & 0x20 != 0 {
            core.take(endpoints[lane]);
        }
        if choice & 0x40 != 0 {
            while core.transmit(PRIORITIES[lane], |_| Ok::<(), ()>(())).unwrap() {}
        }
        if choice & 0x80 != 0 {
            core.close(endpoints[lane]);
        }
    }
    core.link_down(epoch, &mut effects);
    let settled = effects.iter().filter_map(|effect| match effect {
        Effect::Settled(_, message, _) => Some(*message),
        _ => None,
    });
    let mut settled: Vec<MessageId> = settled.collect();
    settled.sort();
    assert_eq!(settled, sent, "one receipt for each message");
}
