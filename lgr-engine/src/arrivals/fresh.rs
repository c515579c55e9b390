//! Memory that nobody has touched yet, made ready ahead of the pages that arrive in it.
//!
//! Left alone, the kernel would clear and map it page by page under the receive. Made ready before the first pass, nothing
//! would arrive meanwhile. So threads of their own fill blocks of 16 MiB, in pieces of 2 MiB, from the moment the guest is
//! accepted, a bounded way ahead of what arrives:
//!
//! ```text
//!   block     n - 1        n            n + 1                   n + 16        pass 1 goes upwards
//!           ├─ full ─┼─ arriving ─┼─ full, or being filled … ─┼─ not begun ─┤
//!                        ▲ ▲ ▲
//!                        └─┴─┴─ devices: one that comes to a block which is not full wants it next, and waits for it
//! ```
//!
//! Only what the source has touched throughout is filled so: the rest must not cost more than what is in it. Zeros need no
//! memory and so do not move the threads on; a guest full of them costs what lies ahead of its first page, and no more. With
//! the end of the first pass the threads end, because nothing may be joined under a tracker; what comes to an empty block
//! later fills it itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use guest_mem::{HUGE_PAGE_SIZE, PAGE_SIZE, Run, Runs, Storage, StorageError};
use isfc::{Extent, ExtentClass};

use super::{Bits, pages_of};

/// Pages in a piece.
const PIECE_PAGES: u64 = HUGE_PAGE_SIZE / PAGE_SIZE as u64;
/// Pieces in a block. The kernel joins pages only after it has waited for all processors, so a call should be worth it.
const BLOCK_PIECES: u64 = 8;
/// Blocks that are filled before data arrives in them: 256 MiB, more than what all devices have under way.
const AHEAD_BLOCKS: usize = 16;
/// Blocks behind the furthest that data arrived in whose data may still come, as the devices do not keep step.
const BEHIND_BLOCKS: usize = 4;
/// More would wait for the kernel's memory, not for processors.
const THREADS_MAX: usize = 8;

type Fill = Box<dyn Fn(&Run) -> Result<(), StorageError> + Send + Sync>;

#[derive(Debug)]
pub(super) struct Fresh {
    blocks: Arc<Blocks>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What threads and devices share.
struct Blocks {
    fill: Fill,
    /// The pieces that are still to be filled.
    left: Bits,
    /// The blocks that hold one, in order.
    coming: Box<[u32]>,
    /// Places in `coming` which somebody has begun to fill.
    begun: Bits,
    /// How many places of `coming` are not full.
    unfilled: AtomicUsize,
    /// The furthest place in `coming` that data has arrived in.
    reached: AtomicUsize,
    turns: Mutex<Turns>,
    /// There may be work.
    work: Condvar,
    /// A block is full.
    full: Condvar,
    /// Nothing is filled any more.
    failed: AtomicBool,
    why: OnceLock<StorageError>,
}

#[derive(Debug, Default)]
struct Turns {
    /// Places that a device waits for.
    wanted: VecDeque<usize>,
    /// The place from which threads look on.
    next: usize,
    /// Threads that take turns.
    threads: usize,
    over: bool,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("coming", &self.coming.len()).finish_non_exhaustive()
    }
}

impl Fresh {
    /// The pieces inside `coming` of which nothing is in `storage` yet, and threads that begin to fill them; `None` if
    /// there is not even one piece.
    pub(super) fn new(storage: &Arc<Storage>, coming: &Runs) -> Result<Option<Self>, StorageError> {
        let all_there = storage.resident_bytes()? >= coming.bytes();
        let missing = if all_there { Runs::new() } else { coming.difference(&storage.touched()?) };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let memory = storage.clone();
        let fill = Box::new(move |run: &Run| memory.make_ready(run));
        Ok(Self::filling(storage.pages().get(), &missing, threads, fill))
    }

    fn filling(storage_pages: u64, missing: &Runs, threads: usize, fill: Fill) -> Option<Self> {
        let pieces = storage_pages.div_ceil(PIECE_PAGES);
        let left = Bits::new(pieces);
        for run in missing.iter() {
            let first = run.start.get().div_ceil(PIECE_PAGES);
            left.set_range(first, (run.end().get() / PIECE_PAGES).saturating_sub(first));
        }
        let holds_one = |block: &u32| pieces_of(*block).any(|piece| left.has(piece));
        let coming: Box<[u32]> = (0..pieces.div_ceil(BLOCK_PIECES) as u32).filter(holds_one).collect();
        if coming.is_empty() {
            return None;
        }
        let blocks = Arc::new(Blocks {
            fill,
            left,
            begun: Bits::new(coming.len() as u64),
            unfilled: AtomicUsize::new(coming.len()),
            reached: AtomicUsize::new(0),
            coming,
            turns: Mutex::default(),
            work: Condvar::new(),
            full: Condvar::new(),
            failed: AtomicBool::new(false),
            why: OnceLock::new(),
        });
        let spawned = (0..threads).filter_map(|_| spawn(&blocks)).collect();
        Some(Self { blocks, threads: Mutex::new(spawned) })
    }

    /// Returns when what `extents` are about to be written to is full, and lets the threads go on from there.
    ///
    /// # Errors
    /// Memory has run out; [`Self::trouble`] has the words.
    pub(super) fn make_ready(&self, extents: &[Extent]) -> Result<(), ()> {
        let blocks = &*self.blocks;
        if blocks.unfilled.load(Ordering::Acquire) > 0 {
            let data = |extent: &&Extent| matches!(extent.class, ExtentClass::Raw | ExtentClass::Packed);
            for pages in extents.iter().filter(data).map(pages_of).filter(|pages| !pages.is_empty()) {
                let block = |page: u64| (page / PIECE_PAGES / BLOCK_PIECES) as u32;
                blocks.reach(block(pages.start), block(pages.end - 1));
            }
        }
        if blocks.failed.load(Ordering::Acquire) { Err(()) } else { Ok(()) }
    }

    /// Why memory could not be made ready, if it could not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.blocks.why.get().map(ToString::to_string)
    }

    /// The first pass is over: nothing is filled ahead any more.
    pub(super) fn end(&self) {
        self.blocks.turns().over = true;
        self.blocks.work.notify_all();
    }

    /// Returns when no thread is at work any more.
    pub(super) fn join(&self) {
        self.end();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().for_each(|thread| {
            let _ = thread.join(); // one that panicked has said so
        });
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.join();
    }
}

fn spawn(blocks: &Arc<Blocks>) -> Option<JoinHandle<()>> {
    let mine = blocks.clone();
    blocks.turns().threads += 1;
    let spawned = std::thread::Builder::new().name("lgr-ahead".into()).spawn(move || mine.fill_ahead());
    if spawned.is_err() {
        blocks.turns().threads -= 1; // devices fill what they come to
    }
    spawned.ok()
}

fn pieces_of(block: u32) -> std::ops::Range<u64> {
    let first = u64::from(block) * BLOCK_PIECES;
    first..first + BLOCK_PIECES
}

impl Blocks {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn fill_ahead(&self) {
        let mut turns = self.turns();
        loop {
            if let Some(place) = self.next_turn(&mut turns) {
                drop(turns);
                self.fill_place(place);
                turns = self.turns();
            } else if turns.over || self.failed.load(Ordering::Acquire) {
                turns.threads -= 1;
                return;
            } else {
                turns = self.work.wait(turns).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// What a device waits for comes first, then what lies ahead.
    fn next_turn(&self, turns: &mut Turns) -> Option<usize> {
        if let Some(place) = turns.wanted.pop_front() {
            return Some(place);
        }
        let reached = self.reached.load(Ordering::Acquire);
        turns.next = turns.next.max(reached.saturating_sub(BEHIND_BLOCKS));
        let end = self.coming.len().min(reached + AHEAD_BLOCKS);
        while turns.next < end && !turns.over && !self.failed.load(Ordering::Acquire) {
            turns.next += 1;
            if self.begun.set(turns.next as u64 - 1) {
                return Some(turns.next - 1);
            }
        }
        None
    }

    /// Data has come to the blocks from `first` to `last`.
    fn reach(&self, first: u32, last: u32) {
        let from = self.coming.partition_point(|block| *block < first);
        let places = from..self.coming.partition_point(|block| *block <= last);
        if places.is_empty() {
            return;
        }
        for place in places.clone().filter(|place| self.is_left(*place)) {
            self.want(place);
        }
        // The threads look again only when there is more to look at.
        if self.reached.fetch_max(places.end - 1, Ordering::AcqRel) < places.end - 1 {
            let _turns = self.turns();
            self.work.notify_all();
        }
    }

    fn is_left(&self, place: usize) -> bool {
        pieces_of(self.coming[place]).any(|piece| self.left.has(piece))
    }

    /// Waits for a place to be filled, or fills it where no thread would.
    fn want(&self, place: usize) {
        let mut turns = self.turns();
        if self.begun.set(place as u64) {
            if turns.threads == 0 || turns.over {
                drop(turns);
                return self.fill_place(place);
            }
            turns.wanted.push_back(place);
            self.work.notify_one();
        }
        while self.is_left(place) {
            turns = self.full.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// By the one who has begun it.
    fn fill_place(&self, place: usize) {
        let block = self.coming[place];
        let mut pieces = pieces_of(block).filter(|piece| self.left.has(*piece)).peekable();
        while let Some(first) = pieces.next() {
            let mut end = first + 1;
            while pieces.next_if_eq(&end).is_some() {
                end += 1;
            }
            let run = Run::new(first * PIECE_PAGES, (end - first) * PIECE_PAGES);
            if !self.failed.load(Ordering::Acquire)
                && let Err(error) = (self.fill)(&run)
            {
                let _ = self.why.set(error); // a later error adds nothing to the first
                self.failed.store(true, Ordering::Release);
            }
        }
        let _turns = self.turns();
        pieces_of(block).filter(|piece| self.left.has(*piece)).for_each(|piece| self.left.clear(piece));
        self.unfilled.fetch_sub(1, Ordering::AcqRel);
        self.full.notify_all();
    }
}

#[cfg(test)]
mod tests;
