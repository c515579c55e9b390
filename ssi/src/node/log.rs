//! The log file of a member, written by a thread of its own: it alone waits if the file does.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::stamp::Stamp;

/// Lines that may wait for the file; more are lost.
const WAITING_LINES: usize = 2_048;
/// Size at which the log file is begun anew; the one before is kept.
const LOG_LEN_BYTES_MAX: u64 = 4 << 20;

/// For its owner only.
fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// A line, and how many were lost before it.
struct Entry {
    lost_before: u64,
    line: String,
}

/// The way to the file.
#[derive(Debug)]
pub(super) struct Log {
    lines: Sender<Entry>,
    /// Since the last line that was taken.
    lost: u64,
    taken: u64,
    written: Arc<Count>,
}

#[derive(Debug, Default)]
struct Count {
    lines: Mutex<u64>,
    grows: Condvar,
}

/// Lines up to one of them.
pub(super) struct Written {
    count: Arc<Count>,
    until: u64,
}

impl Written {
    /// Until they are in the file, at most for so long.
    pub(super) fn wait(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut lines = self.count.lines.lock().expect("no thread panics while it counts");
        while *lines < self.until {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            lines = self.count.grows.wait_timeout(lines, left).expect("no thread panics while it counts").0;
        }
    }
}

impl Log {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = open(path)?;
        let len_bytes = file.metadata()?.len();
        let (lines, waiting) = bounded(WAITING_LINES);
        let written = Arc::new(Count::default());
        let count = written.clone();
        let mut writer = Writer { path: path.to_owned(), file: Some(file), len_bytes, lost: 0 };
        let thread = std::thread::Builder::new().name("ssi-log".into());
        thread.spawn(move || writer.run(&waiting, &count))?;
        Ok(Self { lines, lost: 0, taken: 0, written })
    }

    /// Takes a line, with its end, if there is room. `false`: this is the first that is lost.
    pub(super) fn write(&mut self, line: String) -> bool {
        if self.lines.try_send(Entry { lost_before: self.lost, line }).is_ok() {
            self.lost = 0;
            self.taken += 1;
            return true;
        }
        self.lost += 1;
        self.lost > 1
    }

    /// All lines that were taken so far.
    pub(super) fn written(&self) -> Written {
        Written { count: self.written.clone(), until: self.taken }
    }
}

struct Writer {
    path: PathBuf,
    file: Option<File>,
    len_bytes: u64,
    /// Lines that the file has refused (a full disk, say) since it last took one.
    lost: u64,
}

impl Writer {
    fn run(&mut self, lines: &Receiver<Entry>, count: &Count) {
        for Entry { lost_before, line } in lines {
            self.lost += lost_before;
            if self.lost > 0 && self.write(&format!("{} {} lines were lost\n", Stamp::now(), self.lost)) {
                self.lost = 0;
            }
            if !self.write(&line) {
                self.lost += 1;
            }
            *count.lines.lock().expect("no thread panics while it counts") += 1;
            count.grows.notify_all();
        }
    }

    /// A log that cannot be written is no reason to stop.
    fn write(&mut self, line: &str) -> bool {
        if self.len_bytes > LOG_LEN_BYTES_MAX {
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
            self.file = open(&self.path).ok();
            self.len_bytes = 0;
        }
        if self.file.is_none() {
            self.file = open(&self.path).ok();
        }
        let written = self.file.as_mut().is_some_and(|file| file.write_all(line.as_bytes()).is_ok());
        self.len_bytes += if written { line.len() as u64 } else { 0 };
        written
    }
}

#[cfg(test)]
mod tests {
    use super::super::Console;
    use super::*;
    use std::io::{BufRead, BufReader};

    #[test]
    fn a_log_that_hangs_holds_nobody_up_and_says_how_many_lines_it_has_missed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("MEMBERA.log");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // It takes what fits into the pipe, and then nothing.
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        rustix::pipe::fcntl_setpipe_size(&reader, 4_096).unwrap();
        let console = Console::open(Some(&path)).unwrap();
        let all = 3 * WAITING_LINES as u64;
        (0..all).for_each(|line| console.tell(&format!("line {line}")));
        console.flush(Duration::from_millis(1));
        // Somebody reads: what was kept comes, then what was lost is told before the next.
        let (mut seen, mut lost) = (0, 0);
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        while seen + lost < all {
            let line = lines.next().unwrap();
            match line.strip_suffix(" lines were lost").and_then(|line| line.rsplit(' ').next()) {
                Some(count) => lost += count.parse::<u64>().unwrap(),
                None if line.ends_with("last") => {}
                None => seen += 1,
            }
            if seen == WAITING_LINES as u64 {
                console.tell("last");
            }
        }
        assert!(lost > 0 && seen >= WAITING_LINES as u64, "{seen} seen, {lost} lost");
    }

    #[test]
    fn what_was_told_is_in_the_log_after_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("MEMBERA.log");
        let console = Console::open(Some(&path)).unwrap();
        (0..100).for_each(|line| console.tell(&format!("line {line}")));
        console.flush(Duration::from_secs(60));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 100);
    }
}
