//! The endpoints of one side without any I/O.

use std::collections::{BTreeMap, VecDeque};

use super::lane::{Lane, Settled};
use super::name::EndpointName;
use super::receipt::{OpenError, ProtocolError, Receipt, Refusal, SendError};
use super::wire::PeerMessage;
use super::{BODY_LEN_BYTES_MAX, ENDPOINTS_MAX, PRIORITIES, WINDOW_MAX, WINDOWS_MAX};
use crate::link::Priority;

/// An endpoint of this side, from its opening to its closing. Never used again by the same core: it is also the
/// endpoint's incarnation on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

impl EndpointId {
    /// Its incarnation on the wire.
    pub fn incarnation(self) -> u64 {
        self.0
    }
}

/// A message this side sends, unique within its core; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

/// Which of the links to the peer, one after the other; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// A message as the application takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The link it came over: after another epoch than before, messages may be missing in between.
    pub epoch: Epoch,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What the core wants its caller to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message can be taken.
    Readable(EndpointId),
    /// Sending may have another outcome than before: there is room, the peer's endpoint came or went, or the link did.
    Sendable(EndpointId),
    /// A message has its receipt.
    Settled(EndpointId, MessageId, Receipt),
}

#[derive(Debug)]
struct Local {
    name: EndpointName,
    priority: Priority,
    window: u16,
    /// Came in and not taken.
    queue: VecDeque<Vec<u8>>,
    /// Number of the last message that was taken, on this link.
    taken: u64,
}

/// The endpoints of one side: see the [module](super) for the rules.
///
/// What goes out is pulled with [`Core::transmit`] after every call; everything else comes as an [`Effect`].
#[derive(Debug)]
pub struct Core {
    instance: u64,
    endpoints: BTreeMap<EndpointId, Local>,
    names: BTreeMap<EndpointName, EndpointId>,
    lanes: [Lane; 3],
    epoch: Epoch,
    up: bool,
    peer_instance: Option<u64>,
    last_endpoint: u64,
    last_message: u64,
}

impl Core {
    /// A side without endpoints or a link. `instance` tells it from the peer's earlier and later acquaintances: a
    /// random number, not zero.
    pub fn new(instance: u64) -> Self {
        Self {
            instance: instance.max(1),
            endpoints: BTreeMap::new(),
            names: BTreeMap::new(),
            lanes: Default::default(),
            epoch: Epoch(0),
            up: false,
            peer_instance: None,
            last_endpoint: 0,
            last_message: 0,
        }
    }

    /// Opens an endpoint that lets at most `window` messages wait to be taken.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        &mut self,
        name: EndpointName,
        priority: Priority,
        window: u16,
    ) -> Result<EndpointId, OpenError> {
        if !(1..=WINDOW_MAX).contains(&window) {
            return Err(OpenError::Window(window));
        }
        if self.names.contains_key(&name) {
            return Err(OpenError::AlreadyOpen(name));
        }
        let of_lane = self.endpoints.values().filter(|endpoint| endpoint.priority == priority);
        let windows: usize = of_lane.map(|endpoint| usize::from(endpoint.window)).sum();
        if self.endpoints.len() >= ENDPOINTS_MAX || windows + usize::from(window) > WINDOWS_MAX {
            return Err(OpenError::TooMuchOpen);
        }
        self.last_endpoint += 1;
        let id = EndpointId(self.last_endpoint);
        let endpoint = Local { name, priority, window, queue: VecDeque::new(), taken: 0 };
        if self.up {
            self.lanes[priority as usize].tell_open(open_message(id, &endpoint));
        }
        self.endpoints.insert(id, endpoint);
        self.names.insert(name, id);
        Ok(id)
    }

    /// Closes an endpoint. What waits there is dropped, and the peer told so; messages sent from it still get their
    /// receipts.
    pub fn close(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.remove(&id) else { return };
        self.names.remove(&endpoint.name);
        if self.up {
            self.lanes[endpoint.priority as usize].tell_close(endpoint.name, id.0, endpoint.taken);
        }
    }

    /// Sends a message from an endpoint to the peer's endpoint of the same name. One [`Effect::Settled`] follows, now or
    /// later.
    ///
    /// # Errors
    /// See [`SendError`]; then nothing follows.
    pub fn send(
        &mut self,
        id: EndpointId,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<MessageId, SendError> {
        let endpoint = self.endpoints.get(&id).ok_or(SendError::NotOpen)?;
        if body.len() > BODY_LEN_BYTES_MAX {
            return Err(SendError::TooLong(body.len()));
        }
        if !self.up {
            return Err(SendError::PeerGone);
        }
        let (name, priority) = (endpoint.name, endpoint.priority);
        let elsewhere = self.lanes.iter().any(|lane| lane.has(&name));
        let lane = &mut self.lanes[priority as usize];
        if !lane.ready || lane.path(&name).is_some_and(|path| path.is_full()) {
            return Err(SendError::WouldBlock);
        }
        self.last_message += 1;
        let message = MessageId(self.last_message);
        if lane.has(&name) {
            lane.send(name, body, message, id);
        } else {
            let refusal = if elsewhere { Refusal::Priority } else { Refusal::NoSuchEndpoint };
            effects.push(Effect::Settled(id, message, Receipt::Refused(refusal)));
        }
        Ok(message)
    }

    /// Takes the next message that waits at an endpoint, and has its sender told.
    pub fn take(&mut self, id: EndpointId) -> Option<Received> {
        let endpoint = self.endpoints.get_mut(&id)?;
        let body = endpoint.queue.pop_front()?;
        endpoint.taken += 1;
        let lane = &mut self.lanes[endpoint.priority as usize];
        lane.tell_taken(endpoint.name, id.0, endpoint.taken);
        Some(Received { epoch: self.epoch, body })
    }

    /// A link to the peer is up. The one before, if there was any, is gone.
    pub fn link_up(&mut self, effects: &mut Vec<Effect>) -> Epoch {
        self.link_down(self.epoch, effects);
        self.epoch.0 += 1;
        self.up = true;
        for priority in PRIORITIES {
            let endpoints = self.endpoints.iter().filter(|(_, endpoint)| endpoint.priority == priority);
            let opens = endpoints.map(|(id, endpoint)| open_message(*id, endpoint));
            self.lanes[priority as usize] = Lane::new(opens, self.instance);
        }
        self.everybody_may_send(effects);
        self.epoch
    }

    /// The link of `epoch` is gone: what was under way is settled, what waits to be taken is dropped. Nothing happens if
    /// another link is up by now.
    pub fn link_down(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if !self.up || epoch != self.epoch {
            return;
        }
        self.up = false;
        self.peer_instance = None;
        let mut settled = Vec::new();
        for lane in std::mem::take(&mut self.lanes) {
            lane.lose(&mut settled);
        }
        effects.extend(settled.into_iter().map(settled_effect));
        for endpoint in self.endpoints.values_mut() {
            endpoint.queue.clear();
            endpoint.taken = 0;
        }
        self.everybody_may_send(effects);
    }

    /// Bytes of the peer came on the link of `epoch`. Nothing happens if another link is up by now, or none.
    ///
    /// # Errors
    /// The peer does not keep to the protocol. The link is down for the core, and the caller is to end it.
    pub fn peer_message(
        &mut self,
        epoch: Epoch,
        priority: Priority,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), ProtocolError> {
        if !self.up || epoch != self.epoch {
            return Ok(());
        }
        let message = PeerMessage::decode(bytes).map_err(ProtocolError::Wire);
        let result = message.and_then(|message| self.hear(priority, message, effects));
        if result.is_err() {
            self.link_down(epoch, effects);
        }
        result
    }

    /// Gives the next message that goes out at `priority` to the link, on [`socket_of`](super::socket_of) it. Once `give`
    /// has returned well it may arrive; otherwise it stays the next. False: nothing waits.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn transmit<E>(
        &mut self,
        priority: Priority,
        give: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let lane = &mut self.lanes[priority as usize];
        let Some(message) = lane.front() else { return Ok(false) };
        give(&message.encode())?;
        lane.pop();
        Ok(true)
    }

    /// Messages that wait to go out at `priority`.
    pub fn backlog(&self, priority: Priority) -> usize {
        self.lanes[priority as usize].backlog()
    }

    /// Messages that wait to be taken at an endpoint; never more than its window.
    pub fn waiting(&self, id: EndpointId) -> usize {
        self.endpoints.get(&id).map_or(0, |endpoint| endpoint.queue.len())
    }

    /// Is a link up?
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Is the peer's endpoint of the same name and priority known to be open, and the peer ready for messages to it?
    pub fn peer_has(&self, id: EndpointId) -> bool {
        let there = |local: &Local| {
            let lane = &self.lanes[local.priority as usize];
            lane.ready && lane.has(&local.name)
        };
        self.endpoints.get(&id).is_some_and(there)
    }

    /// The peer's instance once it has told it on this link: the same as on an earlier link if it is the same hub.
    pub fn peer_instance(&self) -> Option<u64> {
        self.peer_instance
    }

    fn everybody_may_send(&self, effects: &mut Vec<Effect>) {
        effects.extend(self.endpoints.keys().map(|id| Effect::Sendable(*id)));
    }

    fn hear(
        &mut self,
        priority: Priority,
        message: PeerMessage,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ProtocolError> {
        let lane = &mut self.lanes[priority as usize];
        let mut settled = Vec::new();
        let changed = match message {
            PeerMessage::Data { name, .. } | PeerMessage::Taken { name, .. } if !lane.ready => {
                return Err(ProtocolError::NotReady(name));
            }
            PeerMessage::Data { name, incarnation, number, body } => {
                return self.arrived(priority, name, incarnation, number, body, effects);
            }
            PeerMessage::Ready { instance } => return self.peer_ready(priority, instance, effects),
            PeerMessage::Open { name, incarnation, window } => {
                lane.opened(name, incarnation, window)?;
                Some(name)
            }
            PeerMessage::Taken { name, incarnation, number } => {
                lane.taken(name, incarnation, number, &mut settled)?.then_some(name)
            }
            PeerMessage::Close { name, incarnation, number } => {
                lane.closed(name, incarnation, number, &mut settled)?;
                Some(name)
            }
        };
        effects.extend(settled.into_iter().map(settled_effect));
        let local = changed.and_then(|name| self.names.get(&name));
        effects.extend(local.map(|id| Effect::Sendable(*id)));
        Ok(())
    }

    fn peer_ready(
        &mut self,
        priority: Priority,
        instance: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ProtocolError> {
        if std::mem::replace(&mut self.lanes[priority as usize].ready, true) {
            return Err(ProtocolError::ReadyTwice);
        }
        let known = *self.peer_instance.get_or_insert(instance);
        if known != instance {
            return Err(ProtocolError::TwoInstances(known, instance));
        }
        self.everybody_may_send(effects);
        Ok(())
    }

    fn arrived(
        &mut self,
        priority: Priority,
        name: EndpointName,
        incarnation: u64,
        number: u64,
        body: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ProtocolError> {
        let id = EndpointId(incarnation);
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            // Sent before the peer heard of the close; the close is the answer to it.
            let was_open = incarnation <= self.last_endpoint;
            return if was_open { Ok(()) } else { Err(ProtocolError::NeverOpened { name, incarnation }) };
        };
        if (endpoint.name, endpoint.priority) != (name, priority) {
            return Err(ProtocolError::NeverOpened { name, incarnation });
        }
        let expected = endpoint.taken + endpoint.queue.len() as u64 + 1;
        if number != expected {
            return Err(ProtocolError::Number { name, number, expected });
        }
        if endpoint.queue.len() >= usize::from(endpoint.window) {
            return Err(ProtocolError::Window { name, window: endpoint.window });
        }
        endpoint.queue.push_back(body);
        effects.push(Effect::Readable(id));
        Ok(())
    }
}

fn open_message(id: EndpointId, endpoint: &Local) -> PeerMessage {
    PeerMessage::Open { name: endpoint.name, incarnation: id.0, window: endpoint.window }
}

fn settled_effect((endpoint, message, receipt): Settled) -> Effect {
    Effect::Settled(endpoint, message, receipt)
}
