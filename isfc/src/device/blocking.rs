//! The blocking engine, for where io_uring is not allowed: two threads per device, plain
//! `sendmsg` and `recvmsg` with time-outs.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::iovec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::gauge::Gauge;
use super::lend::{Lent, lend};
use super::{Piece, RxHalf, TICK, TxHalf, Waker};
use crate::link::{DownReason, Shared, device_thread};
use crate::panics::guarded;
use crate::slice::Slice;

/// Runs both halves until the device is over, and says why it was.
pub(crate) fn run(
    device: u8,
    link: &Arc<Shared>,
    socket: &Arc<Socket>,
    waker: &Waker,
    gauges: [Gauge; 2],
) -> DownReason {
    let timeouts = socket.set_read_timeout(Some(TICK)).and_then(|()| socket.set_write_timeout(Some(TICK)));
    if let Err(error) = timeouts {
        return DownReason::Io(format!("socket time-outs: {error}"));
    }
    let [sent, received] = gauges;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut half = TxHalf::new(device, link.clone(), sent);
            let sent = guarded(|| send_loop(device, link, socket, waker, &mut half));
            let reason = sent.unwrap_or_else(|words| link.panicked(&device_thread(device), words));
            link.mark_down(device, &reason);
            let _ = socket.shutdown(std::net::Shutdown::Both);
            match guarded(|| half.retire()) {
                Ok(()) => reason,
                Err(words) => link.panicked(&device_thread(device), words),
            }
        });
        let taken = guarded(|| receive_loop(device, link, socket, received));
        let reason = taken.unwrap_or_else(|words| link.panicked(&device_thread(device), words));
        link.mark_down(device, &reason);
        let _ = socket.shutdown(std::net::Shutdown::Both);
        waker.wake();
        // The half that fails first knows why; the other only sees the socket close.
        let sent = sender.join().unwrap_or_else(|_| DownReason::Io("the sending thread panicked".into()));
        link.first_reason(device).unwrap_or(if reason == DownReason::Closed { sent } else { reason })
    })
}

fn send_loop(device: u8, link: &Shared, socket: &Socket, waker: &Waker, half: &mut TxHalf) -> DownReason {
    let mut slice = Slice::new();
    loop {
        if let Err(reason) = link.check_open(device) {
            return reason;
        }
        let now = Instant::now();
        half.load_next(now);
        if let Some(carries) = slice.observe(half.carries_pages(), now) {
            link.set_carries(device, carries);
        }
        if half.tx.is_idle() {
            link.set_idle(device, true);
            half.load_next(now);
            if let Err(reason) = half.check(now) {
                return reason;
            }
            if half.tx.is_idle() {
                sleep(waker, half.next_look(now));
                link.set_idle(device, false);
                continue;
            }
            link.set_idle(device, false);
        }
        crate::counters::add(&link.counters(device).submissions, 1);
        match send_piece(socket, half.tx.piece()) {
            Ok(Some(Lent::Bytes(count))) => half.sent(count, Instant::now()),
            Ok(Some(Lent::Cannot)) => half.tx.lend_no_more(),
            Ok(Some(Lent::NoRoom) | None) => {
                if let Err(reason) = half.check(Instant::now()) {
                    return reason;
                }
            }
            Err(reason) => return reason,
        }
    }
}

fn send_piece(socket: &Socket, piece: Piece<'_>) -> Result<Option<Lent>, DownReason> {
    match piece {
        Piece::Memory { buffers, more } => {
            let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
            let sent = message_call(buffers, |message| {
                // SAFETY: the message's buffers are valid until the frame is reported sent.
                unsafe { libc::sendmsg(socket.as_raw_fd(), message, flags) }
            });
            sent.map(|count| count.map(Lent::Bytes))
        }
        Piece::File { file, offset_bytes, len_bytes } => {
            lend(socket, file, offset_bytes, len_bytes).map(Some)
        }
    }
}

fn receive_loop(device: u8, link: &Arc<Shared>, socket: &Socket, gauge: Gauge) -> DownReason {
    let mut half = RxHalf::new(device, link.clone(), gauge);
    let mut slice = Slice::new();
    loop {
        if let Err(reason) = link.check_open(device) {
            return reason;
        }
        let outcome = message_call(half.rx.buffers(), |message| {
            // SAFETY: the message's buffers are valid until they are reported filled.
            unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_WAITALL) }
        });
        let now = Instant::now();
        let step = match outcome {
            Ok(Some(count)) => half.received(count, now),
            Ok(None) => half.check(now),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = step {
            return reason;
        }
        if let Some(carries) = slice.observe(half.carries_pages(), now) {
            link.set_carries(device, carries);
        }
    }
}

fn message_call(
    buffers: &mut [iovec],
    call: impl FnOnce(*mut libc::msghdr) -> isize,
) -> Result<Option<usize>, DownReason> {
    // SAFETY: a msghdr of zeros is a valid, empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers.as_mut_ptr();
    message.msg_iovlen = buffers.len() as _;
    if let Ok(count) = usize::try_from(call(&raw mut message)) {
        return Ok(Some(count));
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(None),
        Some(libc::ECONNRESET | libc::EPIPE) => Err(DownReason::Closed),
        _ => Err(DownReason::Io(error.to_string())),
    }
}

fn sleep(waker: &Waker, patience: Duration) {
    let mut fds = [PollFd::new(waker, PollFlags::IN)];
    let time = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
    if poll(&mut fds, Some(&time)).is_ok_and(|ready| ready > 0) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(waker.as_fd(), &mut count);
    }
}
