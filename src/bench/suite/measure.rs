//! Runs of one scenario: warm-up, then all contenders in turns, and what comes out of each.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use isfc::ficon::{Layout, Simulation};
use isfc::write_rule;
use lgr::results::metrics::{self, BLACKOUT, PASSES, QUIESCE, RELOCATIONS, TOTAL};
use lgr::results::{RunShape, Sample, statistics};
use lgr_engine::driver::Cancel;
use lgr_engine::event::Silent;
use lgr_engine::report::{Report, RunsOn};

use super::plan::Contender;
use crate::launcher::relocate_once;
use crate::relocate::{check_memory, is_whole};

/// One run of a contender.
pub(super) struct Run {
    pub(super) sample: Sample,
    pub(super) shape: Option<RunShape>,
}

/// Runs a contender once. `None` when it was cancelled meanwhile.
pub(super) fn run_once(contender: &Contender, number: u32, warm_up: bool, cancel: &Cancel) -> Option<Run> {
    if cancel.is_requested() {
        return None;
    }
    let outcome = match contender.crowd {
        None => one(contender, cancel).map(|report| {
            let mut found = metrics::of_report(&report);
            found.extend(paced_share(contender, &report));
            found.extend(of_ideal(contender, &report));
            (found, Some(RunShape::of(number, &report)))
        }),
        Some((guests, at_once)) => many(contender, guests, at_once, cancel).map(|found| (found, None)),
    };
    if cancel.is_requested() {
        return None;
    }
    Some(match outcome {
        Ok((metrics, shape)) => Run { sample: Sample::new(number, warm_up, metrics), shape },
        Err(reason) => Run { sample: Sample::failed(number, warm_up, &reason), shape: None },
    })
}

/// One relocation that moved its guest whole; else the reason in one line.
fn one(contender: &Contender, cancel: &Cancel) -> Result<Report, String> {
    let moved = || {
        check_memory(&contender.args, 2)?;
        relocate_once(&contender.args, &contender.words, cancel, &Silent)
    };
    let report = moved().map_err(|error: anyhow::Error| format!("{error:#}"))?;
    if report.runs_on != RunsOn::Destination {
        return Err(format!("not moved: {}", report.finish.reason));
    }
    if !is_whole(&report) {
        return Err(format!("not whole: {}", report.finish.reason));
    }
    Ok(report)
}

/// Many relocations of guests of their own, so many at once: how many per second, and the median of each.
fn many(
    contender: &Contender,
    guests: u32,
    at_once: u32,
    cancel: &Cancel,
) -> Result<BTreeMap<String, f64>, String> {
    let (next, outcomes) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(guests) {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < guests && !cancel.is_requested() {
                    let outcome = one(contender, cancel);
                    outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(outcome);
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let reports: Vec<Report> = outcomes.into_iter().collect::<Result<_, _>>()?;
    let each: Vec<BTreeMap<String, f64>> = reports.iter().map(metrics::of_report).collect();
    let middle = |metric: &str| {
        let values: Vec<f64> = each.iter().filter_map(|found| found.get(metric).copied()).collect();
        Some((metric.to_owned(), statistics::median(&values)?))
    };
    let mut found: BTreeMap<String, f64> =
        [TOTAL, QUIESCE, BLACKOUT, PASSES].into_iter().filter_map(middle).collect();
    found.insert(RELOCATIONS.to_owned(), reports.len() as f64 / seconds);
    Ok(found)
}

/// What a paced link carried in the first pass over what the model of its channels says, if it was paced. The passes
/// after it are short, and would be measured more by their barriers than by the channels.
fn paced_share(contender: &Contender, report: &Report) -> Option<(String, f64)> {
    let model = modelled_bytes_per_s(contender.args.pace?);
    let first = report.passes.first()?;
    Some((super::PACED.to_owned(), first.wire_bytes as f64 * 1e3 / first.ms / model))
}

/// How long the move took over what its bytes take on the slow link it went over, if it did.
fn of_ideal(contender: &Contender, report: &Report) -> Option<(String, f64)> {
    let ideal_ms = report.bytes_wire? as f64 * 1e3 / contender.args.slow_link?.get() as f64;
    Some((super::OF_IDEAL.to_owned(), report.total_ms? / ideal_ms))
}

/// What the channels carry in virtual time when one side writes all the time.
fn modelled_bytes_per_s(layout: Layout) -> f64 {
    let mut simulation = Simulation::new(layout, false);
    simulation.run(2_000_000_000);
    simulation.bytes_per_s(write_rule::Side::Lesser)
}
