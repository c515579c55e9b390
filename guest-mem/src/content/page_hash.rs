//! xxh3 of exactly one page with AVX2, fused with the copy and the zero test.
//!
//! The xxhash crate chooses its vectors when it is compiled, so that a portable build hashes with 128-bit ones
//! and in a second pass over the copy. Here one loop loads each vector once, and stores it, ORs it and hashes it
//! from the register, at nearly the speed of the copy alone. The answer is that of `xxh3_64` (seed 0) to the
//! bit: see <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>, "XXH3 Algorithm for long inputs".
//!
//! ```text
//!   page = 4 blocks of 16 stripes of 64 bytes. accumulate each stripe with the secret moved on by 8 bytes; scramble after
//!   each of the first three blocks; the very last stripe takes its own place in the secret
//! ```

use super::PageContent;
use crate::page::PAGE_SIZE;
use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi64, _mm256_loadu_si256, _mm256_mul_epu32,
    _mm256_or_si256, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi32, _mm256_slli_epi64,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_testz_si256, _mm256_xor_si256,
};

const STRIPE_BYTES: usize = 64;
const BLOCK_STRIPES: usize = 16;
const BLOCKS: usize = PAGE_SIZE / (STRIPE_BYTES * BLOCK_STRIPES);
const SECRET_BYTES: usize = 192;
/// How far ahead data is asked for. The processor's own prefetcher stops at the end of each page; this goes on into the
/// next one, which is most often looked at next. Asking for an address that is not there does nothing.
const PREFETCH_BYTES: usize = 1024;
/// How far the secret moves on with each stripe.
const SECRET_STEP: usize = 8;
const SCRAMBLE_AT: usize = SECRET_BYTES - STRIPE_BYTES;
const LAST_STRIPE_AT: usize = SECRET_BYTES - STRIPE_BYTES - 7;
const MERGE_AT: usize = 11;

const PRIME32_1: u64 = 0x9E37_79B1;
const PRIME32_2: u64 = 0x85EB_CA77;
const PRIME32_3: u64 = 0xC2B2_AE3D;
const PRIME64_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME64_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME64_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME64_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME64_5: u64 = 0x27D4_EB2F_1656_67C5;
const PRIME_MX1: u64 = 0x1656_6791_9E37_79F9;

const START: [u64; 8] =
    [PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1];

/// The secret of the specification.
#[rustfmt::skip]
const SECRET: [u8; SECRET_BYTES] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];

/// Copies a page to `dst` (if there is one), tests it for zero and hashes it, with one load of each byte.
///
/// # Safety
/// AVX2 present; `src` valid for reads of a page. With `COPY` it is aligned to 32 bytes, and others may write it
/// at the same time.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn page<const COPY: bool>(
    src: *const u8,
    mut dst: Option<&mut [u8; PAGE_SIZE]>,
) -> PageContent {
    let mut lanes = halves(&START);
    let mut any = _mm256_setzero_si256();
    for block in 0..BLOCKS {
        for stripe in 0..BLOCK_STRIPES {
            let at = (block * BLOCK_STRIPES + stripe) * STRIPE_BYTES;
            _mm_prefetch::<_MM_HINT_T0>(src.wrapping_add(at + PREFETCH_BYTES).cast());
            // SAFETY: the stripe lies inside the page. What is copied may change meanwhile and is aligned; so it
            // is read by volatile loads, once. The rest is private and may lie anywhere.
            let data = unsafe {
                let vectors = src.add(at).cast::<__m256i>();
                if COPY {
                    [vectors.read_volatile(), vectors.add(1).read_volatile()]
                } else {
                    [_mm256_loadu_si256(vectors), _mm256_loadu_si256(vectors.add(1))]
                }
            };
            if COPY && let Some(dst) = dst.as_deref_mut() {
                // SAFETY: the stripe lies inside the page that `dst` is; these stores need no alignment.
                unsafe {
                    let to = dst.as_mut_ptr().add(at).cast::<__m256i>();
                    _mm256_storeu_si256(to, data[0]);
                    _mm256_storeu_si256(to.add(1), data[1]);
                }
            }
            any = _mm256_or_si256(any, _mm256_or_si256(data[0], data[1]));
            let last = block + 1 == BLOCKS && stripe + 1 == BLOCK_STRIPES;
            accumulate(&mut lanes, data, if last { LAST_STRIPE_AT } else { stripe * SECRET_STEP });
        }
        if block + 1 < BLOCKS {
            scramble(&mut lanes);
        }
    }
    PageContent { zero: _mm256_testz_si256(any, any) == 1, hash: merge(lanes) }
}

#[target_feature(enable = "avx2")]
fn halves(words: &[u64; 8]) -> [__m256i; 2] {
    let words = words.as_ptr().cast::<__m256i>();
    // SAFETY: eight words are two vectors; these loads need no alignment.
    unsafe { [_mm256_loadu_si256(words), _mm256_loadu_si256(words.add(1))] }
}

#[target_feature(enable = "avx2")]
#[inline]
fn secret(at: usize) -> [__m256i; 2] {
    assert!(at <= SECRET_BYTES - STRIPE_BYTES);
    // SAFETY: a stripe from `at` lies inside the secret; these loads need no alignment.
    unsafe {
        let from = SECRET.as_ptr().add(at).cast::<__m256i>();
        [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))]
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn accumulate(lanes: &mut [__m256i; 2], data: [__m256i; 2], secret_at: usize) {
    let secret = secret(secret_at);
    for half in 0..2 {
        let keyed = _mm256_xor_si256(data[half], secret[half]);
        let product = _mm256_mul_epu32(keyed, _mm256_srli_epi64::<32>(keyed));
        let swapped = _mm256_shuffle_epi32::<0x4E>(data[half]);
        lanes[half] = _mm256_add_epi64(lanes[half], _mm256_add_epi64(product, swapped));
    }
}

#[target_feature(enable = "avx2")]
fn scramble(lanes: &mut [__m256i; 2]) {
    let secret = secret(SCRAMBLE_AT);
    let prime = _mm256_set1_epi64x(PRIME32_1 as i64);
    for half in 0..2 {
        let mixed = _mm256_xor_si256(lanes[half], _mm256_srli_epi64::<47>(lanes[half]));
        let keyed = _mm256_xor_si256(mixed, secret[half]);
        let low = _mm256_mul_epu32(keyed, prime);
        let high = _mm256_mul_epu32(_mm256_srli_epi64::<32>(keyed), prime);
        lanes[half] = _mm256_add_epi64(low, _mm256_slli_epi64::<32>(high));
    }
}

#[target_feature(enable = "avx2")]
fn merge(lanes: [__m256i; 2]) -> u64 {
    let mut words = [0u64; 8];
    // SAFETY: eight words are two vectors; these stores need no alignment.
    unsafe {
        let to = words.as_mut_ptr().cast::<__m256i>();
        _mm256_storeu_si256(to, lanes[0]);
        _mm256_storeu_si256(to.add(1), lanes[1]);
    }
    let mut hash = (PAGE_SIZE as u64).wrapping_mul(PRIME64_1);
    let secret = SECRET[MERGE_AT..].as_chunks::<8>().0;
    for (pair, keys) in words.as_chunks::<2>().0.iter().zip(secret.as_chunks::<2>().0) {
        let product = u128::from(pair[0] ^ u64::from_le_bytes(keys[0]))
            * u128::from(pair[1] ^ u64::from_le_bytes(keys[1]));
        hash = hash.wrapping_add(product as u64 ^ (product >> 64) as u64);
    }
    hash ^= hash >> 37;
    hash = hash.wrapping_mul(PRIME_MX1);
    hash ^ (hash >> 32)
}
