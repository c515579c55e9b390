//! The QEMU Machine Protocol: JSON lines over a socket, answers and events mixed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::child::{LOOK_AGAIN, check};

/// Longest line taken; QEMU's own longest (its schema) is not asked for.
const LINE_BYTES_MAX: usize = 1 << 20;
/// An answer takes longer only if QEMU hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Something that QEMU told unasked.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "event")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) data: Value,
    timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Timestamp {
    seconds: i64,
    microseconds: i64,
}

impl Event {
    /// When it happened, by the clock of the machine, in milliseconds since 1970.
    pub(crate) fn at_ms(&self) -> f64 {
        self.timestamp.seconds as f64 * 1e3 + self.timestamp.microseconds as f64 / 1e3
    }
}

/// A connection to one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
    /// A line of which the end has not come yet.
    line: Vec<u8>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Connects to the socket, which need not be there yet; `alive` says whether it may still come.
    pub(crate) fn connect(
        path: &Path,
        mut alive: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let stream = loop {
            check()?;
            alive()?;
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > ANSWER_WITHIN => {
                    return Err(error).context("QEMU's control socket");
                }
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        };
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut qmp = Self { reader: BufReader::new(stream), line: Vec::new(), events: VecDeque::new() };
        qmp.answer("QMP")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Has a command carried out and gives its answer.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes())?;
        self.answer("return").with_context(|| format!("QEMU, command {command}"))
    }

    /// A command of the human monitor, for what the protocol has no command for.
    pub(crate) fn human(&mut self, line: &str) -> anyhow::Result<String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    fn answer(&mut self, key: &str) -> anyhow::Result<Value> {
        let until = Instant::now() + ANSWER_WITHIN;
        loop {
            let Some(mut message) = self.message(until)? else { bail!("no answer") };
            if let Some(error) = message.get("error") {
                bail!("{}", error["desc"].as_str().unwrap_or("refused"));
            }
            if let Some(answer) = message.get_mut(key) {
                return Ok(answer.take());
            }
            self.keep(message)?;
        }
    }

    /// Forgets the events that came until now.
    pub(crate) fn forget_events(&mut self) {
        self.events.clear();
    }

    /// The next event that is `wanted`, of those that came since the last wait, or within `limit` from now; others are
    /// forgotten. `None` if none came.
    pub(crate) fn event(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> anyhow::Result<Option<Event>> {
        let until = Instant::now() + limit;
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted(&event) {
                    return Ok(Some(event));
                }
            }
            match self.message(until)? {
                Some(message) => self.keep(message)?,
                None => return Ok(None),
            }
        }
    }

    fn keep(&mut self, message: Value) -> anyhow::Result<()> {
        if message.get("event").is_some() {
            self.events.push_back(serde_json::from_value(message)?);
        }
        Ok(())
    }

    /// The next message; `None` if `until` comes first.
    fn message(&mut self, until: Instant) -> anyhow::Result<Option<Value>> {
        loop {
            check()?;
            let room = (LINE_BYTES_MAX - self.line.len()) as u64;
            // What was read before a timeout stays in the line.
            match self.reader.by_ref().take(room).read_until(b'\n', &mut self.line) {
                Ok(0) => bail!("QEMU has hung up"),
                Ok(_) if self.line.ends_with(b"\n") => {
                    let message = serde_json::from_slice(&self.line)?;
                    self.line.clear();
                    return Ok(Some(message));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= until {
                return Ok(None);
            }
        }
    }
}
