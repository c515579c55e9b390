//! Tests of owner records: races, torn writes, hostile files, the bytes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use proptest::prelude::*;
use tempfile::TempDir;

use super::layout::{FILE_LEN_BYTES, SECTOR_LEN_BYTES};
use super::*;

fn guest() -> GuestName {
    GuestName::new("LINUX1").unwrap()
}

fn member(name: &str) -> MemberName {
    MemberName::new(name).unwrap()
}

fn volume() -> (TempDir, OwnerVolume) {
    let dir = tempfile::tempdir().unwrap();
    let volume = OwnerVolume::open(dir.path()).unwrap();
    (dir, volume)
}

fn updated(outcome: CasOutcome) -> OwnerRecord {
    match outcome {
        CasOutcome::Updated(record) => record,
        CasOutcome::Lost(record) => panic!("lost to {record:?}"),
    }
}

/// Gives the guest to `to` from whatever state it is in.
fn hand_over(volume: &OwnerVolume, to: &str) -> OwnerRecord {
    let now = volume.read(guest()).unwrap();
    updated(volume.compare_and_update(guest(), now.epoch, now.nonce, member(to)).unwrap())
}

#[test]
fn a_new_record_is_read_back() {
    let (_dir, volume) = volume();
    let made = volume.create(guest(), member("ALPHA")).unwrap();
    assert_eq!((made.epoch, made.owner, made.previous_owner), (1, member("ALPHA"), None));
    assert_eq!(volume.read(guest()).unwrap(), made);
    let names: Vec<_> = fs::read_dir(volume.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["LINUX1.owner"], "no draft is left behind");
}

#[test]
fn an_update_raises_the_epoch_and_keeps_the_nonce() {
    let (_dir, volume) = volume();
    let made = volume.create(guest(), member("ALPHA")).unwrap();
    for epoch in 2..10 {
        let record = hand_over(&volume, if epoch % 2 == 0 { "BETA" } else { "ALPHA" });
        assert_eq!((record.epoch, record.nonce), (epoch, made.nonce));
        assert_eq!(volume.read(guest()).unwrap(), record);
        assert_ne!(record.previous_owner, Some(record.owner));
    }
}

#[test]
fn a_lost_update_returns_the_current_record_and_writes_nothing() {
    let (_dir, volume) = volume();
    let first = volume.create(guest(), member("ALPHA")).unwrap();
    let second = hand_over(&volume, "BETA");
    let before = fs::read(volume.path(guest())).unwrap();
    let late = volume.compare_and_update(guest(), first.epoch, first.nonce, member("GAMMA")).unwrap();
    assert_eq!(late, CasOutcome::Lost(second.clone()));
    let other_file =
        volume.compare_and_update(guest(), second.epoch, !second.nonce, member("GAMMA")).unwrap();
    assert_eq!(other_file, CasOutcome::Lost(second));
    assert_eq!(fs::read(volume.path(guest())).unwrap(), before);
}

#[test]
fn create_refuses_a_guest_of_another_member_and_renews_its_own() {
    let (_dir, volume) = volume();
    let first = volume.create(guest(), member("ALPHA")).unwrap();
    let error = volume.create(guest(), member("BETA")).unwrap_err();
    assert!(matches!(error, OwnerError::OwnedByOther { owner, .. } if owner == member("ALPHA")), "{error}");
    let again = volume.create(guest(), member("ALPHA")).unwrap();
    assert_eq!(again.epoch, 2);
    assert_ne!(again.nonce, first.nonce);
    // The move that was under way when the owner started again can no longer commit.
    let late = volume.compare_and_update(guest(), first.epoch, first.nonce, member("BETA")).unwrap();
    assert_eq!(late, CasOutcome::Lost(again));
    assert_eq!(volume.replace(guest(), member("BETA")).unwrap().epoch, 3);
    assert_eq!(volume.read(guest()).unwrap().owner, member("BETA"));
}

#[test]
fn exactly_one_of_many_wins_each_epoch() {
    const RACERS: usize = 8;
    const ROUNDS: u64 = 25;
    let (dir, volume) = volume();
    let first = volume.create(guest(), member("START")).unwrap();
    let barrier = Barrier::new(RACERS);
    let wins: Vec<(u64, MemberName)> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (dir, barrier) = (dir.path(), &barrier);
                scope.spawn(move || {
                    // Its own descriptors, as another process would have them.
                    let volume = OwnerVolume::open(dir).unwrap().with_lock_wait(Duration::from_secs(120));
                    let me = member(&format!("M{racer}"));
                    let mut wins = Vec::new();
                    for epoch in first.epoch..first.epoch + ROUNDS {
                        barrier.wait();
                        match volume.compare_and_update(guest(), epoch, first.nonce, me).unwrap() {
                            CasOutcome::Updated(record) => {
                                assert_eq!((record.owner, record.epoch), (me, epoch + 1));
                                wins.push((record.epoch, me));
                            }
                            CasOutcome::Lost(record) => {
                                assert_eq!(record.epoch, epoch + 1);
                                assert_ne!(record.owner, me);
                            }
                        }
                    }
                    wins
                })
            })
            .collect();
        racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect()
    });
    let by_epoch: BTreeMap<u64, MemberName> = wins.iter().copied().collect();
    assert_eq!((wins.len() as u64, by_epoch.len() as u64), (ROUNDS, ROUNDS));
    let last = volume.read(guest()).unwrap();
    assert_eq!(Some((&last.epoch, &last.owner)), by_epoch.last_key_value());
}

#[test]
fn exactly_one_of_many_creates() {
    let (dir, _volume) = volume();
    let barrier = Barrier::new(8);
    let made: Vec<Result<OwnerRecord, OwnerError>> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (dir, barrier) = (dir.path(), &barrier);
                scope.spawn(move || {
                    let volume = OwnerVolume::open(dir).unwrap().with_lock_wait(Duration::from_secs(120));
                    barrier.wait();
                    volume.create(guest(), member(&format!("M{racer}")))
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let refused = |result: &&Result<_, _>| matches!(result, Err(OwnerError::OwnedByOther { .. }));
    assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(made.iter().filter(refused).count(), 7);
}

#[test]
fn a_write_torn_at_any_byte_leaves_the_old_or_the_new_record() {
    let (_dir, volume) = volume();
    volume.create(guest(), member("ALPHA")).unwrap();
    let path = volume.path(guest());
    // Epoch 2 goes to an empty slot, epoch 3 over an older record, so both kinds are torn.
    for to in ["BETA", "GAMMA"] {
        let old = volume.read(guest()).unwrap();
        let old_bytes = fs::read(&path).unwrap();
        let new = hand_over(&volume, to);
        let new_bytes = fs::read(&path).unwrap();
        let start = layout::slot_offset_bytes(new.epoch);
        for cut in start..=start + SECTOR_LEN_BYTES {
            for (head, tail) in [(&new_bytes, &old_bytes), (&old_bytes, &new_bytes)] {
                let torn = [&head[..cut], &tail[cut..]].concat();
                let found = layout::decode_file(guest(), &torn).unwrap();
                let whole = torn == new_bytes;
                assert_eq!(found, if whole { new.clone() } else { old.clone() }, "cut at {cut}");
            }
        }
        // And through the file: the next update starts from the record before the torn one.
        fs::write(&path, [&new_bytes[..start + 100], &old_bytes[start + 100..]].concat()).unwrap();
        assert_eq!(volume.read(guest()).unwrap(), old);
        assert_eq!(hand_over(&volume, to).epoch, new.epoch);
    }
}

#[test]
fn any_damaged_byte_is_noticed() {
    let (_dir, volume) = volume();
    volume.create(guest(), member("ALPHA")).unwrap();
    let old = volume.read(guest()).unwrap();
    let new = hand_over(&volume, "BETA");
    let bytes = fs::read(volume.path(guest())).unwrap();
    for at in 0..FILE_LEN_BYTES {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let found = layout::decode_file(guest(), &damaged);
        match at / SECTOR_LEN_BYTES {
            0 => assert!(found.is_err(), "header byte {at}"),
            1 => assert_eq!(found, Ok(new.clone()), "byte {at} of the older slot"),
            _ => assert_eq!(found, Ok(old.clone()), "byte {at} of the newer slot"),
        }
    }
}

#[test]
fn the_bytes_are_these() {
    let record = OwnerRecord {
        guest: guest(),
        epoch: 0x0102,
        nonce: 0x000f_0e0d_0c0b_0a09_0807_0605_0403_0201,
        owner: member("BETA"),
        previous_owner: Some(member("ALPHA")),
        time_unix_ns: 0x1122_3344_5566_7788,
    };
    let file = layout::encode_file(guest(), &record);
    let mut header = b"LGROWNER\x01\0\0\0\x00\x06\0\0LINUX1\0\0".to_vec();
    header.resize(504, 0);
    header.extend(GOLDEN_HEADER_SUM.to_le_bytes());
    let mut slot = vec![0x02, 0x01, 0, 0, 0, 0, 0, 0];
    slot.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    slot.extend([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0]);
    slot.extend(b"BETA\0\0\0\0ALPHA\0\0\0");
    slot.resize(504, 0);
    slot.extend(GOLDEN_SLOT_SUM.to_le_bytes());
    // Epoch 0x102 is even: slot B, and slot A is empty.
    assert_eq!(file[..512], header, "header");
    assert_eq!(file[512..1024], [0; 512], "slot A");
    assert_eq!(file[1024..], slot, "slot B");
    assert_eq!(layout::decode_file(guest(), &file), Ok(record));
}

const GOLDEN_HEADER_SUM: u64 = 0xa01ccbc1890e9d85;
const GOLDEN_SLOT_SUM: u64 = 0xf1fffc532d983379;

/// Reads, then replaces, a file with these bytes; gives both errors as text, empty for none.
fn with_file(bytes: &[u8]) -> (String, String) {
    let (_dir, volume) = volume();
    fs::write(volume.path(guest()), bytes).unwrap();
    let read = volume.read(guest());
    let replaced = volume.replace(guest(), member("BETA"));
    if let Ok(record) = &replaced {
        assert_eq!(&volume.read(guest()).unwrap(), record);
    }
    let text =
        |result: Result<_, OwnerError>| result.err().map(|error| error.to_string()).unwrap_or_default();
    (text(read), text(replaced))
}

#[test]
fn hostile_files_get_a_clear_error_and_only_damaged_records_can_be_replaced() {
    let (_dir, volume) = volume();
    volume.create(guest(), member("ALPHA")).unwrap();
    hand_over(&volume, "BETA");
    let good = fs::read(volume.path(guest())).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut both_damaged = changed(600, 0xff);
    both_damaged[1100] = 0xff;
    let other = layout::encode_file(GuestName::new("LINUX2").unwrap(), &volume.read(guest()).unwrap());
    let cases: [(&[u8], &str, bool); 8] = [
        (&[], "is 0 bytes long, an owner record has 1536", true),
        (&good[..1000], "is 1000 bytes long", true),
        (&[&good[..], b"x"].concat(), "is 1537 bytes long", true),
        (&changed(0, b'X'), "is not an owner record", false),
        (&changed(8, 9), "has format version 9, this program knows version 1", false),
        (&changed(100, 1), "the header is damaged", true),
        (&other, "is the owner record of guest LINUX2, not of LINUX1", false),
        (&both_damaged, "both slots are damaged", true),
    ];
    for (bytes, expected, replaceable) in cases {
        let (read, replaced) = with_file(bytes);
        assert!(read.contains(expected) && read.contains("LINUX1.owner"), "{read:?} lacks {expected:?}");
        assert_eq!(replaced, if replaceable { "" } else { read.as_str() });
    }
}

#[test]
fn what_is_not_a_file_is_refused_without_waiting() {
    let (_dir, volume) = volume();
    fs::create_dir(volume.path(guest())).unwrap();
    for result in [volume.read(guest()), volume.create(guest(), member("ALPHA"))] {
        assert!(matches!(result, Err(OwnerError::NotAFile { .. })), "{result:?}");
    }
    fs::remove_dir(volume.path(guest())).unwrap();
    let path = volume.path(guest());
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    for result in [volume.read(guest()), volume.create(guest(), member("ALPHA"))] {
        assert!(matches!(result, Err(OwnerError::NotAFile { .. })), "{result:?}");
    }
}

#[test]
fn a_missing_record_volume_or_permission_is_named() {
    let (dir, volume) = volume();
    let error = volume.read(guest()).unwrap_err();
    assert!(matches!(error, OwnerError::NotFound { .. }) && error.to_string().contains("LINUX1.owner"));
    assert!(matches!(OwnerVolume::open(dir.path().join("none")), Err(OwnerError::NoVolume { .. })));
    volume.create(guest(), member("ALPHA")).unwrap();
    assert!(matches!(OwnerVolume::open(volume.path(guest())), Err(OwnerError::NoVolume { .. })));
    if rustix::process::geteuid().is_root() {
        return; // Permissions do not bind root.
    }
    fs::set_permissions(volume.path(guest()), fs::Permissions::from_mode(0o000)).unwrap();
    let error = volume.read(guest()).unwrap_err();
    assert!(matches!(error, OwnerError::Io { action: "open", .. }), "{error}");
    assert!(error.to_string().contains("LINUX1.owner") && error.to_string().contains("denied"), "{error}");
}

#[test]
fn a_lock_that_is_never_given_back_ends_the_wait() {
    let (_dir, volume) = volume();
    let volume = volume.with_lock_wait(Duration::from_millis(20));
    let made = volume.create(guest(), member("ALPHA")).unwrap();
    let holder = volume.open_locked(guest(), LockKind::Exclusive).unwrap();
    for error in [
        volume.read(guest()).unwrap_err(),
        volume.compare_and_update(guest(), 1, made.nonce, member("BETA")).unwrap_err(),
    ] {
        assert!(matches!(error, OwnerError::LockTimeout { waited_ms: 20, .. }), "{error}");
    }
    drop(holder);
    let reader = volume.open_locked(guest(), LockKind::Shared).unwrap();
    assert_eq!(volume.read(guest()).unwrap(), made, "readers share the lock");
    drop(reader);
    assert_eq!(hand_over(&volume, "BETA").epoch, 2);
}

#[test]
fn a_record_removed_under_a_waiting_call_is_not_written() {
    let (_dir, volume) = volume();
    let volume = volume.with_lock_wait(Duration::from_secs(120));
    volume.create(guest(), member("ALPHA")).unwrap();
    let holder = volume.open_locked(guest(), LockKind::Exclusive).unwrap();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| volume.create(guest(), member("BETA")));
        // Whether the other call has opened the file yet or not, the outcome must be the same.
        std::thread::sleep(Duration::from_millis(30));
        fs::remove_file(volume.path(guest())).unwrap();
        drop(holder);
        waiting.join().unwrap()
    });
    assert_eq!(waiting.unwrap().epoch, 1);
    assert_eq!(volume.read(guest()).unwrap().owner, member("BETA"));
}

#[test]
fn the_largest_epoch_is_the_last() {
    let (_dir, volume) = volume();
    let made = volume.create(guest(), member("ALPHA")).unwrap();
    let last = OwnerRecord { epoch: u64::MAX, ..made };
    fs::write(volume.path(guest()), layout::encode_file(guest(), &last)).unwrap();
    let result = volume.compare_and_update(guest(), u64::MAX, last.nonce, member("BETA"));
    assert!(matches!(result, Err(OwnerError::EpochExhausted { .. })), "{result:?}");
    assert_eq!(volume.read(guest()).unwrap(), last);
}

/// Names the volume for [`a_child_hands_the_guest_over_for_ever`], which does nothing without it.
const CHILD_VOLUME: &str = "LGR_TEST_OWNER_VOLUME";

/// Not a test by itself: what [`killed_processes_leave_a_readable_record_and_no_lock`] starts.
#[test]
fn a_child_hands_the_guest_over_for_ever() {
    let Some(dir) = std::env::var_os(CHILD_VOLUME) else { return };
    let volume = OwnerVolume::open(dir).unwrap().with_lock_wait(Duration::from_secs(60));
    loop {
        let now = volume.read(guest()).unwrap();
        let to = if now.owner == member("BETA") { "ALPHA" } else { "BETA" };
        // Losing to the other child is fine; any error ends the child, which the parent notices.
        let _ = volume.compare_and_update(guest(), now.epoch, now.nonce, member(to)).unwrap();
    }
}

#[test]
fn killed_processes_leave_a_readable_record_and_no_lock() {
    let (_dir, volume) = volume();
    let volume = volume.with_lock_wait(Duration::from_secs(60));
    let made = volume.create(guest(), member("ALPHA")).unwrap();
    let mut last_epoch = made.epoch;
    for round in 0..12 {
        let mut children: Vec<_> = (0..2)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "owner::tests::a_child_hands_the_guest_over_for_ever"])
                    .env(CHILD_VOLUME, volume.dir())
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // Different counts of changes, so that the kill falls between different steps.
        while volume.read(guest()).unwrap().epoch < last_epoch + 3 + round {
            for child in &mut children {
                assert!(child.try_wait().unwrap().is_none(), "a child failed");
            }
        }
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let left = volume.read(guest()).unwrap();
        assert_eq!(left.nonce, made.nonce);
        last_epoch = hand_over(&volume, "GAMMA").epoch;
        assert_eq!(last_epoch, left.epoch + 1);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..FILE_LEN_BYTES + 2)) {
        prop_assert!(layout::decode_file(guest(), &bytes).is_err());
    }

    #[test]
    fn any_record_survives_the_file(
        epoch in 1u64..,
        nonce in any::<u128>(),
        time_unix_ns in any::<u64>(),
        owner in "[A-Z0-9@#$_-]{1,8}",
        previous_owner in prop::option::of("[A-Z0-9@#$_-]{1,8}"),
    ) {
        let owner = member(&owner);
        let previous_owner = previous_owner.map(|name| member(&name));
        let record = OwnerRecord { guest: guest(), epoch, nonce, owner, previous_owner, time_unix_ns };
        let file = layout::encode_file(guest(), &record);
        prop_assert_eq!(layout::decode_file(guest(), &file), Ok(record));
    }
}
