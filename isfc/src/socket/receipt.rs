//! What becomes of a message, and what can go wrong.

use super::name::EndpointName;
use super::wire::WireError;
use super::{BODY_LEN_BYTES_MAX, ENDPOINTS_MAX, WINDOW_MAX, WINDOWS_MAX};

/// What became of a message. Each gets exactly one, and those of an endpoint come in the order of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The peer's application has taken it, once.
    Delivered,
    /// The peer's application has not taken it and never will.
    Refused(Refusal),
    /// The link, or this side's hub, ended first.
    PeerGone {
        /// False: it never left this side, so the peer's application has not taken it and never will.
        may_have_been_delivered: bool,
    },
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer has no endpoint of this name open.
    #[error("the peer has no such endpoint")]
    NoSuchEndpoint,
    /// The peer's endpoint was closed before its application took the message.
    #[error("the peer's endpoint was closed before it took the message")]
    Closed,
    /// The peer has the endpoint open at another priority.
    #[error("the peer has the endpoint at another priority")]
    Priority,
}

/// Why an endpoint cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// One of this name is open here, at this or another priority.
    #[error("endpoint {0} is open already")]
    AlreadyOpen(EndpointName),
    /// No window, or one that is too large.
    #[error("a window of {0} messages, 1 to {WINDOW_MAX} allowed")]
    Window(u16),
    /// Too many endpoints, or too large a sum of their windows.
    #[error(
        "at most {ENDPOINTS_MAX} endpoints can be open, and windows of {WINDOWS_MAX} messages per priority"
    )]
    TooMuchOpen,
}

/// Why a message was not taken to be sent. No receipt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// As many messages as the peer allows have no receipt yet, or the peer has not yet said what it allows.
    #[error("the peer takes no more messages for now")]
    WouldBlock,
    /// Longer than [`BODY_LEN_BYTES_MAX`].
    #[error("message of {0} bytes, at most {BODY_LEN_BYTES_MAX} allowed: larger things are transfers")]
    TooLong(usize),
    /// No link to the peer is up, or this side's hub is gone.
    #[error("there is no link to the peer")]
    PeerGone,
    /// This side's endpoint is closed.
    #[error("the endpoint is closed")]
    NotOpen,
}

/// What a peer did that no correct peer does. It ends the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are no message.
    #[error("endpoints: {0}")]
    Wire(#[from] WireError),
    /// Before `Ready`, only `Open` and `Close` may come.
    #[error("endpoints: a message for or from {0} before the peer was ready")]
    NotReady(EndpointName),
    /// `Ready` came again on the same priority.
    #[error("endpoints: the peer was ready twice")]
    ReadyTwice,
    /// `Ready` names another instance than before on this link.
    #[error("endpoints: the peer is instance {0:016x} and {1:016x} at once")]
    TwoInstances(u64, u64),
    /// Incarnations must grow.
    #[error("endpoints: {name} opened as incarnation {incarnation} after {last}")]
    Incarnation {
        /// The endpoint.
        name: EndpointName,
        /// Its incarnation.
        incarnation: u64,
        /// The last one before.
        last: u64,
    },
    /// An endpoint was opened that is open.
    #[error("endpoints: {0} was opened twice")]
    OpenTwice(EndpointName),
    /// More endpoints or larger windows than allowed.
    #[error(
        "endpoints: {0} is too much, {ENDPOINTS_MAX} endpoints and windows of {WINDOWS_MAX} messages are allowed"
    )]
    TooMuchOpen(EndpointName),
    /// The peer speaks of an endpoint of its own that it has not opened.
    #[error("endpoints: incarnation {incarnation} of {name} is not open at the peer")]
    NotOpen {
        /// The endpoint.
        name: EndpointName,
        /// Its incarnation.
        incarnation: u64,
    },
    /// The peer speaks of an endpoint of this side that has never been.
    #[error("endpoints: there has never been an incarnation {incarnation} of {name} here")]
    NeverOpened {
        /// The endpoint.
        name: EndpointName,
        /// Its incarnation.
        incarnation: u64,
    },
    /// The peer took what it was not sent, or took it twice.
    #[error("endpoints: {name} took message {number}, of {from} to {to} that it could take")]
    Taken {
        /// The endpoint.
        name: EndpointName,
        /// Number it told.
        number: u64,
        /// Least number possible.
        from: u64,
        /// Greatest number possible.
        to: u64,
    },
    /// A message is missing, or came twice.
    #[error("endpoints: message {number} for {name} while {expected} is the next")]
    Number {
        /// The endpoint.
        name: EndpointName,
        /// Number that came.
        number: u64,
        /// Number that is next.
        expected: u64,
    },
    /// More messages than the window allows.
    #[error("endpoints: more messages for {name} than its window of {window}")]
    Window {
        /// The endpoint.
        name: EndpointName,
        /// Its window.
        window: u16,
    },
}
