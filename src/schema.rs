//! `lgr schema`: what the JSON files hold.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use lgr::results::ScenarioResult;
use lgr_engine::report::Report;

use crate::progress::print;

/// Options of `lgr schema`.
#[derive(Args, Debug)]
pub(crate) struct SchemaArgs {
    /// Of what
    #[arg(default_value = "report")]
    of: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A relocation report: `lgr relocate --json`
    Report,
    /// A benchmark's result: `lgr bench suite`
    Result,
}

/// Runs the subcommand.
pub(crate) fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let schema = match args.of {
        Kind::Report => Report::json_schema(),
        Kind::Result => ScenarioResult::json_schema(),
    };
    print(&format!("{schema:#}\n"));
    Ok(ExitCode::SUCCESS)
}
