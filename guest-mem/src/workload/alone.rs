//! Checking a guest with nothing to compare it with: the other side is gone, or the guest never left.

use super::page_format::{PageState, inspect};
use super::verify::{FaultKind, PageFault, Verifier};
use crate::page::{PAGE_SIZE, PageCount};
use crate::parallel;
use crate::runs::Run;

/// Pages that one thread checks at a time.
const PIECE_PAGES: u64 = 1024;

impl Verifier {
    /// Checks every touched page against itself: all zero, or its own number with a checksum that agrees with its
    /// bytes, and never found bad by a vCPU. Finds lost-and-found, misplaced and torn pages; a page that is
    /// stale as a whole cannot be told this way. Gives the pages checked and the bad ones, at most 4096 of them.
    #[must_use]
    pub fn verify_alone(&self) -> (PageCount, Vec<PageFault>) {
        let pieces: Vec<Run> = self.touched().split_at_chunk(PageCount(PIECE_PAGES)).collect();
        let mut faults: Vec<PageFault> =
            parallel::map(parallel::processors(), pieces.len(), "verify", |index| {
                self.inspect_piece(pieces[index])
            })
            .into_iter()
            .flatten()
            .collect();
        faults.truncate(4096);
        (self.touched().pages(), faults)
    }

    /// Pages of `run` that the vCPUs here have written since the state was loaded.
    #[must_use]
    pub fn rewritten_pages(&self, run: Run) -> u64 {
        run.page_numbers().filter(|page| self.is_rewritten(*page)).count() as u64
    }

    fn inspect_piece(&self, piece: Run) -> Vec<PageFault> {
        let bytes = self.bytes_of(piece);
        let pages = piece.page_numbers().zip(bytes.as_chunks::<PAGE_SIZE>().0);
        pages
            .filter_map(|(page, bytes)| {
                let (kind, found_version) = match inspect(bytes) {
                    PageState::Sound { page: number, version } if number != page => {
                        (FaultKind::Misplaced, Some(version))
                    }
                    PageState::Torn => (FaultKind::Torn, None),
                    _ if self.found_bad(page) => (FaultKind::Torn, None),
                    PageState::Zero | PageState::Sound { .. } => return None,
                };
                Some(PageFault { page, kind, expected_version: 0, found_version })
            })
            .collect()
    }
}
