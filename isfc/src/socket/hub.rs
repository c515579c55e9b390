//! A core over a real link: one thread reads the link, everybody else writes to it directly.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::core::{Core, Effect, EndpointId, Epoch, MessageId};
use super::endpoint::{Endpoint, Slot};
use super::name::EndpointName;
use super::receipt::OpenError;
use super::{PRIORITIES, priority_of, socket_of};
use crate::link::{CoreError, DownReason, Link, LinkError, LinkEvent, Notifier, Priority};

/// The number of [`LinkEvent::Notice`] that the hub keeps for itself: it never comes out of [`Hub::recv`].
pub const HUB_NOTICE: u64 = u64::MAX;
/// Events for the owner that may wait: a peer that sends more messages to other sockets than the owner takes is cut
/// off, as a link does it, and of devices that come and go no more is told.
pub const EVENTS_MAX: usize = 4096;
/// The same, in bytes of messages.
pub const EVENTS_BYTES_MAX: usize = 64 << 20;

/// A link does not say when it has room again. It is asked again after this, and whenever something comes in.
const ASK_AGAIN: Duration = Duration::from_millis(2);
/// As good as for ever.
const LONG: Duration = Duration::from_secs(3600);

/// One side's endpoints, over whatever link to the peer there is.
///
/// The hub reads the link. What is not for endpoints comes out of [`Hub::recv`], as it would out of [`Link::recv`], so
/// the owner of a link can use the other sockets, transfers and notices as without a hub. The owner of a link keeps an
/// `Arc` of it to send, and reads only from the hub.
///
/// When the hub is dropped, the peer is told that its endpoints are closed, and everybody who waits on this side that the
/// peer is gone. The link itself lives as long as somebody else has it.
#[derive(Debug)]
pub struct Hub {
    inner: Arc<Inner>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
pub(super) struct Inner {
    state: Mutex<State>,
    /// There is an event for the owner.
    events: Condvar,
}

#[derive(Debug)]
struct Attached {
    epoch: Epoch,
    link: Arc<Link>,
    notifier: Notifier,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) core: Core,
    link: Option<Attached>,
    /// Something waits for the link to have room again.
    stalled: bool,
    pub(super) tickets: HashMap<MessageId, Arc<Slot>>,
    signals: HashMap<EndpointId, Arc<Condvar>>,
    events: VecDeque<LinkEvent>,
    /// Bytes of the messages among them.
    event_bytes: usize,
    /// The hub is dropped.
    pub(super) over: bool,
}

impl Hub {
    /// A hub without a link.
    ///
    /// # Errors
    /// The kernel gives no random number.
    pub fn new() -> std::io::Result<Self> {
        let mut instance = [0; 8];
        let filled = rustix::rand::getrandom(&mut instance, rustix::rand::GetRandomFlags::empty())?;
        if filled < instance.len() {
            return Err(std::io::Error::other("the kernel gave too few random bytes"));
        }
        let state = State {
            core: Core::new(u64::from_le_bytes(instance)),
            link: None,
            stalled: false,
            tickets: HashMap::new(),
            signals: HashMap::new(),
            events: VecDeque::new(),
            event_bytes: 0,
            over: false,
        };
        let inner = Arc::new(Inner { state: Mutex::new(state), events: Condvar::new() });
        Ok(Self { inner, reader: Mutex::new(None) })
    }

    /// Goes on over this link, which must be new: nobody has read its events, and no hub has had it. A link that was
    /// attached before is left alone from now on, and what was under way on it is settled.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn attach(&self, link: Arc<Link>) -> std::io::Result<Epoch> {
        let mut reader = self.reader.lock().expect("no thread panics while it holds this");
        self.inner.lock().detach();
        join(reader.take());
        let mut state = self.inner.lock();
        let mut effects = Vec::new();
        let epoch = state.core.link_up(&mut effects);
        let (inner, of_reader) = (self.inner.clone(), link.clone());
        let thread = std::thread::Builder::new().name("isfc-hub".into());
        match thread.spawn(move || inner.read(&of_reader, epoch)) {
            Ok(thread) => *reader = Some(thread),
            Err(error) => {
                state.core.link_down(epoch, &mut effects);
                state.perform(effects);
                return Err(error);
            }
        }
        state.link = Some(Attached { epoch, notifier: link.notifier(), link });
        state.perform(effects);
        Ok(epoch)
    }

    /// Opens an endpoint that lets at most `window` messages wait to be taken, up to [`super::WINDOW_MAX`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, name: EndpointName, priority: Priority, window: u16) -> Result<Endpoint, OpenError> {
        let mut state = self.inner.lock();
        let id = state.core.open(name, priority, window)?;
        let signal = Arc::new(Condvar::new());
        state.signals.insert(id, signal.clone());
        state.perform(Vec::new());
        drop(state);
        Ok(Endpoint::new(self.inner.clone(), id, name, signal))
    }

    /// Waits at most `patience` for the next event of the link that is not for endpoints.
    ///
    /// # Errors
    /// [`LinkError::TimedOut`].
    pub fn recv(&self, patience: Duration) -> Result<LinkEvent, LinkError> {
        let deadline = deadline(patience);
        let mut state = self.inner.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                if let LinkEvent::Message(_, body) = &event {
                    state.event_bytes -= body.len();
                }
                return Ok(event);
            }
            match wait(state, &self.inner.events, deadline) {
                Some(again) => state = again,
                None => return Err(LinkError::TimedOut(patience)),
            }
        }
    }

    /// The link that is attached, while it is up.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.inner.lock().link.as_ref().map(|attached| attached.link.clone())
    }

    /// The peer hub's random number, once it has told it on this link: the same as on an earlier link if it is still the
    /// same hub, another one if the peer has started anew.
    pub fn peer_instance(&self) -> Option<u64> {
        self.inner.lock().core.peer_instance()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        {
            let mut state = self.inner.lock();
            state.over = true;
            for id in std::mem::take(&mut state.signals) {
                state.core.close(id.0);
                id.1.notify_all();
            }
            state.perform(Vec::new());
            state.detach();
        }
        join(self.reader.get_mut().expect("no thread panics while it holds this").take());
    }
}

fn join(reader: Option<JoinHandle<()>>) {
    if let Some(reader) = reader {
        let _ = reader.join();
    }
}

/// The moment after which nobody waits any more; `None` if it is too far away to be told.
pub(super) fn deadline(patience: Duration) -> Option<Instant> {
    Instant::now().checked_add(patience)
}

/// Waits for a signal; `None` once the deadline has passed.
pub(super) fn wait<'a>(
    state: MutexGuard<'a, State>,
    signal: &Condvar,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'a, State>> {
    let left = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()));
    if left.is_zero() {
        return None;
    }
    Some(signal.wait_timeout(state, left).expect("no thread panics while it holds the hub").0)
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the hub")
    }

    /// Reads a link until it is down or another one is attached.
    fn read(&self, link: &Link, epoch: Epoch) {
        crate::prefer_latency();
        let mut patience = LONG;
        loop {
            let event = match link.recv(patience) {
                Ok(event) => Some(event),
                Err(LinkError::Down(reason)) => Some(LinkEvent::LinkDown(reason)),
                Err(_) => None,
            };
            let mut state = self.lock();
            if state.link.as_ref().is_none_or(|attached| attached.epoch != epoch) {
                return;
            }
            let outcome = event.map_or(Ok(()), |event| state.event(epoch, event));
            self.events.notify_all();
            if let Err(why) = outcome {
                state.link_down(epoch, DownReason::Protocol(why));
                drop(state);
                (0..link.devices()).for_each(|device| link.close_device(device));
                return;
            }
            if state.link.is_none() {
                return;
            }
            state.pump();
            patience = if state.stalled { ASK_AGAIN } else { LONG };
        }
    }
}

impl State {
    fn event(&mut self, epoch: Epoch, event: LinkEvent) -> Result<(), String> {
        match event {
            LinkEvent::Notice(HUB_NOTICE) => {}
            LinkEvent::LinkDown(reason) => self.link_down(epoch, reason),
            LinkEvent::Message(socket, body) => {
                if let Some(priority) = priority_of(socket) {
                    let mut effects = Vec::new();
                    let outcome = self.core.peer_message(epoch, priority, &body, &mut effects);
                    self.perform(effects);
                    return outcome.map_err(|error| error.to_string());
                }
                if self.events.len() >= EVENTS_MAX {
                    return Err(format!("{EVENTS_MAX} messages wait untaken"));
                }
                if self.event_bytes > EVENTS_BYTES_MAX {
                    return Err(format!("messages of {EVENTS_BYTES_MAX} bytes wait untaken"));
                }
                self.event_bytes += body.len();
                self.events.push_back(LinkEvent::Message(socket, body));
            }
            LinkEvent::DeviceDown(..) | LinkEvent::DeviceUp(_) if self.events.len() >= EVENTS_MAX => {}
            event => self.events.push_back(event),
        }
        Ok(())
    }

    fn link_down(&mut self, epoch: Epoch, reason: DownReason) {
        self.events.push_back(LinkEvent::LinkDown(reason));
        let mut effects = Vec::new();
        self.core.link_down(epoch, &mut effects);
        self.link = None;
        self.perform(effects);
    }

    /// Lets go of the link, whatever state it is in.
    fn detach(&mut self) {
        let Some(Attached { epoch, notifier, .. }) = self.link.take() else { return };
        let mut effects = Vec::new();
        self.core.link_down(epoch, &mut effects);
        self.perform(effects);
        notifier.notify(HUB_NOTICE);
    }

    /// Does what the core wants done.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Readable(endpoint) | Effect::Sendable(endpoint) => {
                    if let Some(signal) = self.signals.get(&endpoint) {
                        signal.notify_all();
                    }
                }
                Effect::Settled(_, message, receipt) => {
                    if let Some(ticket) = self.tickets.remove(&message) {
                        ticket.settle(receipt);
                    }
                }
            }
        }
        let was_stalled = self.stalled;
        self.pump();
        // The reader waits for what comes in, and is to look after what goes out.
        if let Some(attached) = self.link.as_ref().filter(|_| self.stalled && !was_stalled) {
            attached.notifier.notify(HUB_NOTICE);
        }
    }

    pub(super) fn forget(&mut self, endpoint: EndpointId) {
        self.signals.remove(&endpoint);
    }

    fn pump(&mut self) {
        self.stalled = false;
        let Some(Attached { link, .. }) = &self.link else { return };
        for priority in PRIORITIES {
            let give = |bytes: &[u8]| link.send(socket_of(priority), bytes);
            loop {
                match self.core.transmit(priority, give) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(LinkError::Core(CoreError::Backpressure)) => {
                        self.stalled = true;
                        break;
                    }
                    // The link is down, and the reader is about to hear so.
                    Err(_) => break,
                }
            }
        }
    }
}
