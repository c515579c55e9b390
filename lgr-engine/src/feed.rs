//! The passes as the devices see them: each device pulls the next chunk of the pass, looks at its
//! pages, and sends it.
//!
//! No page is touched by the control plane: classing a chunk (zero or raw, hashed or not) happens in the
//! thread of the device that carries it (`fill`). A chunk a dying device may not have delivered is handed out
//! again; the barrier at the end of the pass is what keeps old copies from overtaking newer ones.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam::queue::SegQueue;
use guest_mem::{ChunkPlan, PAGE_SIZE, Runs, Storage};
use isfc::frame::{EXTENTS_MAX, PROGRAM_PAYLOAD_BYTES, coverage_digest};
use isfc::{Next, Notifier, Transfer, TransferSource};

use crate::codec::last_sent::Trust;
use crate::codec::packing::Packing;
use crate::limit::RateLimit;
use crate::message::PassTotals;

mod fill;

/// The region number of guest storage.
pub const GUEST_STORAGE: u16 = 0;
/// Devices a link can have.
const DEVICES_MAX: usize = isfc::hello::DEVICES_MAX as usize;

/// One pass: the pages, cut into chunks, and who has which.
#[derive(Debug)]
pub struct Pass {
    epoch: u32,
    runs: Runs,
    plan: Vec<ChunkPlan>,
    totals: PassTotals,
    /// The guest stands still: content is hashed in place.
    stable: bool,
    /// An attempt of this pass failed: nobody knows what of it is in place.
    repeat: bool,
    next: AtomicUsize,
    again: SegQueue<usize>,
    given: [Mutex<Vec<Given>>; DEVICES_MAX],
    unsent: AtomicUsize,
    zero_pages: AtomicU64,
    wire_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Given {
    chunk: usize,
    sent: bool,
}

/// Chunks of a pass of `pages` pages over `devices` devices: large, but so many that each device gets
/// some.
fn chunk_pages(pages: u64, devices: u8) -> u32 {
    const CHUNK_PAGES_MAX: u64 = PROGRAM_PAYLOAD_BYTES / PAGE_SIZE as u64;
    const CHUNK_PAGES_MIN: u64 = 32;
    pages.div_ceil(u64::from(devices) * 2).clamp(CHUNK_PAGES_MIN, CHUNK_PAGES_MAX) as u32
}

impl Pass {
    /// Plans a pass over `runs` for `devices` devices.
    pub fn new(epoch: u32, runs: Runs, stable: bool, devices: u8) -> Self {
        let pages = runs.pages().get();
        let plan = runs.plan_chunks(chunk_pages(pages, devices), EXTENTS_MAX);
        let mut digest = 0u64;
        for (tag, chunk) in plan.iter().enumerate() {
            let ranges = runs.chunk(chunk).map(|run| (run.offset_bytes(), run.bytes()));
            digest = digest.wrapping_add(coverage_digest(tag as u64, epoch, ranges));
        }
        let transfers = plan.len() as u64;
        Self {
            epoch,
            unsent: AtomicUsize::new(plan.len()),
            totals: PassTotals { transfers, pages, digest },
            runs,
            plan,
            stable,
            repeat: false,
            next: AtomicUsize::new(0),
            again: SegQueue::new(),
            given: Default::default(),
            zero_pages: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// The same pages under a new epoch.
    pub fn again(&self, epoch: u32, devices: u8) -> Self {
        Self { repeat: true, ..Self::new(epoch, self.runs.clone(), self.stable, devices) }
    }

    /// The pages of the pass.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// What the destination must count.
    pub fn totals(&self) -> PassTotals {
        self.totals
    }

    /// Pages that were all zero, so far.
    pub fn zero_pages(&self) -> u64 {
        self.zero_pages.load(Ordering::Relaxed)
    }

    /// Bytes handed to the medium so far, headers included.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes.load(Ordering::Relaxed)
    }

    /// Guest memory handed to the medium so far, in bytes.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// The next chunk for `device`, and whether the destination may be trusted to have what earlier passes sent of it.
    fn take(&self, device: u8) -> Option<(usize, Trust)> {
        let again = self.again.pop().map(|chunk| (chunk, Trust::Forget));
        let (chunk, trust) = again.or_else(|| {
            // Looked at before it is raised, so that idle devices cannot make it overflow.
            if self.next.load(Ordering::Relaxed) >= self.plan.len() {
                return None;
            }
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            let trust = if self.repeat { Trust::Forget } else { Trust::Compare };
            (chunk < self.plan.len()).then_some((chunk, trust))
        })?;
        self.given_to(device).push(Given { chunk, sent: false });
        Some((chunk, trust))
    }

    fn given_to(&self, device: u8) -> std::sync::MutexGuard<'_, Vec<Given>> {
        self.given[usize::from(device)].lock().expect("no thread panics while it holds this")
    }

    fn chunk_bytes(&self, chunk: usize) -> u64 {
        u64::from(self.plan[chunk].pages) * PAGE_SIZE as u64
    }
}

/// The passes of one relocation, as a [`TransferSource`].
pub struct Feed {
    storage: Arc<Storage>,
    limit: RateLimit,
    /// Copy live memory once and send it from the copy, with its hash.
    hash_live: bool,
    /// How pages are packed, if they may be.
    packing: Option<Packing>,
    started: Instant,
    /// Read by every device for every chunk; a device that is preempted must not keep the others from it.
    current: ArcSwapOption<Pass>,
    notifier: OnceLock<Notifier>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("current", &self.current()).finish_non_exhaustive()
    }
}

impl Feed {
    /// Passes over `storage`, limited to `limit` for all devices together.
    pub fn new(storage: Arc<Storage>, limit: RateLimit, hash_live: bool) -> Self {
        Self {
            storage,
            limit,
            hash_live,
            packing: None,
            started: Instant::now(),
            current: ArcSwapOption::empty(),
            notifier: OnceLock::new(),
        }
    }

    /// Packs pages when that is worth it. The peer must be able to unpack them.
    #[must_use]
    pub fn with_packing(mut self, packing: Option<Packing>) -> Self {
        self.packing = packing;
        self
    }

    /// How pages are packed, if they may be.
    pub fn packing(&self) -> Option<&Packing> {
        self.packing.as_ref()
    }

    /// A message of `bytes` goes out beside the pages: it counts as theirs, and under a rate limit they wait for it.
    pub fn count_message(&self, bytes: u64) {
        self.limit.reserve(bytes, self.started.elapsed().as_nanos() as u64);
        if let Some(pass) = self.current() {
            pass.wire_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Who is told (with the pass's epoch) when all chunks of a pass have been sent.
    pub fn set_notifier(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// Makes `pass` the one that devices pull from. Kick the link after.
    pub fn begin(&self, pass: Arc<Pass>) {
        let empty = pass.plan.is_empty();
        let epoch = pass.epoch;
        if let Some(packing) = &self.packing {
            packing.begin_pass();
        }
        self.current.store(Some(pass));
        if empty {
            self.notify(epoch);
        }
    }

    /// No pass: devices find nothing to do.
    pub fn end(&self) {
        self.current.store(None);
    }

    fn current(&self) -> Option<Arc<Pass>> {
        self.current.load_full()
    }

    fn notify(&self, epoch: u32) {
        if let Some(notifier) = self.notifier.get() {
            notifier.notify(u64::from(epoch));
        }
    }
}

impl TransferSource for Feed {
    fn next(&self, device: u8, transfer: &mut Transfer) -> Next {
        let Some(pass) = self.current() else { return Next::Nothing };
        let Some((chunk, trust)) = pass.take(device) else { return Next::Nothing };
        self.fill(device, &pass, chunk, trust, transfer);
        let now_ns = self.started.elapsed().as_nanos() as u64;
        match self.limit.reserve(transfer.payload_len_bytes(), now_ns) {
            0 => Next::Ready,
            wait_ns => Next::NotBefore(Instant::now() + Duration::from_nanos(wait_ns)),
        }
    }

    fn sent(&self, device: u8, epoch: u32, tag: u64, wire_bytes: u64) {
        let Some(pass) = self.current().filter(|pass| pass.epoch == epoch) else { return };
        pass.wire_bytes.fetch_add(wire_bytes, Ordering::Relaxed);
        if let Some(packing) = &self.packing {
            packing.sent(device, wire_bytes);
        }
        let chunk = tag as usize;
        pass.sent_bytes.fetch_add(pass.chunk_bytes(chunk), Ordering::Relaxed);
        if let Some(given) = pass.given_to(device).iter_mut().rev().find(|given| given.chunk == chunk) {
            given.sent = true;
        }
        if pass.unsent.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.notify(epoch);
        }
    }

    fn delivered(&self, device: u8, epoch: u32, tag: u64) {
        let Some(pass) = self.current().filter(|pass| pass.epoch == epoch) else { return };
        pass.given_to(device).retain(|given| !(given.sent && given.chunk == tag as usize));
    }

    fn lost(&self, device: u8, epoch: u32, tag: u64) {
        let Some(pass) = self.current().filter(|pass| pass.epoch == epoch) else { return };
        let mut given = pass.given_to(device);
        // A chunk is with one device at a time, so it cannot be there twice.
        let Some(at) = given.iter().position(|given| given.chunk == tag as usize) else { return };
        let lost = given.swap_remove(at);
        drop(given);
        if lost.sent {
            pass.unsent.fetch_add(1, Ordering::AcqRel);
        }
        pass.again.push(lost.chunk);
    }

    fn device_down(&self, device: u8) {
        let Some(pass) = self.current() else { return };
        for given in std::mem::take(&mut *pass.given_to(device)) {
            if given.sent {
                pass.unsent.fetch_add(1, Ordering::AcqRel);
            }
            pass.again.push(given.chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_mem::{PageNumber, Run, StorageOptions};
    use isfc::Extent;

    fn storage() -> Arc<Storage> {
        let storage = Storage::create(&StorageOptions::small(8 << 20)).unwrap();
        for page in 0..2048 {
            if page % 3 != 0 {
                storage.write_bytes(PageNumber(page), 7, &[page as u8 | 1]);
            }
        }
        Arc::new(storage)
    }

    fn drain(feed: &Feed, device: u8) -> Vec<(u64, Vec<Extent>)> {
        let (mut all, mut transfer) = (Vec::new(), transfer());
        loop {
            transfer.clear();
            if feed.next(device, &mut transfer) == Next::Nothing {
                return all;
            }
            all.push((transfer.tag, transfer.extents.clone()));
        }
    }

    pub(super) fn transfer() -> Transfer {
        Transfer {
            tag: 0,
            epoch: 0,
            region: 0,
            extents: Vec::new(),
            digest: None,
            staged: false,
            packed_len_bytes: None,
            staging: Vec::new(),
        }
    }

    #[test]
    fn every_page_is_handed_out_once_and_classed() {
        let feed = Feed::new(storage(), RateLimit::unlimited(), false);
        let pass = Arc::new(Pass::new(1, Runs::from_run(Run::new(0, 2048)), false, 2));
        feed.begin(pass.clone());
        let chunks = drain(&feed, 0);
        assert_eq!(chunks.len() as u64, pass.totals().transfers);
        assert_eq!(pass.zero_pages(), 683);
        let mut digest = 0u64;
        let mut pages = 0;
        for (tag, extents) in &chunks {
            let ranges = extents.iter().map(|e| (e.offset_bytes, u64::from(e.len_bytes)));
            digest = digest.wrapping_add(coverage_digest(*tag, 1, ranges));
            pages += extents.iter().map(|e| u64::from(e.len_bytes) / PAGE_SIZE as u64).sum::<u64>();
        }
        assert_eq!((digest, pages), (pass.totals().digest, 2048));
    }

    #[test]
    fn what_a_dead_device_had_is_handed_out_again() {
        let feed = Feed::new(storage(), RateLimit::unlimited(), false);
        let pass = Arc::new(Pass::new(1, Runs::from_run(Run::new(0, 2048)), false, 2));
        feed.begin(pass.clone());
        let mut transfer = transfer();
        assert_eq!(feed.next(3, &mut transfer), Next::Ready);
        let first = transfer.tag;
        feed.sent(3, 1, first, 100);
        transfer.clear();
        assert_eq!(feed.next(3, &mut transfer), Next::Ready);
        let second = transfer.tag;
        let rest = drain(&feed, 0);
        for (tag, _) in &rest {
            feed.sent(0, 1, *tag, 100);
        }
        feed.device_down(3);
        let again: Vec<u64> = drain(&feed, 1).iter().map(|(tag, _)| *tag).collect();
        assert_eq!(again, [first, second]);
        assert_eq!(pass.unsent.load(Ordering::Relaxed), 2);
    }
}
