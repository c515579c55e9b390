//! Memory in pieces of 2 MiB under a mapping of 4 KiB pages.
//!
//! Dirty tracking wants page tables of 4 KiB. Making memory ready wants 2 MiB at a time: the kernel clears them in one
//! go and maps them with one fault. A memfd can have both, because the pages of a file and the page tables of a mapping
//! are two things:
//!
//! ```text
//!   window   ├─2 MiB─┼─2 MiB─┤   short-lived, page tables of 2 MiB: a page of each is populated, then MADV_COLLAPSE
//!   memfd    ├─2 MiB─┼─2 MiB─┼4K┼4K┼....
//!   mapping  ├┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼┤....   advised against huge pages: page tables of 4 KiB, exact tracking
//! ```
//!
//! `MADV_COLLAPSE` (Linux 6.1) asks neither for a privilege nor for the setting `shmem_enabled`. Kernels before 6.12 map
//! such memory by 2 MiB even where that was advised against, so once per process it is tried, and left alone if it
//! shows. Nothing may be joined while a tracker is at work: the kernel takes the pages out of the mapping to join them,
//! and forgets which were written.

use super::{Backing, HUGE_PAGE_SIZE, Storage, StorageOptions, aligned_map};
use crate::page::{PAGE_SIZE, PageNumber};
use crate::runs::Run;
use crate::tracker::huge_runs;
use rustix::mm::Advice;
use std::sync::OnceLock;

/// Pages of 4 KiB in one of 2 MiB.
pub(super) const PIECE_PAGES: u64 = HUGE_PAGE_SIZE / PAGE_SIZE as u64;
/// `MADV_COLLAPSE` of `linux/mman.h`.
const MADV_COLLAPSE: libc::c_int = 25;

impl Storage {
    /// Gives each whole 2 MiB inside `run`, which the caller has checked, memory in one piece, as far as the kernel has
    /// any. Content does not change, and what is not joined is still to be filled.
    pub(super) fn join(&self, run: &Run) {
        static WORKS: OnceLock<bool> = OnceLock::new();
        let pieces = whole_pieces(run);
        if self.backing() == Backing::Small && pieces.pages.get() > 0 && *WORKS.get_or_init(join_works) {
            self.join_pieces(&pieces);
        }
    }

    /// True if all of `pieces` are joined now.
    fn join_pieces(&self, pieces: &Run) -> bool {
        let (offset_bytes, len) = (pieces.offset_bytes(), pieces.bytes() as usize);
        let Ok((window, start)) = aligned_map(self.fd(), offset_bytes, len) else { return false };
        let base = window.as_mut_ptr().wrapping_add(start);
        for piece in (0..len).step_by(HUGE_PAGE_SIZE as usize) {
            // The kernel joins nothing where there is nothing, so a hole gets its first page.
            let first = base.wrapping_add(piece).cast();
            // SAFETY: inside the window, and populating changes no content.
            if unsafe { rustix::mm::madvise(first, PAGE_SIZE, Advice::LinuxPopulateRead) }.is_err() {
                return false;
            }
        }
        // SAFETY: exactly the window, and joining changes no content. If it fails, pages of 4 KiB are as good.
        unsafe { libc::madvise(base.cast(), len, MADV_COLLAPSE) == 0 }
    }
}

/// The whole pieces of 2 MiB inside `run`.
fn whole_pieces(run: &Run) -> Run {
    let start = run.start.get().next_multiple_of(PIECE_PAGES);
    let end = run.end().get() / PIECE_PAGES * PIECE_PAGES;
    Run::between(PageNumber(start.min(end)), PageNumber(end))
}

/// Joins a little and sees whether the guest's mapping still has page tables of 4 KiB.
fn join_works() -> bool {
    let Ok(storage) = Storage::create(&StorageOptions::small(HUGE_PAGE_SIZE)) else { return false };
    let whole = storage.whole();
    storage.join_pieces(&whole)
        && storage.populate_pages(&whole).is_ok()
        && huge_runs(&storage).is_ok_and(|huge| huge.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pieces_are_joined() {
        let of = |start, pages| {
            let run = whole_pieces(&Run::new(start, pages));
            (run.start.get(), run.pages.get())
        };
        assert_eq!(of(0, 512), (0, 512));
        assert_eq!(of(1, 1535), (512, 1024));
        assert_eq!(of(511, 514), (512, 512));
        for (start, pages) in [(0, 511), (1, 512), (700, 100), (512, 0)] {
            assert_eq!(of(start, pages).1, 0, "{start} {pages}");
        }
    }

    #[test]
    fn joining_keeps_content_and_holes_and_page_tables_of_4_kib() {
        if !join_works() {
            return println!("skipped: MADV_COLLAPSE under 4 KiB page tables");
        }
        let storage = Storage::create(&StorageOptions::small(8 << 20)).unwrap();
        storage.write_bytes(PageNumber(700), 5, b"kept");
        storage.populate(&Run::new(300, 800)).unwrap();
        assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(300, 800)]);
        let mut bytes = [0; 6];
        storage.read_bytes(PageNumber(700), 4, &mut bytes);
        assert_eq!(&bytes, b"\0kept\0");
        assert!(huge_runs(&storage).unwrap().is_empty());
    }
}
