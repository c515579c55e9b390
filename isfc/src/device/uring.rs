//! The io_uring engine: one thread and one ring per device, at most one receive, one send (or one wait for room to
//! send), one wake-up and a timer or two in flight.
//!
//! The ring has a single issuer and runs completions only when this thread asks for them
//! (`DEFER_TASKRUN`); socket and wake-up descriptor are registered. Buffers are not registered: the
//! pages of a guest would have to be pinned, which costs more than the copy saves on these media.
//!
//! Long runs of pages of a file are lent to the socket by `sendfile`, called from this thread: `IORING_OP_SPLICE` would
//! hand each to a worker thread. Such a call never waits, since the socket is non-blocking; when there is no room, the
//! ring waits for it, and for what comes in meanwhile. The ring's own sends and receives wait on such a socket, too.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::squeue::Entry;
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode};
use socket2::Socket;

use super::gauge::Gauge;
use super::lend::{Lent, lend};
use super::{Piece, RxHalf, TxHalf, Waker};
use crate::link::{DownReason, Shared, device_thread};
use crate::panics::guarded;
use crate::slice::Slice;

const RX: u64 = 1;
const TX: u64 = 2;
const WAKE: u64 = 3;
const ROOM: u64 = 4;
const TIMER: u64 = 5;
/// What kind of completion it is stands in the low bits; a timer has its number above them.
const KIND_BITS: u32 = 8;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;
const SOCKET: Fixed = Fixed(0);
const EVENT: Fixed = Fixed(1);
/// How long a closed device waits for the kernel to hand its buffers back.
const DRAIN: Duration = Duration::from_secs(5);

fn build() -> std::io::Result<IoUring> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)
}

/// Can this process use io_uring as this engine does?
///
/// # Errors
/// What is missing, in words.
pub fn probe() -> Result<(), String> {
    let ring = build().map_err(|error| format!("io_uring_setup: {error}"))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("io_uring probe: {error}"))?;
    let needed = [
        ("recvmsg", opcode::RecvMsg::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("read", opcode::Read::CODE),
        ("poll", opcode::PollAdd::CODE),
        ("timeout", opcode::Timeout::CODE),
    ];
    match needed.into_iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(format!("io_uring lacks {name}")),
        None => Ok(()),
    }
}

/// How far sending came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// A frame went; there may be another.
    Done,
    /// The ring tells when to go on.
    Waits,
}

/// Buffers and message headers that the kernel reads while an operation is in flight. They live in
/// boxes that are freed only once nothing is in flight.
struct Device {
    tx: TxHalf,
    rx: RxHalf,
    tx_message: Box<libc::msghdr>,
    rx_message: Box<libc::msghdr>,
    wake_count: Box<u64>,
    tx_busy: bool,
    rx_busy: bool,
    wake_busy: bool,
    timer_time: Box<Timespec>,
    /// For when timers are set, and what their completions will say: few, each earlier than those before it.
    timers: Vec<(Instant, u64)>,
    next_timer: u64,
    slice: Slice,
}

/// Runs the device until it is over, and says why it was.
pub(crate) fn run(
    device: u8,
    link: &Arc<Shared>,
    socket: &Arc<Socket>,
    waker: &Waker,
    gauges: [Gauge; 2],
) -> DownReason {
    let mut ring = match build() {
        Ok(ring) => ring,
        Err(error) => return DownReason::Io(format!("io_uring_setup: {error}")),
    };
    if let Err(error) = socket.set_nonblocking(true) {
        return DownReason::Io(format!("non-blocking socket: {error}"));
    }
    let files = [socket.as_raw_fd(), waker.as_fd().as_raw_fd()];
    if let Err(error) = ring.submitter().register_files(&files) {
        return DownReason::Io(format!("io_uring register files: {error}"));
    }
    // SAFETY: a msghdr of zeros is a valid, empty one.
    let empty = || Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
    let [sent, received] = gauges;
    let mut state = Device {
        tx: TxHalf::new(device, link.clone(), sent),
        rx: RxHalf::new(device, link.clone(), received),
        tx_message: empty(),
        rx_message: empty(),
        wake_count: Box::new(0),
        tx_busy: false,
        rx_busy: false,
        wake_busy: false,
        timer_time: Box::new(Timespec::new()),
        timers: Vec::with_capacity(8),
        next_timer: 0,
        slice: Slice::new(),
    };
    // A panic here may be that of a transfer's source or sink. The kernel still has buffers then, as it has at any end.
    let turns = guarded(|| {
        loop {
            if let Err(reason) = state.turn(device, &mut ring, link, socket) {
                break reason;
            }
        }
    });
    let reason = turns.unwrap_or_else(|words| link.panicked(&device_thread(device), words));
    link.mark_down(device, &reason);
    if state.drain(&mut ring, socket, waker) {
        if let Err(words) = guarded(|| state.tx.retire()) {
            return link.panicked(&device_thread(device), words);
        }
    } else {
        // The kernel may still write into these buffers, so they are given up rather than freed. The
        // region is kept alive with them by the link they hold.
        std::mem::forget(state);
    }
    reason
}

impl Device {
    fn turn(
        &mut self,
        device: u8,
        ring: &mut IoUring,
        link: &Shared,
        socket: &Socket,
    ) -> Result<(), DownReason> {
        let now = Instant::now();
        link.check_open(device)?;
        self.tx.load_next(now);
        if self.tx.tx.is_idle() {
            // Say that we sleep first and look again after, so that a kick in between is not lost.
            link.set_idle(device, true);
            self.tx.load_next(now);
        }
        if !self.tx.tx.is_idle() {
            link.set_idle(device, false);
        }
        if self.arm(ring, socket)? == Sending::Done {
            return Ok(());
        }
        self.arm_timer(ring, now + self.tx.next_look(now).min(self.rx.next_look()), now);
        self.wait(device, ring, link)?;
        link.set_idle(device, false);
        let now = Instant::now();
        self.complete(ring, now)?;
        if let Some(carries) = self.slice.observe(self.tx.carries_pages() || self.rx.carries_pages(), now) {
            link.set_carries(device, carries);
        }
        self.tx.check(now)?;
        self.rx.check(now)
    }

    /// Sees to it that the ring completes something by `at`. A wait with a time-out of its own would set the processor's
    /// timer each time, which a virtual machine pays for with an exit; most waits are over long before.
    fn arm_timer(&mut self, ring: &mut IoUring, at: Instant, now: Instant) {
        if self.timers.iter().any(|(armed, _)| *armed <= at) {
            return;
        }
        let left = at.saturating_duration_since(now);
        // The kernel reads it when the entry is submitted, and then no more.
        *self.timer_time = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
        let data = TIMER | self.next_timer << KIND_BITS;
        let entry = opcode::Timeout::new(&raw const *self.timer_time).build().user_data(data);
        if push(ring, &entry) {
            self.timers.push((at, data));
            self.next_timer += 1;
        }
    }

    fn wait(&self, device: u8, ring: &IoUring, link: &Shared) -> Result<(), DownReason> {
        crate::counters::add(&link.counters(device).submissions, 1);
        match ring.submitter().submit_and_wait(1) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(DownReason::Io(format!("io_uring_enter: {error}"))),
            },
        }
    }

    fn arm(&mut self, ring: &mut IoUring, socket: &Socket) -> Result<Sending, DownReason> {
        if !self.rx_busy {
            let buffers = self.rx.rx.buffers();
            self.rx_message.msg_iov = buffers.as_mut_ptr();
            self.rx_message.msg_iovlen = buffers.len() as _;
            let entry = opcode::RecvMsg::new(SOCKET, &raw mut *self.rx_message)
                .flags(libc::MSG_WAITALL as u32)
                .build()
                .user_data(RX);
            self.rx_busy = push(ring, &entry);
        }
        if !self.wake_busy {
            let target = (&raw mut *self.wake_count).cast::<u8>();
            let entry = opcode::Read::new(EVENT, target, 8).build().user_data(WAKE);
            self.wake_busy = push(ring, &entry);
        }
        self.send(ring, socket)
    }

    /// Sends what can be sent without waiting, and arms what must be waited for.
    fn send(&mut self, ring: &mut IoUring, socket: &Socket) -> Result<Sending, DownReason> {
        while !self.tx_busy && !self.tx.tx.is_idle() {
            match self.tx.tx.piece() {
                Piece::Memory { buffers, more } => {
                    self.tx_message.msg_iov = buffers.as_mut_ptr();
                    self.tx_message.msg_iovlen = buffers.len() as _;
                    let more = if more { libc::MSG_MORE } else { 0 };
                    let entry = opcode::SendMsg::new(SOCKET, &raw const *self.tx_message)
                        .flags((libc::MSG_WAITALL | libc::MSG_NOSIGNAL | more) as u32)
                        .build()
                        .user_data(TX);
                    self.tx_busy = push(ring, &entry);
                    break;
                }
                Piece::File { file, offset_bytes, len_bytes } => {
                    let lent = lend(socket, file, offset_bytes, len_bytes)?;
                    match lent {
                        Lent::Bytes(count) => self.tx.sent(count, Instant::now()),
                        Lent::NoRoom => {}
                        Lent::Cannot => self.tx.tx.lend_no_more(),
                    }
                    let full = match lent {
                        Lent::Bytes(count) => count < len_bytes,
                        lent => lent == Lent::NoRoom,
                    };
                    if full {
                        let entry =
                            opcode::PollAdd::new(SOCKET, libc::POLLOUT as u32).build().user_data(ROOM);
                        self.tx_busy = push(ring, &entry);
                        break;
                    }
                    if self.tx.tx.is_idle() {
                        return Ok(Sending::Done);
                    }
                }
            }
        }
        Ok(Sending::Waits)
    }

    fn complete(&mut self, ring: &mut IoUring, now: Instant) -> Result<(), DownReason> {
        while let Some(entry) = ring.completion().next() {
            let result = entry.result();
            match entry.user_data() & KIND_MASK {
                RX => {
                    self.rx_busy = false;
                    if let Some(count) = transferred(result, "receive")? {
                        self.rx.received(count, now)?;
                    }
                }
                TX => {
                    self.tx_busy = false;
                    if let Some(count) = transferred(result, "send")? {
                        self.tx.sent(count, now);
                    }
                }
                ROOM => self.tx_busy = false,
                TIMER => self.timers.retain(|(_, data)| *data != entry.user_data()),
                _ => self.wake_busy = false,
            }
        }
        Ok(())
    }

    /// Gets all buffers back from the kernel. False if it keeps them.
    fn drain(&mut self, ring: &mut IoUring, socket: &Socket, waker: &Waker) -> bool {
        let _ = socket.shutdown(std::net::Shutdown::Both);
        waker.wake();
        let started = Instant::now();
        while self.rx_busy || self.tx_busy || self.wake_busy {
            if started.elapsed() > DRAIN {
                return false;
            }
            let tick = Timespec::new().nsec(10_000_000);
            let _ = ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&tick));
            while let Some(entry) = ring.completion().next() {
                match entry.user_data() & KIND_MASK {
                    RX => self.rx_busy = false,
                    TX | ROOM => self.tx_busy = false,
                    TIMER => {}
                    _ => self.wake_busy = false,
                }
            }
        }
        true
    }
}

fn transferred(result: i32, what: &str) -> Result<Option<usize>, DownReason> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(Some(count));
    }
    match -result {
        libc::EAGAIN | libc::EINTR => Ok(None),
        libc::ECONNRESET | libc::EPIPE => Err(DownReason::Closed),
        errno => Err(DownReason::Io(format!("{what}: {}", std::io::Error::from_raw_os_error(errno)))),
    }
}

/// Queues an operation; false if the ring is full, and then it is tried again next turn.
fn push(ring: &mut IoUring, entry: &Entry) -> bool {
    // SAFETY: every pointer in the entry is into a box or region that outlives the operation: the
    // device is dropped only after `drain` has seen all of them complete.
    unsafe { ring.submission().push(entry).is_ok() }
}
