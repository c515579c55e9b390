//! A control message from the other member.

use lgr_engine::message::{Message, STRETCHES_MAX};

pub fn run(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    if let Message::Offer(offer) = &message {
        assert!(offer.stretches.len() <= STRETCHES_MAX);
        let pages = offer.storage_len_bytes / 4096;
        assert!(offer.stretches.iter().all(|(start, count)| start + count <= pages));
    }
    // Texts are made safe to print when they are read, so the second reading is the one that stays.
    let read_again = Message::decode(&message.encode()).unwrap();
    assert_eq!(Message::decode(&read_again.encode()), Ok(read_again));
}
