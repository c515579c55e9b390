//! Arrays of atomic words as large as guest storage asks for, of which only the touched parts take memory.
//!
//! A dirty bitmap or a ledger for 1 TiB of storage is tens of megabytes to a gigabyte long, and nearly all of
//! it stays zero. An anonymous mapping without reserve gives zeroes on demand and commits nothing.

use memmap2::{MmapOptions, MmapRaw};
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Types for which a mapping full of zero bytes is a valid array.
pub(crate) trait Zeroable {}
impl Zeroable for AtomicU32 {}
impl Zeroable for AtomicU64 {}

/// A fixed-length array of atomics, all zero at first, that commits memory only where it was written.
#[derive(Debug)]
pub(crate) struct SparseAtomics<A> {
    map: MmapRaw,
    len: usize,
    words: PhantomData<A>,
}

impl<A: Zeroable> SparseAtomics<A> {
    /// Reserves `len` zero words.
    ///
    /// # Errors
    /// What `mmap` says, which is `ENOMEM` when the address space is used up.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let len_bytes = len
            .checked_mul(size_of::<A>())
            .ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, "array length overflows"))?;
        let map = MmapOptions::new().len(len_bytes.max(1)).no_reserve_swap().map_anon()?;
        Ok(Self { map: MmapRaw::from(map), len, words: PhantomData })
    }
}

impl<A: Zeroable> Deref for SparseAtomics<A> {
    type Target = [A];

    fn deref(&self) -> &[A] {
        // SAFETY: the mapping is at least `len` words long, page-aligned, lives as long as `self`, is never
        // handed out in another type, and zero bytes are valid atomics (the trait is for those only).
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<A>(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_huge_array_costs_nothing_until_written() {
        let words = SparseAtomics::<AtomicU32>::new(1 << 28).unwrap();
        words[(1 << 28) - 1].store(7, Ordering::Relaxed);
        assert_eq!(words[0].load(Ordering::Relaxed), 0);
        assert_eq!(words[(1 << 28) - 1].load(Ordering::Relaxed), 7);
        assert_eq!(words.len(), 1 << 28);
    }
}
