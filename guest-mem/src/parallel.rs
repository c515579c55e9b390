//! One loop over many pieces, by as many threads as the machine has.
//!
//! Scoped threads in place of a pool: the pieces here are megabytes, a thread is tens of microseconds, and a thread
//! that cannot be had only means that the others do more.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const THREADS_MAX: usize = 64;

/// Processors that this process may use.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Does `work` for every index below `count`, on up to `threads` threads (this one is among them).
pub(crate) fn for_each(threads: usize, count: usize, name: &str, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            work(index);
        }
    };
    thread::scope(|scope| {
        for thread in 1..threads.clamp(1, THREADS_MAX).min(count.max(1)) {
            let _ = thread::Builder::new().name(format!("{name}-{thread}")).spawn_scoped(scope, run);
        }
        run();
    });
}

/// As [`for_each`] with a result for each index, in order.
pub(crate) fn map<T: Send>(
    threads: usize,
    count: usize,
    name: &str,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let done = Mutex::new(Vec::with_capacity(count));
    for_each(threads, count, name, |index| {
        let result = work(index);
        done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
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
