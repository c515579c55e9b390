//! Whether somebody still waits for an answer: settled once, by whoever is first, so that no grant is lost between a caller
//! that gives up and a member that answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const WAITS: u8 = 0;
const ANSWERED: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// The member has the answer; `false`: nobody waits for it.
    pub(super) fn answer(&self) -> bool {
        self.settle(ANSWERED)
    }

    /// The caller gives up; `false`: the answer is on its way.
    pub(super) fn withdraw(&self) -> bool {
        self.settle(WITHDRAWN)
    }

    /// Of the same request?
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn settle(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITS, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}
