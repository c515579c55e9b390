//! A guest that has arrived moves on: what it writes at the second member is tracked by the kernel, in memory that came in
//! pieces of 2 MiB.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use guest_mem::{DirtyTracker, PageNumber, Run, Storage, StorageOptions, TrackerKind, UffdTracker, probe};
use lgr_engine::driver::{SourceOptions, relocate_in_process};
use lgr_engine::event::Silent;
use lgr_engine::guest::{Guest, GuestError, InNewStorage};
use lgr_engine::owner::MemberName;
use lgr_engine::report::RunsOn;

const PAGES: u64 = 16 << 10;

/// What the guest has last written to each page, wherever it ran.
type Written = Arc<Mutex<Vec<u64>>>;

/// Writes numbers, each into a page that follows from it, 64 at a time.
struct Scribbler {
    storage: Arc<Storage>,
    tracker: UffdTracker,
    written: Written,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scribbler {
    fn new(storage: Arc<Storage>, written: Written) -> Self {
        let tracker = UffdTracker::new(storage.clone());
        Self { storage, tracker, written, stop: Arc::default(), thread: None }
    }
}

impl Guest for Scribbler {
    fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn tracker(&mut self) -> &mut dyn DirtyTracker {
        &mut self.tracker
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.stop.store(false, Ordering::SeqCst);
        let (storage, written, stop) = (self.storage.clone(), self.written.clone(), self.stop.clone());
        self.thread = Some(std::thread::spawn(move || {
            let mut number = written.lock().unwrap().iter().copied().max().unwrap();
            while !stop.load(Ordering::SeqCst) {
                for _ in 0..64 {
                    number += 1;
                    let page = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50;
                    storage.write_bytes(PageNumber(page), 64, &number.to_le_bytes());
                    written.lock().unwrap()[page as usize] = number;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }));
        Ok(())
    }

    fn quiesce(&mut self) -> Result<(), GuestError> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map_or(Ok(()), JoinHandle::join).map_err(|_| GuestError::new("the guest panicked"))
    }

    fn save_state(&mut self) -> Result<Vec<u8>, GuestError> {
        Ok(Vec::new())
    }

    fn load_state(&mut self, _: &[u8]) -> Result<(), GuestError> {
        Ok(())
    }
}

/// Every page holds what was last written to it, and else what `like` holds.
fn check(storage: &Storage, like: &Storage, written: &Written) {
    let (mut found, mut expected) = ([0; 4096], [0; 4096]);
    for page in Run::new(0, PAGES).page_numbers() {
        storage.read_page(page, &mut found);
        like.read_page(page, &mut expected);
        expected[64..72].copy_from_slice(&written.lock().unwrap()[page.get() as usize].to_le_bytes());
        assert!(found == expected, "{page}");
    }
}

#[test]
fn a_guest_moves_on_from_where_it_arrived_and_nothing_is_lost() {
    if let Err(reason) = probe(TrackerKind::UffdAsync) {
        return println!("skipped: userfaultfd: {reason}");
    }
    let first = Arc::new(Storage::create(&StorageOptions::small(PAGES * 4096)).unwrap());
    let written = Written::new(Mutex::new(vec![0; PAGES as usize]));
    for page in Run::new(0, PAGES).page_numbers() {
        first.write_page(page, &[page.get() as u8 | 1; 4096]);
        first.write_bytes(page, 64, &[0; 8]);
    }
    let mut here = first.clone();
    for move_number in 1..=3 {
        let mut guest = Scribbler::new(here.clone(), written.clone());
        guest.resume().unwrap();
        let arrived = Arc::new(Mutex::new(None));
        let mut factory = InNewStorage({
            let (arrived, written) = (arrived.clone(), written.clone());
            move |storage: Arc<Storage>| {
                *arrived.lock().unwrap() = Some(storage.clone());
                Ok(Scribbler::new(storage, written.clone()))
            }
        });
        let options = SourceOptions { verify: false, ..SourceOptions::new(MemberName::new("HERE").unwrap()) };
        let report = relocate_in_process(&mut guest, &mut factory, options, &Silent).unwrap();
        assert_eq!(report.runs_on, RunsOn::Destination, "{}", report.finish.reason);
        here = arrived.lock().unwrap().take().unwrap();
        check(&here, &first, &written);
        println!("move {move_number}: {} passes", report.passes.len());
    }
}
