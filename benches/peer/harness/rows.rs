//! What must be reached: every line of the table, and its parts in the table's words.

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    /// Each is decided by a claim of its own.
    pub(crate) parts: &'static [&'static str],
}

pub(crate) const BULK_TCP: &str = "bulk random 4 GiB, TCP, prefaulted";
pub(crate) const BULK_UNIX: &str = "the same, unix";
pub(crate) const BULK_SHM: &str = "the same, shm";
pub(crate) const FRESH: &str = "bulk into fresh memory";
pub(crate) const NEVER_TOUCHED: &str = "never-touched 16 GiB";
pub(crate) const SPARSE: &str = "64 GiB with 1 GiB touched";
pub(crate) const BLACKOUT: &str = "blackout, 500 MB/s over 256 MiB and over 1 GiB, TCP";
pub(crate) const NOT_CONVERGING: &str = "a load QEMU cannot converge (2 GB/s over 1 GiB, single stream)";
pub(crate) const CPU: &str = "CPU seconds per GiB, both sides";
pub(crate) const SLOWDOWN: &str = "guest slowdown during passes (ticks achieved / intended)";
pub(crate) const ZSTD: &str = "zstd at a paced 1 Gb/s, realistic content";
pub(crate) const QUEUES: &str = "1 → 16 queues";
pub(crate) const GROWTH: &str = "cost growth";
/// Not in the table of limits: a guest whose memory is all zero, but was written.
pub(crate) const ZERO: &str = "bulk zero 4 GiB, TCP, prefaulted (beyond the table)";

/// All lines, in order.
pub(crate) const ROWS: [Row; 14] = [
    Row { scenario: BULK_TCP, parts: &["≥ 1.25 × the best QEMU", "≥ 0.90 of `lgr bench link`"] },
    Row { scenario: BULK_UNIX, parts: &["≥ 1.3 × the best QEMU"] },
    Row { scenario: BULK_SHM, parts: &["≥ 4 × the best QEMU", "≥ 0.70 of two-thread streaming copy"] },
    Row { scenario: FRESH, parts: &["≥ 1.2 × the best QEMU"] },
    Row { scenario: NEVER_TOUCHED, parts: &["≥ 50 × QEMU"] },
    Row { scenario: SPARSE, parts: &["≥ 5 × QEMU"] },
    Row { scenario: BLACKOUT, parts: &["≤ 0.5 × QEMU's at its 20 ms limit", "and total time not longer"] },
    Row { scenario: NOT_CONVERGING, parts: &["ends by itself with a stated reason", "within MAXQUIESCE"] },
    Row { scenario: CPU, parts: &["≤ QEMU's"] },
    Row { scenario: SLOWDOWN, parts: &["≥ 0.9 at 500 MB/s"] },
    Row { scenario: ZSTD, parts: &["total time ≤ 0.8 × QEMU multifd-zstd"] },
    Row { scenario: QUEUES, parts: &["never slower with more queues than with fewer by over 10 %"] },
    Row {
        scenario: GROWTH,
        parts: &[
            "total time linear in touched bytes from 256 MiB to 8 GiB (fit shown)",
            "bookkeeping ≥ 100 GB/s logical",
        ],
    },
    Row { scenario: ZERO, parts: &["≥ 1 × the best QEMU"] },
];
