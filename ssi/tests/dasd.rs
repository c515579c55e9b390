//! Volumes: made, relabelled, replaced, and worked on by many at once.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ssi::VolumeLabel;
use ssi::dasd::{
    Access, Allocation, Ccw, Geometry, Label, NewRecord, Volume, format, label, reformat, relabel,
};

fn named(name: &str, owner: &str, extents: &[&str]) -> Label {
    let extents = extents.iter().map(|text| text.parse().unwrap()).collect();
    let allocation = Allocation { owner: owner.parse().unwrap(), extents };
    Label { label: VolumeLabel::new(name).unwrap(), allocation }
}

fn made(dir: &Path, of: &Label) -> (PathBuf, Volume) {
    let path = dir.join("V.dasd");
    let volume = format(&path, Geometry { cylinders: 3 }, of).unwrap();
    (path, volume)
}

const TRACK: Ccw = Ccw::Seek { cylinder: 2, head: 7 };

fn two_records() -> Ccw {
    let record = |number| NewRecord { number, key: Vec::new(), data: vec![0; 100] };
    Ccw::Format(vec![record(1), record(2)])
}

fn both() -> [Ccw; 5] {
    [TRACK, Ccw::SearchId(1), Ccw::ReadData, Ccw::SearchId(2), Ccw::ReadData]
}

#[test]
fn a_volume_is_given_another_label_owner_and_use_and_keeps_what_is_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, volume) = made(dir.path(), &named("OLDLBL", "NOSSI.NOSYS", &[]));
    volume.execute(&[TRACK, two_records(), Ccw::SearchId(1), Ccw::WriteData(vec![7; 100])]).unwrap();
    let new = named("NEWLBL", "DEMOSSI.MEMBERA", &["SPOL:1-2"]);
    relabel(&volume, &new).unwrap();
    assert_eq!(label(&volume).unwrap(), new);
    assert_eq!(volume.execute(&both()).unwrap().read, [vec![7; 100], vec![0; 100]]);
    // What cannot be changes nothing.
    let error = relabel(&volume, &named("OTHER1", "NOSSI.NOSYS", &["PAGE:2-3"])).unwrap_err();
    assert!(error.to_string().contains("PAGE:2-3 is not on a volume of 3 cylinders"), "{error}");
    assert_eq!(label(&volume).unwrap(), new);
}

#[test]
fn a_volume_is_replaced_by_a_whole_one_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let old = named("OLDLBL", "DEMOSSI.MEMBERA", &["SPOL:1-2"]);
    let (path, volume) = made(dir.path(), &old);
    drop(volume);
    let geometry = Geometry { cylinders: 2 };
    let error = format(&path, geometry, &named("NEWLBL", "NOSSI.NOSYS", &[])).unwrap_err();
    assert!(error.to_string().contains("there is a file of that name already"), "{error}");
    assert!(reformat(&path, geometry, &named("NEWLBL", "NOSSI.NOSYS", &["SPOL:1-2"])).is_err());
    assert_eq!(label(&Volume::open(&path, Access::Read).unwrap()).unwrap(), old);
    let volume = reformat(&path, geometry, &named("NEWLBL", "NOSSI.NOSYS", &["SPOL:1-1"])).unwrap();
    assert_eq!(
        (volume.geometry(), label(&volume).unwrap().label),
        (geometry, VolumeLabel::new("NEWLBL").unwrap())
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn no_channel_program_sees_another_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let (path, volume) = made(dir.path(), &named("SHARED", "NOSSI.NOSYS", &[]));
    volume.execute(&[TRACK, two_records()]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each has the file open for itself, as processes do: locks are between open files.
        let writers = [1, 2, 3].map(|seed: u8| {
            let path = &path;
            scope.spawn(move || {
                let volume = Volume::open(path, Access::Write).unwrap();
                for turn in 0..200_u8 {
                    let data = vec![turn.wrapping_mul(3).wrapping_add(seed); 100];
                    let write = Ccw::WriteData(data);
                    let program = [TRACK, Ccw::SearchId(1), write.clone(), Ccw::SearchId(2), write];
                    assert!(volume.execute(&program).unwrap().is_whole);
                }
            })
        });
        let reader = scope.spawn(|| {
            let volume = Volume::open(&path, Access::Read).unwrap();
            while !done.load(Ordering::Relaxed) {
                let read = volume.execute(&both()).unwrap().read;
                assert!(read[0] == read[1] && read[0].iter().all(|byte| *byte == read[0][0]));
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn files_that_are_no_volume_are_refused_with_their_names_and_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (path, volume) = made(dir.path(), &named("GOODV1", "NOSSI.NOSYS", &[]));
    drop(volume);
    let good = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        let path = dir.path().join("BAD.dasd");
        std::fs::write(&path, bytes).unwrap();
        let error = Volume::open(&path, Access::Read).unwrap_err().to_string();
        assert!(error.contains("BAD.dasd"), "{error}");
        error
    };
    let with = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    assert!(refused(&[]).contains("0 bytes are too few"));
    assert!(refused(&good[..good.len() - 1]).contains("truncated or damaged"));
    assert!(refused(&good[..512]).contains("no whole number of cylinders"));
    assert!(refused(&with(0, b"CKD_C370")).contains("compressed CKD image"));
    assert!(refused(&with(0, b"FBA_P370")).contains("fixed-block (SCSI) image"));
    assert!(refused(&with(0, b"GARBAGE!")).contains("not an image of a CKD volume"));
    assert!(refused(&with(16, &[0x80])).contains("not a 3390: type 3380"));
    assert!(refused(&with(8, &16_u32.to_le_bytes())).contains("16 heads"));
    assert!(refused(&with(17, &[2])).contains("one file of several"));
    // The label's track.
    std::fs::write(&path, with(512, &[0; 2000])).unwrap();
    let error = label(&Volume::open(&path, Access::Read).unwrap()).unwrap_err().to_string();
    assert!(error.contains("V.dasd: cylinder 0 head 0: it was never formatted"), "{error}");
    let error = Volume::open(dir.path(), Access::Read).unwrap_err().to_string();
    assert!(error.contains("not a file"), "{error}");
}
