//! The receiving side: counts what arrives, and keeps the sending process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use isfc::{Address, Admission, Extent, Link, LinkEvent, LinkOptions, Medium, Placed, TransferSink};
use lgr_engine::driver::Cancel;
use lgr_engine::report::ProcessUsage;
use rayon::prelude::*;

use super::order::{Answer, Order, Way};
use super::plain;
use crate::bench::region::{CHUNK_BYTES, Memory};

const TICK: Duration = Duration::from_millis(100);
/// Longest wait without anything arriving or being answered.
const PATIENCE: Duration = Duration::from_secs(30);
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// What the measuring thread waits for.
#[derive(Debug)]
enum Event {
    /// The last chunk of the round is in place, since then.
    Arrived(Instant),
    Answer(Answer),
    SenderGone,
    Broken(String),
}

/// Counts the chunks of a round down, and in a checked round looks whether each is all there.
#[derive(Debug)]
pub(super) struct Arrivals {
    memory: Memory,
    left: AtomicU64,
    checking: AtomicBool,
    intact: AtomicU64,
    events: Sender<Event>,
}

impl Arrivals {
    /// A chunk is in place.
    pub(super) fn one(&self, chunk: u64) {
        self.check(chunk);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.events.send(Event::Arrived(Instant::now()));
        }
    }

    fn check(&self, chunk: u64) {
        // SAFETY: a checked round is shorter than memory, so no two of its chunks share a place.
        if self.checking.load(Ordering::Relaxed) && unsafe { self.memory.is_intact(chunk) } {
            self.intact.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// No more chunks can come.
    pub(super) fn broken(&self, reason: String) {
        let _ = self.events.send(Event::Broken(reason));
    }
}

impl TransferSink for Arrivals {
    fn admit(&self, _: u8, _: u32, _: u64, _: &[Extent]) -> Result<Admission, String> {
        Ok(Admission::Place)
    }

    fn placed(&self, _: u8, placed: &Placed<'_>) {
        self.one(placed.extents[0].offset_bytes / CHUNK_BYTES as u64);
    }

    fn damaged(&self, _: u8) {}

    fn device_down(&self, _: u8) {}
}

/// The child that sends. Killed when this is dropped, and by the kernel when this process dies.
#[derive(Debug)]
struct SendingProcess {
    child: Child,
    orders: ChildStdin,
}

impl SendingProcess {
    fn start(events: Sender<Event>) -> anyhow::Result<Self> {
        // Not by its path: the file may have been replaced by a new build meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .args(["bench", "link", "--sending-side"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the sending process")?;
        let orders = child.stdin.take().context("the sending process has no standard input")?;
        let answers = child.stdout.take().context("the sending process has no standard output")?;
        let process = Self { child, orders };
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            for line in BufReader::new(answers).lines().map_while(Result::ok) {
                let event = match serde_json::from_str(&line) {
                    Ok(answer) => Event::Answer(answer),
                    Err(error) => Event::Broken(format!("the sending process said '{line}': {error}")),
                };
                if events.send(event).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::SenderGone);
        })?;
        Ok(process)
    }
}

impl Drop for SendingProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What takes the bytes of one way.
enum Lane {
    Plain {
        _receivers: plain::Receivers,
    },
    Link(Link),
    /// shm has no sockets to compare with: all cores copy inside this process.
    Copy {
        source: Memory,
        pool: rayon::ThreadPool,
        next: u64,
    },
}

/// One round: when it ended, and what it cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) seconds: f64,
    pub(super) sender_cpu_s: f64,
    pub(super) receiver_cpu_s: f64,
}

/// The receiving side as a whole.
pub(super) struct Receiving {
    process: SendingProcess,
    events: Receiver<Event>,
    arrivals: Arc<Arrivals>,
    cancel: Cancel,
    memory: Memory,
    lanes: Vec<(Way, Lane)>,
}

impl Receiving {
    /// Starts the sending process and makes both memories; `cancel` is requested when the user wants to end.
    pub(super) fn start(region_bytes: u64, cancel: Cancel) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel();
        let process = SendingProcess::start(sender.clone())?;
        let memory = Memory::create(region_bytes)?;
        let arrivals = Arc::new(Arrivals {
            memory: memory.clone(),
            left: AtomicU64::new(0),
            checking: AtomicBool::new(false),
            intact: AtomicU64::new(0),
            events: sender,
        });
        let mut receiving = Self { process, events, arrivals, cancel, memory, lanes: Vec::new() };
        receiving.order(&Order::Prepare { region_bytes })?;
        receiving.answer()?;
        Ok(receiving)
    }

    /// Connects `way` over `medium`; socket files are in `dir` until both sides have them open.
    pub(super) fn connect(&mut self, medium: Medium, way: Way, queues: u8, dir: &Path) -> anyhow::Result<()> {
        let lane = match way.engine() {
            None if medium == Medium::Shm => {
                let source = Memory::create(self.memory.storage().len_bytes())?;
                source.fill(3);
                Lane::Copy { source, pool: crate::bench::pool(crate::bench::cores())?, next: 0 }
            }
            None => {
                let listener = plain::Listener::bind(medium, dir)?;
                let address = listener.address()?.to_string();
                self.order(&Order::Connect { way, address, queues })?;
                self.answer()?;
                let sockets = listener.accept(queues)?;
                Lane::Plain { _receivers: plain::Receivers::start(sockets, &self.memory, &self.arrivals)? }
            }
            Some(engine) => {
                let address = match medium {
                    Medium::Tcp => "tcp:127.0.0.1:0".parse()?,
                    Medium::Unix => Address::Unix(dir.join("link")),
                    Medium::Shm => Address::Shm(dir.join("link")),
                };
                let listener = isfc::Listener::bind(&address)?;
                let address = listener.address().to_string();
                self.order(&Order::Connect { way, address, queues })?;
                let stop = || self.cancel.is_requested();
                let endpoints = listener.accept(Some(CALL_PATIENCE), &stop, &|_| ())?;
                self.answer()?;
                let options = LinkOptions { engine: Some(engine), ..LinkOptions::default() };
                let link = Link::start(endpoints, options)?;
                link.register(self.memory.region())?;
                link.set_sink(self.arrivals.clone());
                Lane::Link(link)
            }
        };
        self.lanes.push((way, lane));
        Ok(())
    }

    /// Chunks that fill memory once.
    pub(super) fn chunks(&self) -> u64 {
        self.memory.chunks()
    }

    /// As [`Self::round`] for at most as many chunks as memory has room for, not timed: each is checked as it
    /// arrives.
    pub(super) fn checked_round(&mut self, way: Way, chunks: u64) -> anyhow::Result<()> {
        self.memory.spoil();
        self.arrivals.intact.store(0, Ordering::Relaxed);
        self.arrivals.checking.store(true, Ordering::Relaxed);
        self.round(way, chunks)?;
        self.arrivals.checking.store(false, Ordering::Relaxed);
        let intact = self.arrivals.intact.load(Ordering::Relaxed);
        anyhow::ensure!(intact == chunks, "{way:?}: {intact} of {chunks} chunks arrived intact");
        Ok(())
    }

    /// Streams `chunks` chunks and waits until all are in place.
    pub(super) fn round(&mut self, way: Way, chunks: u64) -> anyhow::Result<Round> {
        let before = ProcessUsage::probe().cpu_s;
        let started = Instant::now();
        let lane = self.lanes.iter_mut().find(|(known, _)| *known == way).context("not connected")?;
        if let Lane::Copy { source, pool, next } = &mut lane.1 {
            let range = *next..*next + chunks;
            let copy = |chunk| {
                source.copy_streaming(&self.memory, chunk);
                self.arrivals.check(chunk);
            };
            pool.install(|| range.clone().into_par_iter().for_each(copy));
            *next = range.end;
            let seconds = started.elapsed().as_secs_f64();
            let receiver_cpu_s = ProcessUsage::probe().cpu_s - before;
            return Ok(Round { seconds, sender_cpu_s: 0.0, receiver_cpu_s });
        }
        self.arrivals.left.store(chunks, Ordering::Release);
        self.order(&Order::Stream { way, chunks })?;
        let (mut arrived, mut sender_cpu_s) = (None, None);
        loop {
            if let (Some(at), Some(sender_cpu_s)) = (arrived, sender_cpu_s) {
                let seconds = Instant::duration_since(&at, started).as_secs_f64();
                let receiver_cpu_s = ProcessUsage::probe().cpu_s - before;
                return Ok(Round { seconds, sender_cpu_s, receiver_cpu_s });
            }
            match self.event()? {
                Event::Arrived(at) => arrived = Some(at),
                Event::Answer(Answer::Done { cpu_s }) => sender_cpu_s = Some(cpu_s),
                other => return Err(failure(other)),
            }
        }
    }

    /// Hangs up everything on both sides.
    pub(super) fn disconnect(&mut self) -> anyhow::Result<()> {
        // This side first: it knows that all has arrived, and must not be told that its peer is gone.
        self.lanes.clear();
        self.order(&Order::Disconnect)?;
        self.answer().map(|_| ())
    }

    fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = format!("{}\n", serde_json::to_string(order)?);
        self.process.orders.write_all(line.as_bytes()).context("the sending process takes no orders")
    }

    fn answer(&self) -> anyhow::Result<f64> {
        match self.event()? {
            Event::Answer(Answer::Done { cpu_s }) => Ok(cpu_s),
            other => Err(failure(other)),
        }
    }

    fn event(&self) -> anyhow::Result<Event> {
        let (mut since, mut left_before) = (Instant::now(), u64::MAX);
        loop {
            match self.events.recv_timeout(TICK) {
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Disconnected) => bail!("the sending process is gone"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.cancel.is_requested() {
                bail!("interrupted");
            }
            for (_, lane) in &self.lanes {
                while let Lane::Link(link) = lane
                    && let Ok(event) = link.recv(Duration::ZERO)
                {
                    if let LinkEvent::DeviceDown(device, reason) = event {
                        bail!("device {device}: {reason}");
                    }
                }
            }
            let left = self.arrivals.left.load(Ordering::Relaxed);
            if left != left_before {
                (since, left_before) = (Instant::now(), left);
            }
            if since.elapsed() > PATIENCE {
                bail!("nothing arrived for {PATIENCE:?}, {left} chunks missing");
            }
        }
    }
}

fn failure(event: Event) -> anyhow::Error {
    match event {
        Event::Answer(Answer::Failed { reason }) => anyhow::anyhow!("sending process: {reason}"),
        Event::Broken(reason) => anyhow::anyhow!(reason),
        Event::SenderGone => anyhow::anyhow!("the sending process is gone"),
        other => anyhow::anyhow!("not expected now: {other:?}"),
    }
}
