//! The passes as the devices see them: each device pulls the next chunk of the pass, looks at its
//! pages, and sends it.
//!
//! No page is touched by the control plane: classing a chunk (zero or raw, hashed or not) happens in the
//! thread of the device that carries it (`fill`). A chunk a dying device may not have delivered is handed out
//! again; the barrier at the end of the pass is what keeps old copies from overtaking newer ones.

use std::sync::atomic::{AtomicU64, Ordering};
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
    pages: u64,
    /// The guest stands still: content is hashed in place.
    stable: bool,
    /// An attempt of this pass failed: nobody knows what of it is in place.
    repeat: bool,
    /// Pages of each chunk but the last.
    chunk_pages: u32,
    /// Pages handed out for the first time.
    next: AtomicU64,
    again: SegQueue<Part>,
    given: [Mutex<Vec<Given>>; DEVICES_MAX],
    /// Of the transfers that were handed out so far.
    transfers: AtomicU64,
    digest: AtomicU64,
    sent_pages: AtomicU64,
    zero_pages: AtomicU64,
    wire_bytes: AtomicU64,
    resent_bytes: AtomicU64,
}

/// A chunk, or where a device asked for less, a part of one: what travels as one transfer, however often.
#[derive(Clone, Copy, Debug)]
struct Part {
    plan: ChunkPlan,
    /// Number of the chunk it belongs to.
    chunk: usize,
    /// Pages of the pass before it, which is its number as a transfer: no two have the same.
    first: u64,
}

#[derive(Clone, Copy, Debug)]
struct Given {
    part: Part,
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
        // As few extents as a transfer may have hold more pages than a chunk, so each but the last is full.
        const { assert!(EXTENTS_MAX as u64 >= PROGRAM_PAYLOAD_BYTES / PAGE_SIZE as u64) };
        let pages = runs.pages().get();
        let chunk_pages = chunk_pages(pages, devices);
        let plan = runs.plan_chunks(chunk_pages, EXTENTS_MAX);
        Self {
            epoch,
            pages,
            runs,
            plan,
            stable,
            repeat: false,
            chunk_pages,
            next: AtomicU64::new(0),
            again: SegQueue::new(),
            given: Default::default(),
            transfers: AtomicU64::new(0),
            digest: AtomicU64::new(0),
            sent_pages: AtomicU64::new(0),
            zero_pages: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            resent_bytes: AtomicU64::new(0),
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

    /// Pages that it is about.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// What the destination must count, once all has been handed out: how many transfers there are is known then, as a
    /// slow link gets more and shorter ones.
    pub fn totals(&self) -> PassTotals {
        let [transfers, digest] =
            [&self.transfers, &self.digest].map(|counter| counter.load(Ordering::Acquire));
        PassTotals { transfers, pages: self.pages, digest }
    }

    /// Pages that were all zero, so far.
    pub fn zero_pages(&self) -> u64 {
        self.zero_pages.load(Ordering::Relaxed)
    }

    /// Bytes handed to the medium so far, headers included.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes.load(Ordering::Relaxed)
    }

    /// Guest memory handed to the medium so far and not lost since, in bytes: never more than there is.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_pages.load(Ordering::Relaxed) * PAGE_SIZE as u64
    }

    /// Guest memory that was handed to the medium and had to be sent again, in bytes.
    pub fn resent_bytes(&self) -> u64 {
        self.resent_bytes.load(Ordering::Relaxed)
    }

    /// What `device` sends next, at most `pages_max` pages of what goes out for the first time; and whether the destination
    /// may be trusted to have what earlier passes sent of it.
    fn take(&self, device: u8, pages_max: u32) -> Option<(Part, Trust)> {
        let again = self.again.pop().map(|part| (part, Trust::Forget));
        let (part, trust) = again.or_else(|| {
            let trust = if self.repeat { Trust::Forget } else { Trust::Compare };
            self.draw(pages_max).map(|part| (part, trust))
        })?;
        self.given_to(device).push(Given { part, sent: false });
        Some((part, trust))
    }

    /// A part that has not been handed out yet.
    fn draw(&self, pages_max: u32) -> Option<Part> {
        let span = |first: u64| {
            let chunk = (first / u64::from(self.chunk_pages)) as usize;
            let skip = (first % u64::from(self.chunk_pages)) as u32;
            let left = self.plan.get(chunk)?.pages.checked_sub(skip).filter(|left| *left > 0)?;
            // No short rest: its header costs as much as that of a long one.
            let pages = if left < pages_max + pages_max / 2 { left } else { pages_max };
            Some((chunk, skip, pages))
        };
        let further = |first| span(first).map(|(_, _, pages)| first + u64::from(pages));
        let first = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, further).ok()?;
        let (chunk, skip, pages) = span(first)?;
        let plan = self.runs.part(&self.plan[chunk], skip, pages);
        let ranges = self.runs.chunk(&plan).map(|run| (run.offset_bytes(), run.bytes()));
        self.digest.fetch_add(coverage_digest(first, self.epoch, ranges), Ordering::Release);
        self.transfers.fetch_add(1, Ordering::Release);
        Some(Part { plan, chunk, first })
    }

    /// What was given to a device is to be sent again.
    fn take_back(&self, given: Given) {
        let Given { part, sent } = given;
        if sent {
            self.sent_pages.fetch_sub(u64::from(part.plan.pages), Ordering::AcqRel);
            self.resent_bytes.fetch_add(u64::from(part.plan.pages) * PAGE_SIZE as u64, Ordering::Relaxed);
        }
        self.again.push(part);
    }

    fn given_to(&self, device: u8) -> std::sync::MutexGuard<'_, Vec<Given>> {
        self.given[usize::from(device)].lock().expect("no thread panics while it holds this")
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
        let pages_max =
            (transfer.len_bytes_max / PAGE_SIZE as u64).clamp(1, u64::from(pass.chunk_pages)) as u32;
        let Some((part, trust)) = pass.take(device, pages_max) else { return Next::Nothing };
        self.fill(device, &pass, &part, trust, transfer);
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
        let pages = {
            let mut given = pass.given_to(device);
            // A part is with one device at a time; it cannot be there twice.
            let Some(given) = given.iter_mut().rev().find(|given| given.part.first == tag && !given.sent)
            else {
                return;
            };
            given.sent = true;
            u64::from(given.part.plan.pages)
        };
        if pass.sent_pages.fetch_add(pages, Ordering::AcqRel) + pages == pass.pages {
            self.notify(epoch);
        }
    }

    fn delivered(&self, device: u8, epoch: u32, tag: u64) {
        let Some(pass) = self.current().filter(|pass| pass.epoch == epoch) else { return };
        pass.given_to(device).retain(|given| !(given.sent && given.part.first == tag));
    }

    fn lost(&self, device: u8, epoch: u32, tag: u64) {
        let Some(pass) = self.current().filter(|pass| pass.epoch == epoch) else { return };
        let mut given = pass.given_to(device);
        let Some(at) = given.iter().position(|given| given.part.first == tag) else { return };
        let lost = given.swap_remove(at);
        drop(given);
        pass.take_back(lost);
    }

    fn device_down(&self, device: u8) {
        let Some(pass) = self.current() else { return };
        for given in std::mem::take(&mut *pass.given_to(device)) {
            pass.take_back(given);
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
            len_bytes_max: u64::MAX,
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
    fn a_device_that_asks_for_less_gets_parts_that_cover_the_pass() {
        for asked_bytes in [1, 4096, 64 << 10, 100_000, 300 << 10] {
            let feed = Feed::new(storage(), RateLimit::unlimited(), false);
            let runs: Runs = (0..200).map(|run| Run::new(run * 10, 1 + run % 9)).collect();
            let pass = Arc::new(Pass::new(1, runs.clone(), false, 2));
            feed.begin(pass.clone());
            let (mut digest, mut covered, mut tags) = (0u64, Vec::new(), std::collections::BTreeSet::new());
            let mut drawn = transfer();
            drawn.len_bytes_max = asked_bytes;
            let whole = u64::from(pass.chunk_pages) * PAGE_SIZE as u64;
            while feed.next(0, &mut drawn) == Next::Ready {
                assert!(drawn.covered_len_bytes() <= (asked_bytes * 3 / 2).max(4096).min(whole));
                assert!(tags.insert(drawn.tag) && drawn.tag < pass.pages());
                let ranges = drawn.extents.iter().map(|e| (e.offset_bytes, u64::from(e.len_bytes)));
                digest = digest.wrapping_add(coverage_digest(drawn.tag, 1, ranges.clone()));
                covered.extend(
                    ranges.map(|(offset, len)| Run::new(offset / PAGE_SIZE as u64, len / PAGE_SIZE as u64)),
                );
                feed.sent(0, 1, drawn.tag, 100);
                drawn.clear();
            }
            assert_eq!(Runs::from_unsorted(covered), runs);
            assert_eq!((digest, tags.len() as u64), (pass.totals().digest, pass.totals().transfers));
            assert_eq!(pass.sent_bytes(), runs.bytes());
        }
    }

    #[test]
    fn progress_never_passes_its_total_however_often_a_device_dies() {
        let feed = Feed::new(storage(), RateLimit::unlimited(), false);
        let pass = Arc::new(Pass::new(1, Runs::from_run(Run::new(0, 2048)), false, 2));
        feed.begin(pass.clone());
        let mut given = transfer();
        for round in 0..50 {
            given.clear();
            let device = round % 3;
            while feed.next(device, &mut given) == Next::Ready {
                feed.sent(device, 1, given.tag, 100);
                assert!(pass.sent_bytes() <= pass.runs().bytes());
                given.clear();
            }
            assert_eq!(pass.sent_bytes(), pass.runs().bytes());
            feed.device_down(device);
            assert_eq!(pass.sent_bytes(), 0);
        }
        assert_eq!(pass.resent_bytes(), 50 * pass.runs().bytes());
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
        let again = pass.pages - pass.sent_pages.load(Ordering::Relaxed);
        assert_eq!(
            again * PAGE_SIZE as u64,
            pass.resent_bytes() + pass.chunk_pages as u64 * PAGE_SIZE as u64
        );
    }
}
