//! The workload guest of `guest-mem`, as a guest that can be relocated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use guest_mem::{
    BATCH_PAGES_MAX, Manifest, ManifestBatch, PageFault, Pattern, Phase as WorkloadPhase, PhaseStats,
    WorkloadGuest, WorkloadOptions, WorkloadStats,
};
use guest_mem::{
    Backing, DirtyTracker, MemoryAvailable, MemoryNeed, PickedTracker, Run, Runs, SoftwareBitmap,
    SoftwareTracker, Storage, StorageOptions, TrackerChoice, check_fits, pick_tracker,
};

use crate::guest::{Experience, Guest, GuestError, GuestFactory, Phase, Verifier};
use crate::message::Offer;
use crate::report::{TickPercentiles, Ticks, Verification};

/// Most pages one batch of the manifest describes.
pub const BATCH_PAGES: u64 = BATCH_PAGES_MAX as u64;
/// What a member needs besides guest memory: buffers, bitmaps, threads, the program itself.
pub const OVERHEAD_BYTES: u64 = 128 << 20;

/// Number of a backing in an offer.
pub fn backing_number(backing: Backing) -> u8 {
    match backing {
        Backing::Small => 1,
        Backing::Thp => 2,
        Backing::HugeTlb => 3,
    }
}

fn backing_of(number: u8) -> Result<Backing, GuestError> {
    [Backing::Small, Backing::Thp, Backing::HugeTlb]
        .into_iter()
        .find(|backing| backing_number(*backing) == number)
        .ok_or_else(|| GuestError(format!("unknown page backing {number}")))
}

/// A workload guest with its tracker.
pub struct Workload {
    storage: Arc<Storage>,
    guest: WorkloadGuest,
    tracker: Box<dyn DirtyTracker>,
    fallback_reason: Option<String>,
    moving: Moving,
    manifest: Option<Manifest>,
    checker: Option<guest_mem::Verifier>,
}

impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workload").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl Workload {
    /// Fills `storage` and makes a guest that does as `options` say; it does not run yet. `progress` is told of
    /// bytes just filled.
    ///
    /// # Errors
    /// Options that do not fit the storage, memory that runs out, or a tracker that was insisted on and
    /// cannot be had.
    pub fn build(
        storage: Arc<Storage>,
        options: WorkloadOptions,
        tracker: TrackerChoice,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, GuestError> {
        let PickedTracker { tracker, bitmap, fallback_reason } =
            pick_tracker(&storage, tracker).map_err(GuestError::new)?;
        guest_mem::fill(&storage, &options, progress).map_err(GuestError::new)?;
        let guest = WorkloadGuest::new(storage.clone(), options, bitmap).map_err(GuestError::new)?;
        Ok(Self::new(storage, guest, tracker, fallback_reason))
    }

    fn new(
        storage: Arc<Storage>,
        guest: WorkloadGuest,
        tracker: Box<dyn DirtyTracker>,
        fallback_reason: Option<String>,
    ) -> Self {
        Self {
            storage,
            guest,
            tracker,
            fallback_reason,
            moving: Moving::default(),
            manifest: None,
            checker: None,
        }
    }

    /// Why writes are tracked by software, if they should not be.
    pub fn tracker_fallback(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    fn add_faults(faults: &[PageFault], found: &mut Verification) {
        for fault in faults {
            found.add_fault(fault.to_string());
        }
    }

    fn checker(&mut self) -> Result<&mut guest_mem::Verifier, GuestError> {
        if self.checker.is_none() {
            self.checker = Some(self.guest.verifier().map_err(GuestError::new)?);
        }
        self.checker.as_mut().ok_or_else(|| GuestError("no verifier".to_owned()))
    }
}

/// The guest's account of a move, from its first pass to its end.
#[derive(Debug, Default)]
struct Moving {
    at_start: WorkloadStats,
    /// `None` before the first pass.
    started: Option<Instant>,
    /// When it was stopped, and has not been resumed since.
    stopped: Option<Instant>,
    /// What it was when the guest was found to stay: what comes after is no longer the move.
    ended: Option<(WorkloadStats, Instant)>,
}

impl Moving {
    /// What the guest meant to write per second and what it wrote, over all of the move, the time it stood still too.
    fn write_rates(&self, now: WorkloadStats, rate_bytes_per_s: u64) -> Option<(u64, u64)> {
        let started = self.started?;
        let (stats, ended) = self.ended.unwrap_or((now, Instant::now()));
        let seconds = ended.saturating_duration_since(started).as_secs_f64();
        if seconds <= 0.0 || self.at_start.ticks == 0 {
            return None;
        }
        // A guest that goes on here counts the stop itself, at its next tick.
        let still_s = self.stopped.map_or(0.0, |at| ended.saturating_duration_since(at).as_secs_f64());
        let unwritten = rate_bytes_per_s as f64 * still_s;
        let grown = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let intended = grown(stats.intended_bytes, self.at_start.intended_bytes) + unwritten;
        let achieved = grown(stats.achieved_bytes, self.at_start.achieved_bytes);
        Some(((intended / seconds) as u64, (achieved / seconds) as u64))
    }
}

fn ticks_of(stats: &PhaseStats) -> Option<TickPercentiles> {
    let us = |ns: u64| ns as f64 / 1e3;
    (stats.ticks > 0).then(|| TickPercentiles {
        count: stats.ticks,
        p50_us: us(stats.p50_ns),
        p90_us: us(stats.p90_ns),
        p99_us: us(stats.p99_ns),
        p99_9_us: us(stats.p999_ns),
        max_us: us(stats.max_ns),
    })
}

impl Guest for Workload {
    fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn tracker(&mut self) -> &mut dyn DirtyTracker {
        &mut *self.tracker
    }

    fn quiesce(&mut self) -> Result<(), GuestError> {
        self.guest.quiesce().map_err(GuestError::new)?;
        self.moving.stopped.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.checker = None;
        self.manifest = None;
        self.moving.stopped = None;
        self.guest.resume().map_err(GuestError::new)
    }

    fn save_state(&mut self) -> Result<Vec<u8>, GuestError> {
        self.guest.save_state().map_err(GuestError::new)
    }

    fn load_state(&mut self, state: &[u8]) -> Result<(), GuestError> {
        self.guest.load_state(state).map_err(GuestError::new)
    }

    fn enter_phase(&mut self, phase: Phase) {
        match phase {
            Phase::Before => {}
            Phase::During => {
                let (at_start, started) = (self.guest.stats(), Some(Instant::now()));
                self.moving = Moving { at_start, started, ..Moving::default() };
            }
            Phase::After => self.moving.ended = Some((self.guest.stats(), Instant::now())),
        }
        self.guest.set_phase(match phase {
            Phase::Before => WorkloadPhase::Before,
            Phase::During => WorkloadPhase::During,
            Phase::After => WorkloadPhase::After,
        });
    }

    fn experience(&self) -> Experience {
        let stats = self.guest.stats();
        let rate = self.guest.options().map_or(0, |options| match options.pattern {
            Pattern::Idle => 0,
            _ => options.dirty_rate_bytes_per_s,
        });
        // Rates are the source's to tell: it saw the guest while it was moved.
        let (intended, achieved) = self.moving.write_rates(stats, rate).unzip();
        // A stop of before this move is not this one's.
        let stop = stats.blackout_ns.filter(|_| stats.blackout_ns != self.moving.at_start.blackout_ns);
        Experience {
            blackout_ms: stop.map(|ns| ns as f64 / 1e6),
            ticks: Ticks {
                before: ticks_of(&stats.before),
                during: ticks_of(&stats.during),
                after: ticks_of(&stats.after),
            },
            intended_write_bytes_per_s: intended,
            achieved_write_bytes_per_s: achieved,
        }
    }

    fn verifier(&mut self) -> Option<&mut dyn Verifier> {
        Some(self)
    }

    fn tracker_fallback(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }
}

impl Verifier for Workload {
    fn next_batch(&mut self) -> Result<Option<Vec<u8>>, GuestError> {
        if self.manifest.is_none() {
            self.manifest = Some(self.guest.manifest().map_err(GuestError::new)?);
        }
        Ok(self.manifest.as_mut().and_then(Iterator::next).map(|batch| batch.encode()))
    }

    fn check_batch(&mut self, batch: &[u8], found: &mut Verification) -> Result<(), GuestError> {
        let batch = ManifestBatch::decode(batch).map_err(GuestError::new)?;
        let (run, pages) = (batch.run, batch.run.pages.get());
        let faults = self.checker()?.verify_batch(&batch).map_err(GuestError::new)?;
        Self::add_faults(&faults, found);
        let rewritten = self.checker()?.rewritten_pages(run);
        let bad = faults.len() as u64;
        found.pages_checked += pages;
        let sound = pages.saturating_sub(bad);
        *found.rewritten_pages.get_or_insert(0) += rewritten.min(sound);
        *found.exact_pages.get_or_insert(0) += sound - rewritten.min(sound);
        Ok(())
    }

    fn check_rest(&mut self, found: &mut Verification) -> Result<(), GuestError> {
        let faults = self.checker()?.verify_untouched();
        Self::add_faults(&faults, found);
        Ok(())
    }

    fn check_alone(&mut self, found: &mut Verification) -> Result<(), GuestError> {
        let (pages, faults) = self.checker()?.verify_alone();
        Self::add_faults(&faults, found);
        found.pages_checked += pages.get();
        *found.sound_pages.get_or_insert(0) += pages.get().saturating_sub(faults.len() as u64);
        Ok(())
    }
}

/// Makes skeleton workload guests at a destination.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadFactory {
    prefault: bool,
}

impl WorkloadFactory {
    /// `prefault`: make the memory that will be written ready before the first pass, which waits for it. Without it, memory is
    /// made ready ahead of the pages that arrive, by blocks of 16 MiB; the whole move is then shorter, and its passes are longer.
    pub fn new(prefault: bool) -> Self {
        Self { prefault }
    }
}

impl GuestFactory for WorkloadFactory {
    fn skeleton(
        &mut self,
        offer: &Offer,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Box<dyn Guest>, GuestError> {
        let need = MemoryNeed {
            source_touched_bytes: 0,
            destination_touched_bytes: offer.touched_len_bytes,
            overhead_bytes: OVERHEAD_BYTES,
        };
        let available = MemoryAvailable::read().map_err(GuestError::new)?;
        check_fits(&need, &available).map_err(GuestError::new)?;
        let options =
            StorageOptions { len_bytes: offer.storage_len_bytes, backing: backing_of(offer.backing)? };
        let storage = Arc::new(Storage::create_for_arrival(&options).map_err(GuestError::new)?);
        if self.prefault {
            let stretches = offer.stretches.iter().map(|(start, pages)| Run::new(*start, *pages));
            let runs = Runs::from_unsorted(stretches.collect());
            let (done, total) = (AtomicU64::new(0), runs.bytes());
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let tell = |bytes| progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
            storage.prefault(&runs, threads, &tell).map_err(GuestError::new)?;
        }
        let bitmap = SoftwareBitmap::new(storage.pages()).map_err(GuestError::new)?;
        let guest = WorkloadGuest::skeleton(storage.clone(), None);
        guest.prepare_vcpus(1).map_err(GuestError::new)?;
        let tracker = Box::new(SoftwareTracker::new(bitmap));
        Ok(Box::new(Workload::new(storage, guest, tracker, None)))
    }
}
