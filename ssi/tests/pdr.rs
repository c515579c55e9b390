//! The persistent data record with several processes at it, some of which are killed, and on volumes of all kinds.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ssi::cluster::Plan;
use ssi::dasd::{Allocation, Geometry, Label, Volume, format};
use ssi::member::{Change, ChangeRefused, Ident, LEVEL, Record, RecordOutcome};
use ssi::pdr::{self, PdrError, PdrStore, Places};
use ssi::{ClusterName, Slot, SystemName, VolumeLabel};

/// Names the volume to the process that is going to be killed.
const VICTIM: &str = "LGR_PDR_VICTIM";
const CYLINDER_LEN_BYTES: u64 = 15 * 56_832;

fn cluster() -> ClusterName {
    ClusterName::new("DEMOSSI").unwrap()
}

fn system(slot: Slot) -> SystemName {
    SystemName::new(["MEMBERA", "MEMBERB", "MEMBERC", "MEMBERD"][slot.index()]).unwrap()
}

fn slot(number: u8) -> Slot {
    Slot::new(number).unwrap()
}

/// An empty volume of the cluster.
fn empty_volume(dir: &Path, name: &str) -> PathBuf {
    allocated_volume(dir, name, &[])
}

fn allocated_volume(dir: &Path, name: &str, extents: &[&str]) -> PathBuf {
    let path = dir.join(format!("{name}.dasd"));
    let owner = format!("{}.NOSYS", cluster()).parse().unwrap();
    let extents = extents.iter().map(|extent| extent.parse().unwrap()).collect();
    let allocation = Allocation { owner, extents };
    format(&path, Geometry { cylinders: 2 }, &Label { label: label(name), allocation }).unwrap();
    path
}

/// A volume with the record of a cluster whose four members have joined.
fn volume(dir: &Path) -> PathBuf {
    let plan = Plan::new(cluster(), Slot::all().map(system).collect(), 1).unwrap();
    let path = empty_volume(dir, "VMCOM1");
    pdr::create(&path, &plan.record(), false).unwrap();
    for slot in Slot::all() {
        let mut store = store(&path, slot);
        for change in
            [Change::BeginJoin { slot, system: system(slot), level: LEVEL }, Change::FinishJoin(ident(slot))]
        {
            assert!(matches!(store.change(&change).unwrap(), RecordOutcome::Done(_)));
        }
    }
    path
}

fn ident(slot: Slot) -> Ident {
    Ident { slot, incarnation: 1 }
}

fn store(path: &Path, slot: Slot) -> PdrStore {
    PdrStore::open(places(path), label("VMCOM1"), cluster(), system(slot)).unwrap()
}

/// VMCOM1 is in this file, and the others beside it.
fn places(path: &Path) -> Places {
    let path = path.to_owned();
    Box::new(move |label| match label.as_str() {
        "VMCOM1" => path.clone(),
        other => path.with_file_name(format!("{other}.dasd")),
    })
}

fn label(text: &str) -> VolumeLabel {
    VolumeLabel::new(text).unwrap()
}

fn heartbeat(store: &mut PdrStore, slot: Slot) -> u64 {
    match store.change(&Change::Heartbeat { ident: ident(slot), promises: true }) {
        Ok(RecordOutcome::Done(record)) => record.entry(slot).heartbeat,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_change_is_lost_when_four_write_at_once() {
    const EACH: u64 = 150;
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    let before = pdr::view(&path).unwrap().contents;
    std::thread::scope(|scope| {
        for slot in Slot::all() {
            let path = &path;
            scope.spawn(move || {
                let mut store = store(path, slot);
                for _ in 0..EACH {
                    heartbeat(&mut store, slot);
                }
            });
        }
        // One who only reads always finds a whole record.
        for _ in 0..100 {
            assert!(pdr::view(&path).unwrap().contents.generation >= before.generation);
        }
    });
    let after = pdr::view(&path).unwrap();
    for slot in Slot::all() {
        let beats = |record: &Record| record.entry(slot).heartbeat;
        assert_eq!(beats(&after.contents.record), beats(&before.record) + EACH);
    }
    assert_eq!(after.contents.generation, before.generation + 4 * EACH);
    assert_eq!(after.locked_by, None);
}

/// Not a test of its own: what the next one starts and kills.
#[test]
fn victim() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let mut store = store(Path::new(&path), slot(1));
    loop {
        let beat = heartbeat(&mut store, slot(1));
        let _ = writeln!(std::io::stdout().lock(), "beat {beat}");
    }
}

#[test]
fn whoever_is_killed_at_whatever_instant_leaves_a_whole_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    let mut other = store(&path, slot(2));
    let mut generation = 0;
    for round in 0..60_u64 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
        let is_beat = |line: &String| line.starts_with("beat ");
        let first = lines.find(is_beat).unwrap();
        // Anywhere in the writing of one record, and of those behind it.
        std::thread::sleep(Duration::from_micros(37 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        // What it was told is written stays written.
        let last = lines.filter(is_beat).last().unwrap_or(first);
        let last: u64 = last.trim_start_matches("beat ").parse().unwrap();
        let contents = pdr::view(&path).unwrap().contents;
        assert!(contents.generation > generation && contents.record.entry(slot(1)).heartbeat >= last);
        generation = contents.generation;
        heartbeat(&mut other, slot(2));
    }
    let view = pdr::view(&path).unwrap();
    assert_eq!(view.locked_by, None);
    println!("{} locks of the dead were taken", view.steals);
}

#[test]
fn a_lock_that_stands_still_is_taken_and_its_owner_changes_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    // Of a live process (this one's parent, say), so nobody can tell that it does not go on.
    let bytes = std::fs::read(&path).unwrap();
    let key_at = bytes.windows(16).position(|window| window == b"PDR     DEMOSSI ").unwrap() as u64;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"MEMBERC ", key_at + 16).unwrap();
    file.write_all_at(&1_u32.to_be_bytes(), key_at + 0x20).unwrap();
    assert_eq!(pdr::view(&path).unwrap().locked_by.as_deref(), Some("MEMBERC"));
    let begun = std::time::Instant::now();
    heartbeat(&mut store(&path, slot(2)), slot(2));
    assert!(begun.elapsed() >= pdr::STEAL_AFTER);
    let view = pdr::view(&path).unwrap();
    assert_eq!((view.steals, view.locked_by), (1, None));
    // An operator can be faster.
    file.write_all_at(b"MEMBERC ", key_at + 16).unwrap();
    assert_eq!(pdr::unlock(&path).unwrap().as_deref(), Some("MEMBERC"));
    assert_eq!(pdr::unlock(&path).unwrap(), None);
}

#[test]
fn a_machine_that_died_before_the_last_copy_was_on_disk_has_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    let mut store = store(&path, slot(1));
    for _ in 0..4 {
        let before = heartbeat(&mut store, slot(1));
        let whole = std::fs::read(&path).unwrap();
        heartbeat(&mut store, slot(1));
        let now = std::fs::read(&path).unwrap();
        // The copy that the second change wrote, as if it had never reached the disk; its lock record has.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let lock_end = (512 + 2 * 56_832) as usize;
        file.write_all_at(&whole[lock_end..], lock_end as u64).unwrap();
        assert_eq!(pdr::view(&path).unwrap().contents.record.entry(slot(1)).heartbeat, before);
        // And half of it.
        let changed =
            now.iter().zip(&whole).skip(lock_end).position(|(new, old)| new != old).unwrap() + lock_end;
        file.write_all_at(&now[changed..changed + 1], changed as u64).unwrap();
        assert_eq!(pdr::view(&path).unwrap().contents.record.entry(slot(1)).heartbeat, before);
        // It goes on from there.
        heartbeat(&mut store, slot(1));
    }
}

#[test]
fn volumes_that_have_no_such_record_are_refused_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    let open = |path: &Path, cluster: &str| {
        let cluster = ClusterName::new(cluster).unwrap();
        PdrStore::open(places(path), label("VMCOM1"), cluster, system(slot(1)))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let why = open(&path, "OTHERSSI").unwrap_err();
    assert!(why.contains("DEMOSSI") && why.contains("OTHERSSI") && why.contains("VMCOM1.dasd"), "{why}");
    let missing = dir.path().join("NOWHERE");
    assert!(open(&missing, "DEMOSSI").unwrap_err().contains("NOWHERE"));
    let whole = std::fs::read(&path).unwrap();
    let broken = dir.path().join("BROKEN.dasd");
    let refused = |bytes: &[u8], word: &str| {
        std::fs::write(&broken, bytes).unwrap();
        let why = open(&broken, "DEMOSSI").unwrap_err();
        assert!(why.contains("BROKEN.dasd") && why.contains(word), "{why}");
    };
    refused(b"", "too few");
    refused(&whole[..whole.len() - 1], "truncated");
    refused(&whole[..512], "truncated");
    refused(&[b"CKD_C370", &whole[8..]].concat(), "compressed");
    refused(&[b"FBA_C370", &whole[8..]].concat(), "fixed-block");
    refused(&[&[0x55; 512], &whole[512..]].concat(), "not an image");
    let no_track = [&whole[..512], &vec![0; whole.len() - 512]].concat();
    refused(&no_track, "never formatted");
    let mut damaged = whole.clone();
    let lock = 512 + 56_832 + 5 + 16 + 8;
    damaged[lock + 64] ^= 1;
    refused(&damaged, "lock record is damaged");
    let mut damaged = whole;
    for head in [2, 3] {
        damaged[512 + head * 56_832 + 1_000] ^= 1;
    }
    refused(&damaged, "neither of its copies");
    // A record is not made over another cluster's, nor twice.
    let again = pdr::create(&path, &Record::new(cluster(), [None; 4]), false).unwrap_err();
    assert!(again.to_string().contains("has a persistent data record of cluster DEMOSSI already"), "{again}");
}

#[test]
fn a_volume_whose_first_cylinder_is_for_something_else_takes_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    let full = allocated_volume(dir.path(), "FULL", &["PAGE:0-1"]);
    let why = pdr::create(&full, &Record::new(cluster(), [None; 4]), true).unwrap_err().to_string();
    assert!(why.contains("FULL.dasd: PAGE:0-1 has cylinder 0"), "{why}");
    let moved = store(&path, slot(1)).change(&Change::MoveTo(label("FULL"))).unwrap();
    assert!(matches!(moved, RecordOutcome::Refused(ChangeRefused::Volume(_), _)), "{moved:?}");
    let free = allocated_volume(dir.path(), "FREE", &["PERM:0-0", "PAGE:1-1"]);
    pdr::create(&free, &Record::new(cluster(), [None; 4]), false).unwrap();
}

#[test]
fn a_pipe_in_place_of_a_volume_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("PIPE.dasd");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (said, says) = std::sync::mpsc::channel();
    std::thread::spawn(move || said.send(pdr::view(&path).map(drop).unwrap_err().to_string()));
    let why =
        says.recv_timeout(std::time::Duration::from_secs(60)).expect("it waits for the pipe's other end");
    assert!(why.contains("PIPE.dasd: not a file"), "{why}");
}

#[test]
fn a_volume_has_as_many_cylinders_as_it_was_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 512 + 2 * CYLINDER_LEN_BYTES);
    let volume = Volume::open(&path, ssi::dasd::Access::Read).unwrap();
    assert_eq!(volume.geometry(), Geometry { cylinders: 2 });
}

#[test]
fn the_record_is_moved_under_those_who_write_it_and_all_follow() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    empty_volume(dir.path(), "VMCOM2");
    let to = |name: &str| Change::MoveTo(label(name));
    let before = pdr::view(&path).unwrap().contents;
    std::thread::scope(|scope| {
        for slot in [slot(1), slot(2)] {
            let path = &path;
            scope.spawn(move || {
                let mut store = store(path, slot);
                for _ in 0..100 {
                    heartbeat(&mut store, slot);
                }
            });
        }
        let mut mover = store(&path, slot(3));
        for name in ["VMCOM2", "VMCOM2", "VMCOM1", "VMCOM2"] {
            assert!(matches!(mover.change(&to(name)), Ok(RecordOutcome::Done(_))));
        }
    });
    // Who starts with the old volume finds it, and no heartbeat is lost.
    let record = store(&path, slot(4)).read().unwrap().contents.record;
    for slot in [slot(1), slot(2)] {
        assert_eq!(record.entry(slot).heartbeat, before.record.entry(slot).heartbeat + 100);
    }
    assert_eq!(pdr::view(&path).unwrap().contents.moved_to, Some(label("VMCOM2")));
    let mut mover = store(&path, slot(3));
    let refused = mover.change(&to("NOVOL")).unwrap();
    assert!(matches!(refused, RecordOutcome::Refused(ChangeRefused::Volume(_), _)), "{refused:?}");
    heartbeat(&mut mover, slot(3));
}

#[test]
fn a_move_that_died_half_way_leaves_the_record_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = volume(dir.path());
    let other = empty_volume(dir.path(), "VMCOM2");
    let as_it_was = std::fs::read(&path).unwrap();
    assert!(matches!(
        store(&path, slot(1)).change(&Change::MoveTo(label("VMCOM2"))),
        Ok(RecordOutcome::Done(_))
    ));
    // The copy is there; the volume it is from never said so.
    std::fs::write(&path, as_it_was).unwrap();
    assert_eq!(pdr::view(&other).unwrap().contents.copied_from, Some(label("VMCOM1")));
    let mut one = store(&path, slot(1));
    let beat = heartbeat(&mut one, slot(1));
    // Even for one whose configuration names the new volume already.
    let mut late = PdrStore::open(places(&path), label("VMCOM2"), cluster(), system(slot(2))).unwrap();
    assert_eq!(late.read().unwrap().contents.record.entry(slot(1)).heartbeat, beat);
    heartbeat(&mut late, slot(2));
    assert_eq!(pdr::view(&path).unwrap().contents.record, late.read().unwrap().contents.record);
    // Tried again, it goes through.
    assert!(matches!(one.change(&Change::MoveTo(label("VMCOM2"))), Ok(RecordOutcome::Done(_))));
    let beat = heartbeat(&mut late, slot(2));
    assert_eq!(pdr::view(&other).unwrap().contents.record.entry(slot(2)).heartbeat, beat);
    assert_eq!(pdr::view(&other).unwrap().contents.copied_from, None);
}

#[test]
fn a_record_of_the_previous_level_is_used_as_it_is_and_upgraded_under_those_who_write_it() {
    const EACH: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let path = empty_volume(dir.path(), "VMCOM1");
    let plan = Plan::new(cluster(), Slot::all().map(system).collect(), 1).unwrap();
    pdr::create(&path, &Record { level: 1, ..plan.record() }, false).unwrap();
    let mut stores: Vec<PdrStore> = [slot(1), slot(2)].map(|slot| store(&path, slot)).into();
    for (store, slot) in stores.iter_mut().zip(Slot::all()) {
        for change in
            [Change::BeginJoin { slot, system: system(slot), level: LEVEL }, Change::FinishJoin(ident(slot))]
        {
            assert!(matches!(store.change(&change).unwrap(), RecordOutcome::Done(_)));
        }
    }
    heartbeat(&mut stores[0], slot(1));
    let before = pdr::view(&path).unwrap().contents.record;
    assert_eq!((before.level, before.members_level()), (1, Some(1)));
    assert!(!before.entry(slot(1)).has_promised);
    let other = ClusterName::new("OTHERSSI").unwrap();
    assert!(matches!(pdr::upgrade(&path, other), Err(PdrError::Cluster { .. })));
    std::thread::scope(|scope| {
        for (store, slot) in stores.iter_mut().zip(Slot::all()) {
            scope.spawn(move || {
                for _ in 0..EACH {
                    heartbeat(store, slot);
                }
            });
        }
        // Who finds it locked tries again, as an operator does.
        while !matches!(pdr::upgrade(&path, cluster()), Ok(1)) {}
    });
    for (store, slot) in stores.iter_mut().zip(Slot::all()) {
        let beats = heartbeat(store, slot);
        assert!(beats > before.entry(slot).heartbeat + EACH);
    }
    let after = pdr::view(&path).unwrap().contents.record;
    assert_eq!((after.level, after.entry(slot(2)).has_promised), (LEVEL, true));
    assert_eq!(pdr::upgrade(&path, cluster()).unwrap(), LEVEL);
}
