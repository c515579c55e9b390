//! `peer.md`: the table with pass or fail for each line, from all results that are there.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use lgr::results::{Comparison, Contestant, ScenarioResult, Verdict, read_folder_for_page};

use super::claims::SEPARATOR;
use super::rows::ROWS;

const FILE_NAME: &str = "peer.md";

/// Writes the page of a machine's folder.
pub(crate) fn write(dir: &Path) -> anyhow::Result<String> {
    let (results, _) = read_folder_for_page(dir)?;
    let page = markdown(&results);
    let path = dir.join(FILE_NAME);
    std::fs::write(&path, &page).with_context(|| path.display().to_string())?;
    Ok(page)
}

/// The page.
pub(crate) fn markdown(results: &[ScenarioResult]) -> String {
    let results: Vec<_> = results.iter().filter(|result| result.group == "peer").collect();
    let mut page = "# lgr and QEMU, side by side\n\n".to_owned();
    if let Some(first) = results.first() {
        let at = &first.environment;
        let _ = writeln!(
            page,
            "{}, {} cores, Linux {}. Each number is the ratio of two medians of runs in turns, or the median itself; in brackets \
             is its interval. [How it is measured](../../benches/peer/README.md).\n",
            at.cpu_model, at.cores, at.kernel
        );
    }
    page += "| Scenario | Must reach | Reached | | Ours | Compared with |\n|---|---|---|---|---|---|\n";
    for row in ROWS {
        let lines = results.iter().flat_map(|result| {
            let of_row = |comparison: &&Comparison| row_of(comparison) == Some(row.scenario);
            result.comparisons.iter().filter(of_row).map(|comparison| line(result, comparison))
        });
        let lines: String = lines.collect();
        let missing = format!("| {} | {} | not measured | | | |\n", row.scenario, row.parts.join("; "));
        page += if lines.is_empty() { &missing } else { &lines };
    }
    page += "\n## How each ran\n";
    for result in results {
        page += &details(result);
    }
    page
}

fn row_of(comparison: &Comparison) -> Option<&str> {
    comparison.name.split_once(SEPARATOR).map(|(row, _)| row)
}

fn line(result: &ScenarioResult, comparison: &Comparison) -> String {
    let (row, must) = comparison.name.split_once(SEPARATOR).unwrap_or((&comparison.name, ""));
    let show = |value: f64| match (&comparison.reference, result.metrics.get(&comparison.metric)) {
        (None, Some(metric)) => metric.unit.show(value),
        _ => format!("{value:.2}"),
    };
    let value = &comparison.value;
    let mut reached = show(value.value);
    if let (Some(low), Some(high)) = (value.low, value.high) {
        let _ = write!(reached, " [{}, {}]", show(low), show(high));
    }
    let verdict = match comparison.verdict {
        Some(Verdict::Pass) => "pass",
        Some(Verdict::Fail) => "**fail**",
        None => "",
    };
    let median = |name: &str| {
        let summary = result.contestant(name)?.summary.get(&comparison.metric)?;
        let unit = result.metrics.get(&comparison.metric)?.unit;
        Some(format!("{name}: {}", unit.show(summary.median.value)))
    };
    let ours = median(&comparison.contestant).unwrap_or_default();
    let theirs = comparison.reference.as_deref().and_then(median).unwrap_or_default();
    let scenario = result.scenario.trim_start_matches("peer-");
    format!("| {row} | {must} ({scenario}) | {reached} | {verdict} | {ours} | {theirs} |\n")
}

/// A scenario's contestants, with the setting of each QEMU.
fn details(result: &ScenarioResult) -> String {
    let mut text = format!("\n### {}\n\n{}.\n\n", result.scenario, result.what);
    text += "| Contestant | Runs | Failed | Median | Setting |\n|---|--:|--:|---|---|\n";
    for contestant in &result.contestants {
        text += &detail(result, contestant);
    }
    for note in &result.notes {
        let _ = writeln!(text, "\nNote: {note}.");
    }
    text
}

fn detail(result: &ScenarioResult, contestant: &Contestant) -> String {
    let metric = contestant.summary.get(&result.main_metric).zip(result.metrics.get(&result.main_metric));
    let median = metric.map(|(summary, metric)| metric.unit.show(summary.median.value)).unwrap_or_default();
    let failed = contestant.samples.iter().filter(|sample| sample.failed.is_some()).count();
    let chosen = contestant.settings.get("chosen").or_else(|| contestant.settings.values().next_back());
    let setting = match chosen {
        Some(setting) => format!("{}; {setting}", contestant.version),
        None => format!("`{}`", contestant.command_line.join(" ")),
    };
    format!("| {} | {} | {failed} | {median} | {setting} |\n", contestant.name, contestant.samples.len())
}
