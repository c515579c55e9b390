//! What a service holds: an endpoint, and tickets for the messages it has sent.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::core::{EndpointId, Received};
use super::hub::{Inner, State, deadline, wait};
use super::name::EndpointName;
use super::receipt::{Receipt, SendError};

/// One side of a named endpoint. Dropping it closes it.
#[derive(Debug)]
pub struct Endpoint {
    hub: Arc<Inner>,
    id: EndpointId,
    name: EndpointName,
    signal: Arc<Condvar>,
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// Waited long enough.
    #[error("nothing came within {0:?}")]
    TimedOut(Duration),
    /// No link to the peer is up, or this side's hub is gone.
    #[error("there is no link to the peer")]
    PeerGone,
}

/// Why the peer's endpoint is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// Waited long enough.
    #[error("the peer did not open the endpoint within {0:?}")]
    TimedOut(Duration),
    /// This side's hub is gone.
    #[error("the hub is gone")]
    HubGone,
}

impl Endpoint {
    pub(super) fn new(hub: Arc<Inner>, id: EndpointId, name: EndpointName, signal: Arc<Condvar>) -> Self {
        Self { hub, id, name, signal }
    }

    /// What it is called.
    pub fn name(&self) -> EndpointName {
        self.name
    }

    /// Sends a message to the peer's endpoint of this name, waiting at most `patience` for room.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::WouldBlock`] once `patience` is over. No receipt follows then.
    pub fn send(&self, body: &[u8], patience: Duration) -> Result<Ticket, SendError> {
        let deadline = deadline(patience);
        let mut state = self.hub.lock();
        loop {
            match send_now(&mut state, self.id, body) {
                Err(SendError::WouldBlock) => match wait(state, &self.signal, deadline) {
                    Some(again) => state = again,
                    None => return Err(SendError::WouldBlock),
                },
                outcome => return outcome,
            }
        }
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// See [`SendError`]. No receipt follows then.
    pub fn try_send(&self, body: &[u8]) -> Result<Ticket, SendError> {
        self.send(body, Duration::ZERO)
    }

    /// Takes the next message, waiting at most `patience` for one. Its sender is told *delivered*.
    ///
    /// # Errors
    /// [`RecvError::PeerGone`] at once while no link is up: see [`Endpoint::wait_for_peer`].
    pub fn recv(&self, patience: Duration) -> Result<Received, RecvError> {
        let deadline = deadline(patience);
        let mut state = self.hub.lock();
        loop {
            if let Some(message) = state.core.take(self.id) {
                state.perform(Vec::new());
                return Ok(message);
            }
            if state.over || !state.core.is_up() {
                return Err(RecvError::PeerGone);
            }
            match wait(state, &self.signal, deadline) {
                Some(again) => state = again,
                None => return Err(RecvError::TimedOut(patience)),
            }
        }
    }

    /// Waits until a link is up and the peer has this endpoint open at this priority, at most `patience`.
    ///
    /// # Errors
    /// See [`WaitError`].
    pub fn wait_for_peer(&self, patience: Duration) -> Result<(), WaitError> {
        let deadline = deadline(patience);
        let mut state = self.hub.lock();
        while !state.core.peer_has(self.id) {
            if state.over {
                return Err(WaitError::HubGone);
            }
            state = wait(state, &self.signal, deadline).ok_or(WaitError::TimedOut(patience))?;
        }
        Ok(())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.core.close(self.id);
        state.forget(self.id);
        state.perform(Vec::new());
    }
}

fn send_now(state: &mut State, id: EndpointId, body: &[u8]) -> Result<Ticket, SendError> {
    if state.over {
        return Err(SendError::PeerGone);
    }
    let mut effects = Vec::new();
    let message = state.core.send(id, body, &mut effects)?;
    let slot = Arc::<Slot>::default();
    state.tickets.insert(message, slot.clone());
    state.perform(effects);
    Ok(Ticket(slot))
}

/// Where the hub puts a message's receipt.
#[derive(Debug, Default)]
pub(super) struct Slot {
    receipt: Mutex<Option<Receipt>>,
    settled: Condvar,
}

impl Slot {
    pub(super) fn settle(&self, receipt: Receipt) {
        *self.lock() = Some(receipt);
        self.settled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Receipt>> {
        self.receipt.lock().expect("no thread panics while it holds a receipt")
    }
}

/// The sender's half of a message: where its receipt comes. Outlives the endpoint and the hub.
#[derive(Clone, Debug)]
pub struct Ticket(Arc<Slot>);

impl Ticket {
    /// What became of the message; waits at most `patience` for it. `None`: nothing yet. Asked again it gives the same
    /// answer.
    pub fn wait(&self, patience: Duration) -> Option<Receipt> {
        let waits = |receipt: &mut Option<Receipt>| receipt.is_none();
        let waited = self.0.settled.wait_timeout_while(self.0.lock(), patience, waits);
        *waited.expect("no thread panics while it holds a receipt").0
    }
}
