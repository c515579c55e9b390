//! The real driver: performs what the cores decide, on a real link, real memory and a real volume.
//!
//! Both sides are one loop in one thread, the control plane: perform effects until there are none, then
//! wait for the link, a deadline or a cancel. Pages are moved by the link's device threads meanwhile.

mod destination;
mod device_notes;
mod halves;
mod in_process;
mod packing;
mod record;
mod source;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

pub use destination::{DestinationOptions, receive};
pub use in_process::{InProcessError, relocate_in_process};
pub use source::{SourceOptions, relocate};

use crate::owner::GuestName;

/// Longest the control loop waits without looking at cancels and progress.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Requests to end what is going on; clones are the same requests.
///
/// The first asks for an orderly end. While a member may have the only copy of a guest and waits to learn whether it may run
/// it ([`Self::holds_guest`]), the second only tells what the third does: it gives the guest up.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    times: AtomicU32,
    holds_guest: AtomicBool,
}

/// So many requests give a guest up that nobody can say the owner of.
pub const REQUESTS_TO_GIVE_UP: u32 = 3;

impl Cancel {
    /// Not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests it (once more) and tells how often that has been done.
    pub fn request(&self) -> u32 {
        self.0.times.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Has it been requested?
    pub fn is_requested(&self) -> bool {
        self.times() > 0
    }

    /// How often it has been requested.
    pub fn times(&self) -> u32 {
        self.0.times.load(Ordering::Acquire)
    }

    /// Would a process that ended now end with what may be the only copy of a guest?
    pub fn holds_guest(&self) -> bool {
        self.0.holds_guest.load(Ordering::Acquire)
    }

    fn set_holds_guest(&self, holds: bool) {
        self.0.holds_guest.store(holds, Ordering::Release);
    }
}

/// What of the requests has been heard.
#[derive(Debug, Default)]
struct Heard(u32);

/// What a request asks for.
#[derive(Debug, PartialEq)]
enum Asked {
    Cancel,
    Warning,
    GiveUp,
}

impl Heard {
    /// The next request that has not been heard yet.
    fn next(&mut self, cancel: &Cancel) -> Option<Asked> {
        if self.0 >= cancel.times().min(REQUESTS_TO_GIVE_UP) {
            return None;
        }
        self.0 += 1;
        match self.0 {
            1 => Some(Asked::Cancel),
            REQUESTS_TO_GIVE_UP.. => Some(Asked::GiveUp),
            _ => cancel.holds_guest().then_some(Asked::Warning),
        }
    }
}

/// What the second request is answered with.
fn warning(guest: GuestName) -> String {
    format!(
        "{guest} stands still here until its owner record answers; a third interrupt gives this copy of it up, and it may be the only one"
    )
}
