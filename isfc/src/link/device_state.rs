//! One device of a link, as all threads see it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use socket2::Socket;

use super::DownReason;
use super::segments::{RxSegments, TxSegments};
use crate::counters::Counters;
use crate::device::Waker;

/// The segments of a device in both directions.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) tx: TxSegments,
    pub(super) rx: RxSegments,
    pub(super) latency_us: Histogram<u64>,
}

impl Line {
    fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, 60_000_000, 2).expect("these bounds are valid");
        Self { tx: TxSegments::default(), rx: RxSegments::default(), latency_us }
    }
}

/// One device, as all threads see it. It may go down and come back with another socket.
#[derive(Debug)]
pub(crate) struct DeviceState {
    pub(crate) waker: Waker,
    pub(crate) socket: Mutex<Arc<Socket>>,
    pub(super) counters: Counters,
    line: Mutex<Line>,
    pub(super) idle: AtomicBool,
    pub(super) closed: AtomicBool,
    /// Pages are coming in.
    pub(super) receiving: AtomicBool,
    /// It is being taken out of the link.
    pub(super) leaving: AtomicBool,
    /// How many of its threads carry pages, or did a moment ago.
    pub(super) carrying: AtomicU8,
    /// The peer is to be told this side's name.
    pub(super) introduce: AtomicBool,
    /// The peer is to hear which segments are here.
    pub(super) ack_due: AtomicBool,
    pub(super) damaged: AtomicU32,
    pub(super) hold_ms: AtomicU64,
    pub(super) reason: Mutex<Option<DownReason>>,
    pub(super) ended: Mutex<bool>,
    pub(super) ended_signal: Condvar,
}

impl DeviceState {
    pub(crate) fn new(socket: Socket) -> std::io::Result<Self> {
        Ok(Self {
            waker: Waker::new()?,
            socket: Mutex::new(Arc::new(socket)),
            counters: Counters::default(),
            line: Mutex::new(Line::new()),
            idle: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            receiving: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            carrying: AtomicU8::new(0),
            introduce: AtomicBool::new(true),
            ack_due: AtomicBool::new(false),
            damaged: AtomicU32::new(0),
            hold_ms: AtomicU64::new(0),
            reason: Mutex::new(None),
            ended: Mutex::new(false),
            ended_signal: Condvar::new(),
        })
    }

    pub(crate) fn socket(&self) -> Arc<Socket> {
        self.socket.lock().expect("no thread panics while it holds a socket").clone()
    }

    /// Ends both directions at once, as a pulled cable would.
    pub(crate) fn cut(&self) {
        let _ = self.socket().shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn hold(&self, hold: Duration) {
        self.hold_ms.store(hold.as_millis() as u64, Ordering::Relaxed);
    }

    /// Waits until the device's thread is about to end.
    pub(crate) fn wait_ended(&self) {
        let mut ended = self.ended.lock().expect("no thread panics while it holds this");
        while !*ended {
            ended = self.ended_signal.wait(ended).expect("no thread panics while it holds this");
        }
    }

    /// The same, but no longer than `patience`.
    pub(crate) fn wait_ended_for(&self, patience: Duration) {
        let ended = self.ended.lock().expect("no thread panics while it holds this");
        let _ = self.ended_signal.wait_timeout_while(ended, patience, |ended| !*ended);
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.lock().expect("no thread panics while it holds this")
    }

    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().expect("no thread panics while it holds a line")
    }
}
