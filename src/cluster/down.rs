//! `lgr cluster down`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use ssi::node::{Client, ClientError, ClusterDir};
use ssi::{SystemName, UserId};

use super::pid;
use crate::progress::complain;

/// Options of `lgr cluster down`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Directory of the cluster [default: $LGR_CLUSTER, or the current directory]
    dir: Option<PathBuf>,

    /// Stop only these members
    #[arg(long = "member", value_name = "NAME")]
    members: Vec<SystemName>,

    /// Kill members that have not left after so many seconds
    #[arg(long, value_name = "SECONDS")]
    kill_after: Option<u64>,
}

/// How long a member may take to leave before this command gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command: 0 once none of them runs.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = super::open_at(args.dir.as_ref())?;
    let members = super::chosen(known(&dir), &args.members)?;
    let patience = args.kill_after.map_or(PATIENCE, Duration::from_secs);
    let deadline = Instant::now() + patience;
    let asked: Vec<_> = members
        .iter()
        .map(|member| {
            let (dir, member) = (dir.clone(), *member);
            std::thread::spawn(move || shut_down(&dir, member, patience))
        })
        .collect();
    let mut all_down = true;
    for (member, thread) in members.iter().zip(asked) {
        let answer = thread.join().unwrap_or_else(|_| Err("it could not be asked".to_owned()));
        let outcome = answer.and_then(|known| match known {
            true => ended(&dir, *member, deadline),
            false => Ok("did not run".to_owned()),
        });
        let words = match outcome {
            Ok(words) => words,
            Err(why) if args.kill_after.is_some() => kill(&dir, *member, &why),
            Err(why) => {
                all_down = false;
                format!("{why} (--kill-after SECONDS ends it)")
            }
        };
        complain(&format!("{member}: {words}"));
    }
    Ok(if all_down { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The members that run, and those that could. A configuration that was spoilt meanwhile keeps nobody running.
fn known(dir: &ClusterDir) -> Vec<SystemName> {
    let configured = super::members(dir).unwrap_or_else(|error| {
        complain(&format!("{error:#}: these are the members that have run here"));
        Vec::new()
    });
    let locked = dir.locked().into_iter().filter(|member| {
        configured.is_empty() || (!configured.contains(member) && pid(dir, *member).is_some())
    });
    let strangers: Vec<_> = locked.collect();
    configured.into_iter().chain(strangers).collect()
}

/// Asks a member to leave; `false`: it does not run.
fn shut_down(dir: &ClusterDir, member: SystemName, patience: Duration) -> Result<bool, String> {
    let mut client = match Client::connect(&dir.control_socket(member), Some(patience)) {
        Ok(client) => client,
        Err(ClientError::NotRunning { .. }) if pid(dir, member).is_none() => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    let operator = UserId::new("OPERATOR").expect("this is a user id");
    match client.command(operator, "SHUTDOWN", &mut |_| ()) {
        Ok(response) if response.code == 0 => Ok(true),
        Ok(response) => Err(response.lines.join("; ")),
        // It may have left before it could say so.
        Err(ClientError::Gone(_)) => Ok(true),
        Err(error) => Err(error.to_string()),
    }
}

fn ended(dir: &ClusterDir, member: SystemName, deadline: Instant) -> Result<String, String> {
    while pid(dir, member).is_some() {
        if Instant::now() > deadline {
            return Err("it has not ended".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok("has left the cluster".to_owned())
}

fn kill(dir: &ClusterDir, member: SystemName, why: &str) -> String {
    let Some(pid) = pid(dir, member) else { return "has ended".to_owned() };
    match kill_process(pid, Signal::KILL) {
        Ok(()) => format!("killed ({why})"),
        Err(error) => format!("cannot be killed: {error}"),
    }
}
