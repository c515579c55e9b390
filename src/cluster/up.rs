//! `lgr cluster up`.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lgr_engine::driver::Cancel;
use serde::Deserialize;
use ssi::node::{Client, ClientError, ClusterDir, make_private};
use ssi::{SystemName, UserId};

use super::pid;
use crate::progress::{complain, print};
use crate::signals;

/// Options of `lgr cluster up`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Directory of the cluster [default: $LGR_CLUSTER, or the current directory]
    dir: Option<PathBuf>,

    /// Start only these members
    #[arg(long = "member", value_name = "NAME")]
    members: Vec<SystemName>,

    /// Wait so long for them to join, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,

    /// Let links leave this machine although they are neither encrypted nor authenticated
    #[arg(long)]
    insecure_plaintext: bool,
}

/// Runs the command: 0 once all have joined and the cluster is stable.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let cancel = signals::cancel_on_ctrl_c()?;
    let dir = super::open_at(args.dir.as_ref())?;
    let members = super::chosen(super::members(&dir)?, &args.members)?;
    for path in [dir.run(), dir.logs()] {
        make_private(&path).with_context(|| path.display().to_string())?;
    }
    let mut started = Vec::new();
    for member in &members {
        if pid(&dir, *member).is_some() {
            complain(&format!("{member} runs already"));
        } else {
            started.push((*member, start(&dir, *member, args.insecure_plaintext)?));
        }
    }
    wait(&dir, &members, started, Duration::from_secs(args.patience), &cancel)?;
    let mut client = Client::connect(&dir.control_socket(members[0]), Some(Duration::from_secs(10)))?;
    let response = client.command(operator(), "QUERY SSI", &mut |_| ())?;
    print(&(response.lines.join("\n") + "\n"));
    Ok(ExitCode::SUCCESS)
}

fn operator() -> UserId {
    UserId::new("OPERATOR").expect("this is a user id")
}

/// Starts a member in a session of its own, so that it lives on when this command or its terminal ends.
fn start(dir: &ClusterDir, member: SystemName, insecure_plaintext: bool) -> anyhow::Result<Child> {
    let path = output_of(dir, member);
    let mut options = File::options();
    let output = options.create(true).truncate(true).write(true).mode(0o600).open(&path);
    let output = output.with_context(|| path.display().to_string())?;
    let program = std::env::current_exe().context("where this program is")?;
    let mut command = Command::new(program);
    command.args(["member", ".", member.as_str(), "--quiet"]);
    if insecure_plaintext {
        command.arg("--insecure-plaintext");
    }
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // SAFETY: setsid is async-signal-safe, and nothing else happens between fork and exec.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
    command.spawn().with_context(|| format!("starting {member}"))
}

/// Where a member's standard output goes.
fn output_of(dir: &ClusterDir, member: SystemName) -> PathBuf {
    dir.logs().join(format!("{member}.out"))
}

/// What of `QUERY SSI` counts here.
#[derive(Deserialize)]
struct Ssi {
    mode: String,
    slots: Vec<SsiSlot>,
}

#[derive(Deserialize)]
struct SsiSlot {
    system: Option<SystemName>,
    state: String,
}

/// Until each of the members sees all of them joined, in a stable cluster.
fn wait(
    dir: &ClusterDir,
    members: &[SystemName],
    mut started: Vec<(SystemName, Child)>,
    patience: Duration,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told: Vec<(SystemName, String)> = Vec::new();
    loop {
        for (member, child) in &mut started {
            // Whoever has its lock may have started it in the same moment as this command.
            if let Some(status) = child.try_wait()?
                && pid(dir, *member).is_none()
            {
                bail!("{member} did not start ({status}): {}", last_words(dir, *member));
            }
        }
        let views: Vec<Option<Ssi>> = members.iter().map(|member| ssi_of(dir, *member)).collect();
        for (member, view) in members.iter().zip(&views) {
            tell(*member, view.as_ref(), &mut told);
        }
        if views.iter().all(|view| view.as_ref().is_some_and(|view| is_up(view, members))) {
            return Ok(());
        }
        if let Some((member, _)) = told.iter().find(|(_, state)| state == "Isolated") {
            bail!("{member} is isolated: {}", join_failure(dir, *member));
        }
        if cancel.is_requested() {
            bail!("interrupted; the members that were started go on (lgr cluster down stops them)");
        }
        if begun.elapsed() > patience {
            let words: Vec<String> =
                told.iter().map(|(member, state)| format!("{member} is {state}")).collect();
            bail!(
                "not all members have joined within {} s: {} (log/NAME.log says why; they go on trying)",
                patience.as_secs(),
                words.join(", ")
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_up(view: &Ssi, members: &[SystemName]) -> bool {
    let joined = |member: &SystemName| {
        view.slots.iter().any(|slot| slot.system == Some(*member) && slot.state == "Joined")
    };
    view.mode == "Stable" && members.iter().all(joined)
}

/// A line for each change of a member's own state.
fn tell(member: SystemName, view: Option<&Ssi>, told: &mut Vec<(SystemName, String)>) {
    let own = view.and_then(|view| view.slots.iter().find(|slot| slot.system == Some(member)));
    let state = own.map_or_else(|| "starting".to_owned(), |slot| slot.state.clone());
    match told.iter_mut().find(|(of, _)| *of == member) {
        Some((_, before)) if *before == state => return,
        Some((_, before)) => before.clone_from(&state),
        None => told.push((member, state.clone())),
    }
    complain(&format!("{member}: {state}"));
}

fn ssi_of(dir: &ClusterDir, member: SystemName) -> Option<Ssi> {
    let asked: Result<_, ClientError> =
        Client::connect(&dir.control_socket(member), Some(Duration::from_secs(2)))
            .and_then(|mut client| client.command(operator(), "QUERY SSI", &mut |_| ()));
    serde_json::from_str(&asked.ok()?.data).ok()
}

/// Why its join has failed, as its operators were told.
fn join_failure(dir: &ClusterDir, member: SystemName) -> String {
    let path = dir.log(member);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let line = text.lines().rev().find_map(|line| line.split_once("HCPPLM1663E "));
    line.map_or_else(|| format!("{} says why", path.display()), |(_, why)| why.to_owned())
}

fn last_words(dir: &ClusterDir, member: SystemName) -> String {
    let text = std::fs::read_to_string(output_of(dir, member)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match lines.len() {
        0 => "it could not say why; is the disk full? (lgr member shows it)".to_owned(),
        len => lines[len.saturating_sub(3)..].join("; "),
    }
}
