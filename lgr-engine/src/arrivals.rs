//! What has arrived, counted by the devices that place it.
//!
//! **No stale page.** A pass is over only when every transfer of its epoch has arrived at least once *and*
//! no device is still placing one. The epoch is closed first, so that a transfer which comes later is
//! thrown away; then those still being placed are waited for. Only then does the source hear that it may
//! send the pages again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use guest_mem::{PAGE_SIZE, PageNumber, Run, Runs, Storage, StorageError, prefetch_scattered};
use isfc::frame::{EXTENTS_MAX, coverage_digest};
use isfc::{Admission, Extent, ExtentClass, Notifier, Placed, TransferSink, len_bytes_of};

use crate::codec::dictionary::UnpackDictionary;
use crate::codec::packer::Unpacker;
use crate::message::PassTotals;

mod fresh;

use fresh::Fresh;

const DEVICES_MAX: usize = isfc::hello::DEVICES_MAX as usize;
const NO_TAG: u64 = u64::MAX;
/// The notice that says: look whether the awaited pass is complete.
pub const NOTICE_ARRIVALS: u64 = 1 << 40;

/// Bits that cost nothing until they are set (a zeroed allocation commits no memory).
#[derive(Debug)]
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(bits: u64) -> Self {
        let words = usize::try_from(bits.div_ceil(64)).expect("storage sizes fit the address space");
        // The allocator hands out zeroed pages that are not committed before they are written.
        let zeroed = vec![0u64; words].into_boxed_slice();
        let raw = Box::into_raw(zeroed);
        // SAFETY: AtomicU64 has the size, alignment and bit validity of u64, and the box is ours.
        Self(unsafe { Box::from_raw(raw as *mut [AtomicU64]) })
    }

    /// Sets a bit; true if it was not set before.
    fn set(&self, bit: u64) -> bool {
        let mask = 1 << (bit % 64);
        self.0[(bit / 64) as usize].fetch_or(mask, Ordering::AcqRel) & mask == 0
    }

    fn get(&self, bit: u64) -> bool {
        self.0[(bit / 64) as usize].load(Ordering::Acquire) & (1 << (bit % 64)) != 0
    }

    /// As [`Self::get`]; false for a bit beyond the end.
    fn has(&self, bit: u64) -> bool {
        (bit / 64) < self.0.len() as u64 && self.get(bit)
    }

    fn clear(&self, bit: u64) {
        self.0[(bit / 64) as usize].fetch_and(!(1 << (bit % 64)), Ordering::AcqRel);
    }

    fn set_range(&self, first: u64, count: u64) {
        let mut bit = first;
        let end = first + count;
        while bit < end {
            let in_word = (64 - bit % 64).min(end - bit);
            let mask = (u64::MAX >> (64 - in_word)) << (bit % 64);
            self.0[(bit / 64) as usize].fetch_or(mask, Ordering::AcqRel);
            bit += in_word;
        }
    }

    fn clear_first(&self, bits: u64) {
        for word in &self.0[..bits.div_ceil(64) as usize] {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// The destination's counts, as a [`TransferSink`].
pub struct Arrivals {
    storage: Arc<Storage>,
    /// The epoch whose transfers are placed; earlier ones are thrown away.
    epoch: AtomicU32,
    /// The tag each device is placing; [`NO_TAG`] if it is not placing anything.
    placing: [AtomicU64; DEVICES_MAX],
    seen: Bits,
    tags_max: u64,
    highest_tag: AtomicU64,
    /// Pages that have held other than zero here, so that a zero must be written.
    filled: Bits,
    transfers: AtomicU64,
    pages: AtomicU64,
    digest: AtomicU64,
    damaged: AtomicU64,
    /// Transfers awaited; `u64::MAX` while that is not known.
    awaited: AtomicU64,
    total_bytes: AtomicU64,
    /// One for each device; none where nothing comes packed.
    unpackers: Vec<Mutex<Unpacker>>,
    dictionary: OnceLock<UnpackDictionary>,
    /// What is made ready ahead of the pages.
    fresh: Option<Fresh>,
    notifier: OnceLock<Notifier>,
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrivals").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Arrivals {
    /// Nothing has arrived in `storage` yet.
    pub fn new(storage: Arc<Storage>) -> Self {
        let pages = storage.pages().get();
        Self {
            epoch: AtomicU32::new(1),
            placing: [const { AtomicU64::new(NO_TAG) }; DEVICES_MAX],
            seen: Bits::new(pages),
            tags_max: pages,
            highest_tag: AtomicU64::new(0),
            filled: Bits::new(pages),
            transfers: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            digest: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            awaited: AtomicU64::new(u64::MAX),
            total_bytes: AtomicU64::new(0),
            unpackers: Vec::new(),
            dictionary: OnceLock::new(),
            fresh: None,
            notifier: OnceLock::new(),
            storage,
        }
    }

    /// Ready to unpack what comes packed on `devices` devices.
    ///
    /// # Errors
    /// zstd finds no memory.
    pub fn with_unpackers(mut self, devices: u8) -> std::io::Result<Self> {
        let unpackers = (0..devices).map(|_| Unpacker::new().map(Mutex::new));
        self.unpackers = unpackers.collect::<std::io::Result<_>>()?;
        Ok(self)
    }

    /// From now on packed pages may refer to this dictionary, which a message told.
    ///
    /// # Errors
    /// In words: nothing is unpacked here, it is no dictionary, or there is one already.
    pub fn learn(&self, dictionary: &[u8]) -> Result<(), String> {
        if self.unpackers.is_empty() {
            return Err("a dictionary, and nothing is unpacked here".to_owned());
        }
        let dictionary = UnpackDictionary::from_message(dictionary)?;
        self.dictionary.set(dictionary).map_err(|_| "a second dictionary".to_owned())
    }

    /// Makes memory ready in pieces of 2 MiB, from now on and ahead of what arrives, where `coming` says that all of a piece
    /// will come and nothing is there yet. It ends with the first epoch.
    ///
    /// # Errors
    /// What is there cannot be found out.
    pub fn with_fresh_memory(mut self, coming: &Runs) -> Result<Self, StorageError> {
        self.fresh = Fresh::new(&self.storage, coming)?;
        Ok(self)
    }

    /// Why memory could not be made ready, if it could not; nothing is placed any more then.
    pub fn trouble(&self) -> Option<String> {
        self.fresh.as_ref()?.trouble()
    }

    /// Returns when no memory is being made ready ahead any more. To be called before writes are tracked here.
    pub fn join_ahead(&self) {
        self.fresh.iter().for_each(Fresh::join);
    }

    /// Who is told ([`NOTICE_ARRIVALS`]) when it is worth calling [`Self::close`].
    pub fn set_notifier(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// Guest memory that has arrived in all passes, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// From now on a notice comes when `transfers` transfers have arrived.
    pub fn await_transfers(&self, transfers: u64) {
        self.awaited.store(transfers, Ordering::SeqCst);
        self.notify_if_complete();
    }

    /// Closes `epoch` if everything awaited has arrived and nothing is still being placed, and
    /// says what was counted: the totals and the number of damaged payloads.
    pub fn close(&self, epoch: u32) -> Option<(PassTotals, u64)> {
        let arrived = self.transfers.load(Ordering::SeqCst) >= self.awaited.load(Ordering::SeqCst);
        if !arrived {
            return None;
        }
        // Closed first: what comes in after this line is thrown away, not placed.
        self.epoch.store(epoch + 1, Ordering::SeqCst);
        if self.placing.iter().any(|placing| placing.load(Ordering::SeqCst) != NO_TAG) {
            return None;
        }
        let totals = PassTotals {
            transfers: self.transfers.swap(0, Ordering::SeqCst),
            pages: self.pages.swap(0, Ordering::SeqCst),
            digest: self.digest.swap(0, Ordering::SeqCst),
        };
        let damaged = self.damaged.swap(0, Ordering::SeqCst);
        self.fresh.iter().for_each(Fresh::end);
        self.awaited.store(u64::MAX, Ordering::SeqCst);
        self.seen.clear_first(self.highest_tag.swap(0, Ordering::SeqCst) + 1);
        Some((totals, damaged))
    }

    fn notify_if_complete(&self) {
        if self.transfers.load(Ordering::SeqCst) < self.awaited.load(Ordering::SeqCst) {
            return;
        }
        if let Some(notifier) = self.notifier.get() {
            notifier.notify(NOTICE_ARRIVALS);
        }
    }

    fn write_zeros(&self, extent: &Extent) {
        for page in pages_of(extent) {
            // A page never written here is zero already; writing it would allocate it.
            if self.filled.get(page) {
                self.storage.zero_page(PageNumber(page));
            }
        }
    }
}

/// Numbers of the pages of an extent that is whole pages.
fn pages_of(extent: &Extent) -> std::ops::Range<u64> {
    let first = PageNumber::containing(extent.offset_bytes).get();
    first..first + u64::from(extent.len_bytes) / PAGE_SIZE as u64
}

impl TransferSink for Arrivals {
    fn admit(&self, device: u8, epoch: u32, tag: u64, extents: &[Extent]) -> Result<Admission, String> {
        if tag >= self.tags_max {
            return Err(format!("transfer number {tag} in a guest of {} pages", self.tags_max));
        }
        let whole = |extent: &&Extent| {
            extent.offset_bytes.is_multiple_of(PAGE_SIZE as u64)
                && extent.len_bytes.is_multiple_of(PAGE_SIZE as u32)
        };
        if let Some(odd) = extents.iter().find(|extent| !whole(extent)) {
            return Err(format!("{odd:?} is not whole pages"));
        }
        let mut kept = extents.iter().filter(|extent| extent.class == ExtentClass::Kept);
        if let Some(missing) = kept.find(|extent| !pages_of(extent).all(|page| self.filled.get(page))) {
            return Err(format!("{missing:?} is to be kept, and was never here"));
        }
        let placing = &self.placing[usize::from(device)];
        // Raised before the epoch is read: `close` either sees this device placing, or this
        // device sees the epoch closed.
        placing.store(tag, Ordering::SeqCst);
        let open = self.epoch.load(Ordering::SeqCst);
        // One that is here already came late under another number; its bytes may be older.
        if epoch == open && !self.seen.get(tag) {
            let data = extents.iter().filter(|extent| extent.class == ExtentClass::Raw).map(pages_of);
            prefetch_scattered(
                self.storage.as_ptr(),
                data.map(|pages| Run::new(pages.start, pages.end - pages.start)),
            );
            if self.fresh.as_ref().is_none_or(|fresh| fresh.make_ready(extents).is_ok()) {
                return Ok(Admission::Place);
            }
            // To write where there is no memory is a fault; the move is ended by who looks at `trouble`.
            placing.store(NO_TAG, Ordering::SeqCst);
            return Ok(Admission::Discard);
        }
        placing.store(NO_TAG, Ordering::SeqCst);
        if epoch <= open {
            return Ok(Admission::Discard);
        }
        Err(format!("transfer of epoch {epoch} while epoch {open} is open"))
    }

    fn unpack(&self, device: u8, extents: &[Extent], payload: &[u8]) -> Result<(), String> {
        let unpacker = self.unpackers.get(usize::from(device)).ok_or("nothing is unpacked here")?;
        let mut unpacker = unpacker.lock().expect("no thread panics while it unpacks");
        let len = len_bytes_of(ExtentClass::Packed, extents);
        let bytes = unpacker.unpack_with(self.dictionary.get(), payload, len)?;
        let (mut left, rest) = bytes.as_chunks::<PAGE_SIZE>();
        debug_assert!(rest.is_empty(), "extents are whole pages, as `admit` has seen");
        for page in extents.iter().filter(|extent| extent.class == ExtentClass::Packed).flat_map(pages_of) {
            let Some((bytes, others)) = left.split_first() else { break };
            self.storage.write_page(PageNumber(page), bytes);
            left = others;
        }
        Ok(())
    }

    fn placed(&self, device: u8, placed: &Placed<'_>) {
        let mut bytes = 0;
        for extent in placed.extents {
            bytes += u64::from(extent.len_bytes);
            match extent.class {
                ExtentClass::Zero => self.write_zeros(extent),
                ExtentClass::Kept => {}
                ExtentClass::Raw | ExtentClass::Packed => {
                    let first = PageNumber::containing(extent.offset_bytes).get();
                    self.filled.set_range(first, u64::from(extent.len_bytes) / PAGE_SIZE as u64);
                }
            }
        }
        self.damaged.fetch_add(u64::from(!placed.intact), Ordering::SeqCst);
        self.highest_tag.fetch_max(placed.tag, Ordering::SeqCst);
        if self.seen.set(placed.tag) {
            self.digest.fetch_add(coverage_of(placed), Ordering::SeqCst);
            self.pages.fetch_add(bytes / PAGE_SIZE as u64, Ordering::SeqCst);
            self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
            // Counted last: who sees this count sees the sums above.
            self.transfers.fetch_add(1, Ordering::SeqCst);
        }
        self.placing[usize::from(device)].store(NO_TAG, Ordering::SeqCst);
        self.notify_if_complete();
    }

    /// The sender sends it again. But where another copy was placed, or is being placed, at the same time, nobody can
    /// tell whose bytes stayed: then the whole pass is to be repeated.
    fn damaged(&self, device: u8) {
        let tag = self.placing[usize::from(device)].load(Ordering::SeqCst);
        let copies = self.placing.iter().filter(|placing| placing.load(Ordering::SeqCst) == tag).count();
        if tag != NO_TAG && (copies > 1 || self.seen.get(tag)) {
            self.damaged.fetch_add(1, Ordering::SeqCst);
        }
        self.placing[usize::from(device)].store(NO_TAG, Ordering::SeqCst);
        self.notify_if_complete();
    }

    fn device_down(&self, device: u8) {
        self.placing[usize::from(device)].store(NO_TAG, Ordering::SeqCst);
        self.notify_if_complete();
    }
}

/// The digest of what was placed. Packed extents come in the order in which they pack best.
fn coverage_of(placed: &Placed<'_>) -> u64 {
    let range = |extent: &Extent| (extent.offset_bytes, u64::from(extent.len_bytes));
    if placed.extents.is_sorted_by_key(range) {
        return coverage_digest(placed.tag, placed.epoch, placed.extents.iter().map(range));
    }
    let mut ranges = [(0, 0); EXTENTS_MAX];
    let ranges = &mut ranges[..placed.extents.len()];
    ranges.iter_mut().zip(placed.extents).for_each(|(to, extent)| *to = range(extent));
    ranges.sort_unstable();
    coverage_digest(placed.tag, placed.epoch, ranges.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_mem::StorageOptions;

    fn arrivals() -> Arrivals {
        Arrivals::new(Arc::new(Storage::create(&StorageOptions::small(4 << 20)).unwrap()))
    }

    fn extent(page: u64, class: ExtentClass) -> Extent {
        Extent { offset_bytes: page * PAGE_SIZE as u64, len_bytes: PAGE_SIZE as u32, class }
    }

    #[test]
    fn extents_in_any_order_cover_the_same() {
        let placed = |pages: &[u64], class| {
            let extents: Vec<Extent> = pages.iter().map(|page| extent(*page, class)).collect();
            coverage_of(&Placed { epoch: 3, tag: 5, extents: &extents, intact: true })
        };
        let whole = placed(&[2, 3, 4, 9], ExtentClass::Raw);
        assert_eq!(placed(&[9, 3, 2, 4], ExtentClass::Packed), whole);
        assert_ne!(placed(&[9, 3, 2, 5], ExtentClass::Packed), whole);
    }

    fn arrive(arrivals: &Arrivals, device: u8, epoch: u32, tag: u64) -> Result<Admission, String> {
        let extents = [extent(tag, ExtentClass::Raw)];
        let admission = arrivals.admit(device, epoch, tag, &extents)?;
        if admission == Admission::Place {
            arrivals.placed(device, &Placed { epoch, tag, extents: &extents, intact: true });
        }
        Ok(admission)
    }

    #[test]
    fn a_transfer_sent_twice_counts_once() {
        let arrivals = arrivals();
        assert_eq!(arrive(&arrivals, 0, 1, 5), Ok(Admission::Place));
        assert_eq!(arrive(&arrivals, 1, 1, 5), Ok(Admission::Discard), "its bytes may be older");
        arrivals.await_transfers(1);
        let (totals, damaged) = arrivals.close(1).unwrap();
        assert_eq!((totals.transfers, totals.pages, damaged), (1, 1, 0));
    }

    #[test]
    fn a_damaged_transfer_is_waited_for_and_spoils_the_pass_only_beside_a_copy() {
        let arrivals = arrivals();
        let extents = [extent(7, ExtentClass::Raw)];
        assert_eq!(arrivals.admit(0, 1, 7, &extents), Ok(Admission::Place));
        arrivals.damaged(0);
        arrivals.await_transfers(1);
        assert_eq!(arrivals.close(1), None, "it has not arrived");
        assert_eq!(arrive(&arrivals, 1, 1, 7), Ok(Admission::Place));
        assert_eq!(arrivals.close(1).unwrap().1, 0);
        // Two copies at once, the later one damaged: whose bytes stayed?
        for device in [0, 1] {
            assert_eq!(arrivals.admit(device, 2, 8, &extents), Ok(Admission::Place));
        }
        arrivals.placed(1, &Placed { epoch: 2, tag: 8, extents: &extents, intact: true });
        arrivals.damaged(0);
        arrivals.await_transfers(1);
        assert_eq!(arrivals.close(2).unwrap().1, 1);
    }

    #[test]
    fn a_pass_is_not_over_while_a_device_is_placing() {
        let arrivals = arrivals();
        let extents = [extent(0, ExtentClass::Raw)];
        assert_eq!(arrivals.admit(3, 1, 0, &extents), Ok(Admission::Place));
        assert_eq!(arrive(&arrivals, 0, 1, 0), Ok(Admission::Place));
        arrivals.await_transfers(1);
        assert_eq!(arrivals.close(1), None, "device 3 has not finished its copy");
        arrivals.placed(3, &Placed { epoch: 1, tag: 0, extents: &extents, intact: true });
        assert!(arrivals.close(1).is_some());
    }

    #[test]
    fn a_device_that_dies_while_placing_does_not_hold_the_pass_up() {
        let arrivals = arrivals();
        assert_eq!(arrivals.admit(3, 1, 0, &[extent(0, ExtentClass::Raw)]), Ok(Admission::Place));
        assert_eq!(arrive(&arrivals, 0, 1, 0), Ok(Admission::Place));
        arrivals.await_transfers(1);
        arrivals.device_down(3);
        assert!(arrivals.close(1).is_some());
    }

    #[test]
    fn late_transfers_are_thrown_away_and_early_ones_refused() {
        let arrivals = arrivals();
        assert_eq!(arrive(&arrivals, 0, 1, 0), Ok(Admission::Place));
        arrivals.await_transfers(1);
        arrivals.close(1).unwrap();
        assert_eq!(arrive(&arrivals, 0, 1, 0), Ok(Admission::Discard));
        assert_eq!(arrive(&arrivals, 0, 2, 0), Ok(Admission::Place));
        assert!(arrive(&arrivals, 0, 3, 0).is_err());
        assert!(arrive(&arrivals, 0, 2, 1 << 40).is_err());
    }

    #[test]
    fn what_comes_packed_is_in_its_pages_and_counts_like_any_other() {
        let arrivals = arrivals().with_unpackers(2).unwrap();
        let extents = [
            extent(4, ExtentClass::Packed),
            extent(5, ExtentClass::Zero),
            Extent { len_bytes: 2 * PAGE_SIZE as u32, ..extent(9, ExtentClass::Packed) },
        ];
        let bytes = [[1; PAGE_SIZE], [2; PAGE_SIZE], [3; PAGE_SIZE]].concat();
        let payload = zstd::bulk::compress(&bytes, 1).unwrap();
        assert_eq!(arrivals.admit(1, 1, 0, &extents), Ok(Admission::Place));
        arrivals.unpack(1, &extents, &payload).unwrap();
        arrivals.placed(1, &Placed { epoch: 1, tag: 0, extents: &extents, intact: true });
        for (page, byte) in [(4, 1), (5, 0), (9, 2), (10, 3)] {
            let mut found = [9; PAGE_SIZE];
            arrivals.storage.read_page(PageNumber(page), &mut found);
            assert_eq!(found, [byte; PAGE_SIZE], "page {page}");
        }
        arrivals.await_transfers(1);
        assert_eq!(arrivals.close(1).unwrap().0.pages, 4);
        // The next pass: one page stays, and one that never came cannot.
        let kept = [extent(9, ExtentClass::Kept)];
        assert_eq!(arrivals.admit(0, 2, 0, &kept), Ok(Admission::Place));
        arrivals.placed(0, &Placed { epoch: 2, tag: 0, extents: &kept, intact: true });
        assert_eq!(arrivals.close(2), None, "not yet awaited");
        let never = arrivals.admit(0, 2, 1, &[extent(9, ExtentClass::Kept), extent(5, ExtentClass::Kept)]);
        assert!(never.unwrap_err().contains("never here"));
    }

    #[test]
    fn a_payload_that_becomes_too_much_or_too_little_changes_nothing() {
        let arrivals = arrivals().with_unpackers(1).unwrap();
        let extents = [extent(4, ExtentClass::Packed)];
        for len in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 64 << 20] {
            let payload = zstd::bulk::compress(&vec![7; len], 1).unwrap();
            assert!(arrivals.unpack(0, &extents, &payload).is_err(), "{len}");
        }
        assert!(arrivals.unpack(0, &extents, b"no frame").is_err());
        assert!(arrivals.unpack(1, &extents, b"").is_err(), "no such device");
        assert!(arrivals.storage.touched().unwrap().is_empty());
    }

    #[test]
    fn a_zero_is_written_only_where_something_was() {
        let arrivals = arrivals();
        arrivals.storage.write_bytes(PageNumber(1), 0, &[7]);
        arrive(&arrivals, 0, 1, 1).unwrap();
        let zeros = [extent(1, ExtentClass::Zero), extent(9, ExtentClass::Zero)];
        arrivals.placed(0, &Placed { epoch: 1, tag: 2, extents: &zeros, intact: true });
        let mut page = [1; PAGE_SIZE];
        arrivals.storage.read_page(PageNumber(1), &mut page);
        assert_eq!(page, [0; PAGE_SIZE]);
        assert_eq!(arrivals.storage.touched().unwrap().pages().get(), 1, "page 9 stays untouched");
    }
}
