//! All there is of a workload guest on one side: its storage, its vCPUs, its ledger.

use super::layout::Layout;
use super::ledger::Ledger;
use super::meter::{Meter, Phase};
use super::vcpu::VcpuState;
use super::{WorkloadError, WorkloadOptions};
use crate::storage::Storage;
use crate::tracker::SoftwareBitmap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct VcpuSlot {
    /// Held by the vCPU's thread all the time it runs.
    state: Mutex<VcpuState>,
    /// Held for moments only, by the thread and by whoever asks for statistics.
    meter: Mutex<Meter>,
}

/// Shared by the vCPU threads and the guest's handle.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) storage: Arc<Storage>,
    pub(crate) options: WorkloadOptions,
    pub(crate) layout: Layout,
    pub(crate) ledger: Ledger,
    pub(crate) bitmap: Option<SoftwareBitmap>,
    slots: Vec<VcpuSlot>,
    phase: AtomicUsize,
}

impl Machine {
    /// Options were checked against this storage, and there is a state per vCPU.
    pub(crate) fn new(
        storage: Arc<Storage>,
        options: WorkloadOptions,
        bitmap: Option<SoftwareBitmap>,
        states: Vec<VcpuState>,
        phase: Phase,
    ) -> Result<Self, WorkloadError> {
        let ledger = Ledger::new(storage.pages())
            .map_err(|source| WorkloadError::Memory { what: "ledger", source })?;
        let slots = states
            .into_iter()
            .map(|state| VcpuSlot { meter: Mutex::new(Meter::new(state.counters)), state: Mutex::new(state) })
            .collect();
        let layout = Layout::new(storage.pages(), &options);
        let phase = AtomicUsize::new(phase.index());
        Ok(Self { storage, options, layout, ledger, bitmap, slots, phase })
    }

    pub(crate) fn vcpus(&self) -> usize {
        self.slots.len()
    }

    /// The indexes of touched pages that vCPU `index` writes, and nobody else: from (included), to (excluded).
    pub(crate) fn slice(&self, index: usize) -> (u64, u64) {
        let (pages, vcpus) = (self.options.working_set_pages().0, self.vcpus() as u64);
        (pages * index as u64 / vcpus, pages * (index as u64 + 1) / vcpus)
    }

    pub(crate) fn lock_state(&self, index: usize) -> MutexGuard<'_, VcpuState> {
        self.slots[index].state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_meter(&self, index: usize) -> MutexGuard<'_, Meter> {
        self.slots[index].meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::from_index(self.phase.load(Ordering::Relaxed))
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase.index(), Ordering::Relaxed);
    }
}
