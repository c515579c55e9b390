//! What comes to a member's thread, and what others may know of the member meanwhile.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::ticket::Ticket;
use crate::member::{Command, CommandRefused, Input, MemberState, Mode, Record, Stopped};
use crate::name::{MEMBERS_MAX, Slot, UserId, VolumeLabel};
use crate::pdr::Stamps;
use crate::service::UserKind;

/// Things that may wait for the member's thread. Who brings more waits until it has room.
pub(super) const INBOX_MAX: usize = 1_024;

/// Something for the member's thread.
#[derive(Debug)]
pub(super) enum Event {
    /// For the core.
    Input(Input),
    /// An operator's command, and where its answer goes.
    Command(Command, Sender<Result<(), CommandRefused>>),
    /// A request of a service, and where its answer goes.
    Request(Request),
    /// Nobody waits for the answer to this request any more.
    Withdrawn(Ticket),
    /// Stop at once; the record is told so.
    Abend,
}

/// A request of a service.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) answer: Sender<Vec<u8>>,
    pub(super) ticket: Ticket,
}

/// The member as it was when its core last had something to do.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of this member.
    pub slot: Slot,
    /// As this member sees it.
    pub mode: Mode,
    /// Every slot's state, as this member sees it.
    pub states: [MemberState; MEMBERS_MAX as usize],
    /// The record as last read.
    pub record: Option<Record>,
    /// The volume where it is.
    pub record_volume: Option<VolumeLabel>,
    /// When each member last wrote its heartbeat there, and when its state last changed.
    pub stamps: Stamps,
    /// When each member's last heartbeat came over its link.
    pub received_heartbeats: [Option<SystemTime>; MEMBERS_MAX as usize],
    /// Users that are logged on here.
    pub users: Vec<(UserId, UserKind)>,
    /// Single-configuration users that are logged on elsewhere.
    pub users_elsewhere: Vec<(UserId, Slot)>,
    /// Whom or what the member waits for, if it does.
    pub waits_for: Option<String>,
    /// Why the member has stopped, if it has.
    pub stopped: Option<Stopped>,
}

impl Snapshot {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            mode: Mode::Safe,
            states: [MemberState::Unknown; MEMBERS_MAX as usize],
            record: None,
            record_volume: None,
            stamps: Stamps::default(),
            received_heartbeats: [None; MEMBERS_MAX as usize],
            users: Vec::new(),
            users_elsewhere: Vec::new(),
            waits_for: None,
            stopped: None,
        }
    }

    /// A slot's state.
    pub fn state(&self, slot: Slot) -> MemberState {
        self.states[slot.index()]
    }
}

/// Why a call to a member has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The member stops, or has stopped.
    #[error("the member has stopped")]
    Stopped,
    /// Nothing came in time. What was asked for may still happen.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// A way to a running member, for as many threads as want one.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: Sender<Event>,
    snapshot: Arc<Mutex<Snapshot>>,
}

impl Handle {
    pub(super) fn new(slot: Slot) -> (Self, Receiver<Event>) {
        let (inbox, events) = bounded(INBOX_MAX);
        (Self { inbox, snapshot: Arc::new(Mutex::new(Snapshot::new(slot))) }, events)
    }

    /// The member as it is.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().expect("no thread panics while it holds a snapshot")
    }

    /// Has an operator's command carried out.
    ///
    /// # Errors
    /// [`CallError`]; the inner result is the member's own.
    pub fn command(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<Result<(), CommandRefused>, CallError> {
        let (answer, answers) = bounded(1);
        self.call(Event::Command(command, answer), &answers, patience)
    }

    /// Asks a service. If no answer comes in time the request is withdrawn: what was asked for is not done, or undone.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn request(
        &self,
        service: &'static str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let (answer, answers) = bounded(1);
        let ticket = Ticket::default();
        let request = Request { service, body, answer, ticket: ticket.clone() };
        match self.call(Event::Request(request), &answers, patience) {
            Err(CallError::TimedOut(_)) if !ticket.withdraw() => {
                answers.recv().map_err(|_| CallError::Stopped)
            }
            Err(CallError::TimedOut(patience)) => {
                // If the member has no time even for this, it gives the answer back when it has it.
                let _ = self.inbox.try_send(Event::Withdrawn(ticket));
                Err(CallError::TimedOut(patience))
            }
            outcome => outcome,
        }
    }

    /// Stops the member without leaving the cluster; the record is told that it is down.
    pub fn abend(&self) {
        let _ = self.inbox.send_timeout(Event::Abend, Duration::from_secs(1));
    }

    /// Waits while the inbox is full; `false`: the member has stopped.
    pub(super) fn bring(&self, input: Input) -> bool {
        self.inbox.send(Event::Input(input)).is_ok()
    }

    fn call<T>(&self, event: Event, answers: &Receiver<T>, patience: Duration) -> Result<T, CallError> {
        self.inbox.send_timeout(event, patience).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => CallError::TimedOut(patience),
            SendTimeoutError::Disconnected(_) => CallError::Stopped,
        })?;
        answers.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => CallError::TimedOut(patience),
            RecvTimeoutError::Disconnected => CallError::Stopped,
        })
    }
}
