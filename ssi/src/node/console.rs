//! What a member tells its operators: a history, a log file, and whoever listens.
//!
//! Whoever tells something never waits for those who are told. The log is written by a thread of its own, which may hang as
//! long as its file system does; lines that it cannot take meanwhile are counted, and so are those of a slow listener.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::log::Log;
use super::stamp::Stamp;

/// Lines that are kept for those who come later.
const HISTORY_LINES: usize = 500;
/// Lines that may wait for one listener; who is slower misses some.
const WAITING_LINES: usize = 2_048;

/// Somebody who is told what the operators are told, until [`Console::forget`].
#[derive(Debug)]
pub struct Listener {
    /// What was told before.
    pub history: Vec<String>,
    /// What is told from now on, and how many lines were lost if it falls too far behind. It ends when the listener is forgotten.
    pub news: Receiver<String>,
    /// For [`Console::forget`].
    pub number: u64,
}

/// Who listens.
#[derive(Debug)]
struct Ear {
    number: u64,
    news: Sender<String>,
    lost: u64,
}

impl Ear {
    /// `false`: nobody is there any more.
    fn hear(&mut self, line: &str) -> bool {
        if self.lost > 0 {
            match self.news.try_send(lost_text(self.lost)) {
                Ok(()) => self.lost = 0,
                Err(TrySendError::Full(_)) => {
                    self.lost += 1;
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match self.news.try_send(line.to_owned()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// In place of lines that are not there.
pub(super) fn lost_text(lines: u64) -> String {
    format!("{} {lines} lines were lost", Stamp::now().time())
}

/// The operators' console.
#[derive(Debug)]
pub struct Console {
    /// Never held while anything is waited for.
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    history: VecDeque<String>,
    ears: Vec<Ear>,
    /// Listeners so far.
    numbers: u64,
    log: Option<Log>,
}

impl Inner {
    fn pass_on(&mut self, line: String) {
        if self.history.len() == HISTORY_LINES {
            self.history.pop_front();
        }
        self.ears.retain_mut(|ear| ear.hear(&line));
        self.history.push_back(line);
    }
}

impl Console {
    /// A console whose lines also go to the file at `path`, behind what is there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let log = path.map(Log::open).transpose()?;
        let inner = Inner { history: VecDeque::new(), ears: Vec::new(), numbers: 0, log };
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// Tells a line, with the time of day before it. Control characters do not reach a terminal. It waits for nobody.
    pub fn tell(&self, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let now = Stamp::now();
        let mut inner = self.lock();
        inner.pass_on(format!("{} {text}", now.time()));
        let takes = inner.log.as_mut().is_none_or(|log| log.write(format!("{now} {text}\n")));
        if !takes {
            inner.pass_on(format!(
                "{} The log takes no lines; those that come are lost until it does",
                now.time()
            ));
        }
    }

    /// Waits until all that was told is in the log, at most for so long.
    pub fn flush(&self, patience: Duration) {
        let waits = self.lock().log.as_ref().map(Log::written);
        if let Some(written) = waits {
            written.wait(patience);
        }
    }

    /// What was told so far, and what will be.
    pub fn listen(&self) -> Listener {
        let (sender, news) = bounded(WAITING_LINES);
        let mut inner = self.lock();
        inner.numbers += 1;
        let number = inner.numbers;
        inner.ears.push(Ear { number, news: sender, lost: 0 });
        Listener { history: inner.history.iter().cloned().collect(), news, number }
    }

    /// Tells this listener nothing more: its news end.
    pub fn forget(&self, number: u64) {
        self.lock().ears.retain(|ear| ear.number != number);
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

    #[test]
    fn a_slow_listener_holds_nobody_up_and_hears_how_much_it_has_missed() {
        let console = Console::open(None).unwrap();
        let listener = console.listen();
        (0..WAITING_LINES + 7).for_each(|line| console.tell(&line.to_string()));
        assert_eq!(listener.news.try_iter().count(), WAITING_LINES);
        console.tell("last");
        let news: Vec<String> = listener.news.try_iter().collect();
        assert!(
            matches!(news.as_slice(), [lost, last] if lost.ends_with(" 7 lines were lost") && last.ends_with(" last")),
            "{news:?}"
        );
    }
}
