//! What a member tells its operators: a history, a log file, and whoever listens.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::stamp::Stamp;

/// Lines that are kept for those who come later.
const HISTORY_LINES: usize = 500;
/// Lines that may wait for one listener; who is slower than that is no longer told.
const WAITING_LINES: usize = 2_048;
/// Size at which the log file is begun anew; the one before is kept.
const LOG_LEN_BYTES_MAX: u64 = 4 << 20;

/// For its owner only.
fn open_log(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// Somebody who is told what the operators are told, until [`Console::forget`].
#[derive(Debug)]
pub struct Listener {
    /// What was told before.
    pub history: Vec<String>,
    /// What is told from now on. It ends when the listener is forgotten, or falls too far behind.
    pub news: Receiver<String>,
    /// For [`Console::forget`].
    pub number: u64,
}

/// The operators' console.
#[derive(Debug)]
pub struct Console {
    inner: Mutex<Inner>,
    path: Option<PathBuf>,
}

#[derive(Debug)]
struct Inner {
    history: VecDeque<String>,
    listeners: Vec<(u64, Sender<String>)>,
    /// Listeners so far.
    numbers: u64,
    log: Option<File>,
    log_len_bytes: u64,
}

impl Console {
    /// A console whose lines also go to the file at `path`, behind what is there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let log = path.map(open_log).transpose()?;
        let log_len_bytes = log.as_ref().map_or(Ok(0), |log| log.metadata().map(|data| data.len()))?;
        let inner = Inner { history: VecDeque::new(), listeners: Vec::new(), numbers: 0, log, log_len_bytes };
        Ok(Self { inner: Mutex::new(inner), path: path.map(Path::to_owned) })
    }

    /// Tells a line, with the time of day before it. Control characters do not reach a terminal.
    pub fn tell(&self, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let line = format!("{} {text}", Stamp::now().time());
        let mut inner = self.lock();
        if inner.history.len() == HISTORY_LINES {
            inner.history.pop_front();
        }
        inner.listeners.retain(|(_, listener)| {
            !matches!(
                listener.try_send(line.clone()),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            )
        });
        self.write(&mut inner, &format!("{} {text}\n", Stamp::now()));
        inner.history.push_back(line);
    }

    /// A log that cannot be written (a full disk, say) is no reason to stop.
    fn write(&self, inner: &mut Inner, line: &str) {
        if inner.log_len_bytes > LOG_LEN_BYTES_MAX
            && let Some(path) = &self.path
        {
            let _ = std::fs::rename(path, path.with_extension("log.1"));
            inner.log = open_log(path).ok();
            inner.log_len_bytes = 0;
        }
        if let Some(log) = &mut inner.log
            && log.write_all(line.as_bytes()).is_ok()
        {
            inner.log_len_bytes += line.len() as u64;
        }
    }

    /// What was told so far, and what will be.
    pub fn listen(&self) -> Listener {
        let (sender, news) = bounded(WAITING_LINES);
        let mut inner = self.lock();
        inner.numbers += 1;
        let number = inner.numbers;
        inner.listeners.push((number, sender));
        Listener { history: inner.history.iter().cloned().collect(), news, number }
    }

    /// Tells this listener nothing more: its news end.
    pub fn forget(&self, number: u64) {
        self.lock().listeners.retain(|(of, _)| *of != number);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the console")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_hears_what_is_told_until_it_is_forgotten() {
        let console = Console::open(None).unwrap();
        console.tell("before");
        let (first, second) = (console.listen(), console.listen());
        assert!(first.history[0].ends_with(" before"));
        console.tell("now\u{1b}[2J");
        console.forget(first.number);
        console.tell("later");
        let news: Vec<String> = first.news.iter().collect();
        assert!(matches!(news.as_slice(), [one] if one.ends_with(" now?[2J")), "{news:?}");
        assert_eq!(second.news.len(), 2);
    }
}
