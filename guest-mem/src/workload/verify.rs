//! Did every page arrive? Compares the destination's stopped guest with the source's manifest, and names each
//! bad page.
//!
//! ```text
//!   written here since the resume?   no:  the hash must match to the last byte
//!                                    yes: number and checksum must be right, and
//!                                         version = manifest's + writes here   (freed here: = writes since)
//! ```
//!
//! A page that arrived wrong and was then written again is still found out: the guest checks each page at its first
//! write on this side and keeps what it found in its ledger.

use super::WorkloadError;
use super::ledger::{Entry, VERSION_MASK};
use super::machine::Machine;
use super::manifest::{ManifestBatch, ManifestError, stopped_bytes};
use super::page_format::{PageBytes, PageState, inspect};
use crate::content::{hash_page, zero_page_hash};
use crate::page::{PAGE_SIZE, PageCount, PageNumber};
use crate::parallel;
use crate::runs::{Run, Runs};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Pages that one thread compares at a time.
const PIECE_PAGES: u64 = 512;
/// Bad pages told by one call at most; one is bad enough, and a list without end helps nobody.
const FAULTS_MAX: usize = 4096;

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// It is (or was, when the guest first wrote it) zero here, and held data at the source.
    Lost,
    /// An older version.
    Stale,
    /// Its bytes do not agree with its checksum, or its version with its bytes.
    Torn,
    /// Another page's content.
    Misplaced,
    /// Content that should not be here at all, or is newer than it can be.
    Unexpected,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Stale => "stale",
            Self::Torn => "torn",
            Self::Misplaced => "misplaced",
            Self::Unexpected => "unexpected",
        })
    }
}

/// One bad page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageFault {
    /// Which page.
    pub page: PageNumber,
    /// What is wrong.
    pub kind: FaultKind,
    /// The version it should have; 0 is the zero page.
    pub expected_version: u32,
    /// The version it has; `None` where none can be read.
    pub found_version: Option<u32>,
}

impl fmt::Display for PageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: version {} expected, ", self.page, self.kind, self.expected_version)?;
        match self.found_version {
            Some(version) => write!(f, "{version} found")?,
            None => f.write_str("none readable")?,
        }
        match self.kind {
            FaultKind::Lost | FaultKind::Stale | FaultKind::Torn => {
                f.write_str("; was it written through another mapping, which no tracker sees?")
            }
            FaultKind::Misplaced | FaultKind::Unexpected => Ok(()),
        }
    }
}

/// Compares one stopped guest with a manifest; may be shared by threads.
#[derive(Debug)]
pub struct Verifier {
    machine: Arc<Machine>,
    /// Pages that have memory here. Others are zero, and reading them would give them memory.
    touched: Runs,
    compared: Mutex<Vec<Run>>,
}

impl Verifier {
    pub(super) fn new(machine: Arc<Machine>) -> Result<Self, WorkloadError> {
        let touched = machine.storage.touched()?;
        Ok(Self { machine, touched, compared: Mutex::default() })
    }

    pub(super) fn touched(&self) -> &Runs {
        &self.touched
    }

    pub(super) fn bytes_of(&self, run: Run) -> &[u8] {
        stopped_bytes(&self.machine.storage, run)
    }

    /// A vCPU found the page bad when it first wrote to it.
    pub(super) fn found_bad(&self, page: PageNumber) -> bool {
        self.machine.ledger.entry(page).found_bad()
    }

    pub(super) fn is_rewritten(&self, page: PageNumber) -> bool {
        self.machine.ledger.entry(page).is_written()
    }

    /// Compares the pages of one batch; gives the bad ones, at most 4096 of them.
    ///
    /// # Errors
    /// [`ManifestError`] for a batch that does not fit this storage.
    pub fn verify_batch(&self, batch: &ManifestBatch) -> Result<Vec<PageFault>, ManifestError> {
        batch.check(&self.machine.storage)?;
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).push(batch.run);
        Ok(self.compare(batch.run, |index| (batch.versions[index], batch.hashes[index])))
    }

    /// Compares what no batch has named: never touched here either, or zero, or first written here. To be asked
    /// after the last batch; gives the bad pages, at most 4096 of them.
    #[must_use]
    pub fn verify_untouched(&self) -> Vec<PageFault> {
        let compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rest = self.touched.difference(&Runs::from_unsorted(compared));
        let mut faults = Vec::new();
        for run in rest.split_at_chunk(PageCount(64 * PIECE_PAGES)) {
            faults.extend(self.compare(run, |_| (0, zero_page_hash())));
            if faults.len() >= FAULTS_MAX {
                faults.truncate(FAULTS_MAX);
                break;
            }
        }
        faults
    }

    /// Compares a run on all processors, with the source's version and hash for each page by its index in the run.
    fn compare(&self, run: Run, source: impl Fn(usize) -> (u32, u64) + Sync) -> Vec<PageFault> {
        let pieces = run.pages.0.div_ceil(PIECE_PAGES) as usize;
        let mut faults: Vec<PageFault> = parallel::map(parallel::processors(), pieces, "verify", |piece| {
            let first = piece as u64 * PIECE_PAGES;
            let pages = PIECE_PAGES.min(run.pages.0 - first);
            let piece = Run::new(run.start.0 + first, pages);
            self.compare_piece(piece, |index| source(first as usize + index))
        })
        .into_iter()
        .flatten()
        .collect();
        faults.truncate(FAULTS_MAX);
        faults
    }

    fn compare_piece(&self, piece: Run, source: impl Fn(usize) -> (u32, u64)) -> Vec<PageFault> {
        let mut faults = Vec::new();
        let here = self.touched.intersection_with(piece);
        let mut judge = |page: PageNumber, bytes: Option<&PageBytes>| {
            let (version, hash) = source(page.since(piece.start).0 as usize);
            faults.extend(judge_page(page, bytes, self.machine.ledger.entry(page), version, hash));
        };
        let mut next = piece.start;
        for run in &here {
            Run::between(next, run.start).page_numbers().for_each(|page| judge(page, None));
            let bytes = stopped_bytes(&self.machine.storage, *run);
            for (page, bytes) in run.page_numbers().zip(bytes.as_chunks::<PAGE_SIZE>().0) {
                judge(page, Some(bytes));
            }
            next = run.end();
        }
        Run::between(next, piece.end()).page_numbers().for_each(|page| judge(page, None));
        faults
    }
}

/// Is this page what it should be? `bytes` is `None` for a page without memory, which is zero.
fn judge_page(
    page: PageNumber,
    bytes: Option<&PageBytes>,
    entry: Entry,
    version: u32,
    hash: u64,
) -> Option<PageFault> {
    let state = || bytes.map_or(PageState::Zero, inspect);
    if !entry.is_written() {
        let found_hash = bytes.map_or_else(zero_page_hash, hash_page);
        return (found_hash != hash).then(|| fault(page, state(), version, FaultKind::Torn));
    }
    let expected = if entry.is_freed() { entry.writes() } else { version.wrapping_add(entry.writes()) };
    let found = state();
    let first_found = match () {
        () if entry.found_bad() => Some(FaultKind::Torn),
        () if entry.found_zero() && version > 0 => Some(FaultKind::Lost),
        () => None,
    };
    if let Some(kind) = first_found {
        return Some(PageFault { kind, ..fault(page, found, expected, kind) });
    }
    let right = match found {
        PageState::Zero => expected & VERSION_MASK == 0,
        PageState::Sound { page: number, version } => {
            number == page && version & VERSION_MASK == expected & VERSION_MASK
        }
        PageState::Torn => false,
    };
    let mut wrong = (!right).then(|| fault(page, found, expected, FaultKind::Torn))?;
    if version == 0 && !entry.is_freed() && wrong.kind == FaultKind::Unexpected {
        wrong.kind = FaultKind::Stale; // older data was there when the guest began to count
    }
    Some(wrong)
}

/// Names what is wrong with a page that is known to be wrong; `otherwise` if its version is the right one.
fn fault(page: PageNumber, found: PageState, expected_version: u32, otherwise: FaultKind) -> PageFault {
    let (kind, found_version) = match found {
        PageState::Zero if expected_version > 0 => (FaultKind::Lost, Some(0)),
        PageState::Zero => (otherwise, Some(0)),
        PageState::Torn => (FaultKind::Torn, None),
        PageState::Sound { page: number, version } if number != page => (FaultKind::Misplaced, Some(version)),
        // The zeroing of a page with older data was missed.
        PageState::Sound { version, .. } if expected_version == 0 => (FaultKind::Stale, Some(version)),
        PageState::Sound { version, .. } if version < expected_version => (FaultKind::Stale, Some(version)),
        PageState::Sound { version, .. } if version > expected_version => {
            (FaultKind::Unexpected, Some(version))
        }
        PageState::Sound { version, .. } => (otherwise, Some(version)),
    };
    PageFault { page, kind, expected_version, found_version }
}
