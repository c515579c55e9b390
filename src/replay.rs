//! `lgr replay FILE`: what a relocation of the recorded guest would do, in virtual time.

use std::io::BufReader;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use lgr_engine::replay::{Model, replay};
use lgr_engine::report::table;
use lgr_engine::trace::Trace;
use serde::Serialize;

use crate::options::{StopArgs, seconds};
use crate::progress::print;
use crate::units::{parse_rate, size};

/// Options of `lgr replay`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct ReplayArgs {
    /// The trace, as `lgr record` writes it
    #[arg(value_name = "FILE")]
    #[serde(skip)]
    file: PathBuf,

    /// Guest memory that the link carries per second
    #[arg(long, default_value = "1G", value_parser = parse_rate, value_name = "SIZE")]
    rate: NonZeroU64,

    /// What stopping the guest costs besides the pages
    #[arg(long, default_value_t = 0.003, value_parser = cost, value_name = "SECONDS")]
    fixed_cost: f64,

    #[command(flatten)]
    #[serde(flatten)]
    stop: StopArgs,

    /// JSON in place of a table: a report, with `engine` modelled
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

fn cost(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { seconds(text) }
}

/// Runs the subcommand: 0 if the guest would have moved.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let file = std::fs::File::open(&args.file).with_context(|| format!("cannot read {shown}"))?;
    let trace = Trace::read(BufReader::with_capacity(1 << 20, file)).with_context(|| shown.to_string())?;
    let model = Model { rate_bytes_per_s: args.rate, fixed_cost: Duration::from_secs_f64(args.fixed_cost) };
    let mut report = replay(&trace, &model, args.stop.limits(), args.stop.policy.build());
    report.options = serde_json::from_value(serde_json::to_value(args)?).context("options as JSON")?;
    if args.json {
        print(&report.to_json_pretty());
    } else {
        print(&(told(&trace, args) + &table::render(&report)));
    }
    let moved = report.runs_on == lgr_engine::report::RunsOn::Destination;
    Ok(ExitCode::from(u8::from(!moved)))
}

/// What the table does not know.
fn told(trace: &Trace, args: &ReplayArgs) -> String {
    let header = trace.header();
    format!(
        "trace     {}: {:.2} s, {} samples, one each {:.1} ms\nmodel     {}/s, {:.2} ms to stop with nothing to send\n",
        if header.description.is_empty() { "of an unknown guest" } else { &header.description },
        trace.duration().as_secs_f64(),
        trace.samples().len(),
        header.every.as_secs_f64() * 1e3,
        size(args.rate.get()),
        args.fixed_cost * 1e3
    )
}
