//! How many chunks are packed at a time.

use std::sync::{Condvar, Mutex, MutexGuard};

/// Few chunks are packed at a time: one more than there are processors, so that none waits for work. More would push each
/// other out of the caches: 14 devices that take turns on 2 processors need a quarter more processor time at level 3.
#[derive(Debug)]
pub(super) struct Slots {
    count: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// The right to pack; given back when it goes.
pub(crate) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self { count, free: Mutex::new(count), freed: Condvar::new() }
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().expect("no thread panics while it counts")
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn take(&self) -> Slot<'_> {
        let waits = |free: &mut usize| *free == 0;
        let mut free = self.freed.wait_while(self.free(), waits).expect("no thread panics while it counts");
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn no_more_chunks_are_packed_at_a_time_than_there_are_slots() {
        let slots = Slots::new(3);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..14 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let slot = slots.take();
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(slot);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(*slots.free(), 3, "all were given back");
    }
}
