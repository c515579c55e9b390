//! `lgr report`: one relocation's report as a page of HTML.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use lgr::page;
use lgr_engine::report::Report;

use crate::output;
use crate::progress::{complain, print};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Options of `lgr report`.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// A report, as `lgr relocate --json FILE` writes it
    file: PathBuf,

    /// Which of several reports (`lgr relocate --runs`), from 1 [default: the one whose total time is in the middle]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    run: Option<u32>,

    /// Write the page there [default: beside the report, with the ending .html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let report = chosen(read(&args.file)?, args.run).with_context(|| args.file.display().to_string())?;
    let out = args.out.clone().unwrap_or_else(|| args.file.with_extension("html"));
    if out == args.file {
        complain("error: the page would take the place of the report: give --out another name");
        return Ok(ExitCode::from(2));
    }
    output::write(&out, &page::html(&report))?;
    print(&format!("{}\n", out.display()));
    Ok(ExitCode::SUCCESS)
}

/// One report or several.
fn read(path: &Path) -> anyhow::Result<Vec<Report>> {
    let name = || format!("cannot read {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(name)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(name)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("{} is larger than {FILE_BYTES_MAX} bytes: no report is", path.display());
    }
    let several = text.trim_start().starts_with('[');
    let reports = if several {
        Report::several_from_json(&text)
    } else {
        Report::from_json(&text).map(|one| vec![one])
    };
    reports.with_context(|| path.display().to_string())
}

fn chosen(mut reports: Vec<Report>, run: Option<u32>) -> anyhow::Result<Report> {
    let count = reports.len();
    let at = match run {
        Some(run) if run as usize <= count => run as usize - 1,
        Some(run) => bail!("there is no run {run}: it holds {count}"),
        None if count == 0 => bail!("it holds no report"),
        None => {
            let total_ms = |report: &Report| report.total_ms.unwrap_or(f64::INFINITY);
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|a, b| total_ms(&reports[*a]).total_cmp(&total_ms(&reports[*b])));
            order[(count - 1) / 2]
        }
    };
    Ok(reports.swap_remove(at))
}
