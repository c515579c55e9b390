//! A member as a process: the real driver of [`crate::member::Member`].
//!
//! ```text
//!   control socket ─ connections ─ Cp ─┐                    ┌─ Mesh: a Peer per member
//!   (lgr cp, lgr console)              │                    │   keeper, receiver, sender ══ isfc Link ══ member
//!                                      ▼                    ▼
//!                               Handle ─▶ inbox ─▶ Engine (one thread, owns the core)
//!                                                     │            ▲
//!                                                     ▼            │ outcome
//!                                              RecordThread ─ the record on its volume
//! ```
//!
//! Only the engine's thread touches the core. It never waits for anything but its inbox: what goes to peers is queued, the
//! record and the log are written by threads of their own. Its clock counts the time the machine sleeps, and it asks the core
//! before it does anything: a member that was stopped for long stops itself before it acts.
//!
//! If the engine hangs all the same, or panics, a watchdog ends the guests at the core's deadline, and nobody speaks for the
//! member any more: `ssi/src/node/fence.rs`.

mod attach;
mod clock;
mod console;
mod control;
mod dir;
mod engine;
mod fence;
mod inbox;
mod log;
mod mesh;
mod parcel;
mod peer;
mod stamp;
mod start;
mod ticket;
mod volume;

pub use attach::{AttachedVolume, attach, attach_all};
pub use console::{Console, Listener};
pub use control::{Answer, Asked, CONNECTIONS_MAX, Client, ClientError, ClientSender, ControlError};
pub use dir::{ClusterDir, make_private};
pub use fence::Ending;
pub use inbox::{CallError, Handle, Snapshot};
pub use mesh::{Mesh, MeshError, MeshOptions};
pub use peer::{DeviceRefused, Peer};
pub use stamp::Stamp;
pub use start::{Node, NodeOptions, StartError, Stopper, effective_of};
pub use volume::RecordStore;

use crate::cp::Classes;
use crate::name::UserId;
use crate::service::UserKind;

/// A user, as far as logging on is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// On one member at a time, or once on each.
    pub kind: UserKind,
    /// What it may do.
    pub classes: Classes,
    /// It can be logged on at all (its password is not NOLOG).
    pub may_run: bool,
}

/// Who is in the directory.
pub trait Users: Send + Sync + std::fmt::Debug {
    /// A user's entry on this member.
    fn find(&self, user: UserId) -> Option<User>;

    /// Whether the user's entry lets `by` log it on with XAUTOLOG.
    fn may_autolog(&self, user: UserId, by: UserId) -> bool;

    /// Where operators are told of a new directory.
    fn tell_to(&self, console: &std::sync::Arc<Console>) {
        let _ = console;
    }

    /// Whether this is the user's password.
    fn check_password(&self, user: UserId, password: &str) -> bool;
}
