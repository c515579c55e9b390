//! One loop over many pieces, by as many threads as the machine has.
//!
//! A pool of its own for each loop, not the global one: the pieces here are megabytes and a thread is tens of
//! microseconds, and the processor time of named threads that come and go is easy to tell apart. Where no thread
//! can be had, the caller does all of it.

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;
use std::thread;

const THREADS_MAX: usize = 64;

/// Processors that this process may use.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// So many threads, at most one for each of `count` pieces; `None` where none can be had.
pub(crate) fn pool(threads: usize, count: usize, name: &str) -> Option<ThreadPool> {
    let threads = threads.clamp(1, THREADS_MAX).min(count.max(1));
    let name = name.to_owned();
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |index| format!("{name}-{index}"))
        .build()
        .ok()
}

/// Does `work` for every index below `count`, on up to `threads` threads.
pub(crate) fn for_each(threads: usize, count: usize, name: &str, work: impl Fn(usize) + Sync + Send) {
    match pool(threads, count, name) {
        Some(pool) => pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(work)),
        None => (0..count).for_each(work),
    }
}

/// As [`for_each`] with a result for each index, in order.
pub(crate) fn map<T: Send>(
    threads: usize,
    count: usize,
    name: &str,
    work: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    match pool(threads, count, name) {
        Some(pool) => pool.install(|| (0..count).into_par_iter().with_max_len(1).map(work).collect()),
        None => (0..count).map(work).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_done_once_and_results_stay_in_order() {
        assert_eq!(
            map(3, 100, "test", |index| index * 2),
            (0..100).map(|index| index * 2).collect::<Vec<_>>()
        );
        assert!(map(0, 0, "test", |index| index).is_empty());
    }
}
