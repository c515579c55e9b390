//! A file that says it is an object directory.

use ssi::directory;
use xxhash_rust::xxh3::xxh3_64;

const HEADER_LEN_BYTES: usize = 0x20;

/// It is read or refused; what is read can be asked for its users.
pub fn run(bytes: &[u8]) {
    let _ = directory::from_bytes(bytes);
    // Once more with a sound header.
    let mut file = b"LGRODIR1\x01\0\0\0\0\0\0\0".to_vec();
    file.extend((bytes.len() as u64).to_le_bytes());
    file.extend(xxh3_64(bytes).to_le_bytes());
    assert_eq!(file.len(), HEADER_LEN_BYTES);
    file.extend(bytes);
    if let Ok(object) = directory::from_bytes(&file) {
        assert!(object.users.keys().all(|user| object.find(*user).is_some()));
    }
}
