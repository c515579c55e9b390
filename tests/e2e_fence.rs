//! A member's end comes in time whatever hangs, and until then it lives on.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::Trial;
use common::cluster::Cluster;
use rustix::process::{Pid, geteuid};
use ssi::node::Client;

/// Longer than a member may be without a heartbeat.
const OVER_THE_FENCE: Duration = Duration::from_secs(8);

/// When the first member's heartbeat in the record was last seen to move.
struct Heartbeat {
    moved_at: Arc<Mutex<Instant>>,
    ends: Arc<AtomicBool>,
}

impl Heartbeat {
    fn watch(volume: PathBuf) -> Self {
        let (moved_at, ends) = (Arc::new(Mutex::new(Instant::now())), Arc::new(AtomicBool::new(false)));
        let (of_thread, thread_ends) = (moved_at.clone(), ends.clone());
        std::thread::spawn(move || {
            let mut last = 0;
            while !thread_ends.load(Ordering::SeqCst) {
                let looked_at = Instant::now();
                if let Ok(view) = ssi::pdr::view(&volume) {
                    let entry = view.contents.record.entries[0];
                    // What declares it down counts on, too.
                    let is_its_own = entry.state == ssi::member::MemberState::Joined;
                    if is_its_own && std::mem::replace(&mut last, entry.heartbeat) != entry.heartbeat {
                        *of_thread.lock().unwrap() = looked_at;
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { moved_at, ends }
    }

    fn moved_at(&self) -> Instant {
        *self.moved_at.lock().unwrap()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
    }
}

/// Asks a member who is on; none: it says nothing, or that it has stopped.
fn names(cluster: &Cluster<'_>, member: &str) -> Option<String> {
    let socket = cluster.path(&format!("run/{member}.cp"));
    let mut client = Client::connect(&socket, Some(Duration::from_secs(1))).ok()?;
    let response = client.command(ssi::UserId::new("OPERATOR").unwrap(), "QUERY NAMES", &mut |_| {}).ok()?;
    (response.code == 0).then(|| response.lines.join(" "))
}

#[test]
fn a_member_whose_log_hangs_lives_on_and_stops_in_time_when_its_record_is_gone() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA");
    let log = cluster.path("log/MEMBERA.log");
    std::fs::create_dir_all(cluster.path("log")).unwrap();
    let _ = std::fs::remove_file(&log);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Somebody has it open for reading, and reads nothing; it is full.
    let mut options = File::options();
    let mut pipe = options
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(&log)
        .unwrap();
    while pipe.write(&[b'\n'; 4096]).is_ok() {}
    while pipe.write(b"\n").is_ok() {}
    cluster.start("MEMBERA");
    cluster.wait_for(&["MEMBERA"], "Stable Joined Available Available Available");
    let (volume, away) = (cluster.path("volumes/VMCOM1.dasd"), cluster.path("volumes/away"));
    let heartbeat = Heartbeat::watch(volume.clone());
    cluster.said("MEMBERA", "XAUTOLOG LINUX01");
    let begun = Instant::now();
    while begun.elapsed() < OVER_THE_FENCE {
        assert!(cluster.said("MEMBERA", "QUERY NAMES").contains("LINUX01"));
        std::thread::sleep(Duration::from_millis(200));
    }
    std::fs::rename(&volume, &away).unwrap();
    cluster.wait_ended("MEMBERA");
    println!("ended {:?} after its last heartbeat", heartbeat.moved_at().elapsed());
}

/// A file system of its own, which can be made to hang.
struct Hung {
    image: PathBuf,
    at: PathBuf,
    frozen: bool,
}

fn runs(command: &str, arguments: &[&Path]) -> bool {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(arguments).output().is_ok_and(|output| output.status.success())
}

impl Hung {
    /// None: this machine does not let one be made.
    fn mount(trial: &Trial) -> Option<Self> {
        let hung = Self { image: trial.path("hung.img"), at: trial.path("hung"), frozen: false };
        std::fs::create_dir(&hung.at).unwrap();
        File::create(&hung.image).unwrap().set_len(16 << 20).unwrap();
        let is_possible = geteuid().is_root()
            && runs("mkfs.ext4 -q", &[&hung.image])
            && runs("mount -o loop", &[&hung.image, &hung.at])
            && runs("fsfreeze -f", &[&hung.at])
            && runs("fsfreeze -u", &[&hung.at]);
        is_possible.then_some(hung)
    }

    fn freeze(&mut self) {
        self.frozen = true;
        assert!(runs("fsfreeze -f", &[&self.at]));
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        if self.frozen {
            runs("fsfreeze -u", &[&self.at]);
        }
        let begun = Instant::now();
        // Those that hung end first.
        while !runs("umount", &[&self.at]) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// States of a process' threads, such as `DZ`.
fn threads(pid: Pid) -> String {
    let tasks =
        std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    let state = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    };
    tasks.filter_map(state).collect()
}

#[test]
fn a_member_whose_log_is_frozen_is_silent_before_another_has_its_user() {
    let trial = Trial::new();
    let Some(mut hung) = Hung::mount(&trial) else {
        println!("skipped: a frozen file system, which takes root, loop devices and ext4");
        return;
    };
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    std::fs::create_dir_all(cluster.path("log")).unwrap();
    std::os::unix::fs::symlink(hung.at.join("MEMBERA.log"), cluster.path("log/MEMBERA.log")).unwrap();
    cluster.start_apart("MEMBERA");
    cluster.start("MEMBERB");
    cluster.wait_for(&["MEMBERA", "MEMBERB"], "Stable Joined Joined Available Available");
    cluster.said("MEMBERA", "XAUTOLOG LINUX01");
    let pid = cluster.pid("MEMBERA").unwrap();
    let heartbeat = Heartbeat::watch(cluster.path("volumes/VMCOM1.dasd"));
    hung.freeze();
    let begun = Instant::now();
    while begun.elapsed() < OVER_THE_FENCE {
        // That something is told each time keeps its log busy.
        cluster.said("MEMBERA", "XAUTOLOG MAINT");
        cluster.said("MEMBERA", "FORCE MAINT");
    }
    assert_eq!(cluster.view("MEMBERB"), "Stable Joined Joined Available Available");
    assert!(threads(pid).contains('D'), "nothing hangs: {}", threads(pid));
    // Its volumes are gone as well, for it alone.
    let cut = format!("nsenter -t {} -m mount -t tmpfs none", pid.as_raw_nonzero());
    assert!(runs(&cut, &[&cluster.path("volumes")]));
    let is_on = |answer: Option<String>| answer.is_some_and(|names| names.contains("LINUX01  - DSC"));
    let (mut said_last, mut ended) = (Instant::now(), None);
    let granted = loop {
        let asked_at = Instant::now();
        if is_on(names(&cluster, "MEMBERA")) {
            said_last = Instant::now();
        }
        if ended.is_none() && threads(pid).chars().all(|state| "DZ".contains(state)) {
            ended = Some(Instant::now());
        }
        if asked_at > said_last + Duration::from_millis(100)
            && cluster.cp("MEMBERB", "XAUTOLOG LINUX01").code() == Some(0)
        {
            break Instant::now();
        }
        assert!(begun.elapsed() < Duration::from_secs(100), "{}", cluster.log("MEMBERB"));
    };
    assert!(!is_on(names(&cluster, "MEMBERA")), "the user is on twice");
    let from = heartbeat.moved_at();
    println!(
        "after its last heartbeat: said last to have the user {:?}, threads ended {:?}, the user was free {:?}",
        said_last - from,
        ended.map(|ended| ended - from),
        granted - from
    );
    assert!(ended.is_some_and(|ended| ended < granted), "threads {}", threads(pid));
    // The log thaws, and the process is gone.
    drop(hung);
    cluster.wait_ended("MEMBERA");
    cluster.down();
}
