//! The way of any processor: 64-bit volatile reads.

use crate::page::PAGE_SIZE;

/// Unit of the fast paths: addresses and lengths are multiples of it.
pub(super) const BLOCK_BYTES: usize = 128;
const BLOCK_WORDS: usize = BLOCK_BYTES / size_of::<u64>();

/// True if the first, the middle or the last word is set: that decides most pages that hold data.
///
/// # Safety
/// As for [`is_zero`], and `len` is not zero.
pub(super) unsafe fn is_plainly_data(ptr: *const u8, len: usize) -> bool {
    [0, (len / 2) & !7, len - size_of::<u64>()].into_iter().any(|offset| {
        // SAFETY: the word lies inside `len` bytes and is aligned, as `ptr` and the offsets are multiples of 8.
        unsafe { ptr.add(offset).cast::<u64>().read_volatile() != 0 }
    })
}

/// # Safety
/// `ptr` valid for reads of `len` bytes, both multiples of [`BLOCK_BYTES`].
pub(super) unsafe fn is_zero(ptr: *const u8, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    // SAFETY: the caller's promise, and the length was checked.
    if unsafe { is_plainly_data(ptr, len) } {
        return false;
    }
    (0..len / BLOCK_BYTES).all(|block| {
        let words = ptr.wrapping_add(block * BLOCK_BYTES).cast::<u64>();
        // SAFETY: the block lies inside `len` bytes and is aligned.
        (0..BLOCK_WORDS).fold(0, |all, word| all | unsafe { words.add(word).read_volatile() }) == 0
    })
}

/// For odd addresses and lengths: byte by byte at the ends, words between.
///
/// # Safety
/// `ptr` valid for reads of `len` bytes.
pub(super) unsafe fn is_zero_bytes(ptr: *const u8, len: usize) -> bool {
    let head = ptr.align_offset(size_of::<u64>()).min(len);
    let words = (len - head) / size_of::<u64>();
    let tail = head + words * size_of::<u64>();
    // SAFETY: all three index ranges lie inside `len` bytes, and `head` aligns the words.
    unsafe {
        (0..head).chain(tail..len).all(|byte| ptr.add(byte).read_volatile() == 0)
            && (0..words).all(|word| ptr.add(head).cast::<u64>().add(word).read_volatile() == 0)
    }
}

/// # Safety
/// `src` valid for reads of a page and aligned to [`BLOCK_BYTES`].
pub(super) unsafe fn copy_page_zero(src: *const u8, dst: &mut [u8; PAGE_SIZE]) -> bool {
    let mut all = 0;
    for (word, bytes) in dst.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // SAFETY: the word lies inside the page and is aligned.
        let value = unsafe { src.cast::<u64>().add(word).read_volatile() };
        *bytes = value.to_ne_bytes();
        all |= value;
    }
    all == 0
}
