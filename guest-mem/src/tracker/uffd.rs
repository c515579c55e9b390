//! Dirty tracking by the kernel: userfaultfd write-protect-async, read and re-armed by `PAGEMAP_SCAN`.
//!
//! The guest pays one minor fault for the first write to a page after each harvest; nobody handles it in
//! user space. A page is reported because it was written, even if with the same bytes, or because it was mapped
//! for the first time by a read.

use super::scan::{After, ScanMode, Scanner};
use super::uffd_sys::Userfault;
use super::{DirtyTracker, HarvestStats, TrackerError, TrackerKind};
use crate::runs::Runs;
use crate::storage::Storage;
use std::sync::Arc;

/// Sees every write to storage through this process's mapping, by any thread or by the kernel.
#[derive(Debug)]
pub struct UffdTracker {
    storage: Arc<Storage>,
    fixed_mode: Option<ScanMode>,
    active: Option<Active>,
}

/// What exists between start and stop.
#[derive(Debug)]
struct Active {
    uffd: Userfault,
    scanner: Scanner,
}

impl UffdTracker {
    /// A tracker for `storage`; takes nothing until started. At each harvest it picks the [`ScanMode`] that
    /// fits the machine, as swap may be turned on meanwhile.
    #[must_use]
    pub fn new(storage: Arc<Storage>) -> Self {
        Self { storage, fixed_mode: None, active: None }
    }

    /// A tracker that always scans in `mode`, for comparing the two.
    #[must_use]
    pub fn with_scan_mode(storage: Arc<Storage>, mode: ScanMode) -> Self {
        Self { storage, fixed_mode: Some(mode), active: None }
    }

    fn learn_touched(&mut self) -> Result<(), TrackerError> {
        let active = self.active.as_mut().ok_or(TrackerError::NotStarted)?;
        active.scanner.learn_touched(&self.storage)
    }

    fn range(&self) -> (u64, u64) {
        (self.storage.as_ptr() as u64, self.storage.len_bytes())
    }

    fn register(&self) -> Result<Active, TrackerError> {
        let uffd = Userfault::open().map_err(|source| TrackerError::UffdMissing { source })?;
        uffd.enable_async_write_protect().map_err(|source| TrackerError::KernelTooOld {
            what: "userfaultfd write-protect-async",
            source,
        })?;
        let (start, len) = self.range();
        uffd.register(start, len)
            .map_err(|source| TrackerError::Register { step: "ioctl(UFFDIO_REGISTER)", source })?;
        Ok(Active { uffd, scanner: Scanner::open()? })
    }
}

impl DirtyTracker for UffdTracker {
    fn kind(&self) -> TrackerKind {
        TrackerKind::UffdAsync
    }

    fn granule_bytes(&self) -> u64 {
        self.storage.granule_bytes()
    }

    fn start(&mut self) -> Result<(), TrackerError> {
        self.stop();
        self.storage.map_by_pages()?;
        self.active = Some(self.register()?);
        // The first scan arms every page that exists; pages that come later are born as written.
        let armed = self.learn_touched().and_then(|()| self.harvest(&mut Runs::new()));
        match armed {
            Ok(_) => Ok(()),
            Err(error) => {
                self.stop();
                Err(match error {
                    TrackerError::Scan { source, .. } if source.raw_os_error() == Some(libc::ENOTTY) => {
                        TrackerError::KernelTooOld { what: "PAGEMAP_SCAN", source }
                    }
                    other => other,
                })
            }
        }
    }

    fn harvest(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        self.scan(After::Protect, out)
    }

    /// Protecting pages again costs a flush of translations for each 2 MiB with a written page.
    fn harvest_last(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        self.scan(After::Leave, out)
    }

    fn stop(&mut self) {
        if let Some(active) = self.active.take() {
            let (start, len) = self.range();
            // If this fails, closing the descriptor does the same.
            let _ = active.uffd.unregister(start, len);
        }
    }
}

impl UffdTracker {
    fn scan(&mut self, after: After, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        let active = self.active.as_mut().ok_or(TrackerError::NotStarted)?;
        // The choice comes before the scan: what is swapped out after it is still in the page tables now.
        let mode = self.fixed_mode.unwrap_or_else(|| ScanMode::for_storage(&self.storage));
        active.scanner.slices = 0;
        active.scanner.written(&self.storage, mode, after, out)?;
        Ok(HarvestStats {
            pages: out.pages(),
            runs: out.as_slice().len() as u64,
            slices: active.scanner.slices,
        })
    }
}

impl Drop for UffdTracker {
    fn drop(&mut self) {
        self.stop();
    }
}
