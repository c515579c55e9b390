//! What every touched page of the source is, in batches that fit a message. All numbers little-endian.
//!
//! ```text
//!   0        4       8             16                16 + 4 n          16 + 12 n      n = pages, 1 … 4096
//!   ├ format ┼ pages ┼ first page ─┼── n × version ──┼──── n × hash ───┤
//! ```

use super::WorkloadError;
use super::machine::Machine;
use super::page_format::{HEADER_BYTES, version_and_class};
use crate::content::hash_page;
use crate::page::{PAGE_SIZE, PageCount};
use crate::parallel;
use crate::runs::Run;
use crate::storage::Storage;
use std::collections::VecDeque;
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most pages in one batch.
pub const BATCH_PAGES_MAX: u32 = 4096;
/// Largest encoded batch in bytes.
pub const BATCH_BYTES_MAX: usize = size_of::<Header>() + BATCH_PAGES_MAX as usize * PAGE_ENTRY_BYTES;

const FORMAT: u32 = 1;
const PAGE_ENTRY_BYTES: usize = size_of::<u32>() + size_of::<u64>();
/// Batches hashed side by side, so that many short runs keep all processors busy too.
const GROUP: usize = 16;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    format: U32,
    pages: U32,
    first_page: U64,
}

/// Version and hash of each page of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestBatch {
    /// The pages, at most [`BATCH_PAGES_MAX`].
    pub run: Run,
    /// Version of each, 0 for a zero page.
    pub versions: Vec<u32>,
    /// xxh3 (64 bit) of each.
    pub hashes: Vec<u64>,
}

/// Why a batch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too short, too long, or not as long as its count of pages says.
    #[error("manifest batch of {len} bytes: {expected} expected")]
    Length {
        /// Bytes given.
        len: usize,
        /// Bytes that a batch of its count of pages has.
        expected: usize,
    },
    /// Made by another version.
    #[error("manifest format {format}: this side knows {FORMAT}")]
    Format {
        /// The format it claims.
        format: u32,
    },
    /// No pages, or more than a batch may hold.
    #[error("manifest batch of {pages} pages: 1 to {BATCH_PAGES_MAX} are taken")]
    PageCount {
        /// The count it claims.
        pages: u64,
    },
    /// Pages that this storage does not have.
    #[error("manifest of pages {}+{} for storage of {storage}", run.start.0, run.pages.0)]
    OutOfRange {
        /// The pages of the batch.
        run: Run,
        /// Size of storage.
        storage: PageCount,
    },
}

impl ManifestBatch {
    /// The batch as bytes, at most [`BATCH_BYTES_MAX`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let pages = u32::try_from(self.run.pages.0).expect("a batch has at most 4096 pages");
        let header =
            Header { format: FORMAT.into(), pages: pages.into(), first_page: self.run.start.0.into() };
        let mut bytes = Vec::with_capacity(size_of::<Header>() + pages as usize * PAGE_ENTRY_BYTES);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(self.versions.iter().flat_map(|version| version.to_le_bytes()));
        bytes.extend(self.hashes.iter().flat_map(|hash| hash.to_le_bytes()));
        bytes
    }

    /// Reads a batch that came from outside.
    ///
    /// # Errors
    /// [`ManifestError`]; nothing is allocated before the lengths were checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let short = ManifestError::Length { len: bytes.len(), expected: size_of::<Header>() };
        let (header, entries) = Header::ref_from_prefix(bytes).map_err(|_| short)?;
        if header.format.get() != FORMAT {
            return Err(ManifestError::Format { format: header.format.get() });
        }
        let pages = header.pages.get();
        if !(1..=BATCH_PAGES_MAX).contains(&pages) {
            return Err(ManifestError::PageCount { pages: pages.into() });
        }
        let expected = size_of::<Header>() + pages as usize * PAGE_ENTRY_BYTES;
        if bytes.len() != expected {
            return Err(ManifestError::Length { len: bytes.len(), expected });
        }
        let (versions, hashes) = entries.split_at(pages as usize * size_of::<u32>());
        Ok(Self {
            run: Run::new(header.first_page.get(), pages.into()),
            versions: versions.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(),
            hashes: hashes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect(),
        })
    }

    /// Confirms that the three parts agree and lie inside storage.
    pub(super) fn check(&self, storage: &Storage) -> Result<(), ManifestError> {
        let pages = self.run.pages.0;
        if pages == 0
            || pages > u64::from(BATCH_PAGES_MAX)
            || self.versions.len() as u64 != pages
            || self.hashes.len() as u64 != pages
        {
            return Err(ManifestError::PageCount { pages });
        }
        storage
            .check_run(&self.run)
            .map_err(|_| ManifestError::OutOfRange { run: self.run, storage: storage.pages() })
    }
}

/// Gives the batches of all touched pages, in order of pages.
#[derive(Debug)]
pub struct Manifest {
    storage: Arc<Storage>,
    /// Runs of at most a batch each, not yet hashed, in order.
    left: VecDeque<Run>,
    ready: VecDeque<ManifestBatch>,
    pages: PageCount,
}

impl Manifest {
    pub(super) fn new(machine: &Machine) -> Result<Self, WorkloadError> {
        let touched = machine.storage.touched()?;
        Ok(Self {
            storage: Arc::clone(&machine.storage),
            left: touched.split_at_chunk(PageCount(BATCH_PAGES_MAX.into())).collect(),
            ready: VecDeque::new(),
            pages: touched.pages(),
        })
    }

    /// Pages that the manifest covers, read or not.
    #[must_use]
    pub fn pages(&self) -> PageCount {
        self.pages
    }
}

impl Iterator for Manifest {
    type Item = ManifestBatch;

    fn next(&mut self) -> Option<ManifestBatch> {
        if self.ready.is_empty() {
            let group: Vec<Run> = self.left.drain(..self.left.len().min(GROUP)).collect();
            let storage = &self.storage;
            self.ready = parallel::map(parallel::processors(), group.len(), "manifest", |index| {
                batch(storage, group[index])
            })
            .into();
        }
        self.ready.pop_front()
    }
}

fn batch(storage: &Storage, run: Run) -> ManifestBatch {
    let pages = stopped_bytes(storage, run).as_chunks::<PAGE_SIZE>().0;
    // Both at once, while the page is in the cache.
    let (versions, hashes) = pages
        .iter()
        .map(|page| {
            let header: &[u8; HEADER_BYTES] = page.first_chunk().expect("a page is longer than its header");
            (version_and_class(header).0, hash_page(page))
        })
        .unzip();
    ManifestBatch { run, versions, hashes }
}

/// Storage in place, for a guest that is stopped for good.
pub(super) fn stopped_bytes(storage: &Storage, run: Run) -> &[u8] {
    assert!(storage.check_run(&run).is_ok(), "runs of a manifest lie inside storage");
    // SAFETY: the run lies inside the mapping, which lives as long as the borrow of storage. Nobody writes: the
    // vCPUs are stopped, and the documented duty of whoever asked for the manifest or the verifier is to keep
    // it so, which is the one exception in the rule for racy memory.
    unsafe { std::slice::from_raw_parts(storage.page_ptr(run.start), run.bytes() as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch_of_two() -> ManifestBatch {
        ManifestBatch {
            run: Run::new(0x0102_0304, 2),
            versions: vec![1, 0xAABB],
            hashes: vec![0x1111_2222_3333_4444, 5],
        }
    }

    #[test]
    fn the_encoding_is_pinned() {
        let golden = b"\x01\0\0\0\x02\0\0\0\x04\x03\x02\x01\0\0\0\0\x01\0\0\0\xBB\xAA\0\0\
            \x44\x44\x33\x33\x22\x22\x11\x11\x05\0\0\0\0\0\0\0";
        assert_eq!(batch_of_two().encode(), golden);
        assert_eq!(ManifestBatch::decode(golden).unwrap(), batch_of_two());
    }

    #[test]
    fn lengths_and_counts_that_lie_are_refused() {
        let mut bytes = batch_of_two().encode();
        assert_eq!(ManifestBatch::decode(&bytes[..39]), Err(ManifestError::Length { len: 39, expected: 40 }));
        assert_eq!(ManifestBatch::decode(&[]), Err(ManifestError::Length { len: 0, expected: 16 }));
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(ManifestBatch::decode(&bytes), Err(ManifestError::PageCount { pages: u32::MAX.into() }));
        bytes[0] = 9;
        assert_eq!(ManifestBatch::decode(&bytes), Err(ManifestError::Format { format: 9 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ManifestBatch::decode(&bytes);
        }
    }
}
