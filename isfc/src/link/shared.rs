//! What the threads of a link share: the core, the queues, each device's line, regions, source and sink.

mod ending;
mod incoming;

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use crossbeam::queue::SegQueue;

use super::core::{Core, Effect, Outgoing, Priority, SOCKETS_MAX, SocketId};
use super::device_state::DeviceState;
use super::flow::{Flow, Room};
use super::life::Fruitless;
use super::segments::{Arrival, CREDIT_MAX, Content, SegmentAck, Span};
use super::{DownReason, LinkEvent, LinkOptions};
use crate::counters::{Counters, LatencyPercentiles, add};
use crate::device::Placement;
use crate::frame::FrameKind;
use crate::hello::Agreement;
use crate::region::{Region, RemoteRegion};
use crate::timeline::{DeviceSample, Sample};
use crate::transfer::{TransferSink, TransferSource};
use crate::write_rule::{self, Side};

/// Messages delivered and not yet taken by the caller; a peer that sends more is cut off.
const UNTAKEN_MAX: usize = 4096;
/// The same, in bytes.
const UNTAKEN_BYTES_MAX: usize = 64 << 20;
/// Damaged payloads after which a device is taken down: its medium is not worth trusting.
const DAMAGED_MAX: u32 = 64;

/// Everything the devices' threads share.
pub(crate) struct Shared {
    pub(crate) devices: Vec<DeviceState>,
    pub(crate) regions: [OnceLock<Region>; 4],
    pub(crate) remote: Vec<RemoteRegion>,
    /// Both sides number segments and exchange names.
    level2: bool,
    /// This side called.
    dialing: bool,
    /// Extents may be packed or kept.
    agreement: Agreement,
    /// A device has a thread for each direction.
    split: bool,
    peer_name: OnceLock<String>,
    /// Bit `n`: this side may write pages on device `n`.
    writable: AtomicU16,
    /// Bit `n`: urgent messages go out on device `n`.
    express: AtomicU16,
    /// The thread that brings devices back; it sleeps while all are up.
    keeper: OnceLock<std::thread::Thread>,
    /// Payload is left for the receiver to fetch.
    pub(crate) shares: bool,
    pub(crate) source: OnceLock<Arc<dyn TransferSource>>,
    pub(crate) sink: OnceLock<Arc<dyn TransferSink>>,
    core: Mutex<Core>,
    urgent: [SegQueue<Outgoing>; 2],
    low: SegQueue<Outgoing>,
    /// Bit `n`: an ack of socket `n` is queued. It says what has arrived when it goes out, so one is enough, and a peer that
    /// sends and does not read makes no queue grow. Changed only under the core's lock.
    acks_queued: AtomicU64,
    pub(crate) events: Sender<LinkEvent>,
    pub(crate) untaken: AtomicUsize,
    untaken_bytes: AtomicUsize,
    pub(crate) options: LinkOptions,
    started: Instant,
    /// Bytes of this side's transfers under way, and how many may be.
    pub(crate) flow: Flow,
    fruitless: Mutex<Fruitless>,
    /// Longest frame that was acknowledged, in bytes; and whether a connection has died over a longer one.
    longest_passed: AtomicU64,
    failing: AtomicBool,
    /// The link is given up as a whole: no device comes back.
    given_up: OnceLock<DownReason>,
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

    fn was_here(&self, device: u8, segment: u16) -> bool {
        self.level2 && self.device(device).line().rx.classify(segment) == Arrival::Again
    }

    fn resends(&self) -> bool {
        self.level2
    }

    fn packs(&self) -> bool {
        Self::packs(self)
    }
}

/// What a link is made with.
pub(crate) struct Setup {
    pub(crate) devices: Vec<DeviceState>,
    pub(crate) remote: Vec<RemoteRegion>,
    pub(crate) agreement: Agreement,
    pub(crate) dialing: bool,
    pub(crate) split: bool,
    pub(crate) shares: bool,
    pub(crate) events: Sender<LinkEvent>,
    pub(crate) options: LinkOptions,
}

impl Shared {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { devices, remote, agreement, dialing, split, shares, events, options } = setup;
        let shared = Self {
            core: Mutex::new(Core::new(devices.len() as u8)),
            devices,
            regions: Default::default(),
            remote,
            level2: agreement.version >= 2,
            agreement,
            dialing,
            split,
            peer_name: OnceLock::new(),
            writable: AtomicU16::new(0),
            express: AtomicU16::new(u16::MAX),
            keeper: OnceLock::new(),
            shares,
            source: OnceLock::new(),
            sink: OnceLock::new(),
            urgent: Default::default(),
            low: SegQueue::new(),
            acks_queued: AtomicU64::new(0),
            events,
            untaken: AtomicUsize::new(0),
            untaken_bytes: AtomicUsize::new(0),
            options,
            started: Instant::now(),
            flow: if agreement.version >= 2 && !shares { Flow::default() } else { Flow::ungoverned() },
            fruitless: Mutex::default(),
            longest_passed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            given_up: OnceLock::new(),
        };
        shared.assign_roles();
        shared
    }

    pub(crate) fn device(&self, device: u8) -> &DeviceState {
        &self.devices[usize::from(device)]
    }

    /// Extents may be packed or kept.
    pub(crate) fn packs(&self) -> bool {
        self.agreement.packs()
    }

    /// What is packed may refer to a dictionary.
    pub(crate) fn takes_dictionaries(&self) -> bool {
        self.agreement.takes_dictionaries()
    }

    /// Packed extents may come in any order.
    pub(crate) fn takes_any_order(&self) -> bool {
        self.agreement.takes_any_order()
    }

    /// The peer's system name, once it has told it.
    pub(crate) fn peer_name(&self) -> Option<&str> {
        self.peer_name.get().map(String::as_str)
    }

    /// Decides anew who writes where, by the write rule over the devices that are up. Urgent messages go out where
    /// this side writes no pages, so that they never wait behind one.
    fn assign_roles(&self) {
        let up = self.core().devices_up();
        let (writable, express) = match self.side() {
            _ if !self.level2 => (u16::MAX, u16::MAX),
            None => (0, u16::MAX),
            Some(side) => (write_rule::writable(up, side), write_rule::express(up, side)),
        };
        self.writable.store(writable, Ordering::SeqCst);
        self.express.store(express, Ordering::SeqCst);
        self.kick(usize::MAX, u16::MAX);
    }

    fn side(&self) -> Option<Side> {
        let theirs = self.peer_name.get()?;
        Some(Side::of(&self.options.name, theirs, self.dialing))
    }

    pub(crate) fn may_write(&self, device: u8) -> bool {
        self.writable.load(Ordering::Relaxed) & (1 << device) != 0
    }

    pub(crate) fn writable_mask(&self) -> u16 {
        self.writable.load(Ordering::Relaxed)
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn has_credit(&self, device: u8) -> bool {
        !self.level2 || self.device(device).line().tx.has_credit()
    }

    /// Numbers the next segment of a device, and says whether it is to be acknowledged at once.
    pub(crate) fn number(&self, device: u8, content: Content, span: Span, now: Instant) -> (u16, bool) {
        if !self.level2 {
            return (0, false);
        }
        let mut line = self.device(device).line();
        let numbered = line.tx.send_span(content, span, now);
        self.counters(device).depth_max.fetch_max(line.tx.depth() as u64, Ordering::Relaxed);
        numbered
    }

    /// Is it time to ask the peer which segments it has?
    pub(crate) fn must_ask(&self, device: u8, now: Instant) -> bool {
        self.level2 && self.device(device).line().tx.must_ask(now)
    }

    /// The caller has taken a message of `len_bytes`.
    pub(crate) fn taken(&self, len_bytes: usize) {
        self.untaken.fetch_sub(1, Ordering::Relaxed);
        self.untaken_bytes.fetch_sub(len_bytes, Ordering::Relaxed);
    }

    /// How long the oldest segment of a device has waited for its acknowledgement.
    pub(crate) fn oldest(&self, device: u8, now: Instant) -> Duration {
        if self.level2 { self.device(device).line().tx.oldest(now) } else { Duration::ZERO }
    }

    /// Where the oldest unacknowledged segment of a device ends in its stream.
    pub(crate) fn oldest_end_bytes(&self, device: u8) -> Option<u64> {
        self.device(device).line().tx.oldest_end_bytes()
    }

    /// Room for another transfer, if there is.
    pub(crate) fn reserve(&self) -> Option<Room> {
        self.flow.reserve()
    }

    /// True once for each time that the name is to be told.
    pub(crate) fn must_introduce(&self, device: u8) -> bool {
        self.level2 && self.device(device).introduce.swap(false, Ordering::AcqRel)
    }

    /// Begins to take a device out of the link. False if it is not up, or the peer would not understand.
    pub(crate) fn leave(&self, device: u8) -> bool {
        let state = self.device(device);
        if !self.level2 || state.closed.load(Ordering::Acquire) {
            return false;
        }
        state.leaving.store(true, Ordering::Release);
        state.waker.wake();
        true
    }

    /// The device takes nothing new.
    pub(crate) fn is_leaving(&self, device: u8) -> bool {
        self.device(device).leaving.load(Ordering::Acquire)
    }

    /// This side takes a device out, whatever ended it before: it stays away, also while it is on its way back.
    pub(crate) fn take_out(&self, device: u8) {
        let state = self.device(device);
        let mut reason = state.reason.lock().expect("no thread panics while it holds a reason");
        *reason = Some(DownReason::Local);
        state.closed.store(true, Ordering::Release);
    }

    /// A device that this side took out may come back.
    pub(crate) fn may_return(&self, device: u8) {
        let mut reason = self.device(device).reason.lock().expect("no thread panics while it holds a reason");
        if *reason == Some(DownReason::Local) {
            *reason = Some(DownReason::Closed);
        }
        drop(reason);
        self.wake_keeper();
    }

    /// The calling thread brings devices back from now on.
    pub(crate) fn keep_here(&self) {
        let _ = self.keeper.set(std::thread::current());
    }

    /// There is something for the keeper to look at.
    pub(crate) fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    /// Segments under way on a device.
    pub(crate) fn depth(&self, device: u8) -> usize {
        self.device(device).line().tx.depth()
    }

    /// All devices' counters now.
    pub(crate) fn sample(&self, at: Instant) -> Sample {
        let up = self.core().devices_up();
        let device = |device: u8| {
            let counters = self.counters(device);
            DeviceSample {
                tx_bytes: counters.tx_bytes.load(Ordering::Relaxed),
                rx_bytes: counters.rx_bytes.load(Ordering::Relaxed),
                ssch: counters.programs.load(Ordering::Relaxed),
                depth: self.depth(device) as u16,
                up: up & (1 << device) != 0,
            }
        };
        Sample { at, devices: (0..self.devices.len() as u8).map(device).collect() }
    }

    pub(crate) fn take_segment_ack(&self, device: u8) -> Option<SegmentAck> {
        let state = self.device(device);
        if !self.level2 || !state.ack_due.swap(false, Ordering::AcqRel) {
            return None;
        }
        // A caller that does not take its messages slows their sender down.
        let crowded = self.untaken.load(Ordering::Relaxed) > UNTAKEN_MAX / 4
            || self.untaken_bytes.load(Ordering::Relaxed) > UNTAKEN_BYTES_MAX / 4;
        state.line().rx.acknowledge(if crowded { 1 } else { CREDIT_MAX })
    }

    /// Acknowledges what has been left unacknowledged while nothing more came.
    pub(crate) fn acknowledge_rest(&self, device: u8) {
        if self.level2 && self.device(device).line().rx.is_due() {
            self.ack_soon(device);
        }
    }

    fn ack_soon(&self, device: u8) {
        let state = self.device(device);
        state.ack_due.store(true, Ordering::Release);
        if self.split {
            state.waker.wake();
        }
    }

    pub(crate) fn set_receiving(&self, device: u8, receiving: bool) {
        self.device(device).receiving.store(receiving, Ordering::Relaxed);
    }

    /// A thread of the device begins to carry pages, or has stopped to.
    pub(crate) fn set_carries(&self, device: u8, carries: bool) {
        let carrying = &self.device(device).carrying;
        if carries {
            carrying.fetch_add(1, Ordering::Relaxed);
        } else {
            carrying.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// No pages have gone over the device for a moment, in either direction: nothing is ahead of a message on it.
    fn is_quiet(&self, device: u8) -> bool {
        self.device(device).carrying.load(Ordering::Relaxed) == 0
    }

    /// Counts a channel program that goes out, and whether pages are coming in on the same device.
    pub(crate) fn count_program(&self, device: u8, carries_pages: bool) {
        let counters = self.counters(device);
        add(&counters.programs, 1);
        if carries_pages && self.device(device).receiving.load(Ordering::Relaxed) {
            add(&counters.collisions, 1);
        }
    }

    pub(crate) fn latency(&self, device: u8) -> Option<LatencyPercentiles> {
        LatencyPercentiles::of(&self.device(device).line().latency_us)
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
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

    /// How long a program of `payload_bytes` must wait for its place on the channel; the device has had something to send
    /// since `busy`.
    pub(crate) fn pace(&self, device: u8, payload_bytes: u64, now: Instant, busy: Instant) -> Duration {
        let Some(pacer) = &self.options.pacer else { return Duration::ZERO };
        let ns = |at: Instant| at.saturating_duration_since(self.started).as_nanos() as u64;
        Duration::from_nanos(pacer.reserve(device, payload_bytes, ns(now), ns(busy)))
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
        // The end that this side asked for.
        let asked = *reason == DownReason::Closed && state.leaving.load(Ordering::Acquire);
        known.get_or_insert_with(|| if asked { DownReason::Local } else { reason.clone() });
        state.closed.store(true, Ordering::Release);
    }

    pub(crate) fn pop_urgent(&self, device: u8) -> Option<Outgoing> {
        if self.express.load(Ordering::Relaxed) & (1 << device) == 0 && !self.is_quiet(device) {
            return None;
        }
        let frame = self.urgent[0].pop().or_else(|| self.urgent[1].pop())?;
        self.carry(device, frame)
    }

    pub(crate) fn pop_low(&self, device: u8) -> Option<Outgoing> {
        self.low.pop().and_then(|frame| self.carry(device, frame))
    }

    fn carry(&self, device: u8, mut frame: Outgoing) -> Option<Outgoing> {
        let mut core = self.core();
        if frame.kind == FrameKind::Message {
            core.carried(device, frame.socket, frame.sequence);
        } else {
            self.acks_queued.fetch_and(!ack_bit(&frame), Ordering::Relaxed);
            frame.sequence = core.taken_over(frame.socket).unwrap_or(frame.sequence);
        }
        Some(frame)
    }

    pub(crate) fn queue(&self, frame: Outgoing) {
        match frame.socket.priority() {
            Priority::High => self.urgent[0].push(frame),
            Priority::Normal => self.urgent[1].push(frame),
            Priority::Low => self.low.push(frame),
        }
    }

    /// Runs `step` on the core and does what it wants done. Deliveries happen under the core's lock: two
    /// devices whose messages were put in order must not swap them again on the way to the caller.
    pub(crate) fn with_core<E>(
        &self,
        step: impl FnOnce(&mut Core, &mut Vec<Effect>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut effects = Vec::new();
        let mut core = self.core();
        step(&mut core, &mut effects)?;
        let (mut urgent, mut low) = (0, 0);
        for effect in effects {
            match effect {
                Effect::Transmit(frame) if frame.kind == FrameKind::Ack && self.has_ack_queued(&frame) => {}
                Effect::Transmit(frame) => {
                    *if frame.socket.priority() == Priority::Low { &mut low } else { &mut urgent } += 1;
                    self.queue(frame);
                }
                Effect::Deliver(socket, body) => {
                    self.untaken.fetch_add(1, Ordering::Relaxed);
                    self.untaken_bytes.fetch_add(body.len(), Ordering::Relaxed);
                    let _ = self.events.send(LinkEvent::Message(socket, body));
                }
                Effect::LinkDown(reason) => {
                    let _ = self.events.send(LinkEvent::LinkDown(reason));
                }
            }
        }
        drop(core);
        self.kick_urgent(urgent);
        self.kick(low, u16::MAX);
        Ok(())
    }

    /// Is an ack of the same socket queued? If not, this one is from now on.
    fn has_ack_queued(&self, ack: &Outgoing) -> bool {
        let bit = ack_bit(ack);
        self.acks_queued.fetch_or(bit, Ordering::Relaxed) & bit != 0
    }

    /// A frame was queued: wakes a device that may carry it.
    pub(crate) fn kick_for(&self, socket: SocketId) {
        match socket.priority() {
            Priority::Low => {
                self.kick(1, u16::MAX);
            }
            Priority::High | Priority::Normal => self.kick_urgent(1),
        }
    }

    /// Urgent messages wait: wakes devices that are quiet, or if there are too few of them those that write no pages.
    fn kick_urgent(&self, count: usize) {
        let devices = 0..self.devices.len() as u8;
        let quiet =
            devices.filter(|device| self.is_quiet(*device)).fold(0, |mask, device| mask | 1 << device);
        let left = self.kick(count, quiet);
        self.kick(left, self.express.load(Ordering::Relaxed));
    }

    /// There are transfers: wakes up to `count` devices that may carry them.
    pub(crate) fn kick_writers(&self, count: usize) {
        self.kick(count, self.writable.load(Ordering::Relaxed));
    }

    /// Wakes up to `count` idle devices of `mask`, in the order in which this side prefers them. How many it found too
    /// few.
    fn kick(&self, count: usize, mask: u16) -> usize {
        std::sync::atomic::fence(Ordering::SeqCst);
        let descending = self.side() == Some(Side::Greater);
        let devices = self.devices.len();
        let mut left = count;
        for step in 0..devices {
            if left == 0 {
                break;
            }
            let device = if descending { devices - 1 - step } else { step };
            let state = &self.devices[device];
            if mask & (1 << device) != 0 && state.idle.swap(false, Ordering::SeqCst) {
                state.waker.wake();
                left -= 1;
            }
        }
        left
    }
}

fn ack_bit(ack: &Outgoing) -> u64 {
    const { assert!(SOCKETS_MAX as u32 <= u64::BITS) };
    1 << ack.socket.number()
}
