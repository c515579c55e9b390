//! 32 bytes of a CTC's partner.

use isfc::ctc::Frame;
use isfc::ctc::frame::{COUNT_BYTES_MAX, FRAME_LEN_BYTES};

pub fn run(bytes: &[u8]) {
    check(bytes);
    // Once more with what lets any frame through.
    if let Some(frame) = bytes.first_chunk::<FRAME_LEN_BYTES>() {
        let mut sound = *frame;
        sound[..3].copy_from_slice(b"CT\x01");
        sound[6..8].fill(0);
        sound[11] = 0;
        sound[15] = 0;
        check(&sound);
    }
}

fn check(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    assert!(frame.count_bytes <= COUNT_BYTES_MAX && frame.payload_bytes <= frame.count_bytes);
    assert_eq!(frame.encode(), bytes, "one frame has one form");
}
