//! Our side: the `lgr` that was built with this benchmark.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use lgr_engine::report::{Report, RunsOn};
use rustix::process::Signal;
use serde_json::Value;

use super::child::{self, Child};
use super::scenario::Load;
use super::warm::WarmMemory;

/// Longest a run may take, filling and checking memory included.
const RUN_WITHIN: Duration = Duration::from_secs(300);
/// Bytes that `lgr bench link` sends, and rounds.
const LINK_SIZE: &str = "4G";

/// Options of the relocation, without the file the report goes to.
pub(crate) fn options(load: &Load, own: &[String]) -> Vec<String> {
    let mut words = vec!["relocate".to_owned()];
    words.extend(load.lgr_options());
    // A contender may touch less than the load does.
    if let Some(at) = words.iter().position(|word| word == "--touched" && own.contains(word)) {
        words.drain(at..at + 2);
    }
    words.extend(["--run-before", "0.2", "--run-after", "0.1", "--progress", "none"].map(str::to_owned));
    words.extend_from_slice(own);
    words
}

/// What `lgr` says when the guest has its memory and is about to be moved.
const FILLED: &str = "guest runs on the source";

/// Relocates once; `warm` memory is given back when the source has all of its own. A guest whose memory is not whole
/// afterwards is an error.
pub(crate) fn relocate(options: &[String], warm: Option<WarmMemory>) -> anyhow::Result<Report> {
    let dir = tempfile::Builder::new().prefix("lgr-peer-").tempdir()?;
    let file = dir.path().join("report.json");
    let mut words = options.to_vec();
    words.extend(["--json".to_owned(), file.display().to_string()]);
    if warm.is_some() {
        words.extend(["--progress".to_owned(), "plain".to_owned()]);
    }
    let said = run(&words, dir.path(), warm)?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("lgr left no report: {said}"))?;
    let report = Report::from_json(&text)?;
    ensure!(report.verified == Some(true), "the guest's memory is not whole: {}", report.finish.reason);
    ensure!(report.runs_on != RunsOn::Unknown, "{}", report.finish.reason);
    Ok(report)
}

/// Raw bytes per second through a medium: of the ways that `lgr bench link` knows, the fastest.
pub(crate) fn link_bytes_per_s(medium: &str) -> anyhow::Result<f64> {
    let words = ["bench", "link", "--medium", medium, "--size", LINK_SIZE, "--rounds", "2", "--json"];
    let answer = bench(&words)?;
    let rates = lines(&answer, "lines").filter_map(|line| line["median_bytes_per_s"].as_f64());
    rates.max_by(f64::total_cmp).context("lgr bench link measured nothing")
}

/// Bytes per second of a streaming copy by as many threads as there are processors.
pub(crate) fn copy_bytes_per_s() -> anyhow::Result<f64> {
    let answer = bench(&["bench", "memory", "--size", "1G", "--seconds", "1", "--json"])?;
    let copies = lines(&answer, "rates").filter(|line| line["what"] == "streaming copy");
    let widest = copies.max_by_key(|line| line["threads"].as_u64());
    widest.and_then(|line| line["median_bytes_per_s"].as_f64()).context("lgr bench memory copied nothing")
}

/// Bytes of memory per second in which the dirty pages are found, when every fourth page is dirty.
pub(crate) fn harvest_bytes_per_s() -> anyhow::Result<f64> {
    let answer = bench(&["bench", "memory", "--size", "1G", "--seconds", "1", "--json"])?;
    let rates = lines(&answer, "harvest").filter_map(|line| line["median_bytes_per_s"].as_f64());
    rates.min_by(f64::total_cmp).context("lgr bench memory harvested nothing")
}

fn lines<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    answer[key].as_array().into_iter().flatten()
}

fn bench(words: &[&str]) -> anyhow::Result<Value> {
    let dir = tempfile::Builder::new().prefix("lgr-peer-").tempdir()?;
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let said = run(&words, dir.path(), None)?;
    serde_json::from_str(&said).with_context(|| format!("lgr {}: {said}", words.join(" ")))
}

/// Runs `lgr`, and gives what it said.
fn run(words: &[String], dir: &Path, warm: Option<WarmMemory>) -> anyhow::Result<String> {
    let path = dir.join("out");
    let out = std::fs::File::create(&path)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_lgr"));
    command.args(words).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    // A signal it can catch: it ends its members and puts its directories away.
    let mut child = Child::start(&mut command, Signal::TERM)?;
    if let Some(warm) = warm {
        while !std::fs::read_to_string(&path)?.contains(FILLED) && child.ended()?.is_none() {
            child::check()?;
            std::thread::sleep(child::LOOK_AGAIN);
        }
        drop(warm);
    }
    child.wait(RUN_WITHIN)?;
    Ok(std::fs::read_to_string(path)?)
}
