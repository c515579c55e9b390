//! Relocates a guest of your own: one thread that counts, and keeps the count in a page of its memory.
//!
//! Run it: `cargo run --release --example own_guest`

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use guest_mem::{
    DirtyTracker, PageNumber, PickedTracker, Storage, StorageOptions, TrackerChoice, pick_tracker,
};
use lgr_engine::driver::{SourceOptions, relocate_in_process};
use lgr_engine::event::Silent;
use lgr_engine::guest::{Guest, GuestError, InNewStorage};
use lgr_engine::owner::MemberName;
use lgr_engine::report::{RunsOn, table};

/// The guest: its memory, and its one "register".
struct Counter {
    storage: Arc<Storage>,
    tracker: PickedTracker,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    fn new(storage: Arc<Storage>) -> Result<Self, GuestError> {
        let tracker = pick_tracker(&storage, TrackerChoice::Auto)?;
        let (count, stop) = Default::default();
        Ok(Self { storage, tracker, count, stop, thread: None })
    }
}

impl Guest for Counter {
    fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn tracker(&mut self) -> &mut dyn DirtyTracker {
        &mut *self.tracker.tracker
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.stop.store(false, Ordering::SeqCst);
        let (memory, pages) = (self.tracker.writer(&self.storage), self.storage.pages().get());
        let (count, stop) = (self.count.clone(), self.stop.clone());
        self.thread = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let now = count.fetch_add(1, Ordering::SeqCst) + 1;
                memory.write(PageNumber(now % pages), 0, &now.to_le_bytes());
                std::thread::sleep(Duration::from_micros(20));
            }
        }));
        Ok(())
    }

    fn quiesce(&mut self) -> Result<(), GuestError> {
        self.stop.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| GuestError::new("the guest's thread panicked"))
    }

    fn save_state(&mut self) -> Result<Vec<u8>, GuestError> {
        Ok(self.count.load(Ordering::SeqCst).to_le_bytes().to_vec())
    }

    fn load_state(&mut self, state: &[u8]) -> Result<(), GuestError> {
        let count = state.try_into().map_err(|_| GuestError::new("the state is not 8 bytes long"))?;
        self.count.store(u64::from_le_bytes(count), Ordering::SeqCst);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let storage = Storage::create(&StorageOptions::small(64 << 20))?;
    let mut guest = Counter::new(Arc::new(storage))?;
    guest.resume()?;
    std::thread::sleep(Duration::from_millis(500));
    // A `Counter` has no `Verifier`: there is nothing to compare its memory with.
    let options = SourceOptions { verify: false, ..SourceOptions::new(MemberName::new("HERE")?) };
    // Both members are in this process; `driver::relocate` and `driver::receive` are what two machines call.
    let report = relocate_in_process(&mut guest, &mut InNewStorage(Counter::new), options, &Silent)?;
    print!("{}", table::render(&report));
    anyhow::ensure!(report.runs_on == RunsOn::Destination, "the guest did not move");
    Ok(())
}
