//! `lgr simulate cluster`: looks for a seed that breaks an invariant of the cluster.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::Serialize;
use ssi::sim::{Simulation, Tally};

use crate::progress::{complain, print};
use crate::signals;

/// Seeds between two looks at the clock.
const BATCH: u64 = 64;
/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Options of `lgr simulate cluster`.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// So many seeds
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    seeds: u64,

    /// The first of them
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    first: u64,

    /// Run this seed alone and show everything that happens in it
    #[arg(long, conflicts_with_all = ["seeds", "first", "json"], value_name = "SEED")]
    replay: Option<u64>,

    /// JSON in place of text
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Outcome {
    first: u64,
    seeds: u64,
    events: u64,
    joins: u64,
    granted: u64,
    refused: u64,
    fenced: u64,
    declared: u64,
    isolated: u64,
    broken: Vec<Broken>,
    seconds: f64,
}

#[derive(Serialize)]
struct Broken {
    seed: u64,
    what: String,
}

impl Outcome {
    fn add(&mut self, tally: &Tally) {
        self.seeds += 1;
        self.events += tally.events;
        self.joins += tally.joins;
        self.granted += tally.granted;
        self.refused += tally.refused;
        self.fenced += tally.fenced;
        self.declared += tally.declared;
        self.isolated += tally.isolated;
    }
}

/// Runs the subcommand.
pub(crate) fn run(args: &ClusterArgs) -> anyhow::Result<ExitCode> {
    if let Some(seed) = args.replay {
        return Ok(replay(seed));
    }
    let outcome = search(args)?;
    if args.json {
        print(&(serde_json::to_string_pretty(&outcome)? + "\n"));
    } else {
        print(&text(&outcome));
    }
    let whole = outcome.broken.is_empty() && outcome.seeds == args.seeds;
    Ok(ExitCode::from(u8::from(!whole)))
}

fn replay(seed: u64) -> ExitCode {
    let (outcome, log) = Simulation::run_logged(seed);
    print(&(log.join("\n") + "\n"));
    match outcome {
        Ok(tally) => {
            print(&format!("seed {seed}: nothing broke in {} events\n", tally.events));
            ExitCode::SUCCESS
        }
        Err(violation) => {
            print(&format!("seed {seed}: {violation}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Runs all seeds, or those until Ctrl-C.
fn search(args: &ClusterArgs) -> anyhow::Result<Outcome> {
    let cancel = signals::cancel_on_ctrl_c()?;
    let (began, mut told) = (Instant::now(), Instant::now());
    let outcome = Mutex::new(Outcome { first: args.first, ..Outcome::default() });
    let lock = || outcome.lock().expect("no thread panics while it holds the outcome");
    let mut next = args.first;
    let end = args.first.saturating_add(args.seeds);
    while next < end && !cancel.is_requested() {
        let batch_end = end.min(next.saturating_add(BATCH));
        (next..batch_end).into_par_iter().for_each(|seed| match Simulation::run(seed) {
            Ok(tally) => lock().add(&tally),
            Err(violation) => {
                complain(&format!("seed {seed}: {violation}"));
                let mut outcome = lock();
                outcome.seeds += 1;
                outcome.broken.push(Broken { seed, what: violation.to_string() });
            }
        });
        next = batch_end;
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let outcome = lock();
            complain(&format!("{} of {} seeds, {} broken", outcome.seeds, args.seeds, outcome.broken.len()));
        }
    }
    let mut outcome = outcome.into_inner().expect("no thread panics while it holds the outcome");
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.broken.sort_by_key(|broken| broken.seed);
    Ok(outcome)
}

fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for broken in &outcome.broken {
        text += &format!(
            "seed {}: {}\n  replay: lgr simulate cluster --replay {}\n",
            broken.seed, broken.what, broken.seed
        );
    }
    text + &format!(
        "{} seeds from {} in {:.1} s: {} events, {} joins, {} members isolated, {} declared down, \
         {} stopped themselves, {} logons granted, {} refused; {}\n",
        outcome.seeds,
        outcome.first,
        outcome.seconds,
        outcome.events,
        outcome.joins,
        outcome.isolated,
        outcome.declared,
        outcome.fenced,
        outcome.granted,
        outcome.refused,
        if outcome.broken.is_empty() {
            "no invariant broke".to_owned()
        } else {
            format!("{} seeds broke an invariant", outcome.broken.len())
        }
    )
}
