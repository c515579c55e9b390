//! `lgr formssi`: makes, shows, unlocks and upgrades a cluster's persistent data record.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;
use ssi::dasd::{Access, Volume, label};
use ssi::member::{LEVEL, MemberState, Record};
use ssi::node::Stamp;
use ssi::pdr::{self, View};
use ssi::{ClusterName, MEMBERS_MAX, Slot, SystemName};

use crate::progress::print;

/// What is done with the record.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make the record of a new cluster, whose members are all down
    #[command(alias = "CREATE")]
    Create {
        /// The volume's file
        volume: PathBuf,
        /// The cluster
        cluster: ClusterName,
        /// Who is in the slots, in order
        #[arg(required = true)]
        members: Vec<SystemName>,
        /// Replace a record that is there: all that is known of its cluster is lost
        #[arg(long)]
        replace: bool,
    },
    /// Show the record
    #[command(alias = "DISPLAY")]
    Display {
        /// The volume's file
        volume: PathBuf,
        /// JSON in place of text
        #[arg(long)]
        json: bool,
    },
    /// Make a record of an older level one of this level; its members may run
    #[command(alias = "UPGRADE")]
    Upgrade {
        /// The volume's file
        volume: PathBuf,
        /// The cluster
        cluster: ClusterName,
    },
    /// Take the record's lock away from whoever has it
    #[command(alias = "UNLOCK")]
    Unlock {
        /// The volume's file
        volume: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { volume, cluster, members, replace } => create(volume, *cluster, members, *replace),
        Command::Display { volume, json } => display(volume, *json),
        Command::Upgrade { volume, cluster } => upgrade(volume, *cluster),
        Command::Unlock { volume } => {
            let told = match pdr::unlock(volume)? {
                Some(owner) => format!("{}: unlocked; {owner} had it\n", volume.display()),
                None => format!("{}: not locked\n", volume.display()),
            };
            print(&told);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn create(
    path: &Path,
    cluster: ClusterName,
    members: &[SystemName],
    replace: bool,
) -> anyhow::Result<ExitCode> {
    if members.len() > usize::from(MEMBERS_MAX) {
        bail!("a cluster has at most {MEMBERS_MAX} members, not {}", members.len());
    }
    let twin = members.iter().enumerate().find(|(at, member)| members[..*at].contains(member));
    if let Some((_, member)) = twin {
        bail!("two members are called {member}");
    }
    let found = label(&Volume::open(path, Access::Read)?)?.allocation.owner.cluster;
    if let Some(owner) = found.filter(|owner| *owner != cluster) {
        bail!("volume {} belongs to cluster {owner}, not to {cluster}", path.display());
    }
    let system = |index: usize| members.get(index).copied();
    pdr::create(path, &Record::new(cluster, std::array::from_fn(system)), replace)?;
    display(path, false)
}

fn upgrade(path: &Path, cluster: ClusterName) -> anyhow::Result<ExitCode> {
    let told = match pdr::upgrade(path, cluster)? {
        LEVEL => format!("{}: is of level {LEVEL} already\n", path.display()),
        before => format!("{}: upgraded from level {before} to level {LEVEL}\n", path.display()),
    };
    print(&told);
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Output {
    volume: String,
    cluster: ClusterName,
    locked_by: Option<String>,
    lock_steals: u64,
    generation: u64,
    level: u16,
    stamp: Option<String>,
    timeouts: bool,
    slots: Vec<SlotOutput>,
}

#[derive(Serialize)]
struct SlotOutput {
    slot: Slot,
    system: Option<SystemName>,
    state: MemberState,
    level: u16,
    incarnation: u64,
    heartbeat: u64,
    heartbeat_stamp: Option<String>,
    changed: Option<String>,
}

fn display(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let volume = Volume::open(path, Access::Read)?;
    let name = label(&volume)?.label;
    let output = output(&name.to_string(), &pdr::view(path)?);
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&output)?));
        return Ok(ExitCode::SUCCESS);
    }
    let none = || "--/--/-- --:--:--".to_owned();
    let mut text = format!(
        "HCPPDF6618I Persistent Data Record on {} (label {name}) is for {}\n",
        path.display(),
        output.cluster
    );
    text += &format!(
        "HCPPDF6619I PDR state: {}\n            time stamp: {}\n            cross-system timeouts: {}\n            lock steals: {}\n",
        output.locked_by.as_ref().map_or_else(|| "Unlocked".to_owned(), |owner| format!("Locked by {owner}")),
        output.stamp.clone().unwrap_or_else(none),
        if output.timeouts { "Enabled" } else { "Disabled" },
        output.lock_steals,
    );
    text += "            slot system   state     heartbeat           last change\n";
    for row in &output.slots {
        let system = row.system.map_or_else(|| "--------".to_owned(), |name| name.to_string());
        let state = if row.system.is_some() { row.state.to_string() } else { "Available".to_owned() };
        let (beat, changed) =
            (row.heartbeat_stamp.clone().unwrap_or_else(none), row.changed.clone().unwrap_or_else(none));
        text += &format!("            {:>4} {system:<8} {state:<9} {beat}   {changed}\n", row.slot);
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn output(volume: &str, view: &View) -> Output {
    let stamp = |time: Option<std::time::SystemTime>| time.map(|time| Stamp::from(time).short());
    let (record, stamps) = (&view.contents.record, &view.contents.stamps);
    let slot = |slot: Slot| {
        let (entry, of) = (record.entry(slot), &stamps.systems[slot.index()]);
        SlotOutput {
            slot,
            system: entry.system,
            state: entry.state,
            level: entry.level,
            incarnation: entry.incarnation,
            heartbeat: entry.heartbeat,
            heartbeat_stamp: stamp(of.heartbeat),
            changed: stamp(of.changed),
        }
    };
    Output {
        volume: volume.to_owned(),
        cluster: record.cluster,
        locked_by: view.locked_by.clone(),
        lock_steals: view.steals,
        generation: view.contents.generation,
        level: record.level,
        stamp: stamp(stamps.last),
        timeouts: record.timeouts,
        slots: Slot::all().map(slot).collect(),
    }
}
