//! The way of x86-64 with AVX2: 256-bit volatile loads, so that each byte is read exactly once even while it changes.

use super::portable::{BLOCK_BYTES, is_plainly_data};
use crate::page::PAGE_SIZE;
use std::arch::x86_64::{
    __m256i, _mm256_or_si256, _mm256_setzero_si256, _mm256_storeu_si256, _mm256_testz_si256,
};

const VECTOR_BYTES: usize = size_of::<__m256i>();

/// # Safety
/// AVX2 present; `ptr` valid for reads of `len` bytes, both multiples of [`BLOCK_BYTES`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn is_zero(ptr: *const u8, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    // SAFETY: the caller's promise, and the length was checked.
    if unsafe { is_plainly_data(ptr, len) } {
        return false;
    }
    let mut at = 0;
    while at < len {
        // SAFETY: the block lies inside `len` bytes and is aligned for vectors.
        let [a, b, c, d] = unsafe { load_block(ptr.add(at)) };
        let all = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
        if _mm256_testz_si256(all, all) == 0 {
            return false;
        }
        at += BLOCK_BYTES;
    }
    true
}

/// # Safety
/// AVX2 present; `src` valid for reads of a page and aligned to [`BLOCK_BYTES`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn copy_page_zero(src: *const u8, dst: &mut [u8; PAGE_SIZE]) -> bool {
    let mut any = [_mm256_setzero_si256(); 2];
    let mut at = 0;
    while at < PAGE_SIZE {
        // SAFETY: the block lies inside the page, on both sides; the loads are aligned, the stores need not be.
        unsafe {
            let [a, b, c, d] = load_block(src.add(at));
            let to = dst.as_mut_ptr().add(at).cast::<__m256i>();
            _mm256_storeu_si256(to, a);
            _mm256_storeu_si256(to.add(1), b);
            _mm256_storeu_si256(to.add(2), c);
            _mm256_storeu_si256(to.add(3), d);
            any[0] = _mm256_or_si256(any[0], _mm256_or_si256(a, b));
            any[1] = _mm256_or_si256(any[1], _mm256_or_si256(c, d));
        }
        at += BLOCK_BYTES;
    }
    let all = _mm256_or_si256(any[0], any[1]);
    _mm256_testz_si256(all, all) == 1
}

/// # Safety
/// `ptr` valid for reads of [`BLOCK_BYTES`] and aligned to a vector.
#[target_feature(enable = "avx2")]
unsafe fn load_block(ptr: *const u8) -> [__m256i; 4] {
    let vectors = ptr.cast::<__m256i>();
    // SAFETY: the caller's promise; four vectors are one block.
    unsafe {
        [
            vectors.read_volatile(),
            vectors.add(1).read_volatile(),
            vectors.add(2).read_volatile(),
            vectors.add(3).read_volatile(),
        ]
    }
}

const _: () = assert!(BLOCK_BYTES == 4 * VECTOR_BYTES && PAGE_SIZE.is_multiple_of(BLOCK_BYTES));
