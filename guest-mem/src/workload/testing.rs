//! What the tests of this module share: a small guest, and a copy in place of a relocation.

use super::machine::Machine;
use super::meter::Phase;
use super::vcpu::{TICK_NS, Vcpu, VcpuState};
use super::{ContentMix, FaultKind, PageFault, Pattern, WorkloadGuest, WorkloadOptions, fill};
use crate::page::{PAGE_SIZE, PageNumber};
use crate::runs::Run;
use crate::storage::{Storage, StorageOptions};
use std::sync::Arc;

pub(super) const MIB: u64 = 1 << 20;
/// A synthetic time, so far ahead of the real clock that no tick ever runs out of time.
pub(super) const TIME_NS: u64 = 1 << 60;

pub(super) fn options(pattern: Pattern) -> WorkloadOptions {
    WorkloadOptions {
        pattern,
        dirty_rate_bytes_per_s: 400 * MIB,
        working_set_bytes: Some(2 * MIB),
        touched_bytes: 4 * MIB,
        content: ContentMix::Realistic,
        seed: 11,
        vcpus: 2,
    }
}

pub(super) fn storage() -> Arc<Storage> {
    Arc::new(Storage::create(&StorageOptions::small(16 * MIB)).unwrap())
}

pub(super) fn filled(options: &WorkloadOptions) -> Arc<Storage> {
    let storage = storage();
    fill(&storage, options, &|_| {}).unwrap();
    storage
}

/// A machine that is driven by hand.
pub(super) fn machine(storage: &Arc<Storage>, options: WorkloadOptions) -> Machine {
    let states = (0..options.vcpus).map(|index| VcpuState::new(options.seed, index)).collect();
    Machine::new(Arc::clone(storage), options, None, states, Phase::Before).unwrap()
}

/// Ticks all vCPUs `ticks` times in synthetic time.
pub(super) fn tick(machine: &Machine, ticks: u64) {
    for index in 0..machine.vcpus() {
        let mut vcpu = Vcpu::new(machine, index).unwrap();
        let mut state = machine.lock_state(index);
        let start = state.last_tick_ns.max(TIME_NS);
        for tick in 1..=ticks {
            vcpu.tick(&mut state, start + tick * TICK_NS, || false);
        }
    }
}

pub(super) fn page(storage: &Storage, page: u64) -> [u8; PAGE_SIZE] {
    let mut bytes = [0; PAGE_SIZE];
    storage.read_page(PageNumber(page), &mut bytes);
    bytes
}

/// Copies all touched pages, as a perfect relocation does.
pub(super) fn copy(from: &Storage, to: &Storage) {
    for number in from.touched().unwrap().iter().flat_map(Run::page_numbers) {
        to.write_page(number, &page(from, number.0));
    }
}

/// Compares a stopped destination with a stopped source by way of the encoded manifest.
pub(super) fn verify(source: &WorkloadGuest, destination: &WorkloadGuest) -> Vec<PageFault> {
    let verifier = destination.verifier().unwrap();
    let mut faults = Vec::new();
    for batch in source.manifest().unwrap() {
        let batch = super::ManifestBatch::decode(&batch.encode()).unwrap();
        faults.extend(verifier.verify_batch(&batch).unwrap());
    }
    faults.extend(verifier.verify_untouched());
    faults
}

pub(super) fn kinds(faults: &[PageFault]) -> Vec<(u64, FaultKind)> {
    faults.iter().map(|fault| (fault.page.0, fault.kind)).collect()
}
