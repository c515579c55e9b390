//! Behaviour that every tracker has to show.

use super::*;
use crate::page::PageNumber;
use crate::runs::Run;
use crate::storage::{Backing, Storage, StorageOptions};
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn storage(len_bytes: u64, backing: Backing) -> Option<Arc<Storage>> {
    match Storage::create(&StorageOptions { len_bytes, backing }) {
        Ok(storage) => Some(Arc::new(storage)),
        Err(StorageError::NoHugePages { .. }) => {
            println!("skipped: no free huge pages");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn uffd_works() -> bool {
    let works = probe(TrackerKind::UffdAsync);
    if let Err(reason) = &works {
        println!("skipped: userfaultfd: {reason}");
    }
    works.is_ok()
}

fn write(storage: &Storage, pages: impl IntoIterator<Item = u64>) {
    pages.into_iter().for_each(|page| storage.write_bytes(PageNumber(page), 8, &page.to_le_bytes()));
}

fn harvest(tracker: &mut dyn DirtyTracker) -> Runs {
    let mut runs = Runs::new();
    let stats = tracker.harvest(&mut runs).unwrap();
    assert_eq!((stats.pages, stats.runs), (runs.pages(), runs.as_slice().len() as u64));
    runs
}

#[test]
fn memory_that_arrived_in_pieces_of_2_mib_is_tracked_by_4_kib() {
    if !uffd_works() {
        return;
    }
    let storage = Arc::new(Storage::create_for_arrival(&StorageOptions::small(64 * MIB)).unwrap());
    storage.prefault(&Runs::from_run(Run::new(0, 8192)), 2, &|_| ()).unwrap();
    write(&storage, 0..8192);
    let mut tracker = UffdTracker::new(Arc::clone(&storage));
    tracker.start().unwrap();
    assert!(harvest(&mut tracker).is_empty());
    let pages = [0, 1, 511, 512, 4000, 8191, 9000];
    write(&storage, pages);
    assert_eq!(harvest(&mut tracker), pages.into_iter().map(|page| Run::new(page, 1)).collect());
    assert_eq!(storage.touched().unwrap().pages().get(), 8193);
}

#[test]
fn both_scan_modes_report_exactly_the_pages_written() {
    if !uffd_works() {
        return;
    }
    for mode in [ScanMode::PresentOrSwapped, ScanMode::WrittenInTouched] {
        let storage = storage(64 * MIB, Backing::Small).unwrap();
        write(&storage, (0..4000).chain(9000..9100));
        let mut tracker = UffdTracker::with_scan_mode(Arc::clone(&storage), mode);
        tracker.start().unwrap();
        assert!(harvest(&mut tracker).is_empty(), "{mode:?}: writes from before the start are not reported");

        write(&storage, (0..2000).step_by(4).chain([9050, 12_000, 16_383])); // the last two were never touched
        let expected = Runs::from_unsorted(
            (0..2000).step_by(4).chain([9050, 12_000, 16_383]).map(|page| Run::new(page, 1)).collect(),
        );
        assert_eq!(harvest(&mut tracker), expected, "{mode:?}");
        assert!(harvest(&mut tracker).is_empty(), "{mode:?}: a harvest clears");

        write(&storage, [12_000, 12_001, 12_002, 0]);
        assert_eq!(harvest(&mut tracker).as_slice(), [Run::new(0, 1), Run::new(12_000, 3)], "{mode:?}");
        let touched_pages = 4000 + 100 + 4;
        assert_eq!(storage.touched().unwrap().pages().0, touched_pages, "{mode:?}: tracking touches nothing");
    }
}

#[test]
fn writes_during_harvests_are_never_lost() {
    if !uffd_works() {
        return;
    }
    const PAGES: u64 = 2048;
    for mode in [ScanMode::PresentOrSwapped, ScanMode::WrittenInTouched] {
        let storage = storage(16 * MIB, Backing::Small).unwrap();
        write(&storage, 0..PAGES / 2);
        let mut tracker = UffdTracker::with_scan_mode(Arc::clone(&storage), mode);
        tracker.start().unwrap();
        let mut all = Runs::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&storage, (0..PAGES).filter(|page| page % 3 != 0)));
            while !writer.is_finished() {
                all = all.union(&harvest(&mut tracker));
            }
        });
        all = all.union(&harvest(&mut tracker));
        let expected: Runs = (0..PAGES).filter(|page| page % 3 != 0).map(|page| Run::new(page, 1)).collect();
        assert_eq!(all, expected, "{mode:?}");
    }
}

/// Several threads look and one protects, while another writes: a write is in this harvest or in the next.
#[test]
fn writes_while_several_threads_walk_are_never_lost() {
    if !uffd_works() {
        return;
    }
    const STRETCH: u64 = 1024;
    let touched: Runs = (0..6).map(|at| Run::new(at * 2 * STRETCH, STRETCH)).collect();
    for mode in [ScanMode::PresentOrSwapped, ScanMode::WrittenInTouched] {
        let storage = storage(64 * MIB, Backing::Small).unwrap();
        write(&storage, touched.iter().flat_map(Run::page_numbers).map(|page| page.0));
        let mut tracker = UffdTracker::with_scan_mode(Arc::clone(&storage), mode);
        tracker.start().unwrap();
        let mut seen = vec![0u64; (12 * STRETCH) as usize];
        let mut look = |tracker: &mut UffdTracker| {
            let mut runs = Runs::new();
            let stats = tracker.harvest(&mut runs).unwrap();
            assert!(stats.slices >= 6, "{mode:?}: each stretch is a slice, so they are shared");
            for page in runs.iter().flat_map(Run::page_numbers) {
                let mut bytes = [0; 4096];
                storage.read_page(page, &mut bytes);
                seen[page.0 as usize] = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            }
        };
        let mut written = vec![0u64; (12 * STRETCH) as usize];
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for count in 1u64.. {
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let at = count.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                    let page = at % 6 * 2 * STRETCH + at / 6 % STRETCH;
                    storage.write_bytes(PageNumber(page), 0, &count.to_le_bytes());
                    written[page as usize] = count;
                }
            });
            (0..300).for_each(|_| look(&mut tracker));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap();
        });
        look(&mut tracker);
        let lost =
            written.iter().zip(&seen).filter(|(written, seen)| **written != 0 && written != seen).count();
        assert_eq!(lost, 0, "{mode:?}");
        assert!(written.iter().any(|count| *count > 0));
    }
}

#[test]
fn holes_of_a_tebibyte_cost_no_page_tables() {
    if !uffd_works() {
        return;
    }
    let storage = storage(1 << 40, Backing::Small).unwrap();
    let last = storage.pages().0 - 1;
    write(&storage, [5, last]);
    let page_table_kib = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPTE:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    };
    let before_kib = page_table_kib();
    let mut tracker = UffdTracker::new(Arc::clone(&storage));
    tracker.start().unwrap();
    write(&storage, [5, 1 << 20, last]);
    assert_eq!(harvest(&mut tracker).as_slice(), [Run::new(5, 1), Run::new(1 << 20, 1), Run::new(last, 1)]);
    // Page tables for all the holes would be 2 GiB. Other tests of this process take some meanwhile.
    assert!(page_table_kib() < before_kib + 64 * 1024);
    assert_eq!(storage.touched().unwrap().pages().0, 3);
}

#[test]
fn huge_pages_are_reported_at_most_by_their_granule_and_never_missed() {
    if !uffd_works() {
        return;
    }
    for backing in [Backing::Thp, Backing::HugeTlb] {
        let Some(storage) = storage(16 * MIB, backing) else { continue };
        write(&storage, 0..2048);
        let mut tracker = UffdTracker::new(Arc::clone(&storage));
        tracker.start().unwrap();
        for pages in [vec![3u64, 700, 2047], vec![4, 701], vec![2500], vec![0, 2501]] {
            write(&storage, pages.iter().copied());
            let told = harvest(&mut tracker);
            let granule_pages = tracker.granule_bytes() / 4096;
            for page in &pages {
                assert!(told.contains(PageNumber(*page)), "{backing:?}: {page} in {told:?}");
            }
            for page in told.iter().flat_map(Run::page_numbers) {
                let same_granule = |written: &u64| written / granule_pages == page.0 / granule_pages;
                assert!(pages.iter().any(same_granule), "{backing:?}: {page} was not written");
            }
        }
    }
}

#[test]
fn a_harvest_without_a_start_or_after_a_stop_is_an_error() {
    let storage = storage(MIB, Backing::Small).unwrap();
    let mut uffd = UffdTracker::new(Arc::clone(&storage));
    assert!(matches!(uffd.harvest(&mut Runs::new()), Err(TrackerError::NotStarted)));
    let mut software = SoftwareTracker::new(SoftwareBitmap::new(storage.pages()).unwrap());
    software.start().unwrap();
    software.stop();
    assert!(matches!(software.harvest(&mut Runs::new()), Err(TrackerError::NotStarted)));
}

#[test]
fn a_tracker_can_be_started_again() {
    if !uffd_works() {
        return;
    }
    let storage = storage(MIB, Backing::Small).unwrap();
    let mut tracker = UffdTracker::new(Arc::clone(&storage));
    for round in 0..3 {
        tracker.start().unwrap();
        write(&storage, [round]);
        assert_eq!(harvest(&mut tracker).as_slice(), [Run::new(round, 1)]);
        tracker.stop();
        write(&storage, [9]);
    }
}

#[test]
fn the_choice_is_honoured_and_a_fallback_has_a_reason() {
    let storage = storage(MIB, Backing::Small).unwrap();
    let software = pick_tracker(&storage, TrackerChoice::Software).unwrap();
    assert_eq!(software.tracker.kind(), TrackerKind::Software);
    assert!(software.bitmap.is_some() && software.fallback_reason.is_none());
    probe(TrackerKind::Software).unwrap();
    let auto = pick_tracker(&storage, TrackerChoice::Auto).unwrap();
    match probe(TrackerKind::UffdAsync) {
        Ok(()) => assert_eq!(auto.tracker.kind(), TrackerKind::UffdAsync),
        Err(_) => assert!(auto.bitmap.is_some() && auto.fallback_reason.is_some()),
    }
    assert!("fast".parse::<TrackerChoice>().is_err());
}
