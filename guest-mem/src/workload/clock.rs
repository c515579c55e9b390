//! One clock for both sides: `CLOCK_MONOTONIC`, and a mark that tells whether two readings may be compared.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Nanoseconds of `CLOCK_MONOTONIC`, which all processes of one boot and one time namespace share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// Where a clock reading was taken. Readings of equal domains can be subtracted from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockDomain {
    boot: u128,
    time_namespace: u64,
}

impl ClockDomain {
    /// This process's own; `None` if the kernel does not tell, and then nothing can be compared.
    pub(crate) fn current() -> Option<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot = u128::from_str_radix(&boot_id.trim().replace('-', ""), 16).ok()?;
        // A time namespace (time_namespaces(7)) may shift the clock; kernels before 5.6 have none.
        let time_namespace = fs::metadata("/proc/self/ns/time").map_or(0, |namespace| namespace.ino());
        Some(Self { boot, time_namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_on_and_the_domain_stays() {
        let before = now_ns();
        assert!(before > 0 && now_ns() >= before);
        assert!(ClockDomain::current().is_some());
        assert_eq!(ClockDomain::current(), ClockDomain::current());
    }
}
