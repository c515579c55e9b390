//! `lgr`: Live Guest Relocation on the command line.
//!
//! Parses, calls, prints. Exit codes: 0 it worked, 1 it did not (one line says why), 2 wrong usage.

mod bench;
mod cluster;
mod console;
mod cp;
mod cpfmtxa;
mod cpsyntax;
mod diagnostics;
mod directxa;
mod diskmap;
mod doctor;
mod flamegraph;
mod formssi;
mod launcher;
mod member;
mod options;
mod output;
mod owner;
mod pki;
mod progress;
mod receive;
mod record;
mod refusals;
mod relocate;
mod replay;
mod report;
mod schema;
mod security;
mod signals;
mod simulate;
mod summary;
mod table;
mod trace;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Live Guest Relocation: moves a running guest's memory between member processes.
#[derive(Parser)]
#[command(version = env!("LGR_VERSION"), arg_required_else_help = true, args_override_self = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Move a live guest between two members, and report
    Relocate(Box<relocate::RelocateArgs>),
    /// Wait for a guest, take it, run it and check it
    Receive(receive::ReceiveArgs),
    /// Draw one relocation's report as a page of HTML
    Report(report::ReportArgs),
    /// Record which pages a guest writes and when, without a relocation
    Record(record::RecordArgs),
    /// Ask what a relocation of a recorded guest would do, with any stop rule and link, in virtual time
    Replay(replay::ReplayArgs),
    /// Show what this machine offers a relocation, and what is used in place of what is missing
    Doctor(doctor::Args),
    /// Measure this machine: its limits, and relocations of many kinds; compare results
    #[command(subcommand)]
    Bench(bench::Command),
    /// Answer, in virtual time, what hardware that is not here would do
    #[command(subcommand)]
    Simulate(simulate::Command),
    /// Make a cluster's CA and its members' certificates, for links that leave the machine
    #[command(subcommand)]
    Pki(pki::Command),
    /// Say who runs a guest
    Owner(owner::OwnerArgs),
    /// Make a cluster of members, start it, and shut it down
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Run one member of a cluster in the foreground
    Member(member::Args),
    /// Have a member carry a CP command out
    Cp(cp::Args),
    /// Show what a member's operators are told, and give it commands
    Console(console::Args),
    /// Check a SYSTEM CONFIG file for each member, and show what it says to each
    Cpsyntax(cpsyntax::Args),
    /// Compile the source directory into each member's object directory
    Directxa(directxa::Args),
    /// Show what is where on each volume, by the source directory
    Diskmap(diskmap::Args),
    /// Make a volume: format, label, allocate, say whose it is; or show one
    Cpfmtxa(cpfmtxa::Args),
    /// Make, show or unlock the persistent data record of a cluster
    #[command(subcommand)]
    Formssi(formssi::Command),
    /// Print the JSON schema of a relocation report, or of a benchmark's result
    Schema(schema::SchemaArgs),
}

fn main() -> ExitCode {
    if let Some(revision) = lgr::results::git_revision() {
        lgr_engine::report::tell_program_revision(revision);
    }
    let outcome = match Cli::parse().command {
        Command::Relocate(args) => relocate::run(&args),
        Command::Receive(args) => receive::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(command) => bench::run(&command),
        Command::Simulate(command) => simulate::run(&command),
        Command::Pki(command) => pki::run(&command),
        Command::Owner(args) => owner::run(&args),
        Command::Cluster(command) => cluster::run(&command),
        Command::Member(args) => member::run(&args),
        Command::Cp(args) => cp::run(&args),
        Command::Console(args) => console::run(&args),
        Command::Cpsyntax(args) => cpsyntax::run(&args),
        Command::Directxa(args) => directxa::run(&args),
        Command::Diskmap(args) => diskmap::run(&args),
        Command::Cpfmtxa(args) => cpfmtxa::run(&args),
        Command::Formssi(command) => formssi::run(&command),
        Command::Schema(args) => schema::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        progress::complain(&format!("lgr: {}", in_words(&error)));
        ExitCode::FAILURE
    })
}

/// The error and its causes in one line; a cause that an error above it has told already is left out.
fn in_words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
