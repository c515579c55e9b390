//! Named endpoints over a link: each message is delivered, refused, or its sender told that the peer is gone.
//!
//! A member's services talk to the same services of another member: what endpoint `SSILOCK` of one side sends,
//! endpoint `SSILOCK` of the other side gets. Every two members have a direct link; nothing is relayed.
//!
//! ```text
//!   member A                                                                       member B
//!   Endpoint SSIMEMB ─┐                                                       ┌─ Endpoint SSIMEMB
//!   Endpoint SSILOCK ─┼─ Hub ─ Core ─ high   ══ socket 15 ══ high   ─ Core ─ Hub ─┼─ Endpoint SSILOCK
//!   Endpoint LGR     ─┘        │      normal ══ socket 31 ══ normal      │        └─ Endpoint LGR
//!                              │      low    ══ socket 63 ══ low         │
//!   owner: Hub::recv ◀─────────┘                                         └─────────▶ Hub::recv: owner
//!          (other sockets, devices, notices)
//!
//!   one message:    send ──▶ Data 7 ══════════════▶ queue (≤ window) ──▶ recv
//!                   Ticket ◀── Delivered ◀═════════ Taken 7 ◀──────────────┘
//! ```
//!
//! # The rules
//!
//! 1. **One receipt.** A message that [`Endpoint::send`] has taken gets exactly one [`Receipt`], and the receipts of an
//!    endpoint come in the order of its messages. *Delivered*: the peer's application has taken it, once. *Refused*: it
//!    never will. *Peer gone*: the link ended first, and the receipt says whether the message can have been taken.
//! 2. **Window.** An endpoint announces how many messages may wait at it. As many messages to it can be without a receipt,
//!    no more: a receiver that takes nothing stops those who send to this endpoint, and nobody else, since the link is
//!    read on. So at most window × [`BODY_LEN_BYTES_MAX`] wait at an endpoint.
//! 3. **Priority.** An endpoint has one. If the two sides have it at different ones, both refuse: [`Refusal::Priority`].
//! 4. **Closing** an endpoint drops what waits there, and the senders are told [`Refusal::Closed`]. Its own messages
//!    under way still arrive. Opened again, it is another *incarnation*: nothing sent to an earlier one gets there.
//! 5. **Links come and go**, endpoints stay. Each link to the peer is an *epoch*. When it ends, every message under way
//!    gets its receipt, and what has not been taken is dropped: nothing of an old link surfaces after a new one is up.
//!    Each side then announces its endpoints anew.
//! 6. **A peer that breaks these rules** loses the link, as one whose frames are damaged does.
//!
//! A thread that answers urgent messages is well advised to call [`prefer_latency`](crate::prefer_latency) first, as the
//! hub's own does: beside devices that copy pages it otherwise waits for its turn.
//!
//! What decides is [`Core`], without I/O. [`Hub`] runs it over a [`Link`](crate::Link) and gives out [`Endpoint`]s. Both
//! ends of a link need a hub, at most one in the link's life: a peer without one is never ready, and sending to it waits
//! for ever. docs/protocol.md has the bytes.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use isfc::link::Priority;
//! use isfc::socket::{Hub, Receipt};
//! use isfc::{Link, LinkOptions, Listener};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let patience = Duration::from_secs(10);
//! let listener = Listener::bind(&"tcp:127.0.0.1:0".parse()?)?;
//! let address = listener.address().clone();
//! let caller = std::thread::spawn(move || isfc::connect(&address, 2, &[]));
//! let taken = listener.accept(Some(patience), &|| false, &|_| ())?;
//! let called = caller.join().expect("the caller does not panic")?;
//!
//! let (near, far) = (Hub::new()?, Hub::new()?);
//! near.attach(Arc::new(Link::start(called, LinkOptions::default())?))?;
//! far.attach(Arc::new(Link::start(taken, LinkOptions::default())?))?;
//! let here = near.open("SSILOCK".parse()?, Priority::High, 32)?;
//! let there = far.open("SSILOCK".parse()?, Priority::High, 32)?;
//!
//! here.wait_for_peer(patience)?;
//! let ticket = here.send(b"hold MDISK1", patience)?;
//! assert_eq!(there.recv(patience)?.body, b"hold MDISK1");
//! assert_eq!(ticket.wait(patience), Some(Receipt::Delivered));
//! # Ok(())
//! # }
//! ```

mod core;
mod endpoint;
mod hub;
mod lane;
mod name;
mod receipt;
#[cfg(test)]
mod tests;
pub mod wire;

pub use self::core::{Core, Effect, EndpointId, Epoch, MessageId, Received};
pub use self::endpoint::{Endpoint, RecvError, Ticket, WaitError};
pub use self::hub::{EVENTS_BYTES_MAX, EVENTS_MAX, HUB_NOTICE, Hub};
pub use self::name::{EndpointName, NAME_LEN_BYTES, NameError};
pub use self::receipt::{OpenError, ProtocolError, Receipt, Refusal, SendError};
use crate::link::{Priority, SocketId};

/// Most bytes in a message of an endpoint. Larger things are placed transfers.
pub const BODY_LEN_BYTES_MAX: usize = 64 << 10;
/// Largest window of an endpoint, in messages.
pub const WINDOW_MAX: u16 = 256;
/// Largest sum of the windows of a side's endpoints of one priority, in messages. With their receipts they are as many as a
/// link carries unacknowledged, see [`UNACKED_MAX`](crate::link::UNACKED_MAX).
pub const WINDOWS_MAX: usize = 512;
/// Most endpoints that a side has open at once.
pub const ENDPOINTS_MAX: usize = 64;

/// Every priority, the most urgent first.
pub(crate) const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// The link's socket that carries the endpoints of a priority: 15, 31 or 63.
pub const fn socket_of(priority: Priority) -> SocketId {
    let number = match priority {
        Priority::High => 15,
        Priority::Normal => 31,
        Priority::Low => 63,
    };
    SocketId::new(number).expect("these are socket numbers")
}

/// The priority whose endpoints a link's socket carries, if it does.
pub fn priority_of(socket: SocketId) -> Option<Priority> {
    PRIORITIES.into_iter().find(|priority| socket_of(*priority) == socket)
}
