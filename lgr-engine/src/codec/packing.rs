//! Packing at the source, shared by all devices: each has a context of its own, all have one codec.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use guest_mem::{PAGE_SIZE, PageNumber, Run, Runs, Storage, copy_zero};
use rustix::time::{ClockId, clock_gettime};

use super::chooser::{CANDIDATES, Chooser, Cost, Decision, Window};
use super::dictionary::{self, PackDictionary, TOUCHED_PAGES_MIN};
use super::last_sent::LastSent;
use super::meter::{Counts, Meter};
use super::packer::Packer;
use super::slots::{Slot, Slots};
use super::{Codec, Compress};

/// Least length of a window.
const WINDOW: Duration = Duration::from_millis(100);
/// Least chunks per device in a window: each device has one under way that is counted when it has gone.
const WINDOW_CHUNKS_PER_DEVICE: u64 = 2;
/// So many more chunks are packed at a time than there are processors.
const SPARE_CHUNKS: usize = 1;
/// Places in the guest from which pages are tried before the first pass, and pages at each.
const SAMPLES: u64 = 12;
const SAMPLE_PAGES: u64 = 8;
/// A dictionary is told only if chunks become smaller by it by one part in so many.
const DICTIONARY_GAIN_PARTS: f64 = 20.0;

type Costs = [Cost; CANDIDATES.len()];

/// A device's own part.
#[derive(Debug)]
pub(crate) struct DevicePacking {
    pub(crate) packer: Packer,
    /// The chunk under way.
    pub(crate) filled: Counts,
    /// Its pages that are in the packer's copy.
    pub(crate) pages: Vec<PageNumber>,
    /// Its thread's clock when that was looked at last.
    cpu: Option<Duration>,
}

/// When a codec was chosen, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Dated {
    /// Since the source was made ready.
    pub at: Duration,
    /// What, and why.
    pub decision: Decision,
}

impl DevicePacking {
    fn new(packer: Packer) -> Self {
        let pages = Vec::with_capacity(packer.copy.len() / PAGE_SIZE);
        Self { packer, filled: Counts::default(), pages, cpu: None }
    }
}

#[derive(Debug)]
struct Judge {
    chooser: Chooser,
    /// Sums and time at the window's beginning.
    before: Counts,
    began: Instant,
    dates: Vec<Duration>,
}

/// What became of all chunks.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Amounts.
    pub counts: Counts,
    /// What the link carries, in bytes per second, as far as it is known.
    pub link_bytes_per_s: Option<u64>,
    /// Every change of the codec, with its reason; the first 32.
    pub decisions: Vec<Dated>,
    /// Length of the dictionary, if one was used.
    pub dictionary_bytes: Option<u64>,
}

/// The codec of one relocation at its source.
#[derive(Debug)]
pub struct Packing {
    /// The level in use; 0 for raw.
    level: AtomicI32,
    /// Chunks that do not pack are tried ever more seldom.
    gives_up: bool,
    /// The peer takes a chunk's pages in any order.
    arranges: bool,
    slots: Slots,
    devices: Vec<Mutex<DevicePacking>>,
    /// Levels that may be used.
    levels: Vec<i32>,
    /// Once it is made: the dictionary, and what packing costs with it.
    dictionary: OnceLock<(PackDictionary, Costs)>,
    dictionary_made: AtomicBool,
    /// The destination has it.
    dictionary_told: AtomicBool,
    pub(crate) last_sent: LastSent,
    /// Seed of the hashes in it.
    pub(crate) seed: u64,
    meter: Meter,
    judge: Mutex<Judge>,
    /// Nothing is to be judged before, in ns since `started`.
    judge_at_ns: AtomicU64,
    started: Instant,
}

impl Packing {
    /// Contexts for `devices` devices, and the first decision. With [`Compress::Auto`] a few of the `touched` pages are
    /// packed at each level, for their costs. `limit_bytes_per_s` is the rate limit of all devices. The peer takes a chunk's
    /// pages in any order if `arranges`.
    ///
    /// # Errors
    /// zstd finds no memory.
    pub fn new(
        choice: Compress,
        storage: &Storage,
        touched: &Runs,
        devices: u8,
        limit_bytes_per_s: Option<u64>,
        arranges: bool,
    ) -> io::Result<Self> {
        let first = if let Compress::Zstd(level) = choice { level } else { CANDIDATES[0] };
        let ready = || Ok(Packer::new(first)?.arranging(arranges));
        let mut packers = (0..devices).map(|_| ready()).collect::<io::Result<Vec<_>>>()?;
        let costs = match packers.first_mut() {
            Some(packer) if choice == Compress::Auto => measure(packer, storage, touched, None),
            _ => [Cost { bytes_per_cpu_s: 0.0, ratio: 1.0 }; CANDIDATES.len()],
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(usize::from(devices));
        let chooser = Chooser::new(choice, costs, cores, limit_bytes_per_s);
        let mut levels = CANDIDATES.to_vec();
        levels.extend(Some(first).filter(|level| !CANDIDATES.contains(level)));
        let started = Instant::now();
        let packing = Self {
            level: AtomicI32::new(0),
            gives_up: choice == Compress::Auto,
            arranges,
            slots: Slots::new((cores + SPARE_CHUNKS).min(usize::from(devices))),
            devices: packers.into_iter().map(|packer| Mutex::new(DevicePacking::new(packer))).collect(),
            levels,
            dictionary: OnceLock::new(),
            dictionary_made: AtomicBool::new(false),
            dictionary_told: AtomicBool::new(false),
            last_sent: LastSent::new(storage.pages().get()),
            seed: seed(),
            meter: Meter::default(),
            judge_at_ns: AtomicU64::new(0),
            started,
            judge: Mutex::new(Judge {
                chooser,
                before: Counts::default(),
                began: started,
                dates: Vec::new(),
            }),
        };
        packing.follow(&mut packing.judge());
        Ok(packing)
    }

    /// As soon as pages are packed, once: makes a dictionary from `runs`, and gives out the message that tells it. `None` also
    /// if it would gain nothing. Takes some 30 ms.
    pub fn make_dictionary(&self, storage: &Storage, runs: &Runs) -> Option<Vec<u8>> {
        let packs = self.level.load(Ordering::Relaxed) != 0;
        if !packs
            || runs.pages().get() < TOUCHED_PAGES_MIN
            || self.dictionary_made.swap(true, Ordering::Relaxed)
        {
            return None;
        }
        let mut packer = Packer::new(CANDIDATES[0]).ok()?.arranging(self.arranges);
        let samples = Runs::from_unsorted(sample(runs));
        let mut bytes = dictionary::gather(storage, runs, &samples, &mut packer);
        if bytes.is_empty() {
            return None;
        }
        let message = dictionary::to_message(&mut bytes).ok()?;
        let dictionary = PackDictionary::new(&bytes, &self.levels)?;
        let without = measure(&mut packer, storage, runs, None);
        let with = measure(&mut packer, storage, runs, Some(&dictionary));
        let gains = |(with, without): (&Cost, &Cost)| {
            // Nothing gains where all samples are zero, and costs of nothing would end all packing.
            with.ratio > 0.0 && without.ratio <= with.ratio * (1.0 - 1.0 / DICTIONARY_GAIN_PARTS)
        };
        if !with.iter().zip(&without).any(gains) {
            return None;
        }
        self.dictionary.set((dictionary, with)).ok()?;
        Some(message)
    }

    /// The destination has the dictionary: it is used from now on.
    pub fn dictionary_taken(&self) {
        let Some((_, costs)) = self.dictionary.get() else { return };
        let mut judge = self.judge();
        judge.chooser.renew_costs(*costs);
        self.follow(&mut judge);
        self.dictionary_told.store(true, Ordering::Release);
    }

    /// What chunks may refer to.
    pub(crate) fn dictionary(&self) -> Option<&PackDictionary> {
        let told = self.dictionary_told.load(Ordering::Acquire);
        self.dictionary.get().filter(|_| told).map(|(dictionary, _)| dictionary)
    }

    /// A pass begins: what is measured begins anew, since nothing is sent between two passes.
    pub(crate) fn begin_pass(&self) {
        let mut judge = self.judge();
        self.begin_window(&mut judge);
    }

    fn begin_window(&self, judge: &mut Judge) {
        judge.before = self.meter.totals();
        judge.began = Instant::now();
        let at = judge.began.duration_since(self.started) + WINDOW;
        self.judge_at_ns.store(at.as_nanos() as u64, Ordering::Relaxed);
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().expect("no thread panics while it holds the chooser")
    }

    /// A device's part; only its own thread takes it.
    pub(crate) fn device(&self, device: u8) -> MutexGuard<'_, DevicePacking> {
        self.devices[usize::from(device)].lock().expect("no thread panics while it packs")
    }

    /// The peer takes a chunk's pages in any order.
    pub(crate) fn arranges(&self) -> bool {
        self.arranges
    }

    /// Waits until a processor is free for packing.
    pub(crate) fn slot(&self) -> Slot<'_> {
        self.slots.take()
    }

    /// How the next chunk of a device goes out.
    pub(crate) fn codec(&self, own: &mut DevicePacking) -> Codec {
        match self.level.load(Ordering::Relaxed) {
            0 => Codec::Raw,
            _ if self.gives_up && !own.packer.is_worth_a_try() => Codec::Raw,
            level => Codec::Zstd(level),
        }
    }

    /// The device's chunk has gone, with `wire_bytes` bytes.
    pub(crate) fn sent(&self, device: u8, wire_bytes: u64) {
        {
            let mut own = self.device(device);
            let cpu = thread_cpu();
            let used = own.cpu.replace(cpu).map_or(Duration::ZERO, |before| cpu.saturating_sub(before));
            let filled = std::mem::take(&mut own.filled);
            let device_cpu_ns = used.as_nanos() as u64;
            self.meter.add(&Counts { chunks: 1, wire_bytes, device_cpu_ns, ..filled });
        }
        if (self.started.elapsed().as_nanos() as u64) < self.judge_at_ns.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut judge) = self.judge.try_lock() else { return };
        let counts = self.meter.totals() - judge.before;
        if judge.began.elapsed() < WINDOW
            || counts.chunks < WINDOW_CHUNKS_PER_DEVICE * self.devices.len() as u64
        {
            return;
        }
        let window = Window {
            elapsed: judge.began.elapsed(),
            wire_bytes: counts.wire_bytes,
            data_bytes: counts.data_bytes(),
            device_cpu: Duration::from_nanos(counts.device_cpu_ns),
            pack_in_bytes: counts.tried_bytes,
            pack_out_bytes: counts.became_bytes,
            pack_cpu: Duration::from_nanos(counts.pack_cpu_ns),
            free_cores: match counts.pack_wall_ns {
                0 => None,
                wall => Some(self.slots.count() as f64 * counts.pack_cpu_ns as f64 / wall as f64),
            },
        };
        judge.chooser.judge(&window);
        self.follow(&mut judge);
        self.begin_window(&mut judge);
    }

    /// Makes the chooser's word the one that devices follow.
    fn follow(&self, judge: &mut Judge) {
        let level = if let Codec::Zstd(level) = judge.chooser.codec() { level } else { 0 };
        self.level.store(level, Ordering::Relaxed);
        judge.dates.resize(judge.chooser.decisions().len(), self.started.elapsed());
    }

    /// What became of all chunks so far.
    pub fn summary(&self) -> Summary {
        let judge = self.judge();
        let decisions = judge.dates.iter().zip(judge.chooser.decisions());
        Summary {
            counts: self.meter.totals(),
            link_bytes_per_s: judge.chooser.link_bytes_per_s(),
            decisions: decisions
                .map(|(at, decision)| Dated { at: *at, decision: decision.clone() })
                .collect(),
            dictionary_bytes: self.dictionary().map(PackDictionary::len_bytes),
        }
    }
}

/// A number that nobody else knows, the same for the whole relocation.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8)
}

/// Processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// What each candidate costs and gains on pages from all over the guest.
fn measure(
    packer: &mut Packer,
    storage: &Storage,
    touched: &Runs,
    dictionary: Option<&PackDictionary>,
) -> Costs {
    let mut len = 0;
    for run in sample(touched) {
        for page in run.page_numbers() {
            // SAFETY: the page lies in the storage; it may change while it is copied, and what comes of it is only
            // packed to see how well it packs.
            let zero = unsafe { copy_zero(storage.page_ptr(page), &mut packer.copy[len..len + PAGE_SIZE]) };
            len += if zero { 0 } else { PAGE_SIZE };
        }
    }
    let mut out = vec![0; packer.copy.len()];
    packer.arrange(len, &mut out);
    CANDIDATES.map(|level| {
        let mut pack = || {
            let before = thread_cpu();
            let became = packer.pack_with(dictionary, len, level, &mut out).unwrap_or(len);
            (thread_cpu() - before, became)
        };
        // The first time touches fresh memory, which later chunks do not.
        let (first, _) = pack();
        let (second, became) = pack();
        let seconds = first.min(second).as_secs_f64().max(1e-6);
        Cost { bytes_per_cpu_s: len as f64 / seconds, ratio: len as f64 / became.max(1) as f64 }
    })
}

/// Short runs at even distances through the touched pages.
fn sample(touched: &Runs) -> Vec<Run> {
    let pages = touched.pages().get();
    let step = (pages / SAMPLES).max(SAMPLE_PAGES);
    let (mut runs, mut before, mut next) = (Vec::new(), 0, 0);
    for run in touched.iter() {
        while next < before + run.pages.get() && runs.len() < SAMPLES as usize {
            let skipped = next - before;
            let first = PageNumber(run.start.get() + skipped);
            runs.push(Run::new(first.get(), SAMPLE_PAGES.min(run.pages.get() - skipped)));
            next += step;
        }
        before += run.pages.get();
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lie_inside_what_is_touched_and_all_over_it() {
        let touched = Runs::from_unsorted(vec![Run::new(10, 3), Run::new(1000, 5000), Run::new(9000, 1)]);
        let samples = sample(&touched);
        assert_eq!(samples.len(), SAMPLES as usize);
        assert!(samples.iter().flat_map(Run::page_numbers).all(|page| touched.contains(page)));
        assert_eq!(samples[0], Run::new(10, 3));
        assert!(samples[11].start.get() > 5000);
        assert!(sample(&Runs::new()).is_empty());
    }
}
