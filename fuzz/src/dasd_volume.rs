//! A file that says it is a volume: one cylinder, whose header and first tracks are the fuzzer's.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use ssi::dasd::{Access, Ccw, Volume, label};
use ssi::pdr;

const TRACK_LEN_BYTES: usize = 56_832;
const TRACKS: usize = 15;
const HEADER_LEN_BYTES: usize = 512;
/// A track's part of the input.
const PART_LEN_BYTES_MAX: usize = 1_200;

thread_local! {
    /// In memory, and gone with the thread.
    static VOLUME: (File, PathBuf) = {
        let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        (file, path)
    };
}

/// Nothing but an error comes of what is wrong; a read gives no more than a track has; what is written is read.
pub fn run(bytes: &[u8]) {
    VOLUME.with(|(file, path)| {
        write(file, bytes);
        try_all(path);
    });
}

/// The first byte says whether the header is the fuzzer's; then a part for each of the first tracks, with its length.
pub(crate) fn write(file: &File, bytes: &[u8]) {
    let mut image = vec![0; HEADER_LEN_BYTES + 5 * TRACK_LEN_BYTES];
    image[..20].copy_from_slice(b"CKD_P370\x0f\0\0\0\0\xde\0\0\x90\0\0\0");
    let (choice, mut rest) = bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest));
    if choice & 1 == 1 {
        let len = rest.len().min(32);
        image[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
    }
    for track in image[HEADER_LEN_BYTES..].chunks_exact_mut(TRACK_LEN_BYTES) {
        let Some((len, after)) = rest.split_first_chunk::<2>() else { break };
        let len = usize::from(u16::from_le_bytes(*len)).min(PART_LEN_BYTES_MAX).min(after.len());
        track[..len].copy_from_slice(&after[..len]);
        rest = &after[len..];
    }
    file.set_len((HEADER_LEN_BYTES + TRACKS * TRACK_LEN_BYTES) as u64).unwrap();
    file.write_all_at(&image, 0).unwrap();
}

fn try_all(path: &std::path::Path) {
    let Ok(volume) = Volume::open(path, Access::Write) else { return };
    assert_eq!(volume.geometry().cylinders, 1);
    let _ = label(&volume);
    let _ = pdr::view(path);
    for head in 0..5 {
        let seek = Ccw::Seek { cylinder: 0, head };
        for record in [0, 1, 4] {
            let program = [seek.clone(), Ccw::SearchId(record), Ccw::ReadKey, Ccw::ReadData];
            let Ok(outcome) = volume.execute(&program) else { continue };
            if !outcome.is_whole {
                continue;
            }
            assert!(outcome.read.iter().map(Vec::len).sum::<usize>() <= TRACK_LEN_BYTES);
            let changed: Vec<u8> = outcome.read[1].iter().map(|byte| !byte).collect();
            let write = [seek.clone(), Ccw::SearchId(record), Ccw::WriteData(changed.clone())];
            volume.execute(&write).unwrap();
            let again = volume.execute(&program).unwrap();
            assert_eq!(again.read, [outcome.read[0].clone(), changed]);
            let found = volume.execute(&[seek.clone(), Ccw::SearchKey(outcome.read[0].clone())]).unwrap();
            assert_eq!(found.is_whole, !outcome.read[0].is_empty());
        }
    }
    assert!(volume.execute(&[Ccw::Seek { cylinder: 1, head: 0 }]).is_err());
}
