//! `lgr bench compare`: what differs between two results, and whether it is noise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lgr::compare::{Change, Difference, Differences, compare};
use lgr::results::metrics::Unit;
use lgr::results::{FolderError, ScenarioResult, read, read_folder};

use crate::progress::print;
use crate::table::Table;

/// Options of `lgr bench compare`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A result, or a folder of results
    #[arg(value_name = "A")]
    before: PathBuf,
    /// What it is compared with: of the same kind
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Show what is noise, too
    #[arg(long)]
    all: bool,
    /// Print JSON in place of the table
    #[arg(long)]
    json: bool,
}

/// Reads, compares, prints.
///
/// # Errors
/// A file cannot be read or is no result; it and the line are named.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let differences = compare(&results_at(&args.before)?, &results_at(&args.after)?);
    print(&if args.json {
        serde_json::to_string_pretty(&differences)? + "\n"
    } else {
        text(&differences, args.all)
    });
    Ok(ExitCode::SUCCESS)
}

fn results_at(path: &Path) -> Result<Vec<ScenarioResult>, FolderError> {
    if path.is_dir() { read_folder(path) } else { read(path).map(|result| vec![result]) }
}

fn text(differences: &Differences, all: bool) -> String {
    let headings = ["scenario", "contestant", "metric", "A", "B", "B / A", "interval", "p", ""];
    let mut table = Table::new(&headings, &[3, 4, 5, 6, 7]);
    let shown: Vec<&Difference> =
        differences.lines.iter().filter(|line| all || line.change != Change::Noise).collect();
    for line in &shown {
        table.row(cells(line));
    }
    let mut text =
        differences.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<String>();
    if !shown.is_empty() {
        text += &format!("{table}\n");
    }
    text += &closing(differences);
    if !differences.unmatched.is_empty() {
        text += &format!("not compared: {}\n", differences.unmatched.join(", "));
    }
    text
}

fn cells(line: &Difference) -> [String; 9] {
    let unit = line.meaning.unit;
    let ratio = |value: Option<f64>| value.map_or("-".to_owned(), |value| Unit::Ratio.show(value));
    let ends = line.ratio.and_then(|ratio| ratio.low.zip(ratio.high));
    [
        line.scenario.clone(),
        line.contestant.clone(),
        line.metric.clone(),
        unit.show(line.before.median.value),
        unit.show(line.after.median.value),
        ratio(line.ratio.map(|ratio| ratio.value)),
        ends.map_or("-".to_owned(), |(low, high)| format!("{} .. {}", ratio(Some(low)), ratio(Some(high)))),
        format!("{:.3}", line.p_value),
        line.change.to_string(),
    ]
}

/// How many differ, and by which test.
fn closing(differences: &Differences) -> String {
    let count = |change| differences.lines.iter().filter(|line| line.change == change).count();
    let few = count(Change::TooFewSamples);
    let tested = differences.lines.len() - few;
    let mut text = format!(
        "{tested} metrics tested: {} better, {} worse, {} different, {} noise (Mann-Whitney, p < {}; about {:.1} would \
         look changed by chance)\n",
        count(Change::Better),
        count(Change::Worse),
        count(Change::Different),
        count(Change::Noise),
        differences.level,
        differences.expected_by_chance
    );
    if few > 0 {
        text += &format!("{few} metrics have too few samples to tell: five on each side are the least\n");
    }
    text
}
