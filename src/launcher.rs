//! `lgr relocate` without `--to`: starts both members as processes of this machine, shows what they tell,
//! and leaves nothing behind.
//!
//! A member tells its progress as JSON lines on its standard output, the last of them its report. If one is
//! killed, the report is the other's.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use isfc::Medium;
use lgr::slow_link::{Shape, SlowLink};
use lgr_engine::driver::Cancel;
use lgr_engine::event::{Event, Observer};
use lgr_engine::owner::MemberName;
use lgr_engine::report::{Report, RunsOn, Side};
use rustix::process::{Pid, Signal, kill_process};

use crate::relocate::{RelocateArgs, check_memory, deliver, exit_code};
use crate::{flamegraph, output, progress, summary};

/// How long the second member may go on when the first has ended.
const SECOND_PATIENCE: Duration = Duration::from_secs(120);
/// A reader that waits is woken by each line, on a processor that the move could use; so what members tell is read this
/// often.
const LISTEN_EVERY: Duration = Duration::from_millis(5);

/// Runs as many relocations as asked for.
pub(crate) fn run(args: &RelocateArgs, cancel: &Cancel, observer: &dyn Observer) -> anyhow::Result<ExitCode> {
    check_memory(args, 2)?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    if args.runs == 1 {
        let report = relocate_once(args, &words, cancel, observer)?;
        deliver(&report, args, observer)?;
        return Ok(exit_code(&report));
    }
    let mut reports = Vec::new();
    for number in 1..=args.runs {
        let report = relocate_once(args, &words, cancel, observer)?;
        progress::complain(&summary::line(number, &report));
        reports.push(report);
        if cancel.is_requested() {
            break;
        }
    }
    progress::print(&summary::table(&reports));
    if let Some(path) = &args.json {
        output::write(path, &(serde_json::to_string_pretty(&reports)? + "\n"))?;
    }
    let failed = reports.iter().any(|report| exit_code(report) != ExitCode::SUCCESS);
    Ok(ExitCode::from(u8::from(failed || cancel.is_requested())))
}

/// Something a member did.
enum News {
    Event(Side, Box<Event>),
    /// Its standard output has ended.
    Ended(Side),
}

/// Relocates a guest between two members started for it. `words` are those that `args` was read from, `relocate`
/// first; what they say of runs, output and progress does not count.
///
/// # Errors
/// A member did not start, or both ended without a report.
pub(crate) fn relocate_once(
    args: &RelocateArgs,
    words: &[String],
    cancel: &Cancel,
    observer: &dyn Observer,
) -> anyhow::Result<Report> {
    let room = Room::new()?;
    let (news, inbox) = channel();
    let mut destination = Member::start(Side::Destination, &destination_args(args, room.path()), &news)?;
    let mut waiting = Watch { observer, cancel, inbox: &inbox, reports: Vec::new(), ended: Vec::new() };
    let Some(address) = waiting.until_listening()? else {
        bail!("the destination did not start: {}", destination.last_words());
    };
    let link = slow_link(args, &address)?;
    let address = link.as_ref().map_or(address, |link| format!("tcp:{}", link.address()));
    let mut words_of_source = source_args(words, &address, room.path());
    words_of_source.extend(flamegraph_args(args, Side::Source, room.path()));
    let mut source = Member::start(Side::Source, &words_of_source, &news)?;
    waiting.until_ended(&mut source, &mut destination);
    let reports = waiting.reports;
    let (source_end, destination_end) = (source.wait(), destination.wait());
    if let Some(path) = &args.flamegraph {
        let parts = [Side::Source, Side::Destination].map(|side| stacks_of(side, room.path()));
        flamegraph::merge(&parts, path);
    }
    // The source's report holds both halves, if it lived to make it.
    let best = reports.iter().find(|(side, _)| *side == Side::Source).or(reports.first());
    let Some((side, report)) = best else {
        let words = [source.last_words(), destination.last_words()];
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        bail!(
            "{}",
            if words.is_empty() { "both members ended without a report".into() } else { words.join("; ") }
        );
    };
    let mut report = report.clone();
    // A half that did not come over the link may have come from its member itself.
    let other = reports.iter().find(|(side, _)| *side == Side::Destination).map(|(_, half)| half.clone());
    if let Some(half) = other.filter(|_| !report.knows(Side::Destination))
        && let Ok(whole) = Report::merge(report.clone(), half)
    {
        report = whole;
    }
    report.died_with = dead_owner(&report);
    // The members know nothing of what stands between them.
    report.options.extend(args.slow_link.map(|rate| ("slow_link".to_owned(), rate.get().into())));
    if *side == Side::Destination {
        // A source that ended before it had anything to report knows best why.
        let words = source.last_words();
        if report.runs_on == RunsOn::Unknown && !words.is_empty() {
            bail!("{words}");
        }
        let how = source_end.map_or_else(|| "did not end".to_owned(), describe);
        report.finish.reason = format!("{}; the source {how}", report.finish.reason);
    } else if !report.knows(Side::Destination) {
        let how = destination_end.map_or_else(|| "did not end".to_owned(), describe);
        report.finish.reason = format!("{}; the destination {how}", report.finish.reason);
    }
    Ok(report)
}

/// The slow link that was asked for, to the destination that listens at `address`.
fn slow_link(args: &RelocateArgs, address: &str) -> anyhow::Result<Option<SlowLink>> {
    let Some(rate) = args.slow_link else { return Ok(None) };
    let target = address.strip_prefix("tcp:").context("a slow link is of medium tcp")?.parse()?;
    let shape = Shape { bytes_per_s: rate.get(), swallow_after_bytes: None };
    Ok(Some(SlowLink::start(target, shape)?))
}

/// The member that has the guest by the record, if it ended without a word: its process was the guest's, too.
fn dead_owner(report: &Report) -> Option<Side> {
    let owner = match report.runs_on {
        RunsOn::Source => Side::Source,
        RunsOn::Destination => Side::Destination,
        RunsOn::Nobody | RunsOn::Unknown => return None,
    };
    (!report.knows(owner)).then_some(owner)
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(0)) => "ended well".to_owned(),
        (None, code) => format!("ended with exit code {}", code.unwrap_or(-1)),
    }
}

/// The directory of one relocation: its volume and its socket. Locked for as long as it is needed, so that the next
/// launcher can tell one that a killed launcher left.
struct Room {
    dir: tempfile::TempDir,
    _lock: std::fs::File,
}

const ROOM_PREFIX: &str = "lgr-room-";

impl Room {
    fn new() -> anyhow::Result<Self> {
        let place = fast_dir();
        remove_left_rooms(&place);
        let dir = tempfile::Builder::new()
            .prefix(&format!("{ROOM_PREFIX}{}-", std::process::id()))
            .tempdir_in(place)?;
        let lock = std::fs::File::open(dir.path())?;
        lock.lock()?;
        Ok(Self { dir, _lock: lock })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the rooms in `place` whose launcher is gone. One that cannot be removed is left.
fn remove_left_rooms(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ROOM_PREFIX));
        // A new room is locked only a moment after it is made.
        let age = std::fs::symlink_metadata(&path).ok().and_then(|data| data.modified().ok()?.elapsed().ok());
        if ours
            && age.is_some_and(|age| age > Duration::from_secs(60))
            && let Ok(dir) = std::fs::File::open(&path)
            && dir.try_lock().is_ok()
        {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// A directory in memory if there is one that takes files: the owner record then costs no disk write. It
/// needs to outlive neither member, as both are on this machine.
fn fast_dir() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let probe = tempfile::Builder::new().prefix("lgr-probe-").tempfile_in(shm);
    let writable = probe.is_ok_and(|file| std::fs::write(file.path(), [0; 4096]).is_ok());
    if writable { shm.to_owned() } else { std::env::temp_dir() }
}

fn destination_args(args: &RelocateArgs, room: &Path) -> Vec<String> {
    let address = match args.medium {
        Medium::Tcp => "tcp:127.0.0.1:0".to_owned(),
        medium => format!("{medium}:{}/link", room.display()),
    };
    let mut words = vec!["receive".to_owned(), address];
    words.extend(["--volume".into(), room.display().to_string(), "--progress".into(), "json".into()]);
    words.extend(["--supervised".into(), "--peer-timeout".into(), args.common.peer_timeout.to_string()]);
    words.extend(["--member".to_owned(), other_name(args.member).to_owned()]);
    if args.prefault {
        words.push("--prefault".to_owned());
    }
    if let Some(engine) = clap::ValueEnum::to_possible_value(&args.common.engine) {
        words.extend(["--engine".to_owned(), engine.get_name().to_owned()]);
    }
    for fault in &args.common.fault {
        words.extend(["--fault".to_owned(), fault.to_string()]);
    }
    words.extend(flamegraph_args(args, Side::Destination, room));
    words
}

/// What the destination is called beside a source of this name.
fn other_name(source: MemberName) -> &'static str {
    if source.as_str() == "MEMBERB" { "MEMBERA" } else { "MEMBERB" }
}

/// Where a member writes its stacks, for the one picture of both.
fn stacks_of(side: Side, room: &Path) -> PathBuf {
    room.join(format!("{}.folded", side.name()))
}

fn flamegraph_args(args: &RelocateArgs, side: Side, room: &Path) -> Vec<String> {
    let path = args.flamegraph.as_ref().map(|_| stacks_of(side, room).display().to_string());
    path.map_or_else(Vec::new, |path| vec!["--flamegraph".to_owned(), path])
}

/// The words of the relocation, sent to the member that listens at `address`.
fn source_args(words: &[String], address: &str, room: &Path) -> Vec<String> {
    let mut words = words.to_vec();
    for option in ["--runs", "--json", "--medium", "--volume", "--progress", "--flamegraph", "--slow-link"] {
        drop_option(&mut words, option);
    }
    words.extend(["--to".to_owned(), address.to_owned(), "--volume".to_owned(), room.display().to_string()]);
    words.extend(["--progress".to_owned(), "json".to_owned(), "--supervised".to_owned()]);
    words
}

/// Takes an option out, and its value.
fn drop_option(words: &mut Vec<String>, option: &str) {
    let joined = format!("{option}=");
    words.retain(|word| !word.starts_with(&joined));
    while let Some(at) = words.iter().position(|word| word == option) {
        words.drain(at..(at + 2).min(words.len()));
    }
}

/// A member process; killed if it is still there when this goes.
struct Member {
    child: Child,
    words: std::thread::JoinHandle<String>,
    told: Option<String>,
}

impl Member {
    fn start(side: Side, args: &[String], news: &Sender<News>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group: a Ctrl-C on the terminal is the launcher's to pass on.
            .process_group(0)
            .spawn()
            .context("a member process cannot be started")?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("a member process has no standard output");
        };
        let news = news.clone();
        std::thread::spawn(move || {
            let mut told = BufReader::new(out);
            let mut line = String::new();
            while told.read_line(&mut line).is_ok_and(|len| len > 0) {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = news.send(News::Event(side, Box::new(event)));
                }
                line.clear();
                if told.buffer().is_empty() {
                    std::thread::sleep(LISTEN_EVERY);
                }
            }
            let _ = news.send(News::Ended(side));
        });
        let words = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = err.take(64 << 10).read_to_string(&mut text);
            text
        });
        Ok(Self { child, words, told: None })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end, and kills it if that does not come.
    fn wait(&mut self) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(5) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    /// What it said on standard error, without the command's own prefix.
    fn last_words(&mut self) -> String {
        if self.told.is_none() {
            let _ = self.wait();
            let idle = std::thread::spawn(String::new);
            let words = std::mem::replace(&mut self.words, idle).join().unwrap_or_default();
            self.told = Some(words.trim().trim_start_matches("lgr: ").to_owned());
        }
        self.told.clone().unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Follows what the members tell.
struct Watch<'a> {
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
    inbox: &'a Receiver<News>,
    reports: Vec<(Side, Report)>,
    ended: Vec<Side>,
}

impl Watch<'_> {
    /// The address at which the destination listens; `None` if it ended first.
    fn until_listening(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            match self.inbox.recv()? {
                News::Event(_, event) => {
                    if let Event::Listening { address } = *event {
                        return Ok(Some(address));
                    }
                }
                News::Ended(_) => return Ok(None),
            }
        }
    }

    fn until_ended(&mut self, source: &mut Member, destination: &mut Member) {
        let mut cancelled = false;
        let mut first_end: Option<Instant> = None;
        while self.ended.len() < 2 {
            if self.cancel.is_requested() && !cancelled {
                cancelled = true;
                // The side that has the guest decides; the other learns of it over the link.
                let gone = self.ended.contains(&Side::Source);
                (if gone { &*destination } else { &*source }).signal(Signal::INT);
            }
            match self.inbox.recv_timeout(Duration::from_millis(50)) {
                Ok(News::Event(side, event)) => self.on_event(side, *event),
                Ok(News::Ended(side)) => {
                    self.ended.push(side);
                    first_end.get_or_insert_with(Instant::now);
                    // A source that never came to call leaves a destination that waits for ever. One that was cancelled
                    // so early that it did not know of signals yet was killed by ours.
                    let reported = self.reports.iter().any(|(reporter, _)| *reporter == side);
                    if side == Side::Source && !reported && (cancelled || !source.was_killed()) {
                        destination.signal(Signal::INT);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if first_end.is_some_and(|at| at.elapsed() > SECOND_PATIENCE) {
                return;
            }
        }
    }

    fn on_event(&mut self, side: Side, event: Event) {
        match event {
            Event::Finished { report } => self.reports.push((side, *report)),
            // Both ends tell of the link and of the guest's first step; once is enough.
            Event::Connected { .. } | Event::Running { .. } if side == Side::Destination => {}
            event => self.observer.event(event),
        }
    }
}

impl Member {
    fn was_killed(&mut self) -> bool {
        self.wait().is_some_and(|status| status.signal().is_some())
    }
}
