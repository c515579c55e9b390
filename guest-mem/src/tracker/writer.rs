//! Writing guest storage so that any tracker sees it.

use std::sync::Arc;

use super::{PickedTracker, SoftwareBitmap};
use crate::page::PageNumber;
use crate::storage::Storage;

/// Writes pages of guest storage for a guest, and marks them where the tracker relies on it. A clone writes to the same
/// storage, so that each virtual CPU can have its own.
#[derive(Clone, Debug)]
pub struct TrackedWriter {
    storage: Arc<Storage>,
    bitmap: Option<SoftwareBitmap>,
}

impl TrackedWriter {
    /// Writes `bytes` at `offset_bytes` of `page`.
    ///
    /// # Panics
    /// If the bytes do not lie inside the page, or the page not inside storage.
    pub fn write(&self, page: PageNumber, offset_bytes: usize, bytes: &[u8]) {
        self.storage.write_bytes(page, offset_bytes, bytes);
        // After the write: the mark may be cleared before the page is read, never the other way round.
        if let Some(bitmap) = &self.bitmap {
            bitmap.mark(page);
        }
    }
}

impl PickedTracker {
    /// A writer whose writes to `storage`, for which this tracker was picked, are seen by it.
    #[must_use]
    pub fn writer(&self, storage: &Arc<Storage>) -> TrackedWriter {
        TrackedWriter { storage: Arc::clone(storage), bitmap: self.bitmap.clone() }
    }
}
