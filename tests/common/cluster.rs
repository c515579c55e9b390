//! A cluster of real members in a trial's directory.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Ended, Trial};

/// What a cluster may take to come to a state, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(100);

pub(crate) const NAMES: [&str; 4] = ["MEMBERA", "MEMBERB", "MEMBERC", "MEMBERD"];

/// The cluster; its members are killed if they still run when this goes.
pub(crate) struct Cluster<'a> {
    trial: &'a Trial,
    dir: PathBuf,
}

impl<'a> Cluster<'a> {
    /// Made, not started.
    pub(crate) fn create(trial: &'a Trial, words: &str) -> Self {
        let dir = trial.path("demo");
        let ended = trial.run(&format!("cluster create {} {words}", dir.display()));
        assert_eq!(ended.code(), Some(0), "{ended}");
        Self { trial, dir }
    }

    /// All four members run, and are joined.
    pub(crate) fn up(trial: &'a Trial) -> Self {
        let cluster = Self::create(trial, "");
        let ended = cluster.lgr("cluster up", "");
        assert_eq!(ended.code(), Some(0), "{ended}");
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `lgr` with the cluster's directory after the first words.
    pub(crate) fn lgr(&self, first: &str, rest: &str) -> Ended {
        self.trial.run(&format!("{first} {} {rest}", self.dir.display()))
    }

    /// Starts a member and does not wait for it.
    pub(crate) fn start(&self, member: &str) {
        let words = format!("member {} {member} --quiet", self.dir.display());
        self.start_as(member, self.trial.lgr(&words));
    }

    /// The same, in a mount namespace of its own.
    pub(crate) fn start_apart(&self, member: &str) {
        let mut command = Command::new("unshare");
        command.args(["-m", env!("CARGO_BIN_EXE_lgr"), "member"]).arg(&self.dir).args([member, "--quiet"]);
        self.start_as(member, command);
    }

    fn start_as(&self, member: &str, mut command: Command) {
        command.env(super::MARK, self.trial.mark());
        command.stdin(std::process::Stdio::null());
        let log = std::fs::File::create(self.dir.join(format!("log/{member}.out"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        // Whoever starts a process has to hear of its end.
        std::thread::spawn(move || child.wait());
    }

    /// A command at a member.
    pub(crate) fn cp(&self, member: &str, command: &str) -> Ended {
        self.trial.run(&format!("cp --cluster {} {member} {command}", self.dir.display()))
    }

    /// One that must succeed; its output.
    pub(crate) fn said(&self, member: &str, command: &str) -> String {
        let ended = self.cp(member, command);
        assert_eq!(ended.code(), Some(0), "{ended}");
        ended.out()
    }

    /// `QUERY SSI` as data; none if the member does not answer.
    pub(crate) fn ssi(&self, member: &str) -> Option<Value> {
        let ended = self.trial.run(&format!("cp --json --cluster {} {member} QUERY SSI", self.dir.display()));
        serde_json::from_str::<Value>(&ended.out()).ok().map(|value| value["data"].clone())
    }

    /// Mode and states as a member sees them, such as `Stable Joined Joined Down Joined`.
    pub(crate) fn view(&self, member: &str) -> String {
        let Some(ssi) = self.ssi(member) else { return "no answer".to_owned() };
        let states =
            ssi["slots"].as_array().unwrap().iter().map(|slot| slot["state"].as_str().unwrap().to_owned());
        std::iter::once(ssi["mode"].as_str().unwrap().to_owned()).chain(states).collect::<Vec<_>>().join(" ")
    }

    /// Waits until all of these see the cluster so.
    pub(crate) fn wait_for(&self, members: &[&str], wanted: &str) {
        let begun = Instant::now();
        loop {
            let views: Vec<String> = members.iter().map(|member| self.view(member)).collect();
            if views.iter().all(|view| view == wanted) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{members:?} see {views:?}, not '{wanted}'\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a member's operators have been told this.
    pub(crate) fn wait_until_told(&self, member: &str, text: &str) {
        let begun = Instant::now();
        while !self.log(member).contains(text) {
            assert!(begun.elapsed() < PATIENCE, "{member} does not say '{text}'\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process that runs a member.
    pub(crate) fn pid(&self, member: &str) -> Option<Pid> {
        let path = self.dir.join(format!("run/{member}.lock"));
        let file = std::fs::File::open(&path).ok()?;
        if file.try_lock_shared().is_ok() {
            return None;
        }
        Pid::from_raw(std::fs::read_to_string(path).ok()?.trim().parse().ok()?)
    }

    pub(crate) fn signal(&self, member: &str, signal: Signal) {
        let pid = self.pid(member).unwrap_or_else(|| panic!("{member} does not run\n{}", self.logs()));
        kill_process(pid, signal).unwrap();
    }

    /// Waits until a member's process has ended.
    pub(crate) fn wait_ended(&self, member: &str) {
        let begun = Instant::now();
        while self.pid(member).is_some() {
            assert!(begun.elapsed() < PATIENCE, "{member} still runs\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a member's operators were told.
    pub(crate) fn log(&self, member: &str) -> String {
        let path = self.dir.join(format!("log/{member}.log"));
        // A pipe would have to be waited for.
        if path.is_file() { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() }
    }

    fn logs(&self) -> String {
        NAMES.map(|member| format!("--- {member}\n{}", self.log(member))).join("\n")
    }

    /// Shuts the cluster down; nothing is left.
    pub(crate) fn down(self) {
        let ended = self.lgr("cluster down", "");
        assert_eq!(ended.code(), Some(0), "{ended}");
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for pid in NAMES.iter().filter_map(|member| self.pid(member)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
