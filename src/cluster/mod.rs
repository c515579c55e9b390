//! `lgr cluster`: makes a cluster, starts its members and stops them.

mod create;
mod down;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rustix::process::Pid;
use ssi::SystemName;
use ssi::config::SystemConfig;
use ssi::node::ClusterDir;
use ssi::source::{Limits, Source};

/// What is done with the cluster.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make the directory of a new cluster: configuration, user directory, volumes, persistent data record
    Create(create::Args),
    /// Start its members, each a process, and wait until all have joined
    Up(up::Args),
    /// Shut its members down
    Down(down::Args),
}

/// Runs the subcommand.
pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(args) => create::run(args),
        Command::Up(args) => up::run(args),
        Command::Down(args) => down::run(args),
    }
}

/// Which cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterArg {
    /// Directory of the cluster [default: $LGR_CLUSTER, or the current directory]
    #[arg(long = "cluster", value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ClusterArg {
    /// The cluster's directory.
    pub(crate) fn open(&self) -> anyhow::Result<ClusterDir> {
        let named = self.dir.clone().or_else(|| std::env::var_os("LGR_CLUSTER").map(PathBuf::from));
        let hint = if named.is_some() { "" } else { ": give --cluster DIR, or set LGR_CLUSTER" };
        open(named.unwrap_or_else(|| PathBuf::from(".")), hint)
    }
}

/// The cluster in `path`, which becomes the current directory: the names of sockets must be short.
fn open(path: PathBuf, hint: &str) -> anyhow::Result<ClusterDir> {
    let dir = ClusterDir::new(&path);
    if !dir.config().is_file() {
        bail!("{} is not the directory of a cluster (it has no system.config){hint}", path.display());
    }
    std::env::set_current_dir(&path).with_context(|| path.display().to_string())?;
    Ok(ClusterDir::new("."))
}

/// The cluster in `path`, or where [`ClusterArg::open`] finds one.
pub(crate) fn open_at(path: Option<&PathBuf>) -> anyhow::Result<ClusterDir> {
    match path {
        Some(path) => open(path.clone(), ""),
        None => ClusterArg { dir: None }.open(),
    }
}

/// The members that the configuration names, by slot.
pub(crate) fn members(dir: &ClusterDir) -> anyhow::Result<Vec<SystemName>> {
    let source = Source::read(&dir.config(), Limits::CONFIG)?;
    let (config, diagnostics) = SystemConfig::parse(&source);
    crate::diagnostics::show(&source, &diagnostics);
    if diagnostics.has_errors() {
        bail!("system.config has errors");
    }
    let members = config.members();
    let of_slots = members.first().and_then(|first| config.for_member(*first).ssi);
    let ssi = of_slots.context("system.config has no SSI statement")?;
    let mut members: Vec<_> = ssi.members().collect();
    members.sort();
    Ok(members.into_iter().map(|(_, name)| name).collect())
}

/// The process that has the member's lock.
fn pid(dir: &ClusterDir, member: SystemName) -> Option<Pid> {
    let file = std::fs::File::open(dir.lock(member)).ok()?;
    if file.try_lock_shared().is_ok() {
        return None;
    }
    let text = std::fs::read_to_string(dir.lock(member)).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

/// Those of `members` that are named, or all.
fn chosen(members: Vec<SystemName>, named: &[SystemName]) -> anyhow::Result<Vec<SystemName>> {
    if let Some(unknown) = named.iter().find(|name| !members.contains(name)) {
        let known: Vec<_> = members.iter().map(SystemName::as_str).collect();
        bail!("no member is called {unknown}; there are {}", known.join(", "));
    }
    Ok(members.into_iter().filter(|member| named.is_empty() || named.contains(member)).collect())
}
