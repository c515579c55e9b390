//! The logical link as it runs: its devices' threads, its sockets and its regions.
//!
//! ```text
//!   caller ──send──▶ Core (numbers, remembers) ──▶ urgent / low queues ─┐
//!   TransferSource ◀──────────── pull ──────────────────────────────────┤
//!                                                                       ▼
//!                                          device 0 … device 15, a thread and a ring each
//!                                                                       │
//!   caller ◀─recv── Core (orders, acks) ◀── messages ───────────────────┤
//!   region ◀── payload, straight from the socket ◀── transfers ─────────┘──▶ TransferSink
//! ```

mod core;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use crossbeam::queue::SegQueue;
use socket2::Socket;

pub use self::core::{Core, CoreError, Effect, Outgoing, Priority, SOCKETS_MAX, SocketId, UNACKED_MAX};
use crate::counters::{Counters, DeviceCounters};
use crate::device::{Placement, Waker, blocking, uring};
use crate::frame::FrameKind;
use crate::hello::DEVICES_MAX;
use crate::medium::{Endpoints, MediumError};
use crate::region::{Region, RemoteRegion};
use crate::transfer::{TransferSink, TransferSource};

/// Messages delivered and not yet taken by the caller; a peer that sends more is cut off.
const UNTAKEN_MAX: usize = 4096;

/// Why a device, or the whole link, is down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// The peer closed it, or is gone.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing came for longer than the silence limit.
    #[error("the peer was silent for {limit_ms} ms")]
    Silent {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// A frame could not be sent for longer than the silence limit.
    #[error("the peer took nothing for {limit_ms} ms")]
    Stalled {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The kernel reported an error.
    #[error("{0}")]
    Io(String),
    /// The peer sent something no correct peer sends.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// This side closed it.
    #[error("closed by this side")]
    Local,
}

/// What drives the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// One io_uring per device.
    IoUring,
    /// Two blocking threads per device.
    Blocking,
}

/// How a link is to be run.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// `None`: io_uring if it is allowed, blocking threads otherwise.
    pub engine: Option<Engine>,
    /// A device on which nothing comes in, or nothing can be sent, for this long is dead. Pings keep
    /// an idle one alive.
    pub silence_limit: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self { engine: None, silence_limit: Duration::from_secs(5) }
    }
}

/// What a link tells its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A message, in order within its socket.
    Message(SocketId, Vec<u8>),
    /// A device is gone; the others go on.
    DeviceDown(u8, DownReason),
    /// The last device is gone. Nothing follows.
    LinkDown(DownReason),
    /// What [`Link::notifier`] was asked to put here.
    Notice(u64),
}

#[derive(Debug)]
struct DeviceState {
    waker: Waker,
    socket: Socket,
    counters: Counters,
    idle: AtomicBool,
    closed: AtomicBool,
    hold_ms: AtomicU64,
    reason: Mutex<Option<DownReason>>,
    ended: Mutex<bool>,
    ended_signal: Condvar,
}

/// Everything the devices' threads share.
pub(crate) struct Shared {
    devices: Vec<DeviceState>,
    regions: [OnceLock<Region>; 4],
    remote: Vec<RemoteRegion>,
    /// Payload is left for the receiver to fetch.
    pub(crate) shares: bool,
    source: OnceLock<Arc<dyn TransferSource>>,
    sink: OnceLock<Arc<dyn TransferSink>>,
    core: Mutex<Core>,
    urgent: [SegQueue<Outgoing>; 2],
    low: SegQueue<Outgoing>,
    events: Sender<LinkEvent>,
    untaken: AtomicUsize,
    next_kick: AtomicUsize,
    options: LinkOptions,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("devices", &self.devices.len()).finish_non_exhaustive()
    }
}

impl Placement for Shared {
    fn region(&self, number: u16) -> Option<&Region> {
        self.regions.get(usize::from(number))?.get()
    }

    fn remote(&self, number: u16) -> Option<&RemoteRegion> {
        self.remote.iter().find(|remote| remote.number == number)
    }

    fn sink(&self) -> Option<&Arc<dyn TransferSink>> {
        self.sink.get()
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("no thread panics while it holds the core")
    }

    pub(crate) fn source(&self) -> Option<&Arc<dyn TransferSource>> {
        self.source.get()
    }

    pub(crate) fn counters(&self, device: u8) -> &Counters {
        &self.devices[usize::from(device)].counters
    }

    pub(crate) fn silence_limit(&self) -> Duration {
        self.options.silence_limit
    }

    pub(crate) fn ping_every(&self) -> Duration {
        self.options.silence_limit / 4
    }

    pub(crate) fn set_idle(&self, device: u8, idle: bool) {
        self.devices[usize::from(device)].idle.store(idle, Ordering::SeqCst);
    }

    pub(crate) fn take_hold(&self, device: u8) -> Duration {
        let hold = &self.devices[usize::from(device)].hold_ms;
        match hold.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            _ => Duration::from_millis(hold.swap(0, Ordering::Relaxed)),
        }
    }

    pub(crate) fn check_open(&self, device: u8) -> Result<(), DownReason> {
        let state = &self.devices[usize::from(device)];
        if state.closed.load(Ordering::Acquire) {
            return Err(self.first_reason(device).unwrap_or(DownReason::Local));
        }
        Ok(())
    }

    pub(crate) fn first_reason(&self, device: u8) -> Option<DownReason> {
        let state = &self.devices[usize::from(device)];
        state.reason.lock().expect("no thread panics while it holds a reason").clone()
    }

    /// Marks a device closed; the first reason given stays.
    pub(crate) fn mark_down(&self, device: u8, reason: &DownReason) {
        let state = &self.devices[usize::from(device)];
        let mut known = state.reason.lock().expect("no thread panics while it holds a reason");
        known.get_or_insert_with(|| reason.clone());
        state.closed.store(true, Ordering::Release);
    }

    pub(crate) fn pop_urgent(&self, device: u8) -> Option<Outgoing> {
        let frame = self.urgent[0].pop().or_else(|| self.urgent[1].pop())?;
        self.carry(device, frame)
    }

    pub(crate) fn pop_low(&self, device: u8) -> Option<Outgoing> {
        self.low.pop().and_then(|frame| self.carry(device, frame))
    }

    fn carry(&self, device: u8, frame: Outgoing) -> Option<Outgoing> {
        if frame.kind == FrameKind::Message {
            self.core().carried(device, frame.socket, frame.sequence);
        }
        Some(frame)
    }

    fn queue(&self, frame: Outgoing) {
        match frame.socket.priority() {
            Priority::High => self.urgent[0].push(frame),
            Priority::Normal => self.urgent[1].push(frame),
            Priority::Low => self.low.push(frame),
        }
    }

    /// Runs `step` on the core and does what it wants done. Deliveries happen under the core's lock: two
    /// devices whose messages were put in order must not swap them again on the way to the caller.
    fn with_core<E>(&self, step: impl FnOnce(&mut Core, &mut Vec<Effect>) -> Result<(), E>) -> Result<(), E> {
        let mut effects = Vec::new();
        let mut core = self.core();
        step(&mut core, &mut effects)?;
        let mut queued = 0;
        for effect in effects {
            match effect {
                Effect::Transmit(frame) => {
                    self.queue(frame);
                    queued += 1;
                }
                Effect::Deliver(socket, body) => {
                    self.untaken.fetch_add(1, Ordering::Relaxed);
                    let _ = self.events.send(LinkEvent::Message(socket, body));
                }
                Effect::LinkDown(reason) => {
                    let _ = self.events.send(LinkEvent::LinkDown(reason));
                }
            }
        }
        drop(core);
        self.kick(queued);
        Ok(())
    }

    pub(crate) fn incoming(&self, device: u8, incoming: crate::device::Incoming) -> Result<(), DownReason> {
        use crate::device::Incoming;
        match incoming {
            Incoming::Ping => Ok(()),
            Incoming::Transfer => {
                crate::counters::add(&self.counters(device).transfers_rx, 1);
                Ok(())
            }
            Incoming::Ack { socket, sequence } => {
                let socket = SocketId::new(socket).expect("the header's limits were checked");
                self.core().ack(socket, sequence);
                Ok(())
            }
            Incoming::Message { socket, sequence, body } => {
                if self.untaken.load(Ordering::Relaxed) > UNTAKEN_MAX {
                    return Err(DownReason::Protocol(format!("{UNTAKEN_MAX} messages wait untaken")));
                }
                let socket = SocketId::new(socket).expect("the header's limits were checked");
                self.with_core(|core, effects| core.message(socket, sequence, body, effects))
                    .map_err(|error| DownReason::Protocol(error.to_string()))?;
                Ok(())
            }
        }
    }

    fn kick(&self, count: usize) {
        std::sync::atomic::fence(Ordering::SeqCst);
        let devices = self.devices.len();
        let start = self.next_kick.fetch_add(count, Ordering::Relaxed);
        let mut left = count;
        for step in 0..devices {
            if left == 0 {
                return;
            }
            let state = &self.devices[start.wrapping_add(step) % devices];
            if state.idle.swap(false, Ordering::SeqCst) {
                state.waker.wake();
                left -= 1;
            }
        }
    }

    /// Runs in the device's own thread, last.
    fn device_ended(&self, device: u8, reason: DownReason) {
        self.mark_down(device, &reason);
        let reason = self.first_reason(device).unwrap_or(reason);
        if let Some(sink) = self.sink.get() {
            sink.device_down(device);
        }
        let state = &self.devices[usize::from(device)];
        *state.ended.lock().expect("no thread panics while it holds this") = true;
        state.ended_signal.notify_all();
        let _ = self.events.send(LinkEvent::DeviceDown(device, reason.clone()));
        let _ = self.with_core(|core, effects| -> Result<(), std::convert::Infallible> {
            core.device_down(device, reason, effects);
            Ok(())
        });
    }
}

/// Why a call to a link failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The link is down.
    #[error("the link is down: {0}")]
    Down(DownReason),
    /// See [`CoreError`].
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Waited long enough.
    #[error("nothing came within {0:?}")]
    TimedOut(Duration),
    /// A region number out of range, or registered twice.
    #[error("region {0} cannot be registered: numbers are 0 to 3, each once")]
    Region(u16),
}

/// One side of a running logical link.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    events: Receiver<LinkEvent>,
    threads: Vec<JoinHandle<()>>,
    engine: Engine,
    engine_fallback: Option<String>,
    medium: crate::address::Medium,
    peer: String,
}

impl Link {
    /// Starts a thread for each device of `endpoints`.
    ///
    /// # Errors
    /// An engine that was asked for and is not allowed here, shared memory that cannot be mapped, or threads or descriptors the kernel refuses.
    pub fn start(endpoints: Endpoints, options: LinkOptions) -> Result<Self, MediumError> {
        let (engine, engine_fallback) = choose_engine(options.engine)?;
        let (events, receiver) = unbounded();
        let devices = endpoints.devices();
        debug_assert!(devices <= DEVICES_MAX);
        let medium = endpoints.medium();
        let peer = endpoints.peer().to_owned();
        let remote = endpoints.remote.into_iter().map(RemoteRegion::map).collect::<Result<_, _>>()?;
        let shares = endpoints.shares;
        let devices = endpoints
            .sockets
            .into_iter()
            .map(|socket| {
                Ok(DeviceState {
                    waker: Waker::new()?,
                    socket,
                    counters: Counters::default(),
                    idle: AtomicBool::new(false),
                    closed: AtomicBool::new(false),
                    hold_ms: AtomicU64::new(0),
                    reason: Mutex::new(None),
                    ended: Mutex::new(false),
                    ended_signal: Condvar::new(),
                })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(devices.len() as u8)),
            devices,
            regions: Default::default(),
            remote,
            shares,
            source: OnceLock::new(),
            sink: OnceLock::new(),
            urgent: Default::default(),
            low: SegQueue::new(),
            events,
            untaken: AtomicUsize::new(0),
            next_kick: AtomicUsize::new(0),
            options,
        });
        let mut link =
            Self { shared, events: receiver, threads: Vec::new(), engine, engine_fallback, medium, peer };
        for device in 0..link.shared.devices.len() as u8 {
            let thread = spawn_device(device, &link.shared, engine)?;
            link.threads.push(thread);
        }
        Ok(link)
    }

    /// Registers memory that the peer may place into, or that transfers are sent from.
    ///
    /// # Errors
    /// [`LinkError::Region`].
    pub fn register(&self, region: Region) -> Result<(), LinkError> {
        let number = region.number();
        let slot = self.shared.regions.get(usize::from(number)).ok_or(LinkError::Region(number))?;
        slot.set(region).map_err(|_| LinkError::Region(number))
    }

    /// Makes the memory that the peer shares ready to be fetched (shm medium; nothing to do on others).
    pub fn populate_shared(&self) {
        self.shared.remote.iter().for_each(RemoteRegion::populate);
    }

    /// Sets where devices get transfers; once per link.
    pub fn set_source(&self, source: Arc<dyn TransferSource>) {
        let _ = self.shared.source.set(source);
        self.kick(usize::MAX);
    }

    /// Sets who is told of transfers that arrive; once per link.
    pub fn set_sink(&self, sink: Arc<dyn TransferSink>) {
        let _ = self.shared.sink.set(sink);
    }

    /// Wakes up to `count` idle devices: the source has work again.
    pub fn kick(&self, count: usize) {
        self.shared.kick(count.min(self.shared.devices.len()));
    }

    /// Sends a message on `socket`.
    ///
    /// # Errors
    /// The link is down, the message is too long, or too many wait for their acks.
    pub fn send(&self, socket: SocketId, body: &[u8]) -> Result<(), LinkError> {
        let frame = {
            let mut core = self.shared.core();
            if let Some(reason) = core.down_reason() {
                return Err(LinkError::Down(reason.clone()));
            }
            core.send(socket, body.into())?
        };
        self.shared.queue(frame);
        self.kick(1);
        Ok(())
    }

    /// Waits at most `patience` for the next event.
    ///
    /// # Errors
    /// [`LinkError::TimedOut`].
    pub fn recv(&self, patience: Duration) -> Result<LinkEvent, LinkError> {
        match self.events.recv_timeout(patience) {
            Ok(event) => {
                if matches!(event, LinkEvent::Message(..)) {
                    self.shared.untaken.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(event)
            }
            Err(RecvTimeoutError::Timeout) => Err(LinkError::TimedOut(patience)),
            Err(RecvTimeoutError::Disconnected) => Err(LinkError::Down(DownReason::Local)),
        }
    }

    /// Puts [`LinkEvent::Notice`]s among the link's events, from any thread.
    pub fn notifier(&self) -> Notifier {
        Notifier(self.shared.events.clone())
    }

    /// Waits until the peer has taken every message, at most `patience`.
    ///
    /// # Errors
    /// The link went down first, or time ran out.
    pub fn flush(&self, patience: Duration) -> Result<(), LinkError> {
        let started = Instant::now();
        loop {
            {
                let core = self.shared.core();
                if core.unacked() == 0 {
                    return Ok(());
                }
                if let Some(reason) = core.down_reason() {
                    return Err(LinkError::Down(reason.clone()));
                }
            }
            if started.elapsed() > patience {
                return Err(LinkError::TimedOut(patience));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Closes one device and waits until none of its bytes can arrive any more.
    pub fn close_device(&self, device: u8) {
        let Some(state) = self.shared.devices.get(usize::from(device)) else { return };
        self.shared.mark_down(device, &DownReason::Local);
        let _ = state.socket.shutdown(std::net::Shutdown::Both);
        state.waker.wake();
        let mut ended = state.ended.lock().expect("no thread panics while it holds this");
        while !*ended {
            ended = state.ended_signal.wait(ended).expect("no thread panics while it holds this");
        }
    }

    /// Cuts a device's connection as a pulled cable would: neither side is told. For fault tests.
    pub fn cut_device(&self, device: u8) {
        if let Some(state) = self.shared.devices.get(usize::from(device)) {
            let _ = state.socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Holds the next transfer of a device back for so long. For fault tests.
    pub fn hold_device(&self, device: u8, hold: Duration) {
        if let Some(state) = self.shared.devices.get(usize::from(device)) {
            state.hold_ms.store(hold.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// Bit `n` set: device `n` is up.
    pub fn devices_up(&self) -> u16 {
        self.shared.core().devices_up()
    }

    /// Number of devices the link was made with.
    pub fn devices(&self) -> u8 {
        self.shared.devices.len() as u8
    }

    /// What drives the devices, and why it is not io_uring if that could not be had.
    pub fn engine(&self) -> (Engine, Option<&str>) {
        (self.engine, self.engine_fallback.as_deref())
    }

    /// What carries the devices.
    pub fn medium(&self) -> crate::address::Medium {
        self.medium
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Each device's counters now.
    pub fn counters(&self) -> Vec<DeviceCounters> {
        let shared = &self.shared;
        (0..self.devices())
            .map(|device| {
                let reason = shared.first_reason(device);
                let state = reason.map_or_else(|| "up".to_owned(), |reason| reason.to_string());
                shared.counters(device).snapshot(device, state)
            })
            .collect()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for (device, state) in self.shared.devices.iter().enumerate() {
            self.shared.mark_down(device as u8, &DownReason::Local);
            let _ = state.socket.shutdown(std::net::Shutdown::Both);
            state.waker.wake();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Puts notices among a link's events.
#[derive(Clone, Debug)]
pub struct Notifier(Sender<LinkEvent>);

impl Notifier {
    /// Puts [`LinkEvent::Notice`]`(number)` behind the events that wait already.
    pub fn notify(&self, number: u64) {
        let _ = self.0.send(LinkEvent::Notice(number));
    }
}

fn choose_engine(wanted: Option<Engine>) -> Result<(Engine, Option<String>), MediumError> {
    if wanted == Some(Engine::Blocking) {
        return Ok((Engine::Blocking, None));
    }
    match (uring::probe(), wanted) {
        (Ok(()), _) => Ok((Engine::IoUring, None)),
        (Err(reason), None) => Ok((Engine::Blocking, Some(reason))),
        (Err(reason), Some(_)) => Err(MediumError::Engine(reason)),
    }
}

fn spawn_device(device: u8, shared: &Arc<Shared>, engine: Engine) -> std::io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    std::thread::Builder::new().name(format!("ctc-{device:02}")).spawn(move || {
        let state = &shared.devices[usize::from(device)];
        let reason = match engine {
            Engine::IoUring => uring::run(device, &shared, &state.socket, &state.waker),
            Engine::Blocking => blocking::run(device, &shared, &state.socket, &state.waker),
        };
        shared.device_ended(device, reason);
    })
}
