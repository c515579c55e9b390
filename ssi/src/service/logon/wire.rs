//! What is asked of the service, what it answers, and what it says to its like.

use serde::{Deserialize, Serialize};

use crate::name::{Slot, UserId};

/// How a user may be logged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserKind {
    /// On one member at a time (`USER`).
    Single,
    /// Once on each member (`IDENTITY`).
    Multi,
}

/// What may be asked of the service on its own member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogonRequest {
    /// LOGON, XAUTOLOG.
    On(UserId, UserKind),
    /// LOGOFF, FORCE. Always possible.
    Off(UserId),
}

impl LogonRequest {
    /// As the service takes it.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogonAnswer {
    /// Done.
    Granted,
    /// Not done.
    Refused(LogonRefusal),
}

impl LogonAnswer {
    /// As the service gives it.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

/// Why a user is not logged on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LogonRefusal {
    /// The user is logged on there, or is just being.
    #[error("already logged on at slot {0}")]
    LoggedOn(Slot),
    /// Some member cannot be reached, so nobody can tell.
    #[error("the cluster is in SAFE mode")]
    Safe,
    /// It is not logged on here.
    #[error("not logged on")]
    NotLoggedOn,
    /// The cluster has been In-Flux, or members have not answered, for too long.
    #[error("no answer of the cluster for {0} heartbeats")]
    Waited(u32),
    /// Too many wait already.
    #[error("too many requests wait")]
    TooMany,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum PeerMessage {
    /// May I log this user on? The number is that of the attempt, for the answer.
    Ask(UserId, u64),
    Yes(UserId, u64),
    /// The user is there.
    No(UserId, u64, Slot),
    /// Not now: ask again when the cluster is stable.
    Later(UserId, u64),
    /// The user is on here now: of several that have asked, this one was granted.
    Have(UserId),
    /// I do not hold the user (any more).
    Free(UserId),
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("these types have no maps or lengths unknown")
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err("bytes are left over".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
