//! What members say to each other, besides what their services do.

use serde::{Deserialize, Serialize};

use super::{MemberState, Mode};
use crate::name::MEMBERS_MAX;

/// Level of this protocol. A cluster works at the level of its oldest member.
pub const LEVEL: u16 = 2;
/// The oldest level that is still spoken: one whose members promise nothing in the record, so that only an operator may
/// declare them down.
pub const LEVEL_OLDEST: u16 = 1;
/// From this level on members promise in the record to stop themselves in time.
pub const LEVEL_OF_PROMISES: u16 = 2;
/// Longest message, in bytes.
pub const LEN_BYTES_MAX: usize = 4 << 20;

/// Join or leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transition {
    /// A member wants in.
    Join,
    /// A member wants out.
    Leave,
}

/// The share of each service, by its name.
pub type Shares = Vec<(String, Vec<u8>)>;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Sign of life, and what the sender sees; also sent at once when that changes.
    Heartbeat {
        /// Its incarnation.
        incarnation: u64,
        /// Its own state.
        state: MemberState,
        /// Its mode.
        mode: Mode,
        /// The members it reaches, by slot.
        reached: [bool; MEMBERS_MAX as usize],
    },
    /// Action 1: the sender wants in or out.
    Request {
        /// Which.
        transition: Transition,
        /// The sender's incarnation, which names the attempt.
        incarnation: u64,
        /// Protocol level.
        level: u16,
        /// What its services bring along.
        shares: Shares,
    },
    /// Action 2, proceed with reply: the receiver of a request has held its own requests, and consents.
    Consent {
        /// Of the request.
        incarnation: u64,
        /// Protocol level.
        level: u16,
        /// What its services hold.
        shares: Shares,
    },
    /// The opposite.
    Veto {
        /// Of the request.
        incarnation: u64,
        /// Which service.
        service: String,
        /// Why.
        reason: String,
    },
    /// Action 3: all have consented, and the record says so.
    Proceed {
        /// Of the request.
        incarnation: u64,
    },
    /// Action 4: it is off.
    Abort {
        /// Of the request.
        incarnation: u64,
    },
    /// Both are members and reach each other again: what this one's services hold.
    Resynchronise {
        /// The sender's incarnation.
        incarnation: u64,
        /// Its services' shares.
        shares: Shares,
    },
    /// Send me [`Message::Resynchronise`]: the last one came too early, or not at all.
    ShareWanted,
    /// Of a service to its like.
    Service {
        /// The service's name.
        service: String,
        /// Its own format.
        body: Vec<u8>,
    },
}

impl Message {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(&(LEVEL, self)).expect("messages have no lengths unknown")
    }

    /// Reads a message.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > LEN_BYTES_MAX {
            return Err(format!("message of {} bytes, at most {LEN_BYTES_MAX} allowed", bytes.len()));
        }
        let ((level, message), rest): ((u16, Self), _) =
            postcard::take_from_bytes(bytes).map_err(|error| format!("not a member's message: {error}"))?;
        match (level, rest) {
            (0, _) => Err("a message of level 0".to_owned()),
            (_, []) => Ok(message),
            (_, rest) => Err(format!("{} bytes behind a member's message", rest.len())),
        }
    }
}
