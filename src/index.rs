//! The page over all results of a machine, in Markdown: tables and pictures, with relative links.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::pictures;
use crate::results::metrics::{BLACKOUT, CPU, QUIESCE, THROUGHPUT, TOTAL, TRANSFER, TRANSFER_RATE};
use crate::results::{Contestant, FolderError, PictureKind, ScenarioResult, Unit, read_folder_for_page};

/// The name of the page in a machine's folder.
pub const FILE_NAME: &str = "README.md";

/// Where the document on the method is, seen from a machine's folder in `bench-results`.
const METHOD: &str = "../../docs/benchmarks.md";

/// Metrics that have a column where they were measured, besides the main one.
const COLUMNS: [(&str, &str); 7] = [
    (TOTAL, "time"),
    (THROUGHPUT, "rate"),
    (TRANSFER, "from the first pass"),
    (TRANSFER_RATE, "rate from there"),
    (QUIESCE, "stopped"),
    (BLACKOUT, "blackout"),
    (CPU, "processor"),
];

/// Writes the page over all results that are in the folder. It names those that another version of this program wrote.
///
/// # Errors
/// The folder cannot be read or holds something else, or the page cannot be written.
pub fn write(dir: &Path) -> Result<(), FolderError> {
    let (results, left_out) = read_folder_for_page(dir)?;
    let machine = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Results may lie anywhere; a link that leads nowhere helps nobody.
    let method = dir.join(METHOD).exists().then_some(METHOD);
    let mut page = markdown(&machine, &results, method);
    for path in left_out.iter().filter_map(|path| path.file_name()) {
        let name = path.to_string_lossy();
        let _ = write!(page, "\nNot shown, as another version of lgr wrote it: [{0}]({0}).\n", plain(&name));
    }
    crate::results::put(&dir.join(FILE_NAME), &page)
}

/// The page; `method` is where the document on the method is, seen from the page.
pub fn markdown(machine: &str, results: &[ScenarioResult], method: Option<&str>) -> String {
    let mut page = format!("# Results on {}\n\n", plain(machine));
    page += "Every number is a median of the runs that count; in brackets is the interval it lies in. Each file of JSON \
             holds every run, the command lines, and the machine.";
    page += &method.map_or("\n\n".to_owned(), |path| format!(" [How it is measured]({path}).\n\n"));
    let mut groups: BTreeMap<&str, Vec<&ScenarioResult>> = BTreeMap::new();
    let mut order = Vec::new();
    for result in results {
        let group = groups.entry(&result.group).or_default();
        if group.is_empty() {
            order.push(result.group.as_str());
        }
        group.push(result);
    }
    page += &overview(&order, &groups);
    for group in order {
        let _ = write!(page, "\n## {}\n", capital(group));
        for result in &groups[group] {
            page += &section(result);
        }
    }
    page
}

/// A line for each scenario: its best contestant.
fn overview(order: &[&str], groups: &BTreeMap<&str, Vec<&ScenarioResult>>) -> String {
    let mut table = "| Scenario | What | Runs each | Measured |\n|---|---|--:|---|\n".to_owned();
    for result in order.iter().flat_map(|group| &groups[group]) {
        let _ = writeln!(
            table,
            "| [{0}](#{0}) | {1} | {2} | {3} |",
            result.scenario,
            plain(&result.what),
            result.method.runs,
            day(result.environment.date_unix_s)
        );
    }
    table
}

fn section(result: &ScenarioResult) -> String {
    let environment = &result.environment;
    let mut text = format!("\n### {}\n\n{}\n\n", result.scenario, plain(&result.what));
    text += &contestants(result);
    text += &comparisons(result);
    text += &images(result);
    for note in &result.notes {
        let _ = writeln!(text, "- {}", plain(note));
    }
    if !result.notes.is_empty() {
        text.push('\n');
    }
    let turns = if result.method.interleaved { "in turns" } else { "one after the other" };
    let _ = writeln!(
        text,
        "Made again by `{}`: {} runs of each that count after {} to warm up, {turns}, over {}. {}, {} cores, Linux {}, \
         lgr {}{}. [JSON]({}.json)",
        result.command.replace('`', "'"),
        result.method.runs,
        result.method.warm_up_runs,
        plain(&result.method.network),
        plain(&environment.cpu_model),
        environment.cores,
        plain(&environment.kernel),
        plain(&environment.lgr_version),
        environment
            .git_revision
            .as_ref()
            .map(|revision| format!(" ({})", plain(revision)))
            .unwrap_or_default(),
        result.scenario
    );
    text
}

fn contestants(result: &ScenarioResult) -> String {
    let measured =
        |metric: &str| result.contestants.iter().any(|contestant| contestant.summary.contains_key(metric));
    let main = (result.main_metric.as_str(), "");
    let columns: Vec<(&str, &str)> = std::iter::once(main)
        .chain(COLUMNS.into_iter().filter(|(metric, _)| *metric != result.main_metric))
        .filter(|(metric, _)| measured(metric))
        .collect();
    let mut table = "| |".to_owned();
    for (metric, name) in &columns {
        let long = result.metrics.get(*metric).map_or("", |metric| metric.what.as_str());
        let _ = write!(table, " {} |", plain(if name.is_empty() { long } else { name }));
    }
    table += " runs |\n|---|";
    table += &"--:|".repeat(columns.len() + 1);
    table.push('\n');
    for contestant in &result.contestants {
        let _ = write!(table, "| {} |", plain(&contestant.name));
        for (number, (metric, _)) in columns.iter().enumerate() {
            let _ = write!(table, " {} |", cell(result, contestant, metric, number == 0));
        }
        let _ = writeln!(table, " {} |", runs(contestant));
    }
    table.push('\n');
    table
}

/// The median, with its interval if that is wanted.
fn cell(result: &ScenarioResult, contestant: &Contestant, metric: &str, with_interval: bool) -> String {
    let Some(summary) = contestant.summary.get(metric) else { return "-".to_owned() };
    let unit = result.metrics.get(metric).map_or(Unit::Count, |metric| metric.unit);
    let shown = unit.show(summary.median.value);
    match (summary.median.low, summary.median.high) {
        (Some(low), Some(high)) if with_interval => {
            format!("**{shown}** ({} to {})", unit.show(low), unit.show(high))
        }
        _ if with_interval => format!("**{shown}**"),
        _ => shown,
    }
}

/// How many count, and how many failed.
fn runs(contestant: &Contestant) -> String {
    let counted = contestant.samples.iter().filter(|sample| sample.counts()).count();
    let failed = contestant.samples.iter().filter(|sample| sample.failed.is_some()).count();
    if failed == 0 { counted.to_string() } else { format!("{counted}, {failed} failed") }
}

fn comparisons(result: &ScenarioResult) -> String {
    if result.comparisons.is_empty() {
        return String::new();
    }
    let mut table = "| Compared | Value | Interval | Asked | |\n|---|--:|--:|--:|---|\n".to_owned();
    for comparison in &result.comparisons {
        let unit = match comparison.reference {
            Some(_) => Unit::Ratio,
            None => result.metrics.get(&comparison.metric).map_or(Unit::Ratio, |metric| metric.unit),
        };
        let sign = if comparison.reference.is_some() { " ×" } else { "" };
        let interval = comparison.value.low.zip(comparison.value.high);
        let interval = interval
            .map_or("-".to_owned(), |(low, high)| format!("{} to {}", unit.show(low), unit.show(high)));
        let asked = comparison.limit.map_or("-".to_owned(), |limit| {
            format!("{} {}{sign}", pictures::asked(limit), unit.show(limit.bound()))
        });
        let verdict = comparison.verdict.map_or("", |verdict| verdict.name());
        let unsure = if comparison.clear == Some(false) { ", not clear" } else { "" };
        let _ = writeln!(
            table,
            "| {} | **{}{sign}** | {interval} | {asked} | {verdict}{unsure} |",
            plain(&comparison.name),
            unit.show(comparison.value.value)
        );
    }
    table.push('\n');
    table
}

/// The first picture in sight, the others to unfold.
fn images(result: &ScenarioResult) -> String {
    let drawn: Vec<PictureKind> = pictures::of_result(result).into_iter().map(|(kind, _)| kind).collect();
    let image = |kind: &PictureKind| {
        format!("![{}: {}]({})", result.scenario, kind.name(), pictures::file_name(&result.scenario, *kind))
    };
    let Some((first, others)) = drawn.split_first() else { return String::new() };
    let mut text = image(first) + "\n\n";
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|kind| kind.name()).collect();
        let _ = write!(text, "<details><summary>More pictures: {}</summary>\n\n", names.join(", "));
        for kind in others {
            text += &(image(kind) + "\n\n");
        }
        text += "</details>\n\n";
    }
    text
}

fn capital(text: &str) -> String {
    let mut letters = plain(text).chars().collect::<Vec<_>>();
    if let Some(first) = letters.first_mut() {
        *first = first.to_ascii_uppercase();
    }
    letters.into_iter().collect()
}

/// Text from a file, without what Markdown or HTML would take as its own.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .map(|letter| match letter {
            '|' => '/',
            '<' => '‹',
            '>' => '›',
            '`' => '\'',
            letter => letter,
        })
        .collect()
}

/// A day as `2026-11-25`, in UTC.
pub(crate) fn day(unix_s: u64) -> String {
    let seconds = i64::try_from(unix_s).unwrap_or(0);
    let Ok(time) = time::OffsetDateTime::from_unix_timestamp(seconds) else { return "-".to_owned() };
    format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
}
