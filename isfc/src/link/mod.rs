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
mod device_state;
mod flow;
mod life;
mod segments;
mod shared;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

pub use self::core::{
    Core, CoreError, Effect, Outgoing, Priority, SOCKETS_MAX, SocketId, UNACKED_BYTES_MAX, UNACKED_MAX,
};
pub(crate) use self::device_state::DeviceState;
pub use self::flow::{BUDGET_MIN_BYTES, Flow, Room, TRANSFER_MIN_BYTES};
pub use self::life::{Death, Fruitless, Hole, Life, Moved};
pub use self::segments::{
    Arrival, CREDIT_MAX, Content, PATIENCE, RxSegments, SegmentAck, Settled, Span, TxSegments,
};
pub(crate) use self::shared::{Setup, Shared};
use crate::counters::DeviceCounters;
use crate::device::gauge::Gauge;
use crate::device::lend::survive_hangups;
use crate::device::{blocking, uring};
use crate::hello::DEVICES_MAX;
use crate::islink::{Islink, IslinkDevice};
use crate::medium::{Endpoints, MediumError};
use crate::panics::guarded;
use crate::region::{Region, RemoteRegion};
use crate::rejoin::{Keeper, Threads};
use crate::timeline::{Sample, Timeline};
use crate::tls::{FailureHook, Session, TlsFailure, Tunnel};
use crate::transfer::{TransferSink, TransferSource};

/// How long a device that is taken out may go on with what is under way.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

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
    /// The peer takes what is sent, but says so of nothing.
    #[error("the peer acknowledged nothing for {limit_ms} ms")]
    Unacknowledged {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The path takes short frames and no long ones, over several connections.
    #[error(
        "hellos and frames of up to {passed_bytes} bytes pass, frames of {failed_bytes} bytes do not, over {connections} \
         connections: is the path's MTU smaller than the interface's?"
    )]
    MtuHole {
        /// Longest frame that was acknowledged, in bytes.
        passed_bytes: u64,
        /// Shortest one that was not, in bytes.
        failed_bytes: u64,
        /// Connections that died over it.
        connections: u32,
    },
    /// Frames that passed before do not any more, over several connections.
    #[error("nothing of frames of {failed_bytes} bytes was acknowledged over {connections} connections")]
    Fruitless {
        /// The shortest of them, in bytes.
        failed_bytes: u64,
        /// Connections that died over it.
        connections: u32,
    },
    /// A thread of the link panicked: a defect of this program or of a transfer's source or sink.
    #[error("{thread} panicked: {words}")]
    Panicked {
        /// Which.
        thread: String,
        /// What it said.
        words: String,
    },
    /// The kernel reported an error.
    #[error("{0}")]
    Io(String),
    /// The peer sent something no correct peer sends.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The peer took the device out of the link (DEACTIVATE ISLINK).
    #[error("deactivated by the peer")]
    Deactivated,
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

impl Engine {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Blocking => "blocking",
        }
    }
}

/// How a link is to be run.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// `None`: io_uring if it is allowed, blocking threads otherwise.
    pub engine: Option<Engine>,
    /// A device on which no byte comes in, or none of what waits to be acknowledged gets any further, for this long is
    /// dead. Pings keep an idle one alive.
    ///
    /// A link on which long frames never arrive, over several connections, is down after about three times as long.
    pub silence_limit: Duration,
    /// This system's name, 1 to 8 printable characters: of the two ends, the lesser name writes from the lowest device
    /// upward, the greater from the highest downward.
    pub name: String,
    /// Holds this side's transfers to the timing of FICON channels. Messages are not held: beside pages they take no time
    /// to speak of, but over a distance a real one takes 5 us per km.
    pub pacer: Option<Arc<crate::ficon::Pacer>>,
    /// Samples every device's counters so often, for [`Link::timeline`].
    pub timeline_every: Option<Duration>,
    /// The only name by which the peer may call itself. Over TLS it is the one in its certificate, set here or not.
    pub peer_name: Option<String>,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            engine: None,
            silence_limit: Duration::from_secs(5),
            name: "NONAME".to_owned(),
            pacer: None,
            timeline_every: None,
            peer_name: None,
        }
    }
}

/// What a link tells its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A message, in order within its socket.
    Message(SocketId, Vec<u8>),
    /// A device is gone; the others go on.
    DeviceDown(u8, DownReason),
    /// A device that was gone is there again.
    DeviceUp(u8),
    /// The last device is gone. Nothing follows.
    LinkDown(DownReason),
    /// What [`Link::notifier`] was asked to put here.
    Notice(u64),
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
    /// The link has no such device.
    #[error("device {device}: the link has devices 0 to {}", devices - 1)]
    NoDevice {
        /// Number asked for.
        device: u8,
        /// How many there are.
        devices: u8,
    },
    /// The peer took the device out of the link, and only it can bring it back.
    #[error("device {0} was taken out by the peer: activate it there")]
    TakenOutByPeer(u8),
    /// The peer speaks level 1, or the listener was not kept ([`Endpoints::rejoin_through`]).
    #[error("devices cannot come back to this link")]
    NoRejoin,
    /// A region number out of range, or registered twice.
    #[error("region {0} cannot be registered: numbers are 0 to 3, each once")]
    Region(u16),
}

/// One side of a running logical link.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    events: Receiver<LinkEvent>,
    threads: Threads,
    keeper: Option<JoinHandle<()>>,
    sampler: Option<JoinHandle<()>>,
    timeline: Arc<Mutex<Timeline>>,
    stop: Arc<AtomicBool>,
    engine: Engine,
    engine_fallback: Option<String>,
    medium: crate::address::Medium,
    level: u16,
    session: Option<Box<Session>>,
    peer: String,
}

impl Link {
    /// Starts a thread for each device of `endpoints`.
    ///
    /// # Errors
    /// An engine that was asked for and is not allowed here, a name that is not that of this side's certificate, shared
    /// memory that cannot be mapped, or threads or descriptors the kernel refuses.
    pub fn start(endpoints: Endpoints, mut options: LinkOptions) -> Result<Self, MediumError> {
        let (engine, engine_fallback) = choose_engine(options.engine)?;
        let (events, receiver) = unbounded();
        let devices = endpoints.devices();
        debug_assert!(devices <= DEVICES_MAX);
        let (medium, agreement) = (endpoints.medium(), endpoints.agreement());
        let peer = endpoints.peer().to_owned();
        let timeline_every = options.timeline_every;
        let (rejoin, session) = (endpoints.rejoin, endpoints.session);
        if let Some(session) = &session {
            check_names(session, &mut options)?;
        }
        let (sockets, tunnels): (Vec<_>, Vec<_>) =
            endpoints.carriers.into_iter().map(|carrier| (carrier.socket, carrier.tunnel)).unzip();
        let states = sockets.into_iter().map(DeviceState::new);
        let setup = Setup {
            devices: states.collect::<std::io::Result<Vec<_>>>()?,
            remote: endpoints.remote.into_iter().map(RemoteRegion::map).collect::<Result<_, _>>()?,
            agreement,
            dialing: endpoints.dialing,
            split: engine == Engine::Blocking,
            shares: endpoints.shares,
            events,
            options,
        };
        let shared = Arc::new(Shared::new(setup));
        let mut link = Self {
            shared,
            events: receiver,
            threads: Threads::default(),
            keeper: None,
            sampler: None,
            timeline: Arc::new(Mutex::new(Timeline::new(timeline_every.unwrap_or(Duration::MAX)))),
            stop: Arc::default(),
            engine,
            engine_fallback,
            medium,
            level: agreement.version,
            session: session.map(Box::new),
            peer,
        };
        for (device, tunnel) in (0..).zip(tunnels) {
            let thread = spawn_device(device, &link.shared, engine, tunnel)?;
            link.threads.lock().expect("no thread panics while it holds this").push(thread);
        }
        if let Some(rejoin) = rejoin {
            let (shared, threads, stop) = (link.shared.clone(), link.threads.clone(), link.stop.clone());
            let member = link.session.as_ref().map(|session| session.peer.member().to_owned());
            let keeper = Keeper { shared, engine, threads, stop, member };
            let thread = std::thread::Builder::new().name("isfc-keeper".into());
            link.keeper = Some(thread.spawn(move || {
                let shared = keeper.shared.clone();
                shared.watched("the keeper of the devices", || keeper.run(&rejoin));
            })?);
        }
        if timeline_every.is_some() {
            let (shared, timeline, stop) = (link.shared.clone(), link.timeline.clone(), link.stop.clone());
            let thread = std::thread::Builder::new().name("isfc-sampler".into());
            link.sampler = Some(
                thread.spawn(move || shared.watched("the sampler", || sample(&shared, &timeline, &stop)))?,
            );
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
        self.shared.kick_writers(count.min(self.shared.devices.len()));
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
        self.shared.kick_for(socket);
        Ok(())
    }

    /// Waits at most `patience` for the next event.
    ///
    /// # Errors
    /// [`LinkError::TimedOut`].
    pub fn recv(&self, patience: Duration) -> Result<LinkEvent, LinkError> {
        match self.events.recv_timeout(patience) {
            Ok(event) => {
                if let LinkEvent::Message(_, body) = &event {
                    self.shared.taken(body.len());
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

    /// Closes one device and waits until none of its bytes can arrive any more. It stays away, also if it was down
    /// already.
    pub fn close_device(&self, device: u8) {
        let Some(state) = self.shared.devices.get(usize::from(device)) else { return };
        self.shared.take_out(device);
        state.cut();
        state.waker.wake();
        state.wait_ended();
    }

    /// DEACTIVATE ISLINK for one device: it takes nothing new, ends when what is under way has arrived (or after two
    /// seconds), and the peer is told that it was taken out. It stays away until [`Self::activate_device`], also if it
    /// was down already.
    ///
    /// The last device takes the link with it.
    pub fn deactivate_device(&self, device: u8) {
        let Some(state) = self.shared.devices.get(usize::from(device)) else { return };
        if self.shared.leave(device) {
            state.wait_ended_for(LEAVE_PATIENCE);
        }
        self.close_device(device);
    }

    /// ACTIVATE ISLINK for a device that this side took out: it comes back by itself, which [`LinkEvent::DeviceUp`] tells;
    /// within about two seconds if the peer is well.
    ///
    /// # Errors
    /// [`LinkError::NoDevice`], [`LinkError::TakenOutByPeer`], [`LinkError::NoRejoin`], [`LinkError::Down`]. A device that is
    /// up already is no error.
    pub fn activate_device(&self, device: u8) -> Result<(), LinkError> {
        if device >= self.devices() {
            return Err(LinkError::NoDevice { device, devices: self.devices() });
        }
        if let Some(reason) = self.shared.core().down_reason() {
            return Err(LinkError::Down(reason.clone()));
        }
        if self.keeper.is_none() {
            return Err(LinkError::NoRejoin);
        }
        match self.shared.first_reason(device) {
            Some(DownReason::Deactivated) => Err(LinkError::TakenOutByPeer(device)),
            _ => {
                self.shared.may_return(device);
                Ok(())
            }
        }
    }

    /// Cuts a device's connection as a pulled cable would: neither side is told. For fault tests.
    pub fn cut_device(&self, device: u8) {
        if let Some(state) = self.shared.devices.get(usize::from(device)) {
            state.cut();
        }
    }

    /// Holds the next transfer of a device back for so long. For fault tests.
    pub fn hold_device(&self, device: u8, hold: Duration) {
        if let Some(state) = self.shared.devices.get(usize::from(device)) {
            state.hold(hold);
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

    /// The peer unpacks packed extents and knows kept ones.
    pub fn packs(&self) -> bool {
        self.shared.packs()
    }

    /// What is packed may refer to a dictionary: the peer's owner of a region takes one.
    pub fn takes_dictionaries(&self) -> bool {
        self.shared.takes_dictionaries()
    }

    /// Packed extents may come in any order, not only by their offsets.
    pub fn takes_any_order(&self) -> bool {
        self.shared.takes_any_order()
    }

    /// How the link is encrypted, and who is at the other end by its certificate; `None` without TLS.
    pub fn tls(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// Who is at the other end: its address.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The system name of the peer, once it has told it; a peer of level 1 never does.
    pub fn peer_name(&self) -> Option<&str> {
        self.shared.peer_name()
    }

    /// Bit `n` set: this side may write pages on device `n`, by the write rule.
    pub fn writable(&self) -> u16 {
        self.shared.writable_mask()
    }

    /// What `QUERY ISLINK` tells.
    pub fn islink(&self) -> Islink {
        let (writable, up) = (self.writable(), self.devices_up());
        let device = |counters: DeviceCounters| IslinkDevice {
            writes: writable & up & (1 << counters.device) != 0,
            depth: self.shared.depth(counters.device) as u64,
            counters,
        };
        let down = self.shared.core().down_reason().map(ToString::to_string);
        Islink {
            node: self.shared.name().to_owned(),
            peer: self.peer_name().map(str::to_owned),
            address: self.peer.clone(),
            medium: self.medium.to_string(),
            engine: self.engine.as_str().to_owned(),
            level: self.level,
            state: down.unwrap_or_else(|| "up".to_owned()),
            devices: self.counters().into_iter().map(device).collect(),
        }
    }

    /// What each device did over time, if [`LinkOptions::timeline_every`] asked for it: a sample for now is the last.
    pub fn timeline(&self) -> Vec<Sample> {
        let mut samples =
            self.timeline.lock().expect("no thread panics while it holds this").samples().to_vec();
        if self.sampler.is_some() {
            samples.push(self.shared.sample(Instant::now()));
        }
        samples
    }

    /// Each device's counters now.
    pub fn counters(&self) -> Vec<DeviceCounters> {
        let shared = &self.shared;
        (0..self.devices())
            .map(|device| {
                let reason = shared.first_reason(device);
                let state = reason.map_or_else(|| "up".to_owned(), |reason| reason.to_string());
                shared.counters(device).snapshot(device, shared.latency(device), state)
            })
            .collect()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // First, so that nothing comes back while everything is taken down.
        self.stop.store(true, Ordering::Release);
        self.shared.wake_keeper();
        if let Some(sampler) = &self.sampler {
            sampler.thread().unpark();
        }
        for thread in [self.keeper.take(), self.sampler.take()].into_iter().flatten() {
            let _ = thread.join();
        }
        for (device, state) in self.shared.devices.iter().enumerate() {
            self.shared.mark_down(device as u8, &DownReason::Local);
            state.cut();
            state.waker.wake();
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().expect("no thread panics while it holds this"));
        for thread in threads {
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

/// Samples all devices until `stop`.
fn sample(shared: &Shared, timeline: &Mutex<Timeline>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let now = Instant::now();
        let due_in = timeline.lock().expect("no thread panics while it holds this").due_in(now);
        if due_in.is_zero() {
            let sample = shared.sample(now);
            timeline.lock().expect("no thread panics while it holds this").push(sample);
        } else {
            std::thread::park_timeout(due_in);
        }
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

/// A member is called as its certificate says, at both ends.
fn check_names(session: &Session, options: &mut LinkOptions) -> Result<(), MediumError> {
    let certificate = session.own.member();
    if options.name != certificate {
        let (name, certificate) = (options.name.clone(), certificate.to_owned());
        return Err(MediumError::OwnName { name, certificate });
    }
    options.peer_name = Some(session.peer.member().to_owned());
    Ok(())
}

/// Starts the thread of a device that is up. It also sees its tunnel out.
pub(crate) fn spawn_device(
    device: u8,
    shared: &Arc<Shared>,
    engine: Engine,
    tunnel: Option<Tunnel>,
) -> std::io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    std::thread::Builder::new().name(format!("ctc-{device:02}")).spawn(move || {
        survive_hangups();
        let state = shared.device(device);
        let socket = state.socket();
        if let Some(tunnel) = &tunnel {
            tunnel.on_failure(reason_of(device, &shared));
        }
        let network = tunnel.as_ref().map(Tunnel::network);
        let gauges = [network.clone(), network].map(|network| Gauge::new(socket.clone(), network));
        let ran = guarded(|| match engine {
            Engine::IoUring => uring::run(device, &shared, &socket, &state.waker, gauges),
            Engine::Blocking => blocking::run(device, &shared, &socket, &state.waker, gauges),
        });
        let _ = socket.shutdown(std::net::Shutdown::Both);
        let reason = ran.unwrap_or_else(|words| shared.panicked(&device_thread(device), words));
        if let Some(tunnel) = &tunnel {
            tunnel.forget_hook();
            if let Some(TlsFailure::Panicked(words)) = tunnel.wait_failure() {
                shared.panicked(&format!("the TLS thread of device {device}"), words);
            }
        }
        // Its own callbacks may panic, too; whoever waits for the device is told all the same.
        if let Err(words) = guarded(|| shared.tell_sink_of_end(device)) {
            shared.panicked(&device_thread(device), words);
        }
        shared.device_ended(device, reason);
        if let Some(tunnel) = tunnel {
            tunnel.join();
        }
    })
}

/// What the thread of a device is called in a reason.
pub(crate) fn device_thread(device: u8) -> String {
    format!("the thread of device {device}")
}

/// Makes a tunnel's failure the reason for which its device goes down.
fn reason_of(device: u8, shared: &Arc<Shared>) -> FailureHook {
    let shared = Arc::downgrade(shared);
    Box::new(move |failure| {
        // A connection that was cut off may have brought frames that have not been looked at: its device ends behind
        // them, as over plain TCP.
        if let (Some(shared), false) = (shared.upgrade(), *failure == TlsFailure::Truncated) {
            shared.mark_down(device, &DownReason::Protocol(failure.to_string()));
        }
    })
}
