//! Giving a new guest its memory content, in parallel.

use super::generate::{self, PageClass, first_class};
use super::layout::Layout;
use super::text;
use super::{WorkloadError, WorkloadOptions};
use crate::content::is_zero;
use crate::page::PAGE_SIZE;
use crate::parallel;
use crate::runs::{ChunkPlan, Run, Runs};
use crate::storage::Storage;
use std::sync::OnceLock;

/// A thread takes 2 MiB at a time: populated by one call, then written while page tables and caches are warm.
const CHUNK_PAGES: u32 = 512;

/// Fills the touched pages of `storage` as `options` say, on all processors; every page that is not of the zero class
/// gets version 1. `progress` is told the bytes that a thread has just filled.
///
/// # Errors
/// [`WorkloadError::Options`] for options that do not fit this storage, [`WorkloadError::Storage`] when memory runs
/// out.
pub fn fill(
    storage: &Storage,
    options: &WorkloadOptions,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), WorkloadError> {
    options.check(storage.len_bytes())?;
    text::prepare();
    let touched = Layout::new(storage.pages(), options).touched();
    let plans = touched.plan_chunks(CHUNK_PAGES, CHUNK_PAGES as usize);
    let first_error = OnceLock::new();
    parallel::for_each(parallel::processors(), plans.len(), "fill", |index| {
        if first_error.get().is_some() {
            return;
        }
        match fill_chunk(storage, options, &touched, &plans[index]) {
            Ok(bytes) => progress(bytes),
            Err(error) => {
                let _ = first_error.set(error); // a later error adds nothing to the first
            }
        }
    });
    first_error.into_inner().map_or(Ok(()), Err)
}

fn fill_chunk(
    storage: &Storage,
    options: &WorkloadOptions,
    touched: &Runs,
    plan: &ChunkPlan,
) -> Result<u64, WorkloadError> {
    let mut bytes = [0; PAGE_SIZE];
    for run in touched.chunk(plan) {
        storage.populate(&run)?;
        for page in run.page_numbers() {
            let class = first_class(options, page);
            if class == PageClass::Zero {
                // SAFETY: the page is inside storage (`page_ptr` checks it).
                if !unsafe { is_zero(storage.page_ptr(page), PAGE_SIZE) } {
                    storage.zero_page(page);
                }
            } else {
                generate::page(options.seed, page, 1, class, &mut bytes);
                storage.write_page(page, &bytes);
            }
        }
    }
    Ok(touched.chunk(plan).map(|run: Run| run.bytes()).sum())
}
