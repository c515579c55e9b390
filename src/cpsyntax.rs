//! `lgr cpsyntax`: checks a SYSTEM CONFIG file before a member starts with it.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use ssi::SystemName;
use ssi::config::{Effective, SystemConfig};
use ssi::source::{Finding, Limits, Source};

use crate::cluster::ClusterArg;
use crate::diagnostics;
use crate::progress::print;

/// Options of `lgr cpsyntax`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file [default: system.config of the cluster]
    file: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArg,

    /// Show what it says to this member only
    #[arg(long, value_name = "NAME")]
    member: Option<SystemName>,

    /// Print the file as it was understood, in place of what it says to each member
    #[arg(long, conflicts_with = "member")]
    print: bool,

    /// JSON in place of text
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    /// All that is wrong.
    findings: Vec<Finding>,
    /// What the file says to each member; none if there are errors.
    members: Vec<Effective>,
}

/// Runs the command: 0 if the file can be used, 1 if not.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => args.cluster.open()?.config(),
    };
    let source = Source::read(&path, Limits::CONFIG)?;
    let (config, diagnostics) = SystemConfig::parse(&source);
    let has_errors = diagnostics.has_errors();
    let mut names = config.members();
    if let Some(member) = args.member {
        anyhow::ensure!(
            has_errors || names.contains(&member),
            "{}: no member is called {member}; there are {}",
            source.name(),
            names.iter().map(SystemName::as_str).collect::<Vec<_>>().join(", ")
        );
        names.retain(|name| *name == member);
    }
    let members: Vec<_> =
        names.into_iter().filter(|_| !has_errors).map(|name| config.for_member(name)).collect();
    if args.json {
        let output = Output { findings: diagnostics.findings(&source), members };
        print(&format!("{}\n", serde_json::to_string_pretty(&output)?));
    } else {
        diagnostics::show(&source, &diagnostics);
        if args.print && !has_errors {
            print(&config.to_string());
        } else {
            print(&members.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(if has_errors { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
