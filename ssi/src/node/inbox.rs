//! What comes to a member's thread, and what others may know of the member meanwhile.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::fence::{Ending, Fence};
use super::ticket::Ticket;
use crate::member::{Command, CommandRefused, Input, MemberState, Mode, Record, Stopped};
use crate::name::{MEMBERS_MAX, Slot, UserId, VolumeLabel};
use crate::pdr::Stamps;
use crate::service::UserKind;

/// Things that may wait for the member's thread. Who brings more waits until it has room.
pub(super) const INBOX_MAX: usize = 1_024;

/// How often those who wait for the member look whether it still runs.
const LOOK_UP: Duration = Duration::from_millis(50);

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
    /// Stop at once, without leaving.
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

/// The member as it was when its core last had something to do, `age_ms` ago.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of this member.
    pub slot: Slot,
    /// How long ago that was. A member that is well looks once a heartbeat at least.
    pub age_ms: u64,
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
            age_ms: 0,
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
    slot: Slot,
    snapshot: Arc<Mutex<Snapshot>>,
    fence: Arc<Fence>,
}

impl Handle {
    pub(super) fn new(slot: Slot, ending: Option<Arc<dyn Ending>>) -> (Self, Receiver<Event>) {
        let (inbox, events) = bounded(INBOX_MAX);
        let (snapshot, fence) = (Arc::new(Mutex::new(Snapshot::new(slot))), Arc::new(Fence::new(ending)));
        (Self { inbox, slot, snapshot, fence }, events)
    }

    /// Its slot.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The member as it is.
    ///
    /// # Errors
    /// It has stopped, or should have by now: what was true of it need not be any more.
    pub fn snapshot(&self) -> Result<Snapshot, CallError> {
        let snapshot = Snapshot { age_ms: self.fence.age_ms(), ..self.lock().clone() };
        // Looked at last: so it was still true when the snapshot had been taken.
        if self.has_stopped() { Err(CallError::Stopped) } else { Ok(snapshot) }
    }

    /// The member has stopped, or should have by now.
    pub fn has_stopped(&self) -> bool {
        self.fence.ended().is_some()
    }

    /// The same, other than by leaving: whatever of it has not noticed yet is to be silent.
    pub(super) fn is_silent(&self) -> bool {
        self.fence.is_silent()
    }

    pub(super) fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// Never held while anything is waited for.
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
        let outcome = match self.call(Event::Request(request), &answers, patience) {
            Err(CallError::TimedOut(_)) if !ticket.withdraw() => {
                answers.recv().map_err(|_| CallError::Stopped)
            }
            Err(CallError::TimedOut(patience)) => {
                // If the member has no time even for this, it gives the answer back when it has it.
                let _ = self.inbox.try_send(Event::Withdrawn(ticket));
                Err(CallError::TimedOut(patience))
            }
            outcome => outcome,
        };
        // What was granted in time, and comes to be told too late, is granted no more.
        if self.has_stopped() { Err(CallError::Stopped) } else { outcome }
    }

    /// Stops the member without leaving the cluster; the record is told that it is down, if the member can still tell it.
    pub fn abend(&self) {
        self.fence.order();
        let _ = self.inbox.send_timeout(Event::Abend, Duration::from_secs(1));
    }

    /// Waits while the inbox is full; `false`: the member has stopped.
    pub(super) fn bring(&self, input: Input) -> bool {
        let mut event = Event::Input(input);
        loop {
            match self.inbox.send_timeout(event, LOOK_UP) {
                Ok(()) => return true,
                Err(SendTimeoutError::Disconnected(_)) => return false,
                Err(SendTimeoutError::Timeout(_)) if self.has_stopped() => return false,
                Err(SendTimeoutError::Timeout(back)) => event = back,
            }
        }
    }

    /// Waits for the member, not for one that has stopped.
    fn call<T>(&self, event: Event, answers: &Receiver<T>, patience: Duration) -> Result<T, CallError> {
        let deadline = Instant::now() + patience;
        let mut event = event;
        while let Err(error) = self.inbox.send_timeout(event, LOOK_UP) {
            event = match error {
                SendTimeoutError::Timeout(back) => back,
                SendTimeoutError::Disconnected(_) => return Err(CallError::Stopped),
            };
            self.check(deadline, patience)?;
        }
        loop {
            match answers.recv_timeout(LOOK_UP) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(CallError::Stopped),
                // Whoever has left says so, a little later.
                Err(RecvTimeoutError::Timeout) if self.is_silent() => return Err(CallError::Stopped),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(CallError::TimedOut(patience));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn check(&self, deadline: Instant, patience: Duration) -> Result<(), CallError> {
        if self.has_stopped() {
            return Err(CallError::Stopped);
        }
        if Instant::now() >= deadline { Err(CallError::TimedOut(patience)) } else { Ok(()) }
    }
}
