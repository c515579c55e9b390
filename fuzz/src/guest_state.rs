//! The state of a workload guest, as it comes from the other member.

use std::sync::{Arc, LazyLock};

use guest_mem::{Storage, StorageOptions, WorkloadGuest};
use xxhash_rust::xxh3::xxh3_64;

const HEADER_LEN_BYTES: usize = 16;

static STORAGE: LazyLock<Arc<Storage>> =
    LazyLock::new(|| Arc::new(Storage::create(&StorageOptions::small(4 << 20)).unwrap()));

pub fn run(bytes: &[u8]) {
    load(bytes);
    // Once more with a header that lets the payload through.
    let Some(payload) = bytes.get(HEADER_LEN_BYTES..) else { return };
    let mut sound = b"LGRG\x01\0\0\0".to_vec();
    sound.extend_from_slice(&xxh3_64(payload).to_le_bytes());
    sound.extend_from_slice(payload);
    load(&sound);
}

fn load(bytes: &[u8]) {
    let guest = WorkloadGuest::skeleton(STORAGE.clone(), None);
    if guest.load_state(bytes).is_ok() {
        // What was taken in can be given out again, and taken in again.
        let saved = guest.save_state().unwrap();
        WorkloadGuest::skeleton(STORAGE.clone(), None).load_state(&saved).unwrap();
    }
}
