//! What a member takes and gives: inputs, effects, commands, and how long things take.

use super::MemberState;
use super::message::Message;
use super::record::{Change, ChangeRefused, Record};
use crate::name::{Slot, VolumeLabel};
use crate::service::View;

/// How long things take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat_every_ms: u64,
    /// A member that has not written its heartbeat for so long stops itself.
    pub fence_after_ms: u64,
    /// A member whose heartbeat others have seen stand still for so long is down. Longer than `fence_after_ms` by more than
    /// clocks drift apart in that time.
    pub down_after_ms: u64,
    /// A member that joins reaches everybody and has everybody's consent within this time, or steps back. One that leaves
    /// waits so long for consent, and then goes without.
    pub consent_patience_ms: u64,
    /// A member that joins or leaves for longer is expelled. Longer than `consent_patience_ms` and `fence_after_ms` together:
    /// who is only slow is through by then, or has stopped itself.
    pub transition_ms_max: u64,
    /// Before something is tried again.
    pub retry_ms: u64,
}

impl Timing {
    /// A member that has looked at nothing for longer cannot tell how long others have been silent. It is called once a
    /// heartbeat at least, so then it has slept, or its clock has jumped.
    pub(super) fn gap_ms_max(&self) -> u64 {
        2 * self.heartbeat_every_ms
    }

    /// Pause after so many attempts to join that came to nothing. The others wait while one is made, so they get rarer.
    pub(super) fn join_pause_ms(&self, attempts: u32) -> u64 {
        self.consent_patience_ms << attempts.saturating_sub(1).min(2)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_every_ms: 1_000,
            fence_after_ms: 6_000,
            down_after_ms: 9_000,
            consent_patience_ms: 5_000,
            transition_ms_max: 15_000,
            retry_ms: 250,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Time has passed; see [`timeout_ms`](super::Member::timeout_ms).
    Tick,
    /// The operation on the record of [`Effect::Record`] is over.
    Record(RecordOutcome),
    /// The link to a member is up or down.
    Link(Slot, bool),
    /// A member says something.
    Message(Slot, Message),
    /// An operator wants something; the number comes back with the answer.
    Command(u64, Command),
    /// Somebody wants something of a service.
    Request {
        /// The service's name.
        service: String,
        /// Comes back with the answer.
        number: u64,
        /// In the service's own format.
        body: Vec<u8>,
    },
    /// Nobody waits for the answer to this request any more.
    Withdraw {
        /// The service's name.
        service: String,
        /// Of the request.
        number: u64,
    },
    /// The answer came when nobody waited any more.
    Unclaimed {
        /// The service's name.
        service: String,
        /// The request.
        request: Vec<u8>,
        /// The answer.
        answer: Vec<u8>,
    },
    /// Stop at once, without leaving.
    Abend,
}

/// How an operation on the record went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordOutcome {
    /// The change was made; the record as it is now.
    Done(Record),
    /// It was not; the record as it is.
    Refused(ChangeRefused, Record),
    /// Nobody knows: the volume did not answer as it should.
    Failed(String),
}

/// What an operator may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// SHUTDOWN: leave the cluster.
    Leave,
    /// SET SSI member DOWN: the operator has made sure that it is stopped.
    SetDown(Slot),
    /// Cross-system timeouts on or off.
    SetTimeouts(bool),
    /// SET SSI PDR_VOLUME: the record goes to another volume.
    MoveRecord(VolumeLabel),
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CommandRefused {
    /// This member is not in a state for it.
    #[error("this member is {0}")]
    Here(MemberState),
    /// The member that was named is in another state than the command needs.
    #[error("slot {0} is {1}")]
    There(Slot, MemberState),
    /// It is reached over a link, or its heartbeat moves.
    #[error("slot {0} gives signs of life")]
    Alive(Slot),
    /// The record could not be changed.
    #[error("the record: {0}")]
    Record(ChangeRefused),
    /// Another command is being carried out.
    #[error("another command is being carried out")]
    Busy,
}

/// Why a member runs no longer. Nothing of its guests may.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Stopped {
    /// It has left the cluster.
    #[error("left the cluster")]
    Left,
    /// It joined or left for too long.
    #[error("was expelled by another member, for it joined or left for too long")]
    Expelled,
    /// It was told to stop at once.
    #[error("was stopped without leaving")]
    Abend,
    /// It was declared down while it ran.
    #[error("was declared down by another member")]
    DeclaredDown,
    /// It could not write its heartbeat in time, so others may have declared it down.
    #[error("could not write its heartbeat for {silent_ms} ms")]
    Fenced {
        /// How long.
        silent_ms: u64,
    },
    /// Another system of the same name runs, or took its place.
    #[error("another system of the same name is in slot {0}")]
    Twin(Slot),
    /// A service found this system unfit to join.
    #[error("service {service}: {reason}")]
    Unworthy {
        /// Which.
        service: String,
        /// Why.
        reason: String,
    },
}

/// What is to be done, in order. [`Effect::Stop`] comes before all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Read the record, and if there is a change make it, in one atomic operation; answer [`Input::Record`].
    Record(Option<Change>),
    /// Say this to a member, if its link is up.
    Send(Slot, Message),
    /// Tell the operators.
    Console(String),
    /// The cluster looks different to this member now.
    Changed(View),
    /// The answer to a command.
    Reply(u64, Result<(), CommandRefused>),
    /// The answer to a request of a service.
    Answer(u64, Vec<u8>),
    /// End every guest at once; when the other effects are carried out, as far as that takes no long time, end this member.
    Stop(Stopped),
}
