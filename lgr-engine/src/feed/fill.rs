//! What a device does with the chunk it has drawn: looks at each page once, and lays out what is to be sent.
//!
//! | the chunk goes out | live memory | standing still |
//! |---|---|---|
//! | raw | straight from guest memory | the same, with the hash of the memory |
//! | raw, `hash_live` | from a private copy, with its hash | as above |
//! | packed | from a private copy that is packed, with the hash of what it became | the same |

use std::sync::atomic::Ordering;
use std::time::Instant;

use guest_mem::{PAGE_SIZE, PageNumber, Run, copy_zero, prefetch_scattered};
use isfc::{Extent, ExtentClass, Transfer};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::{Feed, GUEST_STORAGE, Part, Pass};
use crate::codec::Codec;
use crate::codec::last_sent::Trust;
use crate::codec::packing::{DevicePacking, Packing, thread_cpu};

/// Of a chunk with fewer pages each is looked at.
const SAMPLED_PAGES_MIN: u64 = 64;
/// Of larger ones, one page in so many is, until one is zero.
const SAMPLE_STEP_PAGES: usize = 8;
/// Where so many chunks had no zero page, only each so manieth is looked at, until there is one.
const CHUNKS_WITHOUT_ZEROS: usize = 64;
const SELDOM_CHUNKS: usize = 32;

impl Feed {
    pub(super) fn fill(&self, device: u8, pass: &Pass, part: &Part, trust: Trust, transfer: &mut Transfer) {
        transfer.tag = part.first;
        transfer.epoch = pass.epoch;
        transfer.region = GUEST_STORAGE;
        let zero_pages = match &self.packing {
            None => self.fill_raw(pass, part, transfer),
            Some(packing) => {
                let mut own = packing.device(device);
                let zero_pages = match packing.codec(&mut own) {
                    Codec::Zstd(level) => {
                        let filling = Filling { packing, trust, level };
                        self.fill_packed(&filling, &mut own, pass, part, transfer)
                    }
                    Codec::Raw => {
                        pass.runs.chunk(&part.plan).for_each(|run| packing.last_sent.forget(&run));
                        self.fill_raw(pass, part, transfer)
                    }
                };
                own.filled.zero_bytes = zero_pages * PAGE_SIZE as u64;
                own.filled.raw_bytes = transfer.raw_len_bytes();
                zero_pages
            }
        };
        pass.zero_pages.fetch_add(zero_pages, Ordering::Relaxed);
    }

    fn fill_raw(&self, pass: &Pass, part: &Part, transfer: &mut Transfer) -> u64 {
        if self.hash_live && !pass.stable {
            return self.fill_staged(pass, part, transfer);
        }
        let zero_pages = self.fill_in_place(pass, part, transfer);
        if pass.stable {
            transfer.digest = Some(self.stable_digest(&transfer.extents));
        }
        zero_pages
    }

    fn fill_in_place(&self, pass: &Pass, part: &Part, transfer: &mut Transfer) -> u64 {
        prefetch_scattered(self.storage.as_ptr(), pass.runs.chunk(&part.plan));
        if !self.may_have_zero_pages(pass, part) {
            for run in pass.runs.chunk(&part.plan) {
                push_pages(&mut transfer.extents, run.start, run.pages.get() as u32, ExtentClass::Raw);
            }
            return 0;
        }
        let mut zero_pages = 0;
        for run in pass.runs.chunk(&part.plan) {
            let pages = run.pages.get() as usize;
            let found = |at: usize, zeros: u64| {
                zero_pages += u64::from(zeros.count_ones());
                let first = run.start.get() + at as u64;
                push_group(&mut transfer.extents, first, (pages - at).min(64) as u32, zeros);
            };
            // SAFETY: a chunk's runs lie in the storage; its pages may change while they are read, and then they are
            // dirty again and sent again.
            unsafe { guest_mem::zero_pages(self.storage.page_ptr(run.start), pages, found) };
        }
        zero_pages
    }

    /// A look at some pages of a chunk. The first word of a page decides most tests, but each is a miss of cache and
    /// translation, and together they cost more than half of what it takes to copy the pages. Guests have zero pages in
    /// stretches or in great numbers; a few that are not found travel like any other page.
    fn may_have_zero_pages(&self, pass: &Pass, part: &Part) -> bool {
        let Part { plan, chunk, .. } = part;
        let seldom = *chunk >= CHUNKS_WITHOUT_ZEROS && pass.zero_pages() == 0;
        if seldom && !chunk.is_multiple_of(SELDOM_CHUNKS) {
            return false;
        }
        u64::from(plan.pages) < SAMPLED_PAGES_MIN
            || pass.runs.chunk(plan).any(|run| {
                let pages = run.pages.get() as usize;
                // SAFETY: a chunk's runs lie in the storage; its pages may change while they are read.
                unsafe { guest_mem::any_zero_of(self.storage.page_ptr(run.start), pages, SAMPLE_STEP_PAGES) }
            })
    }

    /// One read of live memory: copied, tested and made safe to hash.
    fn fill_staged(&self, pass: &Pass, part: &Part, transfer: &mut Transfer) -> u64 {
        let mut zero_pages = 0;
        let mut staged = 0;
        let mut hash = Xxh3::new();
        transfer.staging();
        for page in pass.runs.chunk(&part.plan).flat_map(|run: Run| run.page_numbers()) {
            let target = &mut transfer.staging[staged..staged + PAGE_SIZE];
            // SAFETY: the page lies in the storage; a torn copy is dirty again and sent again.
            let zero = unsafe { copy_zero(self.storage.page_ptr(page), target) };
            zero_pages += u64::from(zero);
            if !zero {
                // The copy is still in the first-level cache.
                hash.update(target);
                staged += PAGE_SIZE;
            }
            push_page(&mut transfer.extents, page, class_of(zero));
        }
        transfer.staged = true;
        transfer.digest = Some(hash.digest());
        zero_pages
    }

    /// One read of memory, live or not: copied, tested, compared with what was sent before, and packed.
    fn fill_packed(
        &self,
        filling: &Filling<'_>,
        own: &mut DevicePacking,
        pass: &Pass,
        part: &Part,
        transfer: &mut Transfer,
    ) -> u64 {
        let _slot = filling.packing.slot();
        let last_sent = &filling.packing.last_sent;
        let (mut zero_pages, mut kept_pages) = (0, 0);
        own.pages.clear();
        for page in pass.runs.chunk(&part.plan).flat_map(|run: Run| run.page_numbers()) {
            let target = &mut own.packer.copy[own.pages.len() * PAGE_SIZE..][..PAGE_SIZE];
            // SAFETY: the page lies in the storage; a torn copy is dirty again and sent again.
            let zero = unsafe { copy_zero(self.storage.page_ptr(page), target) };
            if zero {
                last_sent.forget(&Run::new(page.get(), 1));
                zero_pages += 1;
                push_page(&mut transfer.extents, page, ExtentClass::Zero);
            } else if last_sent.is_same(page, xxh3_64_with_seed(target, filling.packing.seed), filling.trust)
            {
                kept_pages += 1;
                push_page(&mut transfer.extents, page, ExtentClass::Kept);
            } else {
                own.pages.push(page);
            }
        }
        own.filled.kept_bytes = kept_pages * PAGE_SIZE as u64;
        if !own.pages.is_empty() {
            pack(filling, own, transfer);
        }
        if !filling.packing.arranges() {
            transfer.extents.sort_unstable_by_key(|extent| extent.offset_bytes);
        }
        zero_pages
    }

    pub(super) fn stable_digest(&self, extents: &[Extent]) -> u64 {
        let mut hash = Xxh3::new();
        for extent in extents.iter().filter(|extent| extent.class == ExtentClass::Raw) {
            let page = PageNumber::containing(extent.offset_bytes);
            // SAFETY: inside the storage, and the guest is stopped: nobody writes.
            let bytes =
                unsafe { std::slice::from_raw_parts(self.storage.page_ptr(page), extent.len_bytes as usize) };
            hash.update(bytes);
        }
        hash.digest()
    }
}

/// How a chunk is to be packed.
struct Filling<'a> {
    packing: &'a Packing,
    trust: Trust,
    level: i32,
}

/// Makes the pages in the copy the payload: packed, or as they are if that gains nothing.
fn pack(filling: &Filling<'_>, own: &mut DevicePacking, transfer: &mut Transfer) {
    let (began, before) = (Instant::now(), thread_cpu());
    let len = own.pages.len() * PAGE_SIZE;
    transfer.staging();
    for at in own.packer.arrange(len, &mut transfer.staging) {
        push_page(&mut transfer.extents, own.pages[usize::from(*at)], ExtentClass::Packed);
    }
    let dictionary = filling.packing.dictionary();
    let packed = own.packer.pack_with(dictionary, len, filling.level, transfer.staging());
    own.filled.pack_cpu_ns = (thread_cpu().saturating_sub(before)).as_nanos() as u64;
    own.filled.pack_wall_ns = began.elapsed().as_nanos() as u64;
    own.filled.tried_bytes = len as u64;
    own.filled.became_bytes = packed.unwrap_or(len) as u64;
    let payload_len = match packed {
        Some(packed) => {
            own.filled.packed_chunks = 1;
            own.filled.packed_bytes = len as u64;
            own.filled.packed_wire_bytes = packed as u64;
            transfer.packed_len_bytes = Some(packed as u32);
            packed
        }
        None => {
            std::mem::swap(&mut own.packer.copy, &mut transfer.staging);
            for extent in transfer.extents.iter_mut().filter(|extent| extent.class == ExtentClass::Packed) {
                extent.class = ExtentClass::Raw;
            }
            len
        }
    };
    transfer.staged = true;
    transfer.digest = Some(xxh3_64(&transfer.staging[..payload_len]));
}

fn class_of(zero: bool) -> ExtentClass {
    if zero { ExtentClass::Zero } else { ExtentClass::Raw }
}

/// Appends `pages` pages, at most 64, of which those in the mask `zeros` are all zero.
fn push_group(extents: &mut Vec<Extent>, first: u64, pages: u32, zeros: u64) {
    let mut at = 0;
    while at < pages {
        let rest = zeros >> at;
        let zero = rest & 1 != 0;
        let same = if zero { rest.trailing_ones() } else { rest.trailing_zeros() }.min(pages - at);
        push_pages(extents, PageNumber(first + u64::from(at)), same, class_of(zero));
        at += same;
    }
}

/// Appends one page, to the last extent where it fits.
fn push_page(extents: &mut Vec<Extent>, page: PageNumber, class: ExtentClass) {
    push_pages(extents, page, 1, class);
}

fn push_pages(extents: &mut Vec<Extent>, first: PageNumber, pages: u32, class: ExtentClass) {
    let (offset_bytes, len_bytes) = (first.offset_bytes(), pages * PAGE_SIZE as u32);
    if let Some(last) = extents.last_mut()
        && last.class == class
        && last.offset_bytes + u64::from(last.len_bytes) == offset_bytes
    {
        last.len_bytes += len_bytes;
        return;
    }
    extents.push(Extent { offset_bytes, len_bytes, class });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use guest_mem::{Runs, Storage, StorageOptions};
    use isfc::frame::coverage_digest;
    use isfc::{Next, TransferSource, len_bytes_of};

    use super::super::tests::transfer;
    use super::*;
    use crate::codec::Compress;
    use crate::codec::packer::Unpacker;
    use crate::limit::RateLimit;

    const PAGES: u64 = 128;

    /// Every third page is zero, the others say which they are over and over.
    fn storage() -> Arc<Storage> {
        let storage = Storage::create(&StorageOptions::small(1 << 20)).unwrap();
        for page in (0..PAGES).filter(|page| page % 3 != 0) {
            storage.write_page(PageNumber(page), &[page as u8 | 1; PAGE_SIZE]);
        }
        Arc::new(storage)
    }

    fn packing_feed(storage: &Arc<Storage>, choice: Compress) -> Feed {
        feed_for_peer(storage, choice, true)
    }

    fn feed_for_peer(storage: &Arc<Storage>, choice: Compress, any_order: bool) -> Feed {
        let touched = Runs::from_run(Run::new(0, PAGES));
        let packing = Packing::new(choice, storage, &touched, 1, None, any_order).unwrap();
        Feed::new(storage.clone(), RateLimit::unlimited(), false).with_packing(Some(packing))
    }

    /// The two chunks of a pass over everything.
    fn next(feed: &Feed, epoch: u32) -> Vec<Transfer> {
        feed.begin(Arc::new(Pass::new(epoch, Runs::from_run(Run::new(0, PAGES)), false, 1)));
        draw(feed)
    }

    /// All that there is to send.
    fn draw(feed: &Feed) -> Vec<Transfer> {
        let mut all = Vec::new();
        loop {
            let mut drawn = transfer();
            if feed.next(0, &mut drawn) == Next::Nothing {
                return all;
            }
            feed.sent(0, drawn.epoch, drawn.tag, drawn.payload_len_bytes());
            all.push(drawn);
        }
    }

    fn pages_of(class: ExtentClass, transfers: &[Transfer]) -> u64 {
        transfers.iter().map(|drawn| len_bytes_of(class, &drawn.extents)).sum::<u64>() / PAGE_SIZE as u64
    }

    #[test]
    fn a_chunk_without_zero_pages_in_its_sample_travels_as_it_is() {
        let storage = Arc::new(Storage::create(&StorageOptions::small(1 << 20)).unwrap());
        (0..PAGES).for_each(|page| storage.write_bytes(PageNumber(page), 0, &[1]));
        let zero_pages_of = |zero: &[u64]| {
            zero.iter().for_each(|page| storage.zero_page(PageNumber(*page)));
            let feed = Feed::new(storage.clone(), RateLimit::unlimited(), false);
            let drawn = next(&feed, 1);
            let pages = pages_of(ExtentClass::Raw, &drawn) + pages_of(ExtentClass::Zero, &drawn);
            assert_eq!(pages, PAGES);
            pages_of(ExtentClass::Zero, &drawn)
        };
        assert_eq!(zero_pages_of(&[5]), 0, "not in the sample");
        assert_eq!(zero_pages_of(&[8]), 2, "one of the sample is zero, so each is looked at");
    }

    #[test]
    fn groups_of_pages_become_as_few_extents_as_single_pages_do() {
        for zeros in [0, u64::MAX, 1, 1 << 63, 0xF0F0_0000_0000_000F, 0xAAAA_AAAA_AAAA_AAAA] {
            for pages in [1, 7, 63, 64] {
                let (mut groups, mut singles) = (Vec::new(), Vec::new());
                for group in 0..3 {
                    push_group(&mut groups, group * u64::from(pages), pages, zeros);
                    for at in 0..u64::from(pages) {
                        let page = PageNumber(group * u64::from(pages) + at);
                        push_page(&mut singles, page, class_of(zeros >> at & 1 != 0));
                    }
                }
                assert_eq!(groups, singles, "{zeros:x} {pages}");
            }
        }
    }

    #[test]
    fn a_staged_chunk_carries_the_hash_of_what_is_sent() {
        let feed = Feed::new(storage(), RateLimit::unlimited(), true);
        for drawn in next(&feed, 1) {
            let len = drawn.raw_len_bytes() as usize;
            assert!(drawn.staged && len > 0);
            assert_eq!(drawn.digest, Some(xxh3_64(&drawn.staging[..len])));
            assert_eq!(drawn.digest, Some(feed.stable_digest(&drawn.extents)));
        }
    }

    #[test]
    fn a_packed_chunk_becomes_the_pages_again() {
        let drawn = next(&packing_feed(&storage(), Compress::Zstd(1)), 1);
        let (data, zero) = (pages_of(ExtentClass::Packed, &drawn), pages_of(ExtentClass::Zero, &drawn));
        assert_eq!((data, zero, pages_of(ExtentClass::Raw, &drawn)), (85, 43, 0));
        for drawn in drawn {
            let payload = &drawn.staging[..drawn.packed_len_bytes.unwrap() as usize];
            assert!(payload.len() < 4096 && drawn.digest == Some(xxh3_64(payload)));
            let mut unpacker = Unpacker::new().unwrap();
            let len = len_bytes_of(ExtentClass::Packed, &drawn.extents);
            let mut bytes = unpacker.unpack(payload, len).unwrap();
            for extent in drawn.extents.iter().filter(|extent| extent.class == ExtentClass::Packed) {
                let first = PageNumber::containing(extent.offset_bytes).get();
                for page in first..first + u64::from(extent.len_bytes) / PAGE_SIZE as u64 {
                    let (this, rest) = bytes.split_at(PAGE_SIZE);
                    assert!(this.iter().all(|byte| *byte == page as u8 | 1), "page {page}");
                    bytes = rest;
                }
            }
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn pages_of_one_kind_travel_side_by_side_and_all_are_covered() {
        let storage = storage();
        for page in (0..PAGES).filter(|page| page % 3 == 1) {
            storage.write_page(
                PageNumber(page),
                &std::array::from_fn(|at| if at % 8 == 0 { page as u8 } else { 0 }),
            );
        }
        let feed = packing_feed(&storage, Compress::Zstd(1));
        let pass = Arc::new(Pass::new(1, Runs::from_run(Run::new(0, PAGES)), false, 1));
        feed.begin(pass.clone());
        let mut pages = Vec::new();
        for drawn in draw(&feed) {
            let packed = drawn.extents.iter().filter(|extent| extent.class == ExtentClass::Packed);
            let kinds: Vec<u64> =
                packed.map(|extent| PageNumber::containing(extent.offset_bytes).get() % 3).collect();
            assert!(
                kinds.is_sorted_by(|a, b| a >= b) && kinds.contains(&1) && kinds.contains(&2),
                "{kinds:?}"
            );
            pages.extend(drawn.extents.iter().map(|extent| (extent.offset_bytes, extent.len_bytes)));
        }
        pages.sort_unstable();
        assert!(pages.windows(2).all(|pair| pair[0].0 + u64::from(pair[0].1) == pair[1].0), "each page once");
        assert_eq!(pages.iter().map(|(_, len)| u64::from(*len)).sum::<u64>(), PAGES * PAGE_SIZE as u64);
    }

    #[test]
    fn a_peer_that_takes_no_other_order_gets_extents_by_their_offsets() {
        for (any_order, sorted) in [(false, true), (true, false)] {
            let storage = storage();
            let feed = feed_for_peer(&storage, Compress::Zstd(1), any_order);
            next(&feed, 1);
            // Kept, zero, and both kinds of data.
            for page in (0..PAGES).filter(|page| page % 4 == 1) {
                storage.write_page(
                    PageNumber(page),
                    &std::array::from_fn(|at| if at % 8 == 0 { page as u8 } else { 0 }),
                );
            }
            for page in (0..PAGES).filter(|page| page % 8 == 2) {
                storage.write_page(PageNumber(page), &[b'a' + (page % 16) as u8; PAGE_SIZE]);
            }
            let pass = Arc::new(Pass::new(2, Runs::from_run(Run::new(0, PAGES)), false, 1));
            feed.begin(pass.clone());
            let mut digest = 0u64;
            for drawn in draw(&feed) {
                let classes = [ExtentClass::Zero, ExtentClass::Kept, ExtentClass::Packed];
                assert!(classes.iter().all(|class| len_bytes_of(*class, &drawn.extents) > 0));
                let ranges =
                    drawn.extents.iter().map(|extent| (extent.offset_bytes, u64::from(extent.len_bytes)));
                digest = digest.wrapping_add(coverage_digest(drawn.tag, drawn.epoch, ranges));
            }
            assert_eq!(digest == pass.totals().digest, sorted, "any order: {any_order}");
        }
    }

    #[test]
    fn what_was_sent_and_is_the_same_is_not_sent_again() {
        let storage = storage();
        let feed = packing_feed(&storage, Compress::Zstd(1));
        next(&feed, 1);
        storage.write_page(PageNumber(1), &[0xAA; PAGE_SIZE]);
        storage.zero_page(PageNumber(2));
        let drawn = next(&feed, 2);
        let (kept, packed) = (pages_of(ExtentClass::Kept, &drawn), pages_of(ExtentClass::Packed, &drawn));
        assert_eq!((kept, packed, pages_of(ExtentClass::Zero, &drawn)), (83, 1, 44));
        // Back to what pass 1 sent; but the destination has zeros there now.
        storage.write_page(PageNumber(2), &[3; PAGE_SIZE]);
        assert_eq!(pages_of(ExtentClass::Packed, &next(&feed, 3)), 1);
        let counts = feed.packing().unwrap().summary().counts;
        assert_eq!(counts.kept_bytes / PAGE_SIZE as u64, 83 + 84);
        assert_eq!(counts.packed_bytes / PAGE_SIZE as u64, 85 + 1 + 1);
    }

    #[test]
    fn a_chunk_that_is_given_again_is_sent_whole_now_and_the_next_time() {
        let feed = packing_feed(&storage(), Compress::Zstd(1));
        next(&feed, 1);
        let second = next(&feed, 2);
        assert_eq!(pages_of(ExtentClass::Kept, &second), 85);
        let whole = pages_of(ExtentClass::Kept, &second[..1]);
        feed.lost(0, 2, second[0].tag);
        assert_eq!(pages_of(ExtentClass::Kept, &draw(&feed)), 0, "what was lost may have come after all");
        let third = next(&feed, 3);
        assert_eq!(pages_of(ExtentClass::Kept, &third), 85 - whole, "nobody knows which copy stayed");
        assert_eq!(pages_of(ExtentClass::Kept, &next(&feed, 4)), 85);
    }

    #[test]
    fn a_pass_that_is_repeated_is_sent_whole() {
        let feed = packing_feed(&storage(), Compress::Zstd(1));
        next(&feed, 1);
        let pass = Pass::new(2, Runs::from_run(Run::new(0, PAGES)), false, 1);
        feed.begin(Arc::new(pass.again(3, 1)));
        let drawn = draw(&feed);
        let (kept, packed) = (pages_of(ExtentClass::Kept, &drawn), pages_of(ExtentClass::Packed, &drawn));
        assert_eq!((kept, packed), (0, 85));
    }

    #[test]
    fn what_goes_out_raw_is_not_remembered() {
        let feed = packing_feed(&storage(), Compress::Auto);
        for epoch in 1..4 {
            let drawn = next(&feed, epoch);
            assert_eq!(pages_of(ExtentClass::Raw, &drawn), 85);
            assert!(drawn.iter().all(|drawn| !drawn.staged));
        }
    }

    #[test]
    fn content_that_gains_nothing_travels_as_it_is() {
        let storage = storage();
        let mut state = 1u64;
        for page in 0..PAGES {
            let mut bytes = [0; PAGE_SIZE];
            for byte in &mut bytes {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (state >> 56) as u8;
            }
            storage.write_page(PageNumber(page), &bytes);
        }
        let drawn = next(&packing_feed(&storage, Compress::Zstd(3)), 1);
        assert_eq!(pages_of(ExtentClass::Raw, &drawn), PAGES);
        for drawn in drawn {
            let len = drawn.raw_len_bytes() as usize;
            assert!(drawn.staged && drawn.packed_len_bytes.is_none());
            assert_eq!(drawn.digest, Some(xxh3_64(&drawn.staging[..len])));
        }
    }
}
