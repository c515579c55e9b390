//! `lgr bench`: the limits of this machine, relocations of many kinds, and what differs between two results.

mod compare;
mod link;
mod memory;
mod region;
mod suite;

use std::process::ExitCode;

use serde::Serialize;

use region::CHUNK_BYTES;

/// What to measure.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Streams raw bytes through a medium between two processes, with plain sockets and through a logical link.
    Link(link::Args),
    /// Measures copying, looking at and harvesting memory.
    Memory(memory::Args),
    /// Relocates guests of many kinds, some of everything in turns; writes results, pictures and an index.
    Suite(Box<suite::Args>),
    /// Says what differs between two results or folders of results, and whether it is noise.
    Compare(compare::Args),
}

/// Measures and prints.
///
/// # Errors
/// What could not be measured, and why.
pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Link(args) => link::run(args),
        Command::Memory(args) => memory::run(args),
        Command::Suite(args) => suite::run(args),
        Command::Compare(args) => compare::run(args),
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

/// Rounds of one measurement.
#[derive(Clone, Debug, Serialize)]
struct Rounds {
    /// Bytes that each round covered.
    bytes: u64,
    /// Seconds each round took, in order.
    seconds: Vec<f64>,
}

impl Rounds {
    fn of(bytes: u64) -> Self {
        Self { bytes, seconds: Vec::new() }
    }

    fn median_s(&self) -> f64 {
        median(&self.seconds)
    }

    fn best_s(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median_bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.median_s()
    }

    fn best_bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.best_s()
    }
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
fn median(values: &[f64]) -> f64 {
    lgr::results::statistics::median(values).unwrap_or(f64::NAN)
}

/// `bytes` in whole chunks, at least one.
fn whole_chunks(bytes: u64) -> u64 {
    (bytes / CHUNK_BYTES as u64).max(1)
}

/// Processors this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Threads that stay, so that a measurement does not begin with making them.
fn pool(threads: usize) -> anyhow::Result<rayon::ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("bench-{number}"))
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_care_for_order_or_one_wild_round() {
        assert!((median(&[3.0, 1.0, 900.0]) - 3.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn rates_come_from_bytes_per_round() {
        let rounds = Rounds { bytes: 100, seconds: vec![2.0, 1.0, 4.0] };
        assert!((rounds.median_bytes_per_s() - 50.0).abs() < 1e-9);
        assert!((rounds.best_bytes_per_s() - 100.0).abs() < 1e-9);
    }
}
