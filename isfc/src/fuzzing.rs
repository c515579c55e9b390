//! A device and its link without a medium, so that a fuzzer can be the peer. Not part of the interface.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, unbounded};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use socket2::{Domain, Socket, Type};

use crate::device::gauge::Gauge;
use crate::device::{Piece, RxHalf, TxHalf};
use crate::hello::{Agreement, FEATURE_PACKED, FEATURES};
use crate::link::{DeviceState, DownReason, LinkEvent, LinkOptions, Setup, Shared, SocketId};
use crate::region::{Region, RemoteRegion, SharedRegion};
use crate::transfer::{TransferSink, TransferSource};

/// What the device under test is.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Segments, credit and names; otherwise a link of level 1.
    pub level2: bool,
    /// Extents may be packed or kept; not on a link of level 1.
    pub packs: bool,
    /// The peer shares its region of this length, in bytes, for payload to be fetched.
    pub shared_len_bytes: Option<u64>,
    /// A thread for each direction, as the blocking engine has it.
    pub split: bool,
    /// This side called.
    pub dialing: bool,
}

/// Device 0 of a link of one device. The caller moves its bytes, and is its clock.
pub struct LoneDevice {
    tx: TxHalf,
    rx: RxHalf,
    shared: Arc<Shared>,
    events: Receiver<LinkEvent>,
}

impl LoneDevice {
    /// A device that has just been welcomed; what it places goes into `region`.
    ///
    /// # Errors
    /// Descriptors or memory the kernel refuses.
    pub fn new(
        conditions: Conditions,
        region: Region,
        sink: Arc<dyn TransferSink>,
        source: Arc<dyn TransferSource>,
    ) -> Result<Self, std::io::Error> {
        let (events, receiver) = unbounded();
        let features = if conditions.packs { FEATURES } else { FEATURES & !FEATURE_PACKED };
        let remote = conditions.shared_len_bytes.map(remote_region).transpose()?;
        let shared = Arc::new(Shared::new(Setup {
            devices: vec![DeviceState::new(Socket::new(Domain::UNIX, Type::STREAM, None)?)?],
            remote: remote.into_iter().collect(),
            agreement: Agreement { version: if conditions.level2 { 2 } else { 1 }, features },
            dialing: conditions.dialing,
            split: conditions.split,
            shares: false,
            events,
            options: LinkOptions { name: "FUZZED".to_owned(), ..LinkOptions::default() },
        }));
        let slot = &shared.regions[usize::from(region.number())];
        slot.set(region).map_err(|_| std::io::ErrorKind::AlreadyExists)?;
        let _ = shared.sink.set(sink);
        let _ = shared.source.set(source);
        let gauge = || Gauge::new(shared.device(0).socket(), None);
        let (tx, rx) = (TxHalf::new(0, shared.clone(), gauge()), RxHalf::new(0, shared.clone(), gauge()));
        Ok(Self { tx, rx, shared, events: receiver })
    }

    /// `bytes` come in, as many at once as the device has room for and `piece_bytes` allows.
    ///
    /// # Errors
    /// Why the device is down.
    pub fn receive(&mut self, mut bytes: &[u8], piece_bytes: usize, now: Instant) -> Result<(), DownReason> {
        while !bytes.is_empty() {
            let mut room = piece_bytes.max(1).min(bytes.len());
            let mut count = 0;
            for buffer in self.rx.rx.buffers() {
                let part = buffer.iov_len.min(room);
                // SAFETY: the device says that its buffers are writable until it is told that they are filled.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.iov_base.cast(), part) };
                (bytes, room, count) = (&bytes[part..], room - part, count + part);
            }
            assert!(count > 0, "a device always wants bytes somewhere");
            self.rx.received(count, now)?;
        }
        Ok(())
    }

    /// The next frame the device sends, whole; `None` if it has nothing to send now.
    pub fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.tx.load_next(now);
        if self.tx.tx.is_idle() {
            return None;
        }
        let mut frame = Vec::new();
        let Piece::Memory { buffers, .. } = self.tx.tx.piece() else {
            unreachable!("the regions of these callers map no file")
        };
        for buffer in buffers {
            // SAFETY: what is to be sent is readable until the device is told that it has been.
            let part = unsafe { std::slice::from_raw_parts(buffer.iov_base.cast::<u8>(), buffer.iov_len) };
            frame.extend_from_slice(part);
        }
        self.tx.sent(frame.len(), now);
        assert!(self.tx.tx.is_idle(), "the whole frame is sent");
        Some(frame)
    }

    /// Looks at the deadlines of both halves.
    ///
    /// # Errors
    /// Why the device is down.
    pub fn check(&mut self, now: Instant) -> Result<(), DownReason> {
        self.tx.check(now)?;
        self.rx.check(now)
    }

    /// Sends a message; false if the link does not take it.
    pub fn send(&self, socket: SocketId, body: &[u8]) -> bool {
        let sent = self.shared.core().send(socket, body.into());
        sent.map(|frame| self.shared.queue(frame)).is_ok()
    }

    /// The next thing the link tells its caller.
    pub fn event(&self) -> Option<LinkEvent> {
        let event = self.events.try_recv().ok()?;
        if let LinkEvent::Message(_, body) = &event {
            self.shared.taken(body.len());
        }
        Some(event)
    }

    /// Segments under way.
    pub fn depth_max(&self) -> u64 {
        self.shared.counters(0).depth_max.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The device ends, for this reason.
    pub fn end(mut self, reason: DownReason) {
        self.tx.retire();
        self.shared.tell_sink_of_end(0);
        self.shared.device_ended(0, reason);
    }
}

/// A peer's region, of zeros.
fn remote_region(len_bytes: u64) -> Result<RemoteRegion, std::io::Error> {
    let memfd = memfd_create("fuzzed", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC)?;
    ftruncate(&memfd, len_bytes)?;
    fcntl_add_seals(&memfd, SealFlags::SHRINK)?;
    RemoteRegion::map(SharedRegion { number: 0, memfd }).map_err(std::io::Error::other)
}
