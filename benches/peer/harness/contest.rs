//! One scenario from beginning to end: QEMU's best setting, then everybody in turns, then the claims.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lgr::results::metrics::{BLACKOUT, QUIESCE};
use lgr::results::statistics::median;
use lgr::results::{Contestant, Method, PictureKind, RunShape, Sample, ScenarioResult, git_revision};
use lgr_engine::report::{Environment, Report};

use super::figures::{MOVE, RATE, explained, of_lgr, of_qemu};
use super::line::fit;
use super::qemu::{Guest, Outcome, Qemu, Setting};
use super::scenario::{Kind, Scenario};
use super::search::{RUN_BEFORE, Search, Space};
use super::warm::WarmMemory;
use super::{child, claims, lgr_runs};

/// Rounds without which there is no interval worth the name.
const RUNS_MIN: u32 = 3;
/// Share of a scenario's time in which QEMU's settings are searched.
const SEARCH_SHARE: f64 = 0.4;
/// How long the guest's pace is watched before anybody moves it.
const WATCH_PACE: Duration = Duration::from_millis(500);
/// A guest that dirties so much less than it means to has too slow a machine below it.
const PACE_MIN_RATIO: f64 = 0.9;

/// Moves by which QEMU's rate is brought to the link's, and how near it is to come: one part in so many.
const HOLD_TRIES: u32 = 4;
const HELD_PARTS: u64 = 100;

/// How much time a scenario has, and how many runs it is to make of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) runs: u32,
    pub(crate) time: Duration,
}

/// Somebody taking turns.
struct Runner<'a> {
    contestant: Contestant,
    kind: &'a Kind,
    setting: Option<Setting>,
    /// Of the runs that count, for the pictures of the one in the middle.
    reports: Vec<(u32, Report)>,
}

/// Measures a scenario. `tell` is told what is going on.
pub(crate) fn measure(
    scenario: &Scenario,
    qemu: &Qemu,
    allowance: Allowance,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<ScenarioResult> {
    let began = Instant::now();
    let mut notes = Vec::new();
    let mut guest = match scenario.needs_qemu() {
        true => Some(boot(scenario, qemu, &mut notes)?),
        false => None,
    };
    let mut runners = runners(scenario, qemu);
    if let Some(guest) = &mut guest {
        let until = began + allowance.time.mul_f64(SEARCH_SHARE);
        search(scenario, &mut runners, guest, until, tell)?;
    }
    let wanted = allowance.runs.min(scenario.runs_max);
    let rounds_began = Instant::now();
    for round in 0..wanted {
        // Another round like those before would take longer than there is.
        let average = rounds_began.elapsed() / round.max(1);
        if round >= RUNS_MIN && began.elapsed() + average > allowance.time {
            notes.push(format!("{round} rounds in place of {wanted}: the time was up"));
            break;
        }
        take_turns(scenario, &mut runners, guest.as_mut(), round)?;
        tell(&format!("{}: round {} of {wanted}", scenario.name, round + 1));
    }
    drop(guest);
    fit_lines(&mut runners);
    Ok(conclude(scenario, runners, notes))
}

/// The guest for QEMU, with its memory filled, and its pace checked.
fn boot(scenario: &Scenario, qemu: &Qemu, notes: &mut Vec<String>) -> anyhow::Result<Guest> {
    let load = &scenario.load;
    let content = load.ready_made()?;
    let path = content.as_ref().map(|content| content.path());
    let mut guest = Guest::boot(qemu.program.clone(), load.parameters(), &Setting::START, path)?;
    if load.dirty_bytes_per_s > 0.0 {
        let rate = guest.quiet_dirtied_bytes_per_s(WATCH_PACE)?;
        let meant = load.dirty_bytes_per_s;
        anyhow::ensure!(
            rate >= meant * PACE_MIN_RATIO,
            "QEMU's guest dirties {:.0} MB/s unmoved, {:.0} were asked for: this machine is too slow or busy",
            rate / 1e6,
            meant / 1e6
        );
        notes.push(format!("QEMU's guest dirties {:.0} MB/s unmoved, of {:.0}", rate / 1e6, meant / 1e6));
    }
    Ok(guest)
}

fn runners<'a>(scenario: &'a Scenario, qemu: &Qemu) -> Vec<Runner<'a>> {
    let ours = concat!("lgr ", env!("CARGO_PKG_VERSION"));
    let runner = |name: &str, kind: &'a Kind| {
        let (version, words) = match kind {
            Kind::Lgr(own) => (ours, lgr_runs::options(&scenario.load, own)),
            Kind::Qemu(_) => (qemu.version.as_str(), Vec::new()),
            Kind::Link(medium) => (ours, vec!["bench".into(), "link".into(), (*medium).to_owned()]),
            Kind::Copy | Kind::Harvest => (ours, vec!["bench".into(), "memory".into()]),
            Kind::Line(_) => ("from the other contestants' samples", Vec::new()),
        };
        let contestant = Contestant::new(name, version, words);
        Runner { contestant, kind, setting: None, reports: Vec::new() }
    };
    scenario.contenders.iter().map(|contender| runner(contender.name, &contender.kind)).collect()
}

/// Finds the setting that each QEMU runs with, and keeps what was tried.
fn search(
    scenario: &Scenario,
    runners: &mut [Runner<'_>],
    guest: &mut Guest,
    until: Instant,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let spaces = |runner: &Runner<'_>| match runner.kind {
        Kind::Qemu(space) if !space.stages.is_empty() => 1,
        _ => 0,
    };
    let mut left: u32 = runners.iter().map(spaces).sum();
    let patience = Duration::from_secs(scenario.load.patience_s);
    for runner in runners {
        let Kind::Qemu(space) = runner.kind else { continue };
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / left.max(1);
        left = left.saturating_sub(u32::from(!space.stages.is_empty()));
        choose(scenario.name, runner, space, guest, (patience, now + share), tell)?;
    }
    Ok(())
}

fn choose(
    scenario: &str,
    runner: &mut Runner<'_>,
    space: &Space,
    guest: &mut Guest,
    (patience, until): (Duration, Instant),
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let trials = Search::run(guest, space, patience, until)?;
    let chosen = held_to_link(guest, trials[0].setting, patience)?;
    tell(&format!("{scenario}: {} runs with {}", runner.contestant.name, chosen.describe()));
    let settings = &mut runner.contestant.settings;
    settings.insert("chosen".to_owned(), chosen.describe());
    for (place, trial) in trials.iter().enumerate().filter(|_| !space.stages.is_empty()) {
        settings.insert(format!("search-{:02}", place + 1), trial.describe());
    }
    runner.setting = Some(chosen);
    Ok(())
}

/// QEMU sends an eighth more per second than its `max-bandwidth`. It is told less, so that it sends as much as the link
/// carries; or told the link's rate, if it cannot even send that.
fn held_to_link(guest: &mut Guest, setting: Setting, patience: Duration) -> anyhow::Result<Setting> {
    let Some(link) = setting.bandwidth_bytes_per_s else { return Ok(setting) };
    let mut held = setting;
    for _ in 0..HOLD_TRIES {
        child::check()?;
        let Outcome::Moved(migration) = guest.migrate(&held, RUN_BEFORE, patience)? else { break };
        let sent = migration.wire_bytes * 1e3 / migration.total_ms.max(1.0);
        let told = held.bandwidth_bytes_per_s.unwrap_or(link);
        let better = told_to_send(link, told, sent);
        if better.abs_diff(told) * HELD_PARTS <= told {
            break;
        }
        held.bandwidth_bytes_per_s = Some(better);
    }
    Ok(held)
}

/// What to tell somebody who sent `sent` bytes per second when told to keep to `told`, so that he sends `link`.
fn told_to_send(link: u64, told: u64, sent: f64) -> u64 {
    ((told as f64 * link as f64 / sent.max(1.0)) as u64).min(link)
}

/// One run of everybody; in every other round in reverse, so that being first is nobody's advantage.
fn take_turns(
    scenario: &Scenario,
    runners: &mut [Runner<'_>],
    mut guest: Option<&mut Guest>,
    round: u32,
) -> anyhow::Result<()> {
    let count = runners.len();
    for turn in 0..count {
        child::check()?;
        let place = if round.is_multiple_of(2) { turn } else { count - 1 - turn };
        let run = round * count as u32 + turn as u32 + 1;
        let runner = &mut runners[place];
        let figures = match (runner.kind, guest.as_deref_mut()) {
            (Kind::Line(_), _) => continue,
            (Kind::Qemu(_), Some(guest)) => run_qemu(scenario, runner.setting, guest),
            (kind, _) => run_lgr(scenario, kind, run, &mut runner.reports),
        };
        child::check()?;
        let sample = match figures {
            Ok(figures) => Sample::new(run, false, figures),
            Err(error) => Sample::failed(run, false, &format!("{error:#}")),
        };
        runner.contestant.samples.push(sample);
    }
    Ok(())
}

type Figures = BTreeMap<String, f64>;

fn run_qemu(scenario: &Scenario, setting: Option<Setting>, guest: &mut Guest) -> anyhow::Result<Figures> {
    let setting = setting.unwrap_or(Setting::START);
    let patience = Duration::from_secs(scenario.load.patience_s);
    // The source's memory is of the kind that was chosen, too.
    if guest.memory() != setting.memory {
        guest.migrate(&setting, RUN_BEFORE, patience)?;
    }
    drop(warm(scenario)?);
    let outcome: Outcome = guest.migrate(&setting, RUN_BEFORE, patience)?;
    Ok(of_qemu(&outcome, &scenario.load))
}

/// Memory for the destination, where it is to be fresh and is not to be the machine's, but the kernel's to make ready.
fn warm(scenario: &Scenario) -> anyhow::Result<Option<WarmMemory>> {
    scenario.warms.then(|| WarmMemory::for_guest(scenario.load.touched_bytes)).transpose()
}

fn run_lgr(
    scenario: &Scenario,
    kind: &Kind,
    run: u32,
    reports: &mut Vec<(u32, Report)>,
) -> anyhow::Result<Figures> {
    let rate = |rate: f64| BTreeMap::from([(RATE.to_owned(), rate)]);
    match kind {
        Kind::Link(medium) => lgr_runs::link_bytes_per_s(medium).map(rate),
        Kind::Copy => lgr_runs::copy_bytes_per_s().map(rate),
        Kind::Harvest => lgr_runs::harvest_bytes_per_s().map(rate),
        Kind::Lgr(own) => {
            let report = lgr_runs::relocate(&lgr_runs::options(&scenario.load, own), warm(scenario)?)?;
            let figures = of_lgr(&report, &scenario.load);
            reports.push((run, report));
            Ok(figures)
        }
        Kind::Qemu(_) | Kind::Line(_) => anyhow::bail!("{kind:?} is not lgr's to run"),
    }
}

/// Lines through medians of the rounds, each without another round: what is claimed is how the time grows, not that no
/// single run is disturbed, and how far the lines lie apart says what a round more or less would change.
fn fit_lines(runners: &mut [Runner<'_>]) {
    for place in 0..runners.len() {
        let Kind::Line(points) = runners[place].kind else { continue };
        let times = |name: &str| {
            let runner = runners.iter().find(|runner| runner.contestant.name == name);
            runner.map(|runner| runner.contestant.values(MOVE)).unwrap_or_default()
        };
        let series: Vec<(f64, Vec<f64>)> = points.iter().map(|(gib, name)| (*gib, times(name))).collect();
        let rounds = series.iter().map(|(_, times)| times.len()).min().unwrap_or(0);
        let fits: Vec<_> = (0..rounds).map(|round| fit(&medians_without(&series, round, rounds))).collect();
        let contestant = &mut runners[place].contestant;
        for (fit, run) in fits.into_iter().zip(1..) {
            contestant.settings.insert(format!("without-round-{run:02}"), fit.describe());
            contestant.samples.push(Sample::new(run, false, fit.figures()));
        }
    }
}

/// The median of each of `series` over `rounds` rounds but one; a single round is not left out.
fn medians_without(series: &[(f64, Vec<f64>)], round: usize, rounds: usize) -> Vec<(f64, f64)> {
    let median_of = |times: &[f64]| {
        let kept = times.iter().take(rounds).enumerate().filter(|(at, _)| rounds == 1 || *at != round);
        median(&kept.map(|(_, ms)| *ms).collect::<Vec<_>>())
    };
    series.iter().filter_map(|(gib, times)| Some((*gib, median_of(times)?))).collect()
}

fn conclude(scenario: &Scenario, runners: Vec<Runner<'_>>, notes: Vec<String>) -> ScenarioResult {
    let runs = runners.iter().map(|runner| runner.contestant.samples.len()).max().unwrap_or(0);
    let contestants = runners.into_iter().map(|mut runner| {
        runner.contestant.middle_run = middle_run(&runner, scenario.main);
        runner.contestant
    });
    let mut pictures = vec![PictureKind::Samples, PictureKind::Limits];
    if [BLACKOUT, QUIESCE].contains(&scenario.main) {
        pictures.extend([PictureKind::Blackout, PictureKind::Passes, PictureKind::Quiesce]);
    }
    let mut result = ScenarioResult {
        schema_version: lgr::results::SCHEMA_VERSION,
        scenario: scenario.name.to_owned(),
        what: scenario.what.to_owned(),
        group: "peer".to_owned(),
        command: format!("cargo bench -p lgr --bench peer -- --scenario {}", scenario.name),
        environment: Environment { git_revision: git_revision().map(str::to_owned), ..Environment::probe() },
        method: Method::interleaved(0, u32::try_from(runs).unwrap_or(u32::MAX)),
        metrics: explained(),
        main_metric: scenario.main.to_owned(),
        contestants: contestants.collect(),
        comparisons: Vec::new(),
        pictures,
        notes,
    };
    result.summarize();
    claims::decide(&mut result, &scenario.claims);
    result
}

/// The run whose main metric is in the middle of those that went well.
fn middle_run(runner: &Runner<'_>, metric: &str) -> Option<RunShape> {
    let value = |run: u32| {
        let sample = runner.contestant.samples.iter().find(|sample| sample.run == run);
        sample.and_then(|sample| sample.metrics.get(metric).copied()).unwrap_or(f64::INFINITY)
    };
    let mut reports: Vec<&(u32, Report)> = runner.reports.iter().collect();
    reports.sort_by(|a, b| value(a.0).total_cmp(&value(b.0)));
    let (run, report) = reports.get(reports.len().saturating_sub(1) / 2)?;
    Some(RunShape::of(*run, report))
}
