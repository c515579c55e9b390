//! One rate limit for all queues together, so that a relocation leaves bandwidth to others.
//!
//! A token bucket kept as one number: the time at which all reserved bytes would have left at the
//! limited rate (the generic cell rate algorithm, ITU-T I.371). Any thread reserves with one
//! compare-and-swap and no lock; the caller passes the time, so tests need no clock.
//!
//! ```text
//!  reserved bytes:   ▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆
//!  time:        ─────┬────────────────┬──────▶
//!                   now           next free
//!                    └──── wait ──────┘   for whoever reserves next
//! ```

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Idle time that may be made good at once: long enough to hide the pauses between chunks, short
/// enough that the burst (10 ms of the rate) does no harm to others.
pub const BURST: Duration = Duration::from_millis(10);

const BURST_NS: u64 = BURST.as_nanos() as u64;
const NS_PER_S: u128 = 1_000_000_000;

/// A limit in bytes per second, shared by all queues of a relocation.
#[derive(Debug)]
pub struct RateLimit {
    /// Bytes per second; zero means no limit.
    rate_bytes_per_s: AtomicU64,
    /// When everything reserved so far would have left at the rate, in the caller's nanoseconds.
    next_free_ns: AtomicU64,
}

impl RateLimit {
    /// A limit of `bytes_per_s` for all callers together.
    pub fn new(bytes_per_s: NonZeroU64) -> Self {
        Self { rate_bytes_per_s: AtomicU64::new(bytes_per_s.get()), next_free_ns: AtomicU64::new(0) }
    }

    /// No limit: every reservation may go at once.
    pub fn unlimited() -> Self {
        Self { rate_bytes_per_s: AtomicU64::new(0), next_free_ns: AtomicU64::new(0) }
    }

    /// Changes the limit of a running relocation; `None` takes it away. Bytes reserved before keep the
    /// time they were given.
    pub fn set(&self, bytes_per_s: Option<NonZeroU64>) {
        self.rate_bytes_per_s.store(bytes_per_s.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }

    /// The limit in bytes per second; `None` when there is none.
    pub fn bytes_per_s(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.rate_bytes_per_s.load(Ordering::Relaxed))
    }

    /// Reserves `bytes` and tells how many nanoseconds the caller must wait before it sends them.
    ///
    /// `now_ns` is any clock that does not run backwards and is the same for all callers, for
    /// example nanoseconds since the relocation began. A reservation cannot be given back. A transfer
    /// larger than the burst goes at once when the limit is idle, and those after it pay for it.
    pub fn reserve(&self, bytes: u64, now_ns: u64) -> u64 {
        let Some(rate_bytes_per_s) = self.bytes_per_s() else {
            return 0;
        };
        // Rounded up, so that no sequence of small reservations is faster than the limit.
        let cost_ns = (u128::from(bytes) * NS_PER_S).div_ceil(u128::from(rate_bytes_per_s.get()));
        let cost_ns = u64::try_from(cost_ns).unwrap_or(u64::MAX);
        // Relaxed is enough: the number guards no other memory, and one atomic has one order.
        let mut next_free_ns = self.next_free_ns.load(Ordering::Relaxed);
        loop {
            let start_ns = next_free_ns.max(now_ns.saturating_sub(BURST_NS));
            let after_ns = start_ns.saturating_add(cost_ns);
            match self.next_free_ns.compare_exchange_weak(
                next_free_ns,
                after_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return start_ns.saturating_sub(now_ns),
                Err(found) => next_free_ns = found,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const S_NS: u64 = 1_000_000_000;

    fn limit(bytes_per_s: u64) -> RateLimit {
        RateLimit::new(NonZeroU64::new(bytes_per_s).unwrap())
    }

    #[test]
    fn a_sender_that_waits_as_told_runs_at_the_rate() {
        let limit = limit(100 * MIB);
        let mut now_ns = 5 * S_NS;
        let begin_ns = now_ns;
        for _ in 0..1000 {
            now_ns += limit.reserve(MIB, now_ns);
        }
        let rate_bytes_per_s = 1000.0 * MIB as f64 / ((now_ns - begin_ns) as f64 / S_NS as f64);
        let wanted = 100.0 * MIB as f64;
        assert!((rate_bytes_per_s / wanted - 1.0).abs() < 0.01, "{rate_bytes_per_s}");
    }

    #[test]
    fn all_queues_together_keep_the_rate() {
        let limit = limit(16 * MIB);
        // Sixteen queues in virtual time: the one whose clock is the earliest goes next.
        let mut clocks_ns = [S_NS; 16];
        let mut sent_bytes = 0;
        while let Some(clock_ns) = clocks_ns.iter_mut().min().filter(|clock| **clock < 11 * S_NS) {
            *clock_ns += limit.reserve(256 << 10, *clock_ns) + 1000;
            sent_bytes += 256 << 10;
        }
        let allowed = 10 * 16 * MIB;
        assert!(
            (allowed * 98 / 100..allowed * 102 / 100 + 16 * 256 * 1024).contains(&sent_bytes),
            "{sent_bytes}"
        );
    }

    #[test]
    fn idle_time_gives_no_more_than_one_burst() {
        let limit = limit(1000 * MIB);
        assert_eq!(limit.reserve(MIB, 0), 0);
        // After 100 s of silence, 10 ms worth (10 MiB) goes at once; the eleventh MiB still starts
        // at the present, the twelfth waits for it.
        let now_ns = 100 * S_NS;
        let waits: Vec<u64> = (0..12).map(|_| limit.reserve(MIB, now_ns)).collect();
        assert!(waits[..11].iter().all(|&wait_ns| wait_ns == 0), "{waits:?}");
        assert_eq!(waits[11], 1_000_000);
    }

    #[test]
    fn no_limit_never_waits_and_a_limit_can_be_set_later() {
        let limit = RateLimit::unlimited();
        assert_eq!(limit.reserve(u64::MAX, 7), 0);
        limit.set(NonZeroU64::new(MIB));
        assert_eq!(limit.reserve(MIB, S_NS), 0);
        assert_eq!(limit.reserve(MIB, S_NS), S_NS - BURST_NS);
        limit.set(None);
        assert_eq!(limit.reserve(MIB, S_NS), 0);
    }

    #[test]
    fn extreme_numbers_saturate() {
        let limit = limit(1);
        assert_eq!(limit.reserve(u64::MAX, 0), 0);
        assert_eq!(limit.reserve(1, 0), u64::MAX);
        assert_eq!(limit.reserve(0, u64::MAX), 0);
    }

    #[test]
    fn many_threads_reserve_every_byte_once() {
        let limit = limit(1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| _ = limit.reserve(1, 0)));
            }
        });
        // 4000 bytes at 1000 per second: the next one waits 4 s.
        assert_eq!(limit.reserve(1, 0), 4 * S_NS);
    }
}
