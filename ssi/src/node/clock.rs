//! The member's clock.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine booted, with the time it slept: what a member counts its silence with.
pub(crate) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
