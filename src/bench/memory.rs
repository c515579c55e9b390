//! `lgr bench memory`: how fast this machine copies, looks at and harvests memory. No relocation here can be faster.
//!
//! All memory is touched before the clock runs. Every round measures everything once, one after the other, so that a
//! disturbance from outside meets all of them alike; the table shows the median and the best round.

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use guest_mem::{
    MemoryAvailable, MemoryNeed, PageNumber, PickedTracker, Runs, STORAGE_BYTES_MAX, Storage, StorageOptions,
    TrackerChoice, check_fits, hash_pages, pick_tracker,
};
use lgr_engine::report::Environment;
use rayon::prelude::*;
use serde::Serialize;

use super::region::{CHUNK_BYTES, Memory};
use super::{GIB, Rounds, cores, pool, whole_chunks};
use crate::progress::print;
use crate::table::Table;
use crate::units::{parse_bytes, size};

const ROUNDS_MIN: usize = 3;
/// Fresh memory per round of first touch, in bytes: it has to be made and given back every time.
const FRESH_BYTES_MAX: u64 = 256 << 20;
/// Every how manieth page is dirty when the harvest is measured.
const DIRTY_STEP_PAGES: u64 = 4;

/// Options of `lgr bench memory`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Memory to measure on; three times as much is taken.
    #[arg(long, default_value = "1G", value_parser = parse_bytes)]
    size: u64,
    /// How long to measure, at least three rounds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

/// What is done to each chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Copy,
    StreamingCopy,
    ZeroScan,
    CopyZeroHash,
    Hash,
}

impl Work {
    const ALL: [Self; 5] = [Self::Copy, Self::StreamingCopy, Self::ZeroScan, Self::CopyZeroHash, Self::Hash];

    fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::StreamingCopy => "streaming copy",
            Self::ZeroScan => "zero scan of zero pages",
            Self::CopyZeroHash => "copy + zero test + hash",
            Self::Hash => "hash (xxh3 per page)",
        }
    }
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    threads: usize,
    median_bytes_per_s: f64,
    best_bytes_per_s: f64,
    median_ms_per_gib: f64,
    best_ms_per_gib: f64,
    #[serde(flatten)]
    rounds: Rounds,
}

impl Line {
    fn new(what: &'static str, threads: usize, rounds: Rounds) -> Self {
        let ms_per_gib = |seconds: f64| seconds * 1e3 * GIB / rounds.bytes as f64;
        Self {
            what,
            threads,
            median_bytes_per_s: rounds.median_bytes_per_s(),
            best_bytes_per_s: rounds.best_bytes_per_s(),
            median_ms_per_gib: ms_per_gib(rounds.median_s()),
            best_ms_per_gib: ms_per_gib(rounds.best_s()),
            rounds,
        }
    }
}

#[derive(Debug, Serialize)]
struct Findings {
    environment: Environment,
    size_bytes: u64,
    chunk_bytes: usize,
    tracker: String,
    tracker_fallback_reason: Option<String>,
    rounds: usize,
    rates: Vec<Line>,
    harvest: Vec<Line>,
    first_touch: Vec<Line>,
}

/// Measures and prints.
///
/// # Errors
/// Memory that does not fit, or a tracker that reports wrong pages.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let bytes = whole_chunks(args.size) * CHUNK_BYTES as u64;
    anyhow::ensure!(bytes <= STORAGE_BYTES_MAX, "--size {}: at most 1T can be measured", size(args.size));
    let need = MemoryNeed {
        source_touched_bytes: bytes.saturating_mul(2),
        destination_touched_bytes: bytes,
        overhead_bytes: FRESH_BYTES_MAX,
    };
    check_fits(&need, &MemoryAvailable::read()?).context("bench memory takes three times --size")?;
    let findings = measure(bytes, Duration::from_secs(args.seconds))?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&findings)?));
    } else {
        print(&text(&findings));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(bytes: u64, budget: Duration) -> anyhow::Result<Findings> {
    let (source, target, zeroes) = (Memory::create(bytes)?, Memory::create(bytes)?, Memory::create(bytes)?);
    source.fill(1);
    let mut harvest = Harvest::start(zeroes.storage())?;
    let mut threads = vec![1, cores()];
    threads.dedup();
    let pools = threads.iter().map(|&threads| pool(threads)).collect::<anyhow::Result<Vec<_>>>()?;
    let plan: Vec<_> =
        Work::ALL.into_iter().flat_map(|work| (0..pools.len()).map(move |pool| (work, pool))).collect();
    let mut rounds = vec![Rounds::of(bytes); plan.len()];
    let mut started = None;
    loop {
        // The first round is warming up and is not kept.
        let keep = started.is_some();
        let started = *started.get_or_insert_with(Instant::now);
        for ((work, pool), rounds) in plan.iter().zip(&mut rounds) {
            let seconds = one_round(*work, &pools[*pool], &source, &target, &zeroes)?;
            rounds.seconds.extend(keep.then_some(seconds));
        }
        harvest.round(keep)?;
        if rounds[0].seconds.len() >= ROUNDS_MIN && started.elapsed() >= budget {
            break;
        }
    }
    let count = rounds[0].seconds.len();
    let line =
        |((work, pool), rounds): ((Work, usize), Rounds)| Line::new(work.name(), threads[pool], rounds);
    let rates = plan.into_iter().zip(rounds).map(line).collect();
    drop((source, target));
    let fresh = bytes.min(FRESH_BYTES_MAX);
    let first_touch =
        threads.iter().map(|&threads| first_touch(fresh, threads)).collect::<anyhow::Result<_>>()?;
    Ok(Findings {
        environment: Environment::probe(),
        size_bytes: bytes,
        chunk_bytes: CHUNK_BYTES,
        tracker: harvest.picked.tracker.kind().to_string(),
        tracker_fallback_reason: harvest.picked.fallback_reason.take(),
        rounds: count,
        rates,
        harvest: vec![
            Line::new("harvest, nothing dirty", 1, harvest.clean),
            Line::new("harvest, every 4th page dirty", 1, harvest.dirty),
        ],
        first_touch,
    })
}

thread_local! {
    /// The private buffer and answers of a thread, as each device of a link has its own.
    static STAGING: RefCell<(Vec<u8>, Vec<guest_mem::PageContent>, Vec<u64>)> = RefCell::default();
}

fn one_round(
    work: Work,
    pool: &rayon::ThreadPool,
    source: &Memory,
    target: &Memory,
    zeroes: &Memory,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    let zero_pages: u64 = pool.install(|| {
        let chunks = (0..source.chunks()).into_par_iter();
        let counts = chunks.map(|chunk| match work {
            Work::Copy => {
                source.copy(target, chunk);
                0
            }
            Work::StreamingCopy => {
                source.copy_streaming(target, chunk);
                0
            }
            Work::ZeroScan => u64::from(zeroes.zero_pages(chunk)),
            Work::CopyZeroHash => STAGING.with_borrow_mut(|(private, contents, _)| {
                private.resize(CHUNK_BYTES, 0);
                source.copy_zero_hash(chunk, private, contents);
                contents.iter().filter(|content| content.zero).count() as u64
            }),
            Work::Hash => STAGING.with_borrow_mut(|(_, _, hashes)| {
                // SAFETY: nobody writes the source while rounds run.
                hash_pages(unsafe { source.bytes(chunk) }, hashes);
                0
            }),
        });
        counts.sum()
    });
    let seconds = started.elapsed().as_secs_f64();
    let expected = if work == Work::ZeroScan { zeroes.storage().pages().get() } else { 0 };
    if zero_pages != expected {
        bail!("{}: {zero_pages} zero pages found, {expected} expected", work.name());
    }
    Ok(seconds)
}

/// Harvests of a storage that stays all zero: its pages are dirtied by writing zeroes to them.
struct Harvest {
    picked: PickedTracker,
    storage: std::sync::Arc<Storage>,
    found: Runs,
    clean: Rounds,
    dirty: Rounds,
}

impl Harvest {
    fn start(storage: &std::sync::Arc<Storage>) -> anyhow::Result<Self> {
        let mut picked = pick_tracker(storage, TrackerChoice::Auto)?;
        picked.tracker.start()?;
        let rounds = Rounds::of(storage.len_bytes());
        Ok(Self {
            picked,
            storage: storage.clone(),
            found: Runs::new(),
            clean: rounds.clone(),
            dirty: rounds,
        })
    }

    fn round(&mut self, keep: bool) -> anyhow::Result<()> {
        self.timed(0)?;
        let clean_s = self.timed(0)?;
        let pages = self.storage.pages().get();
        for page in (0..pages).step_by(DIRTY_STEP_PAGES as usize) {
            self.storage.write_bytes(PageNumber(page), 0, &[0]);
            if let Some(bitmap) = &self.picked.bitmap {
                bitmap.mark(PageNumber(page));
            }
        }
        let dirty_s = self.timed(pages.div_ceil(DIRTY_STEP_PAGES))?;
        if keep {
            self.clean.seconds.push(clean_s);
            self.dirty.seconds.push(dirty_s);
        }
        Ok(())
    }

    fn timed(&mut self, expected: u64) -> anyhow::Result<f64> {
        let started = Instant::now();
        let stats = self.picked.tracker.harvest(&mut self.found)?;
        let seconds = started.elapsed().as_secs_f64();
        let pages = stats.pages.get();
        // More may be reported than was written (swapped or split pages), never less.
        anyhow::ensure!(
            pages >= expected,
            "the tracker reported {pages} dirty pages, {expected} were written"
        );
        Ok(seconds)
    }
}

/// Memory that nobody had before: the kernel has to find and clear each page.
fn first_touch(bytes: u64, threads: usize) -> anyhow::Result<Line> {
    let mut rounds = Rounds::of(bytes);
    for _ in 0..ROUNDS_MIN {
        let storage = Storage::create(&StorageOptions::small(bytes))?;
        let whole = Runs::from_run(storage.whole());
        let started = Instant::now();
        storage.prefault(&whole, threads, &|_| ())?;
        rounds.seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(Line::new("first touch of fresh memory", threads, rounds))
}

fn text(findings: &Findings) -> String {
    let headings = ["", "threads", "median", "best", "median", "best"];
    let mut table = Table::new(&headings, &[1, 2, 3, 4, 5]);
    table.row(["", "", "GB/s", "GB/s", "ms/GiB", "ms/GiB"]);
    let lines = findings.rates.iter().chain(&findings.first_touch).map(|line| (line, true));
    for (line, has_rate) in lines.chain(findings.harvest.iter().map(|line| (line, false))) {
        let rate =
            |bytes_per_s: f64| if has_rate { format!("{:.2}", bytes_per_s / 1e9) } else { String::new() };
        table.row([
            line.what.to_owned(),
            line.threads.to_string(),
            rate(line.median_bytes_per_s),
            rate(line.best_bytes_per_s),
            format!("{:.2}", line.median_ms_per_gib),
            format!("{:.2}", line.best_ms_per_gib),
        ]);
    }
    let environment = &findings.environment;
    let reason =
        findings.tracker_fallback_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!(
        "{}, {} cores, Linux {}\n{} of 4 KiB pages, all touched; {} rounds; GB/s is 1e9 bytes moved or read once per \
         second\n\n{table}\nharvest by tracker {}{reason}\n",
        environment.cpu_model,
        environment.cores,
        environment.kernel,
        size(findings.size_bytes),
        findings.rounds,
        findings.tracker
    )
}
