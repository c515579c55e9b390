//! `lgr directxa`: compiles the source directory into each member's object directory.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use ssi::SystemName;
use ssi::directory::{self, HashCost, Object, UserDirect};
use ssi::node::ClusterDir;
use ssi::source::{Finding, Limits, Source};

use crate::cluster::{self, ClusterArg};
use crate::diagnostics;
use crate::progress::print;

/// Options of `lgr directxa`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The source directory [default: user.direct of the cluster]
    source: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArg,

    /// Check the source and replace nothing
    #[arg(long)]
    check: bool,

    /// JSON in place of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    /// All that is wrong.
    findings: Vec<Finding>,
    /// Members whose object directories were replaced.
    replaced: Vec<SystemName>,
    /// Number of the new directories.
    serial: Option<u64>,
    /// Users in each of them.
    users: usize,
}

/// Runs the command: 0 if the source can be used, 1 if not; then nothing is replaced.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Before the current directory becomes the cluster's.
    let given = args.source.as_ref().map(|path| Source::read(path, Limits::DIRECTORY)).transpose()?;
    let dir = args.cluster.open()?;
    let source = match given {
        Some(source) => source,
        None => Source::read(&dir.source_directory(), Limits::DIRECTORY)?,
    };
    let members = cluster::members(&dir)?;
    let (directory, mut diagnostics) = UserDirect::parse(&source);
    diagnostics.extend(directory.check_members(&members));
    let mut output =
        Output { findings: diagnostics.findings(&source), replaced: Vec::new(), serial: None, users: 0 };
    if !args.json {
        diagnostics::show(&source, &diagnostics);
    }
    if !diagnostics.has_errors() && !args.check {
        let objects = replace(&dir, &directory, &members)?;
        output.serial = objects.first().map(|object| object.serial);
        output.users = objects.first().map_or(0, |object| object.users.len());
        output.replaced = members;
    }
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&output)?));
    } else {
        print(&in_words(&output, diagnostics.has_errors()));
    }
    Ok(if diagnostics.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn in_words(output: &Output, has_errors: bool) -> String {
    match output.serial {
        Some(serial) => {
            let members = output.replaced.iter().map(SystemName::as_str).collect::<Vec<_>>().join(" ");
            format!("EOJ DIRECTORY UPDATED, serial {serial}, {} users, for {members}\n", output.users)
        }
        None if has_errors => "EOJ DIRECTORY NOT UPDATED\n".to_owned(),
        None => "EOJ DIRECTORY NOT UPDATED: the source can be used\n".to_owned(),
    }
}

/// Compiles and writes the object directories of all members; one at a time, so that all have one serial.
pub(crate) fn replace(
    dir: &ClusterDir,
    directory: &UserDirect,
    members: &[SystemName],
) -> anyhow::Result<Vec<Object>> {
    let lock = std::fs::File::open(dir.objects()).with_context(|| dir.objects().display().to_string())?;
    lock.lock().with_context(|| dir.objects().display().to_string())?;
    let old = members.iter().filter_map(|member| directory::read(&dir.object(*member)).ok());
    let serial = old.map(|object| object.serial).max().unwrap_or(0) + 1;
    let objects =
        Object::compile(directory, members, serial, HashCost::default()).map_err(anyhow::Error::msg)?;
    let files: Vec<_> = objects.iter().map(|object| (dir.object(object.member), object)).collect();
    directory::write(&files)?;
    Ok(objects)
}
