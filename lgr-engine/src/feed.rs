//! The passes as the devices see them: each device pulls the next chunk of the pass, looks at its
//! pages, and sends it.
//!
//! No page is touched by the control plane: classing a chunk (zero or raw, hashed or not) happens in the
//! thread of the device that carries it. A chunk a dying device may not have delivered is handed out
//! again; the barrier at the end of the pass is what keeps old copies from overtaking newer ones.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use guest_mem::{ChunkPlan, PAGE_SIZE, Run, Runs, Storage};
use guest_mem::{copy_zero, is_zero};
use isfc::frame::{EXTENTS_MAX, PROGRAM_PAYLOAD_BYTES, coverage_digest};
use isfc::{Extent, ExtentClass, Next, Notifier, Transfer, TransferSource};
use xxhash_rust::xxh3::Xxh3;

use crate::limit::RateLimit;
use crate::message::PassTotals;

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
    const CHUNK_PAGES_MIN: u64 = 16;
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
        Self::new(epoch, self.runs.clone(), self.stable, devices)
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

    fn take(&self, device: u8) -> Option<usize> {
        let chunk = self.again.pop().or_else(|| {
            // Looked at before it is raised, so that idle devices cannot make it overflow.
            if self.next.load(Ordering::Relaxed) >= self.plan.len() {
                return None;
            }
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            (chunk < self.plan.len()).then_some(chunk)
        })?;
        self.given_to(device).push(Given { chunk, sent: false });
        Some(chunk)
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
    started: Instant,
    current: Mutex<Option<Arc<Pass>>>,
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
            started: Instant::now(),
            current: Mutex::new(None),
            notifier: OnceLock::new(),
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
        *self.lock() = Some(pass);
        if empty {
            self.notify(epoch);
        }
    }

    /// No pass: devices find nothing to do.
    pub fn end(&self) {
        *self.lock() = None;
    }

    fn current(&self) -> Option<Arc<Pass>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Pass>>> {
        self.current.lock().expect("no thread panics while it holds this")
    }

    fn notify(&self, epoch: u32) {
        if let Some(notifier) = self.notifier.get() {
            notifier.notify(u64::from(epoch));
        }
    }

    fn fill(&self, pass: &Pass, chunk: usize, transfer: &mut Transfer) {
        transfer.tag = chunk as u64;
        transfer.epoch = pass.epoch;
        transfer.region = GUEST_STORAGE;
        let zero_pages = if self.hash_live && !pass.stable {
            self.fill_staged(pass, chunk, transfer)
        } else {
            self.fill_in_place(pass, chunk, transfer)
        };
        pass.zero_pages.fetch_add(zero_pages, Ordering::Relaxed);
        if pass.stable {
            transfer.digest = Some(self.stable_digest(&transfer.extents));
        }
    }

    fn fill_in_place(&self, pass: &Pass, chunk: usize, transfer: &mut Transfer) -> u64 {
        let mut zero_pages = 0;
        for run in pass.runs.chunk(&pass.plan[chunk]) {
            for page in run.page_numbers() {
                // SAFETY: the page lies in the storage; it may change while it is read, and then it is
                // dirty again and sent again.
                let zero = unsafe { is_zero(self.storage.page_ptr(page), PAGE_SIZE) };
                zero_pages += u64::from(zero);
                push_page(&mut transfer.extents, page.offset_bytes(), zero);
            }
        }
        zero_pages
    }

    /// One read of live memory: copied, tested and made safe to hash.
    fn fill_staged(&self, pass: &Pass, chunk: usize, transfer: &mut Transfer) -> u64 {
        let mut zero_pages = 0;
        let mut staged = 0;
        let mut hash = Xxh3::new();
        transfer.staging();
        for page in pass.runs.chunk(&pass.plan[chunk]).flat_map(|run: Run| run.page_numbers()) {
            let target = &mut transfer.staging[staged..staged + PAGE_SIZE];
            // SAFETY: the page lies in the storage; a torn copy is dirty again and sent again.
            let zero = unsafe { copy_zero(self.storage.page_ptr(page), target) };
            zero_pages += u64::from(zero);
            if !zero {
                // The copy is still in the first-level cache.
                hash.update(target);
                staged += PAGE_SIZE;
            }
            push_page(&mut transfer.extents, page.offset_bytes(), zero);
        }
        transfer.staged = true;
        transfer.digest = Some(hash.digest());
        zero_pages
    }

    fn stable_digest(&self, extents: &[Extent]) -> u64 {
        let mut hash = Xxh3::new();
        for extent in extents.iter().filter(|extent| extent.class == ExtentClass::Raw) {
            let page = guest_mem::PageNumber::containing(extent.offset_bytes);
            // SAFETY: inside the storage, and the guest is stopped: nobody writes.
            let bytes =
                unsafe { std::slice::from_raw_parts(self.storage.page_ptr(page), extent.len_bytes as usize) };
            hash.update(bytes);
        }
        hash.digest()
    }
}

/// Appends one page, to the last extent where it fits.
fn push_page(extents: &mut Vec<Extent>, offset_bytes: u64, zero: bool) {
    let class = if zero { ExtentClass::Zero } else { ExtentClass::Raw };
    if let Some(last) = extents.last_mut()
        && last.class == class
        && last.offset_bytes + u64::from(last.len_bytes) == offset_bytes
    {
        last.len_bytes += PAGE_SIZE as u32;
        return;
    }
    extents.push(Extent { offset_bytes, len_bytes: PAGE_SIZE as u32, class });
}

impl TransferSource for Feed {
    fn next(&self, device: u8, transfer: &mut Transfer) -> Next {
        let Some(pass) = self.current() else { return Next::Nothing };
        let Some(chunk) = pass.take(device) else { return Next::Nothing };
        self.fill(&pass, chunk, transfer);
        let now_ns = self.started.elapsed().as_nanos() as u64;
        match self.limit.reserve(transfer.raw_len_bytes(), now_ns) {
            0 => Next::Ready,
            wait_ns => Next::NotBefore(Instant::now() + Duration::from_nanos(wait_ns)),
        }
    }

    fn sent(&self, device: u8, epoch: u32, tag: u64, wire_bytes: u64) {
        let Some(pass) = self.current().filter(|pass| pass.epoch == epoch) else { return };
        pass.wire_bytes.fetch_add(wire_bytes, Ordering::Relaxed);
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
    use guest_mem::{PageNumber, StorageOptions};
    use xxhash_rust::xxh3::xxh3_64;

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

    fn transfer() -> Transfer {
        Transfer {
            tag: 0,
            epoch: 0,
            region: 0,
            extents: Vec::new(),
            digest: None,
            staged: false,
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

    #[test]
    fn a_staged_chunk_carries_the_hash_of_what_is_sent() {
        let feed = Feed::new(storage(), RateLimit::unlimited(), true);
        feed.begin(Arc::new(Pass::new(1, Runs::from_run(Run::new(0, 256)), false, 1)));
        let mut transfer = transfer();
        assert_eq!(feed.next(0, &mut transfer), Next::Ready);
        let len = transfer.raw_len_bytes() as usize;
        assert!(transfer.staged && len > 0);
        assert_eq!(transfer.digest, Some(xxh3_64(&transfer.staging[..len])));
        assert_eq!(transfer.digest, Some(feed.stable_digest(&transfer.extents)));
    }
}
