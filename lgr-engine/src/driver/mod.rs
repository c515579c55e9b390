//! The real driver: performs what the cores decide, on a real link, real memory and a real volume.
//!
//! Both sides are one loop in one thread, the control plane: perform effects until there are none, then
//! wait for the link, a deadline or a cancel. Pages are moved by the link's device threads meanwhile.

mod destination;
mod device_notes;
mod halves;
mod in_process;
mod packing;
mod source;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use destination::{DestinationOptions, receive};
pub use in_process::{InProcessError, relocate_in_process};
pub use source::{SourceOptions, relocate};

use crate::owner::{CasOutcome, GuestName, MemberName, OwnerRecord, OwnerVolume};

/// Longest the control loop waits without looking at cancels and progress.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a member that cannot read the owner record keeps trying before it gives up.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// A request to end what is going on; clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests it.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Has it been requested?
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Makes `to` the owner if the record is still as `seen`; keeps asking while it is not certain.
///
/// # Errors
/// In words, when the record could not be changed or read for ten seconds.
pub(crate) fn take_record(
    volume: &OwnerVolume,
    guest: GuestName,
    seen: (u64, u128),
    to: MemberName,
) -> Result<CasOutcome, String> {
    let (epoch, nonce) = seen;
    let started = std::time::Instant::now();
    loop {
        let error = match volume.compare_and_update(guest, epoch, nonce, to) {
            // An attempt of ours that seemed to fail may have been written after all.
            Ok(CasOutcome::Lost(record)) if is_ours(&record, epoch, nonce, to) => {
                return Ok(CasOutcome::Updated(record));
            }
            Ok(outcome) => return Ok(outcome),
            Err(error) => error.to_string(),
        };
        if started.elapsed() > RECORD_PATIENCE {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_ours(record: &OwnerRecord, epoch: u64, nonce: u128, to: MemberName) -> bool {
    record.owner == to && record.nonce == nonce && record.epoch == epoch + 1
}
