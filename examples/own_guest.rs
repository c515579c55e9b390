//! Relocates a guest of your own with a stop rule of your own.
//!
//! The guest is one thread that counts, and keeps the count in a page of its memory. Both members are
//! threads of this process; between two machines only the address changes (`tcp:HOST:PORT`).
//!
//! Run it: `cargo run --release --example own_guest`

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use guest_mem::{
    DirtyTracker, PageNumber, SoftwareBitmap, Storage, StorageOptions, TrackerChoice, pick_tracker,
};
use isfc::{Address, Link, LinkOptions, Listener, Share};
use lgr_engine::driver::{Cancel, DestinationOptions, SourceOptions, receive, relocate};
use lgr_engine::event::Silent;
use lgr_engine::guest::{Guest, GuestError, GuestFactory};
use lgr_engine::message::Offer;
use lgr_engine::owner::{GuestName, MemberName, OwnerVolume};
use lgr_engine::policy::{PassHistory, PassPolicy, Reason, Verdict};

/// The guest: a count, in its memory and in its one "register".
struct Counter {
    storage: Arc<Storage>,
    tracker: Box<dyn DirtyTracker>,
    bitmap: Option<SoftwareBitmap>,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    fn new(storage: Arc<Storage>) -> Result<Self, GuestError> {
        let picked = pick_tracker(&storage, TrackerChoice::Auto).map_err(GuestError::new)?;
        let (count, stop) = Default::default();
        Ok(Self { storage, tracker: picked.tracker, bitmap: picked.bitmap, count, stop, thread: None })
    }
}

impl Guest for Counter {
    fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn tracker(&mut self) -> &mut dyn DirtyTracker {
        &mut *self.tracker
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.stop.store(false, Ordering::SeqCst);
        let (storage, bitmap) = (self.storage.clone(), self.bitmap.clone());
        let (count, stop) = (self.count.clone(), self.stop.clone());
        self.thread = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let now = count.fetch_add(1, Ordering::SeqCst) + 1;
                let page = PageNumber(now % storage.pages().get());
                storage.write_bytes(page, 0, &now.to_le_bytes());
                // Only where the kernel cannot track writes (Linux before 6.7).
                if let Some(bitmap) = &bitmap {
                    bitmap.mark(page);
                }
                std::thread::sleep(std::time::Duration::from_micros(20));
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

/// Makes room for a [`Counter`] at the destination.
struct CounterFactory;

impl GuestFactory for CounterFactory {
    fn skeleton(
        &mut self,
        offer: &Offer,
        _progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Box<dyn Guest>, GuestError> {
        let options = StorageOptions::small(offer.storage_len_bytes);
        let storage = Storage::create(&options).map_err(GuestError::new)?;
        Ok(Box::new(Counter::new(Arc::new(storage))?))
    }
}

/// The stop rule: as soon as the last pass left less than 1 MiB, or after ten passes.
struct StopBelowOneMebibyte;

impl PassPolicy for StopBelowOneMebibyte {
    fn name(&self) -> &'static str {
        "below-1-mib"
    }

    fn judge(&self, history: &PassHistory) -> Verdict {
        let predicted_ms = history.predicted_quiesce_ms(1.0);
        if history.passes.is_empty() || (history.pending_bytes >= 1 << 20 && history.passes.len() < 10) {
            return Verdict::AnotherPass;
        }
        let text = format!("{} bytes are left", history.pending_bytes);
        let reason = Reason::Other { policy: self.name().to_owned(), text };
        // Keeps MAXQUIESCE and MAXTOTAL, whatever the rule above says.
        history.quiesce_or_give_up(predicted_ms, reason)
    }
}

fn main() -> anyhow::Result<()> {
    let room = tempfile::tempdir()?;
    let volume = OwnerVolume::open(room.path())?;
    let (from, to) = (MemberName::new("HERE")?, MemberName::new("THERE")?);
    let address: Address = format!("unix:{}/link", room.path().display()).parse()?;

    let listener = Listener::bind(&address)?;
    let there = std::thread::spawn({
        let volume = volume.clone();
        move || -> anyhow::Result<()> {
            let link = Link::start(listener.accept(None, &|| false, &|_| ())?, LinkOptions::default())?;
            let options = DestinationOptions { member: to, faults: Vec::new() };
            receive(&mut CounterFactory, &link, &volume, &options, &Silent, &Cancel::new());
            Ok(())
        }
    });

    let storage = Arc::new(Storage::create(&StorageOptions::small(64 << 20))?);
    let mut guest = Counter::new(storage.clone())?;
    guest.resume()?;
    let record = volume.create(GuestName::new("COUNTER")?, from)?;
    let shares = [Share { number: 0, memfd: storage.fd() }];
    let link = Link::start(isfc::connect(&address, 4, &shares)?, LinkOptions::default())?;
    let options = SourceOptions {
        policy: Box::new(StopBelowOneMebibyte),
        // `Counter` has no `Verifier`: there is nothing to compare its memory with.
        verify: false,
        ..SourceOptions::new(from)
    };
    let report = relocate(&mut guest, &link, &volume, &record, options, &Silent, &Cancel::new());
    print!("{}", lgr_engine::report::table::render(&report));
    there.join().map_err(|_| anyhow::anyhow!("the destination panicked"))??;
    anyhow::ensure!(volume.read(record.guest)?.owner == to, "the guest did not move");
    Ok(())
}
