//! Shows the suite while it runs: a bar, plain lines, or JSON lines for programs; and its summary at the end.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lgr::results::{Contestant, Sample, ScenarioResult};
use serde::Serialize;

use super::plan::Contender;
use crate::options::ProgressArg;
use crate::progress::{complain, print};
use crate::table::Table;

/// One JSON object per line on standard output.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Told<'a> {
    ScenarioBegins { scenario: &'a str, contestants: Vec<&'a str> },
    RunDone { scenario: &'a str, contestant: &'a str, done: u64, of: u64, sample: &'a Sample },
    ScenarioDone { scenario: &'a str, seconds: f64 },
    Finished { folder: &'a str, scenarios: Vec<&'a str> },
}

fn tell(told: &Told<'_>) {
    if let Ok(line) = serde_json::to_string(told) {
        print(&(line + "\n"));
    }
}

enum How {
    Bar(ProgressBar),
    Plain,
    Json,
    Nothing,
}

/// What is shown, and how far the suite is.
pub(super) struct Show {
    how: How,
    done: u64,
    total: u64,
    began: Instant,
}

impl Show {
    pub(super) fn new(how: ProgressArg, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let how = match how {
            ProgressArg::Auto if terminal => How::Bar(bar(total)),
            ProgressArg::Bar => How::Bar(bar(total)),
            ProgressArg::Auto | ProgressArg::Plain => How::Plain,
            ProgressArg::Json => How::Json,
            ProgressArg::None => How::Nothing,
        };
        Self { how, done: 0, total, began: Instant::now() }
    }

    pub(super) fn scenario_begins(&mut self, scenario: &str, contenders: &[Contender]) {
        self.began = Instant::now();
        if matches!(self.how, How::Json) {
            let contestants = contenders.iter().map(|one| one.name.as_str()).collect();
            tell(&Told::ScenarioBegins { scenario, contestants });
        }
    }

    pub(super) fn run_done(&mut self, scenario: &str, contestant: &str, sample: &Sample) {
        self.done += 1;
        let failure =
            sample.failed.as_ref().map(|reason| format!("{scenario}, {contestant}: failed: {reason}"));
        match &self.how {
            How::Bar(bar) => {
                bar.set_message(format!("{scenario}: {contestant}"));
                bar.set_position(self.done);
                if let Some(failure) = failure {
                    bar.suspend(|| complain(&failure));
                }
            }
            How::Plain => failure.iter().for_each(|failure| complain(failure)),
            How::Json => {
                let (done, of) = (self.done, self.total);
                tell(&Told::RunDone { scenario, contestant, done, of, sample });
            }
            How::Nothing => {}
        }
    }

    pub(super) fn scenario_done(&mut self, result: &ScenarioResult) {
        let seconds = self.began.elapsed().as_secs_f64();
        let (done, total) = (self.done, self.total);
        let line =
            || format!("{:20} {seconds:5.1} s, run {done} of {total}: {}", result.scenario, line_of(result));
        match &self.how {
            How::Bar(bar) => bar.suspend(|| complain(&line())),
            How::Plain => complain(&line()),
            How::Json => tell(&Told::ScenarioDone { scenario: &result.scenario, seconds }),
            How::Nothing => {}
        }
    }

    pub(super) fn end(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg:44} [{bar:28}] {pos:>4} of {len} runs, {eta} to go")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Each contestant's median of the main metric.
fn line_of(result: &ScenarioResult) -> String {
    let each = result.contestants.iter().map(|one| format!("{} {}", one.name, median_of(result, one)));
    each.collect::<Vec<_>>().join("; ")
}

fn median_of(result: &ScenarioResult, contestant: &Contestant) -> String {
    let summary = contestant.summary.get(&result.main_metric);
    let metric = result.metrics.get(&result.main_metric);
    summary.zip(metric).map_or("-".to_owned(), |(summary, metric)| metric.unit.show(summary.median.value))
}

/// The last line for a program.
pub(super) fn finished(folder: &Path, done: &[ScenarioResult]) {
    let scenarios = done.iter().map(|result| result.scenario.as_str()).collect();
    tell(&Told::Finished { folder: &folder.display().to_string(), scenarios });
}

/// A line for each contestant: median, interval, least and most of the main metric.
pub(super) fn summary(done: &[ScenarioResult]) -> String {
    let headings = ["scenario", "contestant", "runs", "median", "interval", "least", "most"];
    let mut table = Table::new(&headings, &[2, 3, 4, 5, 6]);
    for result in done {
        let Some(metric) = result.metrics.get(&result.main_metric) else { continue };
        let show = |value: f64| metric.unit.show(value);
        for contestant in &result.contestants {
            let mut row = vec![result.scenario.clone(), contestant.name.clone()];
            match contestant.summary.get(&result.main_metric) {
                Some(summary) => {
                    let interval = summary.median.low.zip(summary.median.high);
                    row.push(summary.count.to_string());
                    row.push(show(summary.median.value));
                    row.push(
                        interval
                            .map_or("-".to_owned(), |(low, high)| format!("{} .. {}", show(low), show(high))),
                    );
                    row.extend([show(summary.least), show(summary.most)]);
                }
                None => row.push("0".to_owned()),
            }
            table.row(row);
        }
    }
    table.to_string()
}
