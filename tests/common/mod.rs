//! What the end-to-end tests share: a [`Trial`] with its own directory and volume, the processes it starts, and
//! the check at its end that none of them left anything behind.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "these are tests")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lgr_engine::event::Event;
use lgr_engine::report::{Report, RunsOn, Side};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) mod cluster;
pub(crate) mod kernel;
pub(crate) mod pair;
pub(crate) mod wire;

/// No process of a test may take longer, whatever happens to it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How long what a process leaves to the kernel or to its parent's end may stay visible.
const LINGER: Duration = Duration::from_secs(10);
/// Variable that marks every process of a trial, those started by its processes too.
const MARK: &str = "LGR_E2E_TRIAL";
/// A guest that runs only briefly before and after its move.
pub(crate) const BRIEF: &str = "--run-before 0.05 --run-after 0.05";
/// The same with little memory.
pub(crate) const SMALL: &str = "--memory 16M --run-before 0.05 --run-after 0.05";

/// One test: a directory of its own, an owner volume in it, and a mark on every process it starts.
pub(crate) struct Trial {
    dir: tempfile::TempDir,
    mark: String,
    launched: Mutex<Vec<u32>>,
}

impl Trial {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("e2e{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("lgr-e2e-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("volume")).unwrap();
        Self { dir, mark, launched: Mutex::default() }
    }

    /// A path in the trial's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The shared volume of the trial's members.
    pub(crate) fn volume(&self) -> PathBuf {
        self.path("volume")
    }

    /// A name nobody else uses, for things that belong to the machine. At most 15 characters.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// `lgr` with these words, split at blanks.
    pub(crate) fn lgr(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lgr"));
        command.args(words.split_whitespace());
        command
    }

    /// Starts `lgr` with these words.
    pub(crate) fn start(&self, words: &str) -> Running {
        self.spawn(self.lgr(words))
    }

    /// Starts a command as a process of this trial.
    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        command.env(MARK, &self.mark).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        self.launched.lock().unwrap().push(child.id());
        let (sender, lines) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut err = child.stderr.take().unwrap();
        let words = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = err.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Running { child, what, lines, seen: Vec::new(), words: Some(words) }
    }

    /// Runs `lgr` with these words to its end.
    pub(crate) fn run(&self, words: &str) -> Ended {
        self.start(words).wait()
    }

    /// Relocates a guest on this machine and gives its report.
    pub(crate) fn relocate(&self, words: &str) -> (Ended, Report) {
        let ended = self.run(&format!("relocate --progress json {words}"));
        let report = ended.report();
        (ended, report)
    }

    /// Who owns LINUX1 by its record.
    pub(crate) fn owner(&self) -> String {
        let ended = self.run(&format!("owner LINUX1 --volume {}", self.volume().display()));
        assert_eq!(ended.code(), Some(0), "{ended}");
        let line = ended.out();
        line.strip_prefix("LINUX1 belongs to ").unwrap().split(' ').next().unwrap().to_owned()
    }

    /// Ids of this trial's processes that live, those started by its processes too.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let wanted = format!("{MARK}={}", self.mark);
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let marked = |id: &i32| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        ids.filter(marked).collect()
    }

    /// What is still there of this trial's processes: they themselves, their rooms, network namespaces.
    fn leftovers(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.processes().iter().map(|id| format!("process {id}: {}", command_line(*id))).collect();
        let launched = self.launched.lock().unwrap();
        let rooms: Vec<String> = launched.iter().map(|id| format!("lgr-room-{id}-")).collect();
        for place in [Path::new("/dev/shm"), &std::env::temp_dir(), Path::new("/run/netns")] {
            for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if rooms.iter().any(|room| name.starts_with(room)) || name.starts_with(&self.mark) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
        found
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for id in self.processes() {
                let _ = kill_process(Pid::from_raw(id).unwrap(), Signal::KILL);
            }
            return;
        }
        let started = Instant::now();
        while !self.leftovers().is_empty() && started.elapsed() < LINGER {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

fn command_line(id: i32) -> String {
    let words = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// A process of a trial; killed if it is still there when this goes.
pub(crate) struct Running {
    child: Child,
    what: String,
    lines: Receiver<String>,
    seen: Vec<String>,
    words: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for an event and gives what `wanted` makes of it.
    pub(crate) fn event<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        self.line(|line| serde_json::from_str(line).ok().and_then(&wanted))
    }

    /// Waits for a line of its output and gives what `wanted` makes of it.
    pub(crate) fn line<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(started.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{} did not tell what was waited for; it told {:#?}", self.what, self.seen);
            };
            self.seen.push(line.clone());
            if let Some(found) = wanted(&line) {
                return found;
            }
        }
    }

    /// The address at which it listens.
    pub(crate) fn address(&mut self) -> String {
        self.event(|event| match event {
            Event::Listening { address } => Some(address),
            _ => None,
        })
    }

    /// Waits until some of pass 1 is on its way.
    pub(crate) fn in_first_pass(&mut self) {
        self.event(|event| matches!(event, Event::PassProgress { number: 1, .. }).then_some(()));
    }

    /// Waits for its end; fails the test if it does not come in time, or came by a panic.
    pub(crate) fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            match self.lines.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(2)),
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < DEADLINE, "{} hangs; it told {:#?}", self.what, self.seen);
        };
        while let Ok(line) = self.lines.recv_timeout(LINGER) {
            self.seen.push(line);
        }
        let words = self.words.take().unwrap().join().unwrap();
        assert!(!words.contains("panicked"), "{}: {words}", self.what);
        let out = std::mem::take(&mut self.seen);
        Ended { what: std::mem::take(&mut self.what), status, out, words }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended.
pub(crate) struct Ended {
    what: String,
    status: ExitStatus,
    out: Vec<String>,
    words: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n{}\n{}", self.what, self.status, self.out.join("\n"), self.words)
    }
}

impl Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// It was ended by SIGKILL.
    pub(crate) fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Its standard output.
    pub(crate) fn out(&self) -> String {
        self.out.join("\n")
    }

    /// Its standard error.
    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// What it told with `--progress json`: every line of its output is an event.
    pub(crate) fn events(&self) -> Vec<Event> {
        let parse = |line: &String| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not an event ({error}): {line}"))
        };
        self.out.iter().map(parse).collect()
    }

    /// The report that its last event holds.
    pub(crate) fn report(&self) -> Report {
        match self.events().pop() {
            Some(Event::Finished { report }) => *report,
            _ => panic!("no report: {self}"),
        }
    }

    /// The only line on standard error of a command that failed with `code`; it holds all of `parts`.
    pub(crate) fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code(), Some(code), "{self}");
        // For wrong usage the line is followed by where to find help.
        let message = self.words.split("\n\nFor more information").next().unwrap().trim_end();
        assert_eq!(message.lines().count(), 1, "{self}");
        assert!(message.starts_with("lgr: ") || message.starts_with("error: "), "{self}");
        for part in parts {
            assert!(message.contains(part), "'{part}' is not in: {message}");
        }
    }

    /// The guest ran in this process at its end (of the two members of a move, this one is `side`).
    pub(crate) fn ran_the_guest(&self, side: Side) -> bool {
        let mut runs = false;
        for event in self.events() {
            match event {
                Event::Running { side: by } => runs = by == side,
                Event::Quiesced => runs = false,
                _ => {}
            }
        }
        runs
    }
}

/// The guest was moved, runs at the destination, and every page of it is right.
pub(crate) fn assert_moved_whole(ended: &Ended, report: &Report) {
    assert_eq!(report.verified, Some(true), "{ended}");
    assert_eq!(report.runs_on, RunsOn::Destination, "{ended}");
    assert_eq!(report.finish.code.number(), 0, "{ended}");
    assert_eq!(ended.code(), Some(0), "{ended}");
}

/// The guest stayed where it was, for the reason with number `code`, and every page of it is right.
pub(crate) fn assert_stayed_whole(ended: &Ended, report: &Report, code: u8) {
    assert_eq!(report.runs_on, RunsOn::Source, "{ended}");
    assert_eq!(report.finish.code.number(), code, "{ended}");
    assert!(!report.finish.reason.is_empty(), "{ended}");
    assert_eq!(report.verified, Some(true), "{ended}");
    assert_eq!(ended.code(), Some(1), "{ended}");
}
