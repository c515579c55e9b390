//! A payload that claims to become so many bytes.

use lgr_engine::codec::dictionary::UnpackDictionary;
use lgr_engine::codec::packer::Unpacker;

pub fn run(bytes: &[u8]) {
    let Some((len, payload)) = bytes.split_first_chunk::<4>() else { return };
    let len = u64::from(u32::from_le_bytes(*len) >> (len[3] % 32));
    let mut unpacker = Unpacker::new().unwrap();
    let first = unpacker.unpack(payload, len).map(<[u8]>::to_vec);
    if let Ok(unpacked) = &first {
        assert_eq!(unpacked.len() as u64, len);
    }
    // The same bytes as a dictionary, which nothing refers to.
    if let Ok(dictionary) = UnpackDictionary::from_message(payload) {
        let with = unpacker.unpack_with(Some(&dictionary), payload, len).map(<[u8]>::to_vec);
        assert!(first.is_err() || with == first);
    }
    // What came before leaves no trace.
    assert_eq!(unpacker.unpack(payload, len).map(<[u8]>::to_vec), first);
}
