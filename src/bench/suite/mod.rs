//! `lgr bench suite`: named scenarios, each with everything it compares in turns; results as JSON, pictures and an index.
//!
//! ```text
//! scenarios (a table) ─▶ plan (words of `lgr relocate`) ─▶ measure (runs) ─▶ lgr::results ─▶ files
//!                                                                │
//!                                                                └─▶ show (progress)
//! ```
//!
//! Each run is what `lgr relocate` does with the same words: two processes of their own, a guest that is built, moved
//! and compared. A run whose guest did not arrive whole has failed and does not count.

mod measure;
mod plan;
mod scenarios;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use lgr::index;
use lgr::results::{
    self, Better, Contestant, Method, Metric, ScenarioResult, Unit, check_machine_name, metrics, statistics,
};
use lgr_engine::driver::Cancel;
use lgr_engine::report::Environment;
use lgr_engine::report::table::{size, time};

use self::measure::run_once;
use self::plan::{Contender, Effort, contenders};
use self::scenarios::{Depth, SCENARIOS, Scenario};
use self::show::Show;
use crate::options::ProgressArg;
use crate::progress::{complain, print};
use crate::signals::cancel_on_ctrl_c;
use crate::table::Table;

/// Bytes on the wire per second in the first pass, over what the model of the channels carries.
const PACED: &str = "of_model_ratio";
/// Time of the move over what its bytes take on the slow link.
const OF_IDEAL: &str = "of_ideal_ratio";
/// Runs of each contender before those that count.
const WARM_UP_RUNS: u32 = 1;

/// Options of `lgr bench suite`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Small guests and few runs: under three minutes on two cores [default]
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Large guests and ten runs: under half an hour on two cores
    #[arg(long)]
    full: bool,
    /// Only these scenarios or groups (--list shows them)
    #[arg(long, num_args = 1.., value_name = "NAME")]
    scenario: Vec<String>,
    /// Results go into a folder for this machine in here
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    out: PathBuf,
    /// Name of the machine's folder [default: its processor and how many cores it has]
    #[arg(long, value_parser = check_machine_name, value_name = "NAME")]
    machine: Option<String>,
    /// Runs of each contender that count, in place of the scenario's own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    runs: Option<u32>,
    /// Multiply sizes of memory by this (0.001 to 1), to see whether everything works; the figures mean nothing
    #[arg(long, default_value_t = 1.0, value_parser = scale, value_name = "FACTOR")]
    scale: f64,
    /// List the scenarios, and run none
    #[arg(long)]
    list: bool,
    /// How progress is shown
    #[arg(long, default_value = "auto", value_name = "HOW")]
    progress: ProgressArg,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.001..=1.0).contains(&value) => Ok(value),
        _ => Err("write a factor from 0.001 to 1".to_owned()),
    }
}

/// Measures, writes and prints.
///
/// # Errors
/// A result could not be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let effort = Effort {
        depth: if args.full { Depth::Full } else { Depth::Quick },
        runs: args.runs,
        scale: args.scale,
    };
    let chosen = match chosen(&args.scenario) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            complain(&format!(
                "error: no scenario or group is named '{unknown}': see lgr bench suite --list"
            ));
            return Ok(ExitCode::from(2));
        }
    };
    if args.list {
        print(&list(&chosen, &effort)?);
        return Ok(ExitCode::SUCCESS);
    }
    let wanted: Vec<&Scenario> = chosen.into_iter().filter(|one| effort.runs(one) > 0).collect();
    if wanted.is_empty() {
        complain("error: what you named is measured with --full only");
        return Ok(ExitCode::from(2));
    }
    let environment = Environment::probe();
    let machine = args.machine.clone().unwrap_or_else(|| results::machine_name(&environment));
    let dir = args.out.join(machine);
    // Found out before the first measurement, not after the last.
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let cancel = cancel_on_ctrl_c()?;
    let mut done = Vec::new();
    let mut show = Show::new(args.progress, total_runs(&wanted, &effort)?);
    for scenario in wanted.iter().copied() {
        let Some(result) = measure_scenario(scenario, &effort, &environment, &cancel, &mut show)? else {
            break;
        };
        results::write(&dir, &result)?;
        show.scenario_done(&result);
        done.push(result);
        if cancel.is_requested() {
            break;
        }
    }
    show.end();
    conclude(&dir, &done, wanted.len(), &cancel, args.progress)
}

/// The scenarios of these names and groups, or the name that is neither.
fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, &str> {
    let fits = |scenario: &Scenario, name: &str| scenario.name == name || scenario.group == name;
    if let Some(unknown) = names.iter().find(|name| !SCENARIOS.iter().any(|one| fits(one, name))) {
        return Err(unknown);
    }
    let wanted = |one: &&Scenario| names.is_empty() || names.iter().any(|name| fits(one, name));
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

fn list(chosen: &[&Scenario], effort: &Effort) -> anyhow::Result<String> {
    let mut table =
        Table::new(&["scenario", "group", "contenders", "runs each", "memory", "what"], &[2, 3, 4]);
    for scenario in chosen {
        let contenders = contenders(scenario, effort)?;
        let most = contenders.iter().map(|one| one.args.guest.touched_bytes()).max().unwrap_or(0);
        let runs = effort.runs(scenario);
        table.row([
            scenario.name.to_owned(),
            scenario.group.to_owned(),
            contenders.len().to_string(),
            if runs == 0 { "--full only".to_owned() } else { format!("{WARM_UP_RUNS}+{runs}") },
            size(most),
            scenario.what.to_owned(),
        ]);
    }
    Ok(table.to_string())
}

fn total_runs(scenarios: &[&Scenario], effort: &Effort) -> anyhow::Result<u64> {
    let runs = |one: &&Scenario| -> anyhow::Result<u64> {
        Ok(contenders(one, effort)?.len() as u64 * u64::from(effort.runs(one) + WARM_UP_RUNS))
    };
    scenarios.iter().map(runs).sum()
}

/// All runs of a scenario. `None` when it was interrupted before the first that counts.
fn measure_scenario(
    scenario: &Scenario,
    effort: &Effort,
    environment: &Environment,
    cancel: &Cancel,
    show: &mut Show,
) -> anyhow::Result<Option<ScenarioResult>> {
    let contenders = contenders(scenario, effort)?;
    let rounds = effort.runs(scenario) + WARM_UP_RUNS;
    let mut result = empty_result(scenario, effort, environment, &contenders);
    let mut shapes = vec![Vec::new(); contenders.len()];
    let mut number = 0;
    show.scenario_begins(scenario.name, &contenders);
    'rounds: for round in 0..rounds {
        for turn in 0..contenders.len() {
            // Who begins changes from round to round, so that nobody always follows the same neighbour.
            let whose = (turn + round as usize) % contenders.len();
            number += 1;
            let Some(run) = run_once(&contenders[whose], number, round < WARM_UP_RUNS, cancel) else {
                break 'rounds;
            };
            show.run_done(scenario.name, &contenders[whose].name, &run.sample);
            result.contestants[whose].samples.push(run.sample);
            shapes[whose].extend(run.shape);
        }
    }
    if result.contestants.iter().all(|one| one.samples.iter().all(|sample| sample.warm_up)) {
        return Ok(None);
    }
    for (contestant, shapes) in result.contestants.iter_mut().zip(shapes) {
        let middle = middle_run(contestant, scenario.main_metric);
        contestant.middle_run = shapes.into_iter().find(|shape| Some(shape.run) == middle);
    }
    finish(&mut result, scenario, &contenders, cancel);
    Ok(Some(result))
}

fn empty_result(
    scenario: &Scenario,
    effort: &Effort,
    environment: &Environment,
    contenders: &[Contender],
) -> ScenarioResult {
    let version = format!("lgr {}", env!("CARGO_PKG_VERSION"));
    let contestant = |one: &Contender| {
        let words = std::iter::once("lgr".to_owned()).chain(one.words.clone()).collect();
        let mut contestant = Contestant::new(&one.name, &version, words);
        if let Some((guests, at_once)) = one.crowd {
            contestant.settings.insert("guests".to_owned(), guests.to_string());
            contestant.settings.insert("at_once".to_owned(), at_once.to_string());
        }
        contestant
    };
    let depth = if effort.depth == Depth::Full { "--full" } else { "--quick" };
    let mut command = format!("lgr bench suite {depth} --scenario {}", scenario.name);
    if let Some(runs) = effort.runs {
        command += &format!(" --runs {runs}");
    }
    if effort.scale < 1.0 {
        command += &format!(" --scale {}", effort.scale);
    }
    let mut known = metrics::known();
    let what = "bytes per second in the first pass over what the model of the channels carries".to_owned();
    known.insert(PACED.to_owned(), Metric { what, unit: Unit::Ratio, better: Better::Higher });
    let what = "time of the move over what its bytes on the wire take at the link's rate".to_owned();
    known.insert(OF_IDEAL.to_owned(), Metric { what, unit: Unit::Ratio, better: Better::Lower });
    ScenarioResult {
        schema_version: results::SCHEMA_VERSION,
        scenario: scenario.name.to_owned(),
        what: scenario.what.to_owned(),
        group: scenario.group.to_owned(),
        command,
        environment: environment.clone(),
        method: Method::interleaved(WARM_UP_RUNS, effort.runs(scenario)),
        metrics: known,
        main_metric: scenario.main_metric.to_owned(),
        contestants: contenders.iter().map(contestant).collect(),
        comparisons: Vec::new(),
        pictures: scenario.pictures.to_vec(),
        notes: Vec::new(),
    }
}

/// The number of the run whose main metric is nearest to the median.
fn middle_run(contestant: &Contestant, metric: &str) -> Option<u32> {
    let median = statistics::median(&contestant.values(metric))?;
    let distance = |value: &f64| (value - median).abs();
    let counted = contestant.samples.iter().filter(|sample| sample.counts());
    let valued = counted.filter_map(|sample| Some((sample.run, *sample.metrics.get(metric)?)));
    valued.min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1))).map(|(run, _)| run)
}

/// What follows from the samples: metrics that came up, summaries, comparisons, notes.
fn finish(result: &mut ScenarioResult, scenario: &Scenario, contenders: &[Contender], cancel: &Cancel) {
    let contestants = &result.contestants;
    let measured = |metric: &String| {
        contestants.iter().flat_map(|one| &one.samples).any(|sample| sample.metrics.contains_key(metric))
    };
    result.metrics.retain(|metric, _| metric == scenario.main_metric || measured(metric));
    result.summarize();
    for check in scenario.checks {
        result.compare(check.name, check.metric, check.variant, check.reference, check.limit);
    }
    if scenario.name == "growth" {
        result.notes.extend(growth_note(result, contenders));
    }
    if cancel.is_requested() {
        result.notes.push("Interrupted: there are fewer runs than asked for.".to_owned());
    }
    let failed = result.contestants.iter().flat_map(|one| &one.samples).filter_map(|one| one.failed.as_ref());
    if let Some(reason) = failed.clone().next() {
        result
            .notes
            .push(format!("{} runs failed and do not count; the first because: {reason}", failed.count()));
    }
}

/// How total time follows from touched memory.
fn growth_note(result: &ScenarioResult, contenders: &[Contender]) -> Option<String> {
    let points: Vec<(f64, f64)> = contenders
        .iter()
        .zip(&result.contestants)
        .filter_map(|(contender, contestant)| {
            let total = contestant.summary.get(metrics::TOTAL)?;
            Some((contender.args.guest.touched_bytes() as f64, total.median.value))
        })
        .collect();
    let fit = statistics::line_through(&points)?;
    Some(format!(
        "A line through the medians: {} and {} more for each GiB; it explains {:.2} % of how they vary (R²).",
        time(fit.at_zero.max(0.0)),
        time(fit.slope * (1_u64 << 30) as f64),
        fit.r_squared * 100.0
    ))
}

/// The index, the summary, and how it ended.
fn conclude(
    dir: &Path,
    done: &[ScenarioResult],
    wanted: usize,
    cancel: &Cancel,
    progress: ProgressArg,
) -> anyhow::Result<ExitCode> {
    if !done.is_empty() {
        index::write(dir)?;
    }
    if progress == ProgressArg::Json {
        show::finished(dir, done);
    } else {
        print(&show::summary(done));
        if !done.is_empty() {
            print(&format!("\nwritten to {}\n", dir.join(index::FILE_NAME).display()));
        }
    }
    if cancel.is_requested() {
        bail!("interrupted; {} of {wanted} scenarios are written", done.len());
    }
    let failed = done.iter().flat_map(|result| &result.contestants).flat_map(|one| &one.samples);
    let failed = failed.filter(|sample| sample.failed.is_some()).count();
    if failed > 0 {
        bail!("{failed} runs failed; the results name them");
    }
    Ok(ExitCode::SUCCESS)
}
