//! Memory to measure with: guest storage on 4 KiB pages, all of it there before the clock runs.
//!
//! It is used in chunks of 1 MiB, as transfers are. A filled chunk ends with the hash of what is before, so that
//! whoever gets it can tell whether all of it came, wherever it came to rest.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::Context;
use guest_mem::{PAGE_SIZE, PageContent, PageNumber, Runs, Storage, StorageOptions};
use isfc::Region;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes handled at a time.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
const STAMP_BYTES: usize = 8;
/// The private copy of a chunk ends where its stamp begins.
const STAMP_AT: usize = CHUNK_BYTES - STAMP_BYTES;

/// Memory that this bench alone uses. Chunks are named by any number: it counts on from the start again at the end.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Storage>);

impl Memory {
    /// Memory of `bytes` (whole chunks), zero and touched, by as many threads as there are processors.
    pub(super) fn create(bytes: u64) -> anyhow::Result<Self> {
        let storage = Storage::create(&StorageOptions::small(bytes)).context("memory for the bench")?;
        storage.prefault(&Runs::from_run(storage.whole()), super::cores(), &|_| ())?;
        Ok(Self(Arc::new(storage)))
    }

    pub(super) fn storage(&self) -> &Arc<Storage> {
        &self.0
    }

    pub(super) fn chunks(&self) -> u64 {
        self.0.len_bytes() / CHUNK_BYTES as u64
    }

    /// As a link's region 0.
    pub(super) fn region(&self) -> Region {
        let base = NonNull::new(self.0.as_ptr()).expect("a mapping is never at address zero");
        // SAFETY: the storage is owned by the Arc that the region keeps; references into it (`Self::bytes`) are
        // made only while no link places anything there.
        let region = unsafe { Region::new(0, base, self.0.len_bytes(), self.0.clone()) };
        match self.0.fd().try_clone_to_owned() {
            Ok(file) => region.backed_by(Arc::new(file)),
            Err(_) => region,
        }
    }

    /// Where a chunk starts, in bytes from the start of memory.
    pub(super) fn offset_bytes(&self, chunk: u64) -> u64 {
        chunk % self.chunks() * CHUNK_BYTES as u64
    }

    fn at(&self, chunk: u64) -> NonNull<u8> {
        let page = PageNumber::containing(self.offset_bytes(chunk));
        NonNull::new(self.0.page_ptr(page)).expect("a page of a mapping is never at address zero")
    }

    /// A chunk in place.
    ///
    /// # Safety
    /// Nobody may write it meanwhile.
    pub(super) unsafe fn bytes(&self, chunk: u64) -> &[u8] {
        // SAFETY: a chunk lies inside the mapping, which lives as long as `self`; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at(chunk).as_ptr(), CHUNK_BYTES) }
    }

    /// Fills every chunk with random bytes of its own and its stamp.
    pub(super) fn fill(&self, seed: u64) {
        (0..self.chunks()).into_par_iter().for_each(|chunk| {
            let mut bytes = random_bytes(seed ^ (chunk << 32));
            let stamp = xxh3_64(&bytes[..STAMP_AT]);
            bytes[STAMP_AT..].copy_from_slice(&stamp.to_le_bytes());
            for (page, content) in (0..).zip(bytes.as_chunks::<PAGE_SIZE>().0) {
                let first = PageNumber::containing(self.offset_bytes(chunk));
                self.0.write_page(PageNumber(first.get() + page), content);
            }
        });
    }

    /// Makes every stamp wrong, so that only chunks that arrive from now on are intact.
    pub(super) fn spoil(&self) {
        for chunk in 0..self.chunks() {
            // SAFETY: nothing is placed here between rounds, which is when this is called.
            let stamp = xxh3_64(unsafe { &self.bytes(chunk)[..STAMP_AT] });
            let last = PageNumber::containing(self.offset_bytes(chunk) + STAMP_AT as u64);
            self.0.write_bytes(last, PAGE_SIZE - STAMP_BYTES, &(!stamp).to_le_bytes());
        }
    }

    /// Whether a chunk's bytes hash to its stamp.
    ///
    /// # Safety
    /// Nobody may write it meanwhile.
    pub(super) unsafe fn is_intact(&self, chunk: u64) -> bool {
        // SAFETY: the caller's promise.
        let (content, stamp) = unsafe { self.bytes(chunk) }.split_at(STAMP_AT);
        xxh3_64(content).to_le_bytes() == *stamp
    }

    /// Copies a chunk as `memcpy` does.
    pub(super) fn copy(&self, to: &Self, chunk: u64) {
        // SAFETY: chunks of two different mappings, both alive.
        unsafe {
            std::ptr::copy_nonoverlapping(self.at(chunk).as_ptr(), to.at(chunk).as_ptr(), CHUNK_BYTES);
        }
    }

    /// Copies a chunk as the shm medium does.
    pub(super) fn copy_streaming(&self, to: &Self, chunk: u64) {
        // SAFETY: chunks of two different mappings, both alive.
        unsafe { isfc::copy::streaming_copy(self.at(chunk), to.at(chunk), CHUNK_BYTES) };
    }

    /// Counts the zero pages of a chunk.
    pub(super) fn zero_pages(&self, chunk: u64) -> u32 {
        let mut zero = 0;
        // SAFETY: the pages of a chunk lie inside the mapping.
        unsafe {
            guest_mem::zero_pages(self.at(chunk).as_ptr(), CHUNK_BYTES / PAGE_SIZE, |_, mask| {
                zero += mask.count_ones();
            });
        }
        zero
    }

    /// Copies a chunk into `private`, testing and hashing each page in the same read.
    pub(super) fn copy_zero_hash(&self, chunk: u64, private: &mut [u8], contents: &mut Vec<PageContent>) {
        // SAFETY: a chunk lies inside the mapping, and `private` is one chunk long at most.
        unsafe {
            guest_mem::copy_zero_hash_pages(self.at(chunk).as_ptr(), &mut private[..CHUNK_BYTES], contents);
        }
    }

    /// Receives exactly one chunk from a stream; `false` at its end.
    pub(super) fn receive(&self, chunk: u64, from: BorrowedFd<'_>) -> std::io::Result<bool> {
        let mut done = 0;
        while done < CHUNK_BYTES {
            // SAFETY: from `done` to the end of the chunk is inside the mapping. The kernel writes there by address;
            // no reference to it exists.
            let got = unsafe {
                let target = self.at(chunk).as_ptr().add(done).cast();
                libc::recv(from.as_raw_fd(), target, CHUNK_BYTES - done, libc::MSG_WAITALL)
            };
            match usize::try_from(got) {
                Ok(0) if done == 0 => return Ok(false),
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(_) => {
                    let error = std::io::Error::last_os_error();
                    if error.kind() != std::io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// A chunk of bytes that do not repeat and do not compress (splitmix64).
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = (0..CHUNK_BYTES / 8).flat_map(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intact(memory: &Memory) -> usize {
        // SAFETY: each test has its memory to itself.
        (0..memory.chunks()).filter(|&chunk| unsafe { memory.is_intact(chunk) }).count()
    }

    #[test]
    fn chunks_prove_that_all_of_them_arrived() {
        let (from, to) = (Memory::create(4 << 20).unwrap(), Memory::create(4 << 20).unwrap());
        assert_eq!(from.zero_pages(3), 256);
        from.fill(7);
        assert_eq!((intact(&from), from.zero_pages(3)), (4, 0));
        from.copy(&to, 0);
        from.copy_streaming(&to, 5);
        assert_eq!(intact(&to), 2, "chunk 5 of 4 is chunk 1");
        to.spoil();
        assert_eq!(intact(&to), 0);
        let (mut private, mut contents) = (vec![0; CHUNK_BYTES], Vec::new());
        from.copy_zero_hash(2, &mut private, &mut contents);
        assert_eq!(contents.len(), 256);
        // SAFETY: nobody writes.
        assert_eq!(private, unsafe { from.bytes(2) });
    }

    #[test]
    fn a_stream_that_ends_inside_a_chunk_is_an_error() {
        use std::io::Write;
        use std::os::fd::AsFd;
        let memory = Memory::create(1 << 20).unwrap();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.write_all(b"short").unwrap();
        drop(near);
        assert!(memory.receive(0, far.as_fd()).is_err());
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(near);
        assert!(!memory.receive(0, far.as_fd()).unwrap());
    }
}
