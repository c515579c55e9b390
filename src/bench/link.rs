//! `lgr bench link`: raw bytes from one process to another, without a guest: the limit of a medium.
//!
//! ```text
//!   sending process (child)                               receiving process
//!   filled memory ══ plain: N sockets, 2 N threads  ══▶   touched memory
//!                 ══ link on io_uring, N devices    ══▶   (the same)
//!                 ══ link on blocking threads       ══▶   (the same)
//!          ▲────────────── orders, answers ──────────────────┘
//! ```
//!
//! All ways stay connected while they take turns round by round, so that a disturbance from outside meets all of
//! them. A first round of each is not kept; a last one, not timed, checks every chunk.

mod order;
mod plain;
mod receiving;
mod sending;

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, bail};
use guest_mem::{MemoryAvailable, MemoryNeed, check_fits};
use isfc::Medium;
use lgr_engine::driver::Cancel;
use lgr_engine::report::Environment;
use serde::Serialize;

use self::order::Way;
use self::receiving::{Receiving, Round};
use super::region::CHUNK_BYTES;
use super::{GIB, Rounds, whole_chunks};
use crate::progress::print;
use crate::signals::cancel_on_ctrl_c;
use crate::table::Table;
use crate::units::{parse_bytes, size};

/// Memory on each side, in bytes: far more than any cache.
const REGION_BYTES_MAX: u64 = 1 << 30;
const REGION_BYTES_MIN: u64 = 64 << 20;
const OVERHEAD_BYTES: u64 = 128 << 20;

/// Options of `lgr bench link`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What carries the bytes: tcp, unix, shm or all.
    #[arg(long, default_value = "all")]
    medium: Media,
    /// Connections or devices, 1 to 16.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=16))]
    queues: u8,
    /// Bytes each way carries over each medium, in all rounds together.
    #[arg(long, default_value = "4G", value_parser = parse_bytes)]
    size: u64,
    /// Rounds to spread them over.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// What drives the devices of the links; auto measures both.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    engine: EngineChoice,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
    /// Be the sending process.
    #[arg(long, hide = true)]
    sending_side: bool,
}

/// The media to measure.
#[derive(Clone, Debug)]
struct Media(Vec<Medium>);

impl FromStr for Media {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(Medium::ALL.to_vec()));
        }
        let one = text.parse::<Medium>().map_err(|error| format!("{error}, or all"))?;
        Ok(Self(vec![one]))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum EngineChoice {
    Auto,
    #[value(name = "io_uring")]
    IoUring,
    Blocking,
}

impl EngineChoice {
    /// The ways to measure, plain first, and why one of them is left out.
    fn ways(self) -> anyhow::Result<(Vec<Way>, Option<String>)> {
        let (links, skipped) = match (self, isfc::probe_io_uring()) {
            (Self::Blocking, _) => (vec![Way::Blocking], None),
            (Self::IoUring, Ok(())) => (vec![Way::IoUring], None),
            (Self::Auto, Ok(())) => (vec![Way::IoUring, Way::Blocking], None),
            (Self::Auto, Err(reason)) => (vec![Way::Blocking], Some(format!("io_uring skipped: {reason}"))),
            (Self::IoUring, Err(reason)) => bail!("{reason}: use --engine blocking"),
        };
        Ok(([vec![Way::Plain], links].concat(), skipped))
    }
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    medium: Medium,
    way: Way,
    median_bytes_per_s: f64,
    best_bytes_per_s: f64,
    /// The round before the others, which fills memory once: page tables and congestion windows are new.
    first_bytes_per_s: f64,
    /// Median rate over that of plain sockets (shm: of the streaming copy).
    ratio_to_plain: f64,
    sender_cpu_s_per_gib: f64,
    receiver_cpu_s_per_gib: f64,
    /// Chunks whose bytes were checked in a round of their own; all of them were right.
    chunks_checked: u64,
    #[serde(flatten)]
    rounds: Rounds,
}

#[derive(Debug, Serialize)]
struct Findings {
    environment: Environment,
    network: &'static str,
    queues: u8,
    region_bytes: u64,
    chunk_bytes: usize,
    skipped: Option<String>,
    lines: Vec<Line>,
}

/// Measures and prints.
///
/// # Errors
/// What could not be connected or measured, or bytes that arrived wrong.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.sending_side {
        return sending::run();
    }
    // So that socket files are removed and the sending process ends in the usual way.
    let findings = measure(args, cancel_on_ctrl_c()?)?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&findings)?));
    } else {
        print(&text(&findings));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, cancel: Cancel) -> anyhow::Result<Findings> {
    let (ways, skipped) = args.engine.ways()?;
    let chunks = whole_chunks(args.size / args.rounds);
    let region_bytes =
        (whole_chunks(args.size) * CHUNK_BYTES as u64).clamp(REGION_BYTES_MIN, REGION_BYTES_MAX);
    let copies = u64::from(args.medium.0.contains(&Medium::Shm));
    let need = MemoryNeed {
        source_touched_bytes: region_bytes * (1 + copies),
        destination_touched_bytes: region_bytes,
        overhead_bytes: OVERHEAD_BYTES,
    };
    check_fits(&need, &MemoryAvailable::read()?)?;
    let mut receiving = Receiving::start(region_bytes, cancel)?;
    let mut lines = Vec::new();
    for &medium in &args.medium.0 {
        let found = one_medium(&mut receiving, medium, args, &ways, chunks);
        lines.extend(found.with_context(|| format!("medium {medium}"))?);
    }
    Ok(Findings {
        environment: Environment::probe(),
        network: "loopback",
        queues: args.queues,
        region_bytes,
        chunk_bytes: CHUNK_BYTES,
        skipped,
        lines,
    })
}

fn one_medium(
    receiving: &mut Receiving,
    medium: Medium,
    args: &Args,
    ways: &[Way],
    chunks: u64,
) -> anyhow::Result<Vec<Line>> {
    let dir = tempfile::tempdir().context("a directory for sockets")?;
    for &way in ways {
        receiving.connect(medium, way, args.queues, dir.path())?;
    }
    // Nobody connects any more, so nothing is left behind even if this process is killed.
    drop(dir);
    let mut tallies: Vec<_> = ways.iter().map(|&way| Tally::new(way, chunks)).collect();
    for tally in &mut tallies {
        let first = receiving.round(tally.way, receiving.chunks())?;
        tally.first_bytes_per_s = (receiving.chunks() * CHUNK_BYTES as u64) as f64 / first.seconds;
    }
    for _ in 0..args.rounds {
        for tally in &mut tallies {
            tally.add(receiving.round(tally.way, chunks)?);
        }
    }
    // Receivers of plain sockets take their next place ahead of time: twice the queues keep them out of each other's.
    let chunks_checked = chunks.min(receiving.chunks() - 2 * u64::from(args.queues));
    for tally in &tallies {
        receiving.checked_round(tally.way, chunks_checked)?;
    }
    receiving.disconnect()?;
    let plain = tallies[0].rounds.median_bytes_per_s();
    Ok(tallies.into_iter().map(|tally| tally.line(medium, plain, chunks_checked)).collect())
}

/// The rounds of one way so far.
struct Tally {
    way: Way,
    first_bytes_per_s: f64,
    rounds: Rounds,
    sender_cpu_s: f64,
    receiver_cpu_s: f64,
}

impl Tally {
    fn new(way: Way, chunks: u64) -> Self {
        let rounds = Rounds::of(chunks * CHUNK_BYTES as u64);
        Self { way, first_bytes_per_s: 0.0, rounds, sender_cpu_s: 0.0, receiver_cpu_s: 0.0 }
    }

    fn add(&mut self, round: Round) {
        self.rounds.seconds.push(round.seconds);
        self.sender_cpu_s += round.sender_cpu_s;
        self.receiver_cpu_s += round.receiver_cpu_s;
    }

    fn line(self, medium: Medium, plain_bytes_per_s: f64, chunks_checked: u64) -> Line {
        let gib = self.rounds.bytes as f64 * self.rounds.seconds.len() as f64 / GIB;
        Line {
            medium,
            way: self.way,
            median_bytes_per_s: self.rounds.median_bytes_per_s(),
            best_bytes_per_s: self.rounds.best_bytes_per_s(),
            first_bytes_per_s: self.first_bytes_per_s,
            ratio_to_plain: self.rounds.median_bytes_per_s() / plain_bytes_per_s,
            sender_cpu_s_per_gib: self.sender_cpu_s / gib,
            receiver_cpu_s_per_gib: self.receiver_cpu_s / gib,
            chunks_checked,
            rounds: self.rounds,
        }
    }
}

fn text(findings: &Findings) -> String {
    let headings = ["medium", "queues", "way", "median", "best", "first", "of plain", "send", "receive"];
    let mut table = Table::new(&headings, &[1, 3, 4, 5, 6, 7, 8]);
    table.row(["", "", "", "GB/s", "GB/s", "GB/s", "", "cpu s/GiB", "cpu s/GiB"]);
    for line in &findings.lines {
        table.row([
            line.medium.to_string(),
            findings.queues.to_string(),
            line.way.describe(line.medium).to_owned(),
            format!("{:.2}", line.median_bytes_per_s / 1e9),
            format!("{:.2}", line.best_bytes_per_s / 1e9),
            format!("{:.2}", line.first_bytes_per_s / 1e9),
            format!("{:.2}", line.ratio_to_plain),
            format!("{:.3}", line.sender_cpu_s_per_gib),
            format!("{:.3}", line.receiver_cpu_s_per_gib),
        ]);
    }
    let environment = &findings.environment;
    let skipped = findings.skipped.as_ref().map(|skipped| format!("\n{skipped}\n")).unwrap_or_default();
    format!(
        "{}, {} cores, Linux {}; two processes on loopback, chunks of {}, {} of touched memory each; GB/s is 1e9 bytes \
         per second\n\n{table}{skipped}",
        environment.cpu_model,
        environment.cores,
        environment.kernel,
        size(CHUNK_BYTES as u64),
        size(findings.region_bytes)
    )
}
