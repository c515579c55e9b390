//! What can be relocated: anything with storage, a dirty tracker, and a state that can be saved.
//!
//! The first guest is the workload guest of `guest-mem` (see [`crate::workload`]). Implement [`Guest`] to
//! relocate your own.

use std::sync::Arc;

use guest_mem::{
    DirtyTracker, MemoryAvailable, MemoryNeed, Storage, StorageError, StorageOptions, TrackerError,
    check_fits,
};

use crate::message::Offer;
use crate::report::{Ticks, Verification};

/// Why a guest could not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GuestError(pub String);

impl GuestError {
    /// From anything that can say what is wrong.
    pub fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl From<StorageError> for GuestError {
    fn from(error: StorageError) -> Self {
        Self::new(error)
    }
}

impl From<TrackerError> for GuestError {
    fn from(error: TrackerError) -> Self {
        Self::new(error)
    }
}

/// Where in its move a guest is, for what it records of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first pass.
    Before,
    /// From the first pass until it is resumed.
    During,
    /// After it was resumed.
    After,
}

/// What a guest can tell of how the move felt from inside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Experience {
    /// Largest gap between its ticks across the switch, in ms.
    pub blackout_ms: Option<f64>,
    /// Gaps between its ticks, by phase.
    pub ticks: Ticks,
    /// Memory its writers meant to change per second while it was moved.
    pub intended_write_bytes_per_s: Option<u64>,
    /// Memory they did change per second.
    pub achieved_write_bytes_per_s: Option<u64>,
}

/// A guest, or at the destination the skeleton of one.
pub trait Guest: Send {
    /// Its memory.
    fn storage(&self) -> &Arc<Storage>;

    /// Starts recording which pages are written, and gives the tracker.
    ///
    /// # Errors
    /// Writes cannot be tracked.
    fn tracker(&mut self) -> &mut dyn DirtyTracker;

    /// Stops it; when this returns it writes no more.
    ///
    /// # Errors
    /// It cannot be stopped.
    fn quiesce(&mut self) -> Result<(), GuestError>;

    /// Lets it run (again), here.
    ///
    /// # Errors
    /// It cannot be started.
    fn resume(&mut self) -> Result<(), GuestError>;

    /// The state of the stopped guest, all but its memory; at most
    /// [`crate::message::TAIL_LEN_BYTES_MAX`] bytes, and small, since it travels during the blackout.
    ///
    /// # Errors
    /// It cannot be saved.
    fn save_state(&mut self) -> Result<Vec<u8>, GuestError>;

    /// Puts a saved state into this skeleton. The bytes come from another member: hostile until checked. The state comes
    /// before the last pages, so what lies in memory is not to be believed before [`Self::resume`].
    ///
    /// # Errors
    /// They are no state of this guest.
    fn load_state(&mut self, state: &[u8]) -> Result<(), GuestError>;

    /// The move has come to this phase.
    fn enter_phase(&mut self, _phase: Phase) {}

    /// How the move felt from inside.
    fn experience(&self) -> Experience {
        Experience::default()
    }

    /// Why its writes are tracked in a way that is not the best, if they are.
    fn tracker_fallback(&self) -> Option<&str> {
        None
    }

    /// How its memory can be compared after the move; `None` if it cannot.
    fn verifier(&mut self) -> Option<&mut dyn Verifier> {
        None
    }
}

/// Compares a moved guest's memory, page by page, after the fact.
pub trait Verifier {
    /// At the source, with the guest stopped for ever: the next batch that describes its memory, at most
    /// [`crate::message::TAIL_LEN_BYTES_MAX`] bytes; `None` after the last.
    ///
    /// # Errors
    /// The memory cannot be read.
    fn next_batch(&mut self) -> Result<Option<Vec<u8>>, GuestError>;

    /// At the destination, with the guest stopped: compares one batch.
    ///
    /// # Errors
    /// The bytes are no batch.
    fn check_batch(&mut self, batch: &[u8], found: &mut Verification) -> Result<(), GuestError>;

    /// After the last batch: whatever no batch spoke of must be untouched.
    ///
    /// # Errors
    /// The memory cannot be read.
    fn check_rest(&mut self, found: &mut Verification) -> Result<(), GuestError>;

    /// With nothing to compare with (the other side is gone): every page against its own checksum.
    ///
    /// # Errors
    /// The memory cannot be read.
    fn check_alone(&mut self, found: &mut Verification) -> Result<(), GuestError>;
}

/// Makes skeleton guests at a destination.
pub trait GuestFactory {
    /// Room and a skeleton for the guest on offer; `progress` is told of (done, total) bytes.
    ///
    /// # Errors
    /// In words, why this member cannot take the guest.
    fn skeleton(
        &mut self,
        offer: &Offer,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Box<dyn Guest>, GuestError>;
}

/// The simplest factory: makes storage as large as the source's, and has a function put a skeleton into it.
///
/// ```
/// use std::sync::Arc;
/// use guest_mem::Storage;
/// use lgr_engine::guest::{Guest, GuestError, GuestFactory, InNewStorage};
///
/// fn factory_of<G: Guest + 'static>(skeleton: fn(Arc<Storage>) -> Result<G, GuestError>) -> impl GuestFactory {
///     InNewStorage(skeleton)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InNewStorage<F>(
    /// Makes the skeleton of a guest in this storage, which is all zero.
    pub F,
);

impl<F, G> GuestFactory for InNewStorage<F>
where
    F: FnMut(Arc<Storage>) -> Result<G, GuestError>,
    G: Guest + 'static,
{
    fn skeleton(
        &mut self,
        offer: &Offer,
        _progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Box<dyn Guest>, GuestError> {
        let need = MemoryNeed {
            source_touched_bytes: 0,
            destination_touched_bytes: offer.touched_len_bytes,
            overhead_bytes: crate::workload::OVERHEAD_BYTES,
        };
        check_fits(&need, &MemoryAvailable::read()?)?;
        let storage = Storage::create_for_arrival(&StorageOptions::small(offer.storage_len_bytes))?;
        Ok(Box::new((self.0)(Arc::new(storage))?))
    }
}
