//! Membership: which members there are, who may join and leave when, and what happens when one cannot be heard.
//!
//! ```text
//!   Start ─▶ read the record, ─▶ BeginJoin ─▶ Request ─▶ consent of all ─▶ FinishJoin ─▶ Joined ─▶ Proceed to all
//!            reach every joined      │           │
//!            member   │  ▲           │           └─▶ veto ─▶ FailJoin ─▶ Isolated
//!               ▲     │  │           └─▶ no consent in time, or a link is lost ─▶ QuitJoin ─┐
//!               │     └──┘ another joins or leaves, somebody is not reached,                │
//!               │          or an earlier life of this one is not over                       │
//!               └────────────────────────── a pause that grows ◀────────────────────────────┘
//! ```
//!
//! **What can go wrong, told once.**
//! - *A member dies or is cut off.* The others cannot tell which, so they go SAFE: what runs goes on, nothing new is
//!   granted. Its heartbeat in the record tells them apart: if that stands still for [`Timing::down_after_ms`], it is
//!   declared down (by itself with cross-system timeouts, else by an operator), and what it held is free.
//! - *Timeouts are turned on* while a member cannot read the record: it does not know that it has to stop itself. So only
//!   those are declared down without an operator whose last heartbeat has promised it. One that has promised keeps to it
//!   until a heartbeat without the promise is known to be written, whatever it has heard of timeouts.
//! - *A clock jumps, or a member sleeps.* Then that others' heartbeats stand still says nothing: it starts to watch anew.
//! - *A member that was only slow* must by then have stopped. It stops itself when it has not written its heartbeat for
//!   [`Timing::fence_after_ms`], which is shorter, counted from before the last write that succeeded. One that slept
//!   through all of that looks at the time before anything else.
//! - *Two change at once.* The record lets one member join or leave at a time, and each step is one atomic change of it.
//!   The messages between members only prepare a step or tell of it; if they are lost, the record decides.
//! - *A member cannot reach another, and wants in.* It waits outside, where it is in nobody's way, and says whom it does not
//!   reach. A link may be lost after it has begun: then it steps back within [`Timing::consent_patience_ms`].
//! - *A member joins or leaves and does not come to an end*, though its heartbeat moves. The others wait for it, so they
//!   expel it after [`Timing::transition_ms_max`], whatever it does.
//! - *A link comes back.* Both members may have let go of things meanwhile, so each takes the other's share anew before it
//!   counts the other as reached.

mod core;
mod interface;
mod message;
mod record;
mod state;

pub use self::core::Member;
pub use interface::{Command, CommandRefused, Effect, Input, RecordOutcome, Stopped, Timing};
pub use message::{LEN_BYTES_MAX, LEVEL, LEVEL_OF_PROMISES, LEVEL_OLDEST, Message, Shares, Transition};
pub use record::{Change, ChangeRefused, Entry, Ident, Record};
pub use state::{MemberState, Mode, WhyDown};
