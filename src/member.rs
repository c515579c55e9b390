//! `lgr member`: runs one member of a cluster in the foreground, by hand or under a supervisor.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use ssi::config::Effective;
use ssi::config::statement::PdrVolume;
use ssi::dasd::{Access, attach};
use ssi::directory::LiveDirectory;
use ssi::member::Stopped;
use ssi::node::{ClusterDir, Ending, Node, NodeOptions, effective_of};
use ssi::pdr::PdrStore;
use ssi::{ClusterName, SystemName, VolumeLabel};

use crate::progress::print;
use crate::{cluster, signals};

/// Options of `lgr member`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Directory of the cluster
    dir: PathBuf,

    /// The member
    member: SystemName,

    /// Do not show what the operators are told (it is in log/NAME.log, too)
    #[arg(long)]
    quiet: bool,

    /// Let links leave this machine although they are neither encrypted nor authenticated
    #[arg(long)]
    insecure_plaintext: bool,
}

/// This process. The guests of a member, its users, live in what it says of them, so there is nothing else to end.
#[derive(Debug)]
struct Process;

impl Ending for Process {
    fn overdue(&self, has_left: bool) {
        // Nothing of an orderly end: that may be what hangs, a full pipe to whoever reads the output, say.
        // SAFETY: it touches no memory, and does not come back.
        unsafe { libc::_exit(i32::from(!has_left)) }
    }
}

/// Runs the command: 0 if the member has left the cluster, 1 if it had to stop.
///
/// The first Ctrl-C or SIGTERM lets it leave, the second stops it at once.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = cluster::open_at(Some(&args.dir))?;
    let (slot, effective) = effective_of(&dir, args.member)?;
    let store = Box::new(effective_record(&dir, &effective)?);
    let users = Arc::new(LiveDirectory::open(&dir.object(args.member), args.member)?);
    let options = NodeOptions {
        insecure_plaintext: args.insecure_plaintext,
        ending: Some(Arc::new(Process)),
        ..NodeOptions::default()
    };
    let node = Node::start(&dir, (slot, effective), store, users, options)?;
    let signalled = node.stopper();
    signals::on_each(move |times| if times == 1 { signalled.leave() } else { signalled.abend() })?;
    if !args.quiet {
        let listener = node.console().listen();
        listener.history.iter().for_each(|line| print(&format!("{line}\n")));
        std::thread::spawn(move || listener.news.iter().for_each(|line| print(&format!("{line}\n"))));
    }
    let why = node.wait();
    if why == Stopped::Left {
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("{} stopped: {why}", args.member)
}

/// The persistent data record of the cluster, on the volume that the configuration names.
fn effective_record(dir: &ClusterDir, effective: &Effective) -> anyhow::Result<PdrStore> {
    let (label, cluster) = pdr_volume(effective)?;
    attach(&dir.volume(label), Access::Write, label, cluster, effective.member)?;
    let places = dir.clone();
    Ok(PdrStore::open(Box::new(move |label| places.volume(label)), label, cluster, effective.member)?)
}

fn pdr_volume(effective: &Effective) -> anyhow::Result<(VolumeLabel, ClusterName)> {
    let ssi = effective.ssi.as_ref().context("system.config has no SSI statement")?;
    match ssi.pdr_volume {
        PdrVolume::Label(label) => Ok((label, ssi.name)),
        PdrVolume::Sysparm => {
            anyhow::bail!("the SSI statement has no PDR_VOLUME, and there is no volume this was started from")
        }
    }
}
