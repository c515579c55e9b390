//! One device of a link: what it sends next, what it makes of what comes in, when it is dead.
//!
//! A device has two halves without I/O of their own, [`TxHalf`] and [`RxHalf`]. The io_uring engine
//! drives both from one thread and one ring; the blocking engine gives each a thread.

mod batch;
pub(crate) mod blocking;
pub(crate) mod gauge;
pub(crate) mod lend;
#[cfg(test)]
mod packed_tests;
mod receiver;
mod subchannel;
mod transmitter;
pub(crate) mod uring;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use batch::Batch;
use gauge::Gauge;
pub(crate) use receiver::{Complete, Incoming, Placement, Receiver};
pub(crate) use transmitter::{InFlight, Piece, Transmitter};

use crate::counters::add;
use crate::frame::{FrameKind, HEADER_LEN_BYTES};
use crate::link::{Content, Death, DownReason, Life, Outgoing, Room, Shared, Span};
use crate::transfer::{Next, Transfer};

/// How long a receiver that has something to acknowledge waits for more.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// What waits for less is not worth a question to the medium.
const LOOK_FROM: Duration = Duration::from_millis(500);
/// Longest a device waits without looking at its deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How long a device with nothing to do waits: often enough for its pings, and to see in time that the peer is silent.
fn idle_look(link: &Shared) -> Duration {
    (link.silence_limit() / 10).max(TICK)
}

/// Wakes a device's thread out of its wait.
#[derive(Debug)]
pub(crate) struct Waker(OwnedFd);

impl Waker {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    pub(crate) fn wake(&self) {
        // Fails only when the counter is full, and then the thread has been woken already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The sending half.
pub(crate) struct TxHalf {
    device: u8,
    link: Arc<Shared>,
    pub(crate) tx: Transmitter,
    transfer: Transfer,
    /// `transfer` is filled and goes out then.
    held_until: Option<Instant>,
    /// Since when there has been a transfer each time it was looked for.
    busy: Option<Instant>,
    /// The last frame takes the device out of the link.
    says_goodbye: bool,
    batch: Batch,
    last_tx: Instant,
    /// When the frame in flight last moved.
    progress: Instant,
    /// Room that was made for the transfer in `transfer`, which has not been numbered.
    held_bytes: u64,
    /// Bytes of this connection that have gone into its socket.
    handed_bytes: u64,
    gauge: Gauge,
    life: Life,
    /// When the medium is to be asked what it has moved.
    ask_medium_at: Instant,
}

impl TxHalf {
    pub(crate) fn new(device: u8, link: Arc<Shared>, gauge: Gauge) -> Self {
        let now = Instant::now();
        Self {
            device,
            link,
            tx: Transmitter::new(device),
            transfer: Transfer::new(),
            held_until: None,
            busy: None,
            says_goodbye: false,
            batch: Batch::new(device),
            last_tx: now,
            progress: now,
            held_bytes: 0,
            handed_bytes: 0,
            gauge,
            life: Life::new(now),
            ask_medium_at: now,
        }
    }

    /// Loads the next frame if none is in flight: what keeps the device going, urgent messages, transfers, then
    /// the rest.
    pub(crate) fn load_next(&mut self, now: Instant) {
        // After the goodbye nothing follows: the peer closes the connection when it has read it.
        if !self.tx.is_idle() || self.says_goodbye {
            return;
        }
        if let Some(ack) = self.link.take_segment_ack(self.device) {
            self.tx.load_segment_ack(&ack);
        } else if self.link.must_introduce(self.device) {
            self.number(Content::Idx, self.link.name().len() as u64, now);
            self.tx.load_idx(self.link.name());
        } else if self.link.must_ask(self.device, now) {
            self.number(Content::Nothing, 0, now);
            self.tx.ack_at_once();
            self.tx.load_bare(FrameKind::Ping);
        } else if self.link.is_leaving(self.device) && self.held_until.is_none() {
            if self.link.depth(self.device) == 0 {
                self.number(Content::Nothing, 0, now);
                self.tx.load_bare(FrameKind::Dvx);
                self.says_goodbye = true;
            }
        } else if self.link.has_credit(self.device) {
            self.load_work(now);
        }
        if self.tx.is_idle() && self.held_until.is_none() {
            self.batch.end();
        }
        self.progress = now;
    }

    fn load_work(&mut self, now: Instant) {
        if let Some(frame) = self.link.pop_urgent(self.device) {
            self.load_control(&frame, now);
        } else if self.take_transfer(now) {
            let Transfer { epoch, tag, .. } = self.transfer;
            let len_bytes = self.tx.transfer_len_bytes(&self.transfer, self.link.shares);
            self.number(Content::Transfer { epoch, tag }, len_bytes, now);
            self.link.flow.give_back(std::mem::take(&mut self.held_bytes));
            self.link.flow.begin(HEADER_LEN_BYTES as u64 + len_bytes);
            if !self.link.flow.is_open() {
                // Each acknowledgement tells how fast the link is.
                self.tx.ack_at_once();
            }
            self.link.count_program(self.device, true);
            self.batch.begin();
            let link = &self.link;
            let region = link.region(self.transfer.region).expect("a source sends from registered regions");
            self.tx.load_transfer(&self.transfer, region, link.shares);
        } else if let Some(frame) = self.link.pop_low(self.device) {
            self.load_control(&frame, now);
        } else if now.duration_since(self.last_tx) >= self.link.ping_every() {
            self.number(Content::Nothing, 0, now);
            self.tx.load_bare(FrameKind::Ping);
        }
    }

    fn load_control(&mut self, frame: &Outgoing, now: Instant) {
        let content = match frame.kind {
            FrameKind::Message => Content::Message(frame.socket, frame.sequence),
            _ => Content::Ack(frame.socket),
        };
        self.number(content, frame.body.len() as u64, now);
        self.link.count_program(self.device, false);
        self.tx.load_control(frame);
    }

    /// Numbers the frame that is loaded next, which has `body_len_bytes` behind its header.
    fn number(&mut self, content: Content, body_len_bytes: u64, now: Instant) {
        let len_bytes = HEADER_LEN_BYTES as u64 + body_len_bytes;
        let span = Span { len_bytes, end_bytes: self.handed_bytes + len_bytes };
        let (segment, ack_now) = self.link.number(self.device, content, span, now);
        self.tx.set_segment(segment, ack_now);
    }

    fn take_transfer(&mut self, now: Instant) -> bool {
        if self.held_until.is_none() {
            let Some(not_before) = self.ask_for_transfer(now) else {
                self.busy = None;
                return false;
            };
            let busy = *self.busy.get_or_insert(now);
            let hold = self.link.take_hold(self.device)
                + self.link.pace(self.device, self.transfer.payload_len_bytes(), now, busy);
            self.held_until = Some(not_before.max(now + hold));
        }
        if self.held_until.is_some_and(|at| at <= now) {
            self.held_until = None;
            return true;
        }
        false
    }

    /// Fills `transfer` if there is one, and says when it may go out.
    fn ask_for_transfer(&mut self, now: Instant) -> Option<Instant> {
        let source = self.link.source().filter(|_| self.link.may_write(self.device))?;
        let room = self.link.reserve()?;
        self.transfer.clear();
        self.transfer.len_bytes_max = room.len_bytes_max;
        let next = source.next(self.device, &mut self.transfer);
        self.settle(room, next != Next::Nothing);
        match next {
            Next::Nothing => None,
            Next::Ready => Some(now),
            Next::NotBefore(at) => Some(at),
        }
    }

    fn settle(&mut self, room: Room, is_filled: bool) {
        let (mut wire_bytes, mut covered_bytes) = (0, 0);
        if is_filled {
            wire_bytes = HEADER_LEN_BYTES as u64 + self.transfer.payload_len_bytes();
            covered_bytes = self.transfer.covered_len_bytes();
        }
        self.held_bytes = wire_bytes;
        self.link.flow.settle(room, wire_bytes, covered_bytes);
    }

    pub(crate) fn carries_pages(&self) -> bool {
        self.held_until.is_some() || self.tx.is_transfer()
    }

    /// When to look again although nothing happens.
    pub(crate) fn next_look(&self, now: Instant) -> Duration {
        if let Some(at) = self.held_until {
            return at.saturating_duration_since(now).min(TICK);
        }
        // Nothing to send and nothing that the peer has not acknowledged: only the next ping is due some time.
        if self.tx.is_idle() && self.link.depth(self.device) == 0 { idle_look(&self.link) } else { TICK }
    }

    pub(crate) fn sent(&mut self, count: usize, now: Instant) {
        let counters = self.link.counters(self.device);
        add(&counters.tx_bytes, count as u64);
        self.progress = now;
        self.handed_bytes += count as u64;
        let cut_short = count < self.tx.piece().len_bytes();
        let Some((frame, len_bytes)) = self.tx.advanced(count) else {
            add(&counters.retries, u64::from(cut_short));
            return;
        };
        self.last_tx = now;
        add(&counters.tx_frames, 1);
        if matches!(frame, InFlight::Transfer { .. }) {
            self.batch.add(len_bytes);
        }
        if let (InFlight::Transfer { epoch, tag }, Some(source)) = (frame, self.link.source()) {
            add(&counters.transfers_tx, 1);
            source.sent(self.device, epoch, tag, len_bytes);
        }
    }

    pub(crate) fn check(&mut self, now: Instant) -> Result<(), DownReason> {
        let waited = if self.tx.is_idle() { Duration::ZERO } else { now.duration_since(self.progress) };
        if waited >= TICK {
            add(&self.link.counters(self.device).stalls, 1);
        }
        if waited < LOOK_FROM && self.link.oldest(self.device, now) < LOOK_FROM {
            self.life.moved(now);
            return Ok(());
        }
        if now < self.ask_medium_at {
            return Ok(());
        }
        self.ask_medium_at = now + TICK;
        if !self.tx.is_idle() {
            self.life.moved(self.progress);
        }
        let limit = self.link.silence_limit();
        let oldest = self.link.oldest_end_bytes(self.device);
        let limit_ms = limit.as_millis() as u64;
        match self.life.judge(self.gauge.sent(self.handed_bytes), oldest, limit, now) {
            None => Ok(()),
            Some(_) if oldest.is_none() && self.tx.is_idle() => Ok(()),
            Some(Death::Stalled) => Err(DownReason::Stalled { limit_ms }),
            Some(Death::Unacknowledged) => Err(DownReason::Unacknowledged { limit_ms }),
        }
    }

    /// The device is over: what it had taken over is given back.
    pub(crate) fn retire(&mut self) {
        self.link.flow.give_back(std::mem::take(&mut self.held_bytes));
        if self.tx.abandon().is_some() {
            add(&self.link.counters(self.device).unit_checks, 1);
        }
        if let Some(source) = self.link.source() {
            source.device_down(self.device);
        }
    }
}

/// The receiving half.
pub(crate) struct RxHalf {
    device: u8,
    link: Arc<Shared>,
    pub(crate) rx: Receiver,
    last_rx: Instant,
    gauge: Gauge,
    /// What the medium last told of bytes that came.
    mark: u64,
    /// Something came that may not have been acknowledged yet.
    unacknowledged: bool,
}

impl RxHalf {
    pub(crate) fn new(device: u8, link: Arc<Shared>, gauge: Gauge) -> Self {
        let (rx, last_rx, mark) = (Receiver::new(device), Instant::now(), gauge.received_mark());
        Self { device, link, rx, last_rx, gauge, mark, unacknowledged: false }
    }

    pub(crate) fn received(&mut self, count: usize, now: Instant) -> Result<(), DownReason> {
        if count == 0 {
            return Err(DownReason::Closed);
        }
        self.last_rx = now;
        let counters = self.link.counters(self.device);
        add(&counters.rx_bytes, count as u64);
        let filled = self.rx.filled(count, &*self.link);
        self.link.set_receiving(self.device, self.rx.is_mid_transfer());
        match filled {
            Ok(None) => Ok(()),
            Ok(Some(complete)) => {
                add(&counters.rx_frames, 1);
                self.unacknowledged = true;
                self.link.complete(self.device, complete, now)
            }
            Err(error) => Err(DownReason::Protocol(error.to_string())),
        }
    }

    pub(crate) fn carries_pages(&self) -> bool {
        self.rx.is_mid_transfer()
    }

    /// How long to wait for more before [`Self::check`] is called again.
    pub(crate) fn next_look(&self) -> Duration {
        if self.unacknowledged { ACK_DELAY } else { idle_look(&self.link) }
    }

    pub(crate) fn check(&mut self, now: Instant) -> Result<(), DownReason> {
        if self.unacknowledged && now.duration_since(self.last_rx) >= ACK_DELAY {
            self.unacknowledged = false;
            self.link.acknowledge_rest(self.device);
        }
        let limit = self.link.silence_limit();
        if now.duration_since(self.last_rx) <= limit / 2 {
            return Ok(());
        }
        // Of a long frame that crosses slowly, the ring tells when all of it is here.
        let mark = self.gauge.received_mark();
        if mark != self.mark {
            (self.mark, self.last_rx) = (mark, now);
        } else if now.duration_since(self.last_rx) > limit {
            return Err(DownReason::Silent { limit_ms: limit.as_millis() as u64 });
        }
        Ok(())
    }
}
