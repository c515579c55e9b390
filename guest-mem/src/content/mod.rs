//! Looking at page content at memory speed: is it zero, and what is its hash?
//!
//! Everything here may be pointed at storage whose guest runs, so it reads through raw pointers, each byte once (the
//! rule for racy memory, see [`Storage`](crate::Storage)). What it tells about such a page is a hint until the
//! dirty tracker says that the page was not written. [`copy_zero_hash`] makes the answer consistent with what is
//! sent: it hashes what it copied.
//!
//! ```text
//!   storage ──one load──▶ vector ──store──▶ private page
//!                            ├─── OR ─────▶ zero?
//!                            └─── xxh3 ───▶ hash            (without AVX2: xxh3 over the private page)
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod page_hash;
mod portable;

use crate::page::PAGE_SIZE;
use crate::runs::Run;
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_64;

/// What one page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageContent {
    /// Every byte is zero.
    pub zero: bool,
    /// xxh3 (64 bit, seed 0) of the bytes; [`zero_page_hash`] for a zero page.
    pub hash: u64,
}

/// xxh3 (64 bit, seed 0) of 4096 zero bytes.
#[must_use]
pub fn zero_page_hash() -> u64 {
    static HASH: OnceLock<u64> = OnceLock::new();
    *HASH.get_or_init(|| xxh3_64(&[0; PAGE_SIZE]))
}

/// True if `len` bytes from `ptr` are all zero.
///
/// # Safety
/// `ptr` must be valid for reads of `len` bytes. Others may write them at the same time.
#[must_use]
pub unsafe fn is_zero(ptr: *const u8, len: usize) -> bool {
    // Vectors want whole, aligned pieces of 128 bytes; pages are that.
    let aligned =
        ptr.addr().is_multiple_of(portable::BLOCK_BYTES) && len.is_multiple_of(portable::BLOCK_BYTES);
    if !aligned {
        // SAFETY: the caller's promise.
        return unsafe { portable::is_zero_bytes(ptr, len) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected; alignment was checked above; the rest is the caller's promise.
        return unsafe { avx2::is_zero(ptr, len) };
    }
    // SAFETY: alignment was checked above; the rest is the caller's promise.
    unsafe { portable::is_zero(ptr, len) }
}

/// Tests up to 64 pages: bit `i` of the answer is set if page `i` from `first` is all zero.
///
/// # Panics
/// If `pages` is more than 64 or `first` is not at a page boundary.
///
/// # Safety
/// `first` must be valid for reads of `pages` whole pages. Others may write them at the same time.
#[must_use]
pub unsafe fn zero_mask(first: *const u8, pages: usize) -> u64 {
    assert!(pages <= 64 && first.addr().is_multiple_of(PAGE_SIZE), "at most 64 whole pages");
    (0..pages).fold(0, |mask, page| {
        // The first word decides most pages, and each is a miss of cache and translation: several at a time.
        prefetch(first.wrapping_add((page + PREFETCH_PAGES) * PAGE_SIZE));
        // SAFETY: the page is one of those the caller promises.
        let zero = unsafe { is_zero(first.add(page * PAGE_SIZE), PAGE_SIZE) };
        mask | u64::from(zero) << page
    })
}

/// How many pages ahead the first bytes are asked for.
const PREFETCH_PAGES: usize = 8;

/// Asks for the bytes at `ptr`; an address that is not there does nothing.
fn prefetch(ptr: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has SSE, and the instruction never faults, wherever it points.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(ptr.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = ptr;
}

/// Tests any number of pages and gives `(index of the first page, zero mask)` for each 64 of them to `found`.
///
/// # Panics
/// If `first` is not at a page boundary.
///
/// # Safety
/// As for [`zero_mask`].
pub unsafe fn zero_pages(first: *const u8, pages: usize, mut found: impl FnMut(usize, u64)) {
    for group in (0..pages).step_by(64) {
        // SAFETY: the pages of the group are among those the caller promises.
        found(group, unsafe { zero_mask(first.add(group * PAGE_SIZE), (pages - group).min(64)) });
    }
}

/// Asks for the first bytes of the pages of short runs, all at once: where pages lie far apart, most of what it takes to
/// read or write one is waiting for its translation, and the processor can wait for several. Runs longer than
/// [`PREFETCH_RUN_PAGES_MAX`] are left to the processor's own foresight.
pub fn prefetch_scattered(base: *const u8, runs: impl IntoIterator<Item = Run>) {
    for run in runs.into_iter().filter(|run| run.pages.get() <= PREFETCH_RUN_PAGES_MAX) {
        run.page_numbers().for_each(|page| prefetch(base.wrapping_add(page.offset_bytes() as usize)));
    }
}

/// See [`prefetch_scattered`].
pub const PREFETCH_RUN_PAGES_MAX: u64 = 8;

/// Is any of the pages 0, `step`, 2 × `step`, … from `first` all zero?
///
/// # Panics
/// If `first` is not at a page boundary or `step` is 0.
///
/// # Safety
/// As for [`zero_mask`].
#[must_use]
pub unsafe fn any_zero_of(first: *const u8, pages: usize, step: usize) -> bool {
    assert!(first.addr().is_multiple_of(PAGE_SIZE), "whole pages");
    // All misses at once, not one after another.
    (0..pages).step_by(step).for_each(|page| prefetch(first.wrapping_add(page * PAGE_SIZE)));
    (0..pages).step_by(step).any(|page| {
        // SAFETY: the page is one of those the caller promises.
        unsafe { is_zero(first.add(page * PAGE_SIZE), PAGE_SIZE) }
    })
}

/// Copies one page into `dst`, tests it for zero and hashes the copy, with one read of the source.
///
/// # Panics
/// If `src` is not at a page boundary or `dst` is not one page long.
///
/// # Safety
/// `src` must be valid for reads of a page. Others may write it at the same time; then `dst` may be torn, but the
/// answer is true of `dst`.
pub unsafe fn copy_zero_hash(src: *const u8, dst: &mut [u8]) -> PageContent {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        let dst = Some(one_page(src, dst));
        // SAFETY: AVX2 was detected and `one_page` checked the alignment; the rest is the caller's promise.
        return unsafe { page_hash::page::<true>(src, dst) };
    }
    // SAFETY: the caller's promise.
    let zero = unsafe { copy_zero(src, dst) };
    PageContent { zero, hash: if zero { zero_page_hash() } else { xxh3_64(dst) } }
}

/// As [`copy_zero_hash`] without the hash: true if the page is all zero.
///
/// # Panics
/// If `src` is not at a page boundary or `dst` is not one page long.
///
/// # Safety
/// As for [`copy_zero_hash`].
pub unsafe fn copy_zero(src: *const u8, dst: &mut [u8]) -> bool {
    let dst = one_page(src, dst);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected and the page is aligned; the rest is the caller's promise.
        return unsafe { avx2::copy_page_zero(src, dst) };
    }
    // SAFETY: the page is aligned; the rest is the caller's promise.
    unsafe { portable::copy_page_zero(src, dst) }
}

/// Checks both sides of a copy of one page.
fn one_page(src: *const u8, dst: &mut [u8]) -> &mut [u8; PAGE_SIZE] {
    assert!(src.addr().is_multiple_of(PAGE_SIZE), "a page starts at a page boundary");
    dst.try_into().expect("the copy of a page is one page long")
}

/// The hash of one page of a private buffer, or of storage whose guest is stopped: xxh3, 64 bit, seed 0.
#[must_use]
pub fn hash_page(bytes: &[u8; PAGE_SIZE]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected, and a reference is valid for reads and not written by others.
        return unsafe { page_hash::page::<false>(bytes.as_ptr(), None) }.hash;
    }
    xxh3_64(bytes)
}

/// As [`copy_zero_hash`] for as many pages as `dst` holds, page by page. The answers replace what was in `contents`.
///
/// # Panics
/// If `dst` is not whole pages or `src` is not at a page boundary.
///
/// # Safety
/// As for [`copy_zero_hash`], for `dst.len()` bytes.
pub unsafe fn copy_zero_hash_pages(src: *const u8, dst: &mut [u8], contents: &mut Vec<PageContent>) {
    let (pages, rest) = dst.as_chunks_mut::<PAGE_SIZE>();
    assert!(rest.is_empty(), "whole pages");
    contents.clear();
    contents.extend(pages.iter_mut().enumerate().map(|(index, page)| {
        // SAFETY: the page is one of those the caller promises.
        unsafe { copy_zero_hash(src.add(index * PAGE_SIZE), page) }
    }));
}

/// Hashes the pages of a private buffer, or of storage whose guest is stopped, into `hashes` (replacing it).
///
/// # Panics
/// If `bytes` is not whole pages.
pub fn hash_pages(bytes: &[u8], hashes: &mut Vec<u64>) {
    let (pages, rest) = bytes.as_chunks::<PAGE_SIZE>();
    assert!(rest.is_empty(), "whole pages");
    hashes.clear();
    hashes.extend(pages.iter().map(hash_page));
}

#[cfg(test)]
mod tests;
