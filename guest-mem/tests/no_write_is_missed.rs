//! A guest that runs is copied pass by pass by what the tracker says; when it stops, the copy must be the guest,
//! to the last byte.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use guest_mem::{
    ContentMix, PAGE_SIZE, PageNumber, Pattern, Run, Runs, Storage, StorageOptions, TrackerChoice,
    WorkloadGuest, WorkloadOptions, fill, pick_tracker,
};
use std::sync::Arc;

const BYTES: u64 = 16 << 20;
const HARVESTS_PER_ROUND: u64 = 8;

fn copy(storage: &Storage, runs: &Runs, to: &mut [u8]) {
    for page in runs.iter().flat_map(Run::page_numbers) {
        let target = &mut to[page.offset_bytes() as usize..][..PAGE_SIZE];
        storage.read_page(page, target.try_into().unwrap());
    }
}

fn differing_pages(storage: &Storage, copied: &[u8]) -> Vec<PageNumber> {
    let mut now = [0u8; PAGE_SIZE];
    let differs = |page: &PageNumber| {
        storage.read_page(*page, &mut now);
        now[..] != copied[page.offset_bytes() as usize..][..PAGE_SIZE]
    };
    storage.whole().page_numbers().filter(differs).collect()
}

fn copy_while_it_runs(choice: TrackerChoice, rounds: u64) {
    let storage = Arc::new(Storage::create(&StorageOptions::small(BYTES)).unwrap());
    let options = WorkloadOptions {
        pattern: Pattern::SmallUpdates,
        dirty_rate_bytes_per_s: 1 << 30,
        working_set_bytes: None,
        touched_bytes: BYTES,
        content: ContentMix::Text,
        seed: 3,
        vcpus: 1,
    };
    let mut picked = match pick_tracker(&storage, choice) {
        Ok(picked) => picked,
        Err(error) => return println!("skipped: {choice}: {error}"),
    };
    fill(&storage, &options, &|_| ()).unwrap();
    let guest = WorkloadGuest::new(storage.clone(), options, picked.bitmap.clone()).unwrap();
    guest.start().unwrap();
    picked.tracker.start().unwrap();
    let (mut copied, mut dirty) = (vec![0u8; BYTES as usize], Runs::new());
    copy(&storage, &storage.touched().unwrap(), &mut copied);
    for round in 0..rounds {
        for _ in 0..HARVESTS_PER_ROUND {
            // Thousands of scattered pages each time, and the guest writes on while they are told.
            std::thread::sleep(std::time::Duration::from_millis(2));
            picked.tracker.harvest(&mut dirty).unwrap();
            copy(&storage, &dirty, &mut copied);
        }
        guest.quiesce().unwrap();
        picked.tracker.harvest(&mut dirty).unwrap();
        copy(&storage, &dirty, &mut copied);
        assert_eq!(differing_pages(&storage, &copied), [], "{choice}, round {round}");
        guest.resume().unwrap();
    }
}

#[test]
fn the_kernel_tracker_misses_no_write() {
    copy_while_it_runs(TrackerChoice::Uffd, 8);
}

#[test]
fn the_software_tracker_misses_no_write() {
    copy_while_it_runs(TrackerChoice::Software, 4);
}
