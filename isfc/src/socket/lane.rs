//! One priority's worth of endpoints, as a core sees it: what waits to go out, and what the peer has open.

use std::collections::{BTreeMap, VecDeque};

use super::core::{EndpointId, MessageId};
use super::name::EndpointName;
use super::receipt::{ProtocolError, Receipt, Refusal};
use super::wire::PeerMessage;
use super::{ENDPOINTS_MAX, WINDOWS_MAX};

/// The way to one endpoint of the peer.
#[derive(Debug)]
pub(super) struct Path {
    incarnation: u64,
    window: u16,
    /// Number of the last message that was given to the link.
    handed: u64,
    /// Number of the last message that has its receipt.
    settled: u64,
    /// Messages without a receipt, by number from `settled + 1`.
    pending: VecDeque<(MessageId, EndpointId)>,
}

/// A message that has its receipt now.
pub(super) type Settled = (EndpointId, MessageId, Receipt);

impl Path {
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= usize::from(self.window)
    }

    fn settle_next(&mut self, receipt: Receipt, settled: &mut Vec<Settled>) {
        if let Some((message, endpoint)) = self.pending.pop_front() {
            self.settled += 1;
            settled.push((endpoint, message, receipt));
        }
    }

    /// The peer took everything up to `number`.
    fn taken(&mut self, number: u64, settled: &mut Vec<Settled>) {
        while self.settled < number {
            self.settle_next(Receipt::Delivered, settled);
        }
    }

    fn refuse_rest(mut self, settled: &mut Vec<Settled>) {
        while !self.pending.is_empty() {
            self.settle_next(Receipt::Refused(Refusal::Closed), settled);
        }
    }

    fn lose_rest(mut self, settled: &mut Vec<Settled>) {
        while !self.pending.is_empty() {
            let may_have_been_delivered = self.settled < self.handed;
            self.settle_next(Receipt::PeerGone { may_have_been_delivered }, settled);
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    outgoing: VecDeque<PeerMessage>,
    /// The peer has told every endpoint that it had when the link came up.
    pub(super) ready: bool,
    last_incarnation: u64,
    paths: BTreeMap<EndpointName, Path>,
}

impl Lane {
    /// A lane of a new link: the peer is told what is open here.
    pub(super) fn new(opens: impl Iterator<Item = PeerMessage>, instance: u64) -> Self {
        let outgoing = opens.chain([PeerMessage::Ready { instance }]).collect();
        Self { outgoing, ..Self::default() }
    }

    pub(super) fn path(&mut self, name: &EndpointName) -> Option<&mut Path> {
        self.paths.get_mut(name)
    }

    pub(super) fn has(&self, name: &EndpointName) -> bool {
        self.paths.contains_key(name)
    }

    pub(super) fn backlog(&self) -> usize {
        self.outgoing.len()
    }

    /// Puts a message on its way; the path must be there and not full.
    pub(super) fn send(&mut self, name: EndpointName, body: &[u8], message: MessageId, from: EndpointId) {
        let Some(path) = self.paths.get_mut(&name) else { return };
        path.pending.push_back((message, from));
        let number = path.settled + path.pending.len() as u64;
        let incarnation = path.incarnation;
        self.outgoing.push_back(PeerMessage::Data { name, incarnation, number, body: body.to_vec() });
    }

    pub(super) fn tell_open(&mut self, open: PeerMessage) {
        self.outgoing.push_back(open);
    }

    /// Tells that an endpoint has taken everything up to `number`: in place of what waits to be told already.
    pub(super) fn tell_taken(&mut self, name: EndpointName, incarnation: u64, number: u64) {
        let waiting = self.outgoing.iter_mut().find_map(|message| match message {
            PeerMessage::Taken { incarnation: of, number, .. } if *of == incarnation => Some(number),
            _ => None,
        });
        match waiting {
            Some(waiting) => *waiting = number,
            None => self.outgoing.push_back(PeerMessage::Taken { name, incarnation, number }),
        }
    }

    /// Tells that an endpoint is gone. If the peer has not heard of it yet it never will, so that opening and closing
    /// while nothing moves costs nothing.
    pub(super) fn tell_close(&mut self, name: EndpointName, incarnation: u64, number: u64) {
        let before = self.outgoing.len();
        let concerns = |of: &u64| *of == incarnation;
        self.outgoing.retain(
            |message| !matches!(message, PeerMessage::Open { incarnation, .. } if concerns(incarnation)),
        );
        if self.outgoing.len() == before {
            self.outgoing.retain(
                |message| !matches!(message, PeerMessage::Taken { incarnation, .. } if concerns(incarnation)),
            );
            self.outgoing.push_back(PeerMessage::Close { name, incarnation, number });
        }
    }

    pub(super) fn front(&self) -> Option<&PeerMessage> {
        self.outgoing.front()
    }

    /// The link has taken the front message.
    pub(super) fn pop(&mut self) {
        if let Some(PeerMessage::Data { name, number, .. }) = self.outgoing.pop_front()
            && let Some(path) = self.paths.get_mut(&name)
        {
            path.handed = number;
        }
    }

    /// The peer has an endpoint.
    pub(super) fn opened(
        &mut self,
        name: EndpointName,
        incarnation: u64,
        window: u16,
    ) -> Result<(), ProtocolError> {
        if incarnation <= self.last_incarnation {
            let last = self.last_incarnation;
            return Err(ProtocolError::Incarnation { name, incarnation, last });
        }
        if self.paths.contains_key(&name) {
            return Err(ProtocolError::OpenTwice(name));
        }
        let windows: usize = self.paths.values().map(|path| usize::from(path.window)).sum();
        if self.paths.len() >= ENDPOINTS_MAX || windows + usize::from(window) > WINDOWS_MAX {
            return Err(ProtocolError::TooMuchOpen(name));
        }
        self.last_incarnation = incarnation;
        let path = Path { incarnation, window, handed: 0, settled: 0, pending: VecDeque::new() };
        self.paths.insert(name, path);
        Ok(())
    }

    /// The peer's endpoint has taken everything up to `number`. Says whether there is room again.
    pub(super) fn taken(
        &mut self,
        name: EndpointName,
        incarnation: u64,
        number: u64,
        settled: &mut Vec<Settled>,
    ) -> Result<bool, ProtocolError> {
        let path = self.paths.get_mut(&name).filter(|path| path.incarnation == incarnation);
        let path = path.ok_or(ProtocolError::NotOpen { name, incarnation })?;
        if number <= path.settled || number > path.handed {
            return Err(ProtocolError::Taken { name, number, from: path.settled + 1, to: path.handed });
        }
        let was_full = path.is_full();
        path.taken(number, settled);
        Ok(was_full)
    }

    /// The peer's endpoint is gone, having taken everything up to `number`.
    pub(super) fn closed(
        &mut self,
        name: EndpointName,
        incarnation: u64,
        number: u64,
        settled: &mut Vec<Settled>,
    ) -> Result<(), ProtocolError> {
        let Some(path) = self.paths.get_mut(&name).filter(|path| path.incarnation == incarnation) else {
            return Err(ProtocolError::NotOpen { name, incarnation });
        };
        if number < path.settled || number > path.handed {
            return Err(ProtocolError::Taken { name, number, from: path.settled, to: path.handed });
        }
        path.taken(number, settled);
        if let Some(path) = self.paths.remove(&name) {
            path.refuse_rest(settled);
        }
        self.outgoing.retain(|message| !matches!(message, PeerMessage::Data { name: to, .. } if *to == name));
        Ok(())
    }

    /// The link is gone: every message without a receipt gets one.
    pub(super) fn lose(self, settled: &mut Vec<Settled>) {
        for path in self.paths.into_values() {
            path.lose_rest(settled);
        }
    }
}
