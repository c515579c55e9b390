//! A file on the shared volume that says it is an owner record.

use std::fs;
use std::path::PathBuf;

use lgr_engine::owner::{CasOutcome, GuestName, MemberName, OwnerVolume};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SECTOR_LEN_BYTES: usize = 512;

struct Room {
    volume: OwnerVolume,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        // In memory if possible: every change is synced.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let volume = OwnerVolume::open(dir.path()).unwrap();
        let path = volume.path(guest());
        Self { volume, path, _dir: dir }
    }
}

thread_local! {
    /// Not a global one: that would never be removed.
    static ROOM: Room = Room::new();
}

fn guest() -> GuestName {
    GuestName::new("LINUX1").unwrap()
}

pub fn run(bytes: &[u8]) {
    ROOM.with(|room| try_all(room, bytes));
    // Once more with a sound header, and with checksums that let both slots through.
    let mut file = bytes.to_vec();
    file.resize(3 * SECTOR_LEN_BYTES, 0);
    file[..16].copy_from_slice(b"LGROWNER\x01\0\0\0\0\x06\0\0");
    file[16..24].copy_from_slice(b"LINUX1\0\0");
    for (number, sector) in file.chunks_exact_mut(SECTOR_LEN_BYTES).enumerate() {
        let (summed, sum) = sector.split_at_mut(SECTOR_LEN_BYTES - 8);
        sum.copy_from_slice(&xxh3_64_with_seed(summed, (number * SECTOR_LEN_BYTES) as u64).to_le_bytes());
    }
    ROOM.with(|room| try_all(room, &file));
}

fn try_all(room: &Room, bytes: &[u8]) {
    let Room { volume, path, .. } = room;
    fs::write(path, bytes).unwrap();
    let Ok(record) = volume.read(guest()) else { return };
    assert!(record.epoch > 0 && record.guest == guest());
    let to = MemberName::new("MEMBERB").unwrap();
    let stale = volume.compare_and_update(guest(), record.epoch.wrapping_add(1), record.nonce, to);
    assert!(!matches!(stale, Ok(CasOutcome::Updated(_))), "another epoch than the record's");
    let moved = volume.compare_and_update(guest(), record.epoch, record.nonce, to);
    if let Ok(CasOutcome::Updated(new)) = moved {
        assert_eq!((new.epoch, new.owner), (record.epoch + 1, to));
        assert_eq!(volume.read(guest()).unwrap(), new);
    }
}
