//! The time stamp counter, which paces the guest: QEMU's emulated one counts as fast as the machine's.

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant};

/// Long enough to be right within a thousandth.
const MEASURE_FOR: Duration = Duration::from_millis(200);

/// Counts per second.
pub(crate) fn hz() -> f64 {
    let (began, first) = (Instant::now(), read());
    std::thread::sleep(MEASURE_FOR);
    let counts = read().wrapping_sub(first);
    counts as f64 / began.elapsed().as_secs_f64()
}

fn read() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe { _rdtsc() }
}
