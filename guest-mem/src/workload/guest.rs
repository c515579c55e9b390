//! The guest as the engine sees it: storage that threads write to, which can be stopped, let go, saved and loaded.

use super::clock::ClockDomain;
use super::control::Control;
use super::machine::Machine;
use super::manifest::Manifest;
use super::meter::{Phase, WorkloadStats};
use super::state::GuestState;
use super::vcpu::{self, VcpuState};
use super::verify::Verifier;
use super::{VCPUS_MAX, WorkloadError, WorkloadOptions, text};
use crate::storage::Storage;
use crate::tracker::SoftwareBitmap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A guest whose virtual CPUs are open-loop writer threads.
///
/// ```text
///   source        new ── start ───────────── quiesce ── save_state ─┐         manifest ── drop
///                                            (resume, if the move fails)   │              │
///   destination   skeleton ── prepare_vcpus ─────────────────────── load_state ── resume … quiesce ── verifier ◀─┘
/// ```
#[derive(Debug)]
pub struct WorkloadGuest {
    storage: Arc<Storage>,
    bitmap: Option<SoftwareBitmap>,
    control: Arc<Control>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl WorkloadGuest {
    /// A guest on `storage`, which [`fill`](super::fill()) has given its content; it does not run yet. If writes
    /// are tracked by software, `bitmap` is what the vCPUs mark.
    ///
    /// # Errors
    /// [`WorkloadError::Options`] for options that do not fit this storage, [`WorkloadError::Memory`].
    pub fn new(
        storage: Arc<Storage>,
        options: WorkloadOptions,
        bitmap: Option<SoftwareBitmap>,
    ) -> Result<Self, WorkloadError> {
        options.check(storage.len_bytes())?;
        let guest = Self::skeleton(storage, bitmap);
        let states = (0..options.vcpus).map(|index| VcpuState::new(options.seed, index)).collect();
        guest.set_machine(options, states, Phase::Before)?;
        Ok(guest)
    }

    /// A guest without state, at the destination. [`WorkloadGuest::load_state`] makes it whole.
    #[must_use]
    pub fn skeleton(storage: Arc<Storage>, bitmap: Option<SoftwareBitmap>) -> Self {
        text::prepare(); // not in the blackout
        Self { storage, bitmap, control: Arc::default(), threads: Mutex::default() }
    }

    fn set_machine(
        &self,
        options: WorkloadOptions,
        states: Vec<VcpuState>,
        phase: Phase,
    ) -> Result<(), WorkloadError> {
        let machine = Machine::new(Arc::clone(&self.storage), options, self.bitmap.clone(), states, phase)?;
        self.control.set_machine(Arc::new(machine))
    }

    /// The guest's storage.
    #[must_use]
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// The workload's options; `None` in a skeleton without state.
    #[must_use]
    pub fn options(&self) -> Option<WorkloadOptions> {
        self.control.machine().map(|machine| machine.options)
    }

    /// True if vCPUs may be writing.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.control.is_running()
    }

    /// Starts `vcpus` threads that wait for work, so that the blackout does not pay for starting them.
    ///
    /// # Errors
    /// [`WorkloadError::TooManyVcpus`], or [`WorkloadError::Thread`] if the system gives no more threads.
    pub fn prepare_vcpus(&self, vcpus: u8) -> Result<(), WorkloadError> {
        if vcpus > VCPUS_MAX {
            return Err(WorkloadError::TooManyVcpus { vcpus });
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for index in threads.len()..usize::from(vcpus) {
            let control = Arc::clone(&self.control);
            let thread = thread::Builder::new()
                .name(format!("vcpu-{index}"))
                .spawn(move || vcpu::run(index, &control))
                .map_err(|source| WorkloadError::Thread { source })?;
            threads.push(thread);
        }
        Ok(())
    }

    /// Starts the vCPUs; the same as [`WorkloadGuest::resume`] on a guest that never ran.
    ///
    /// # Errors
    /// As for [`WorkloadGuest::resume`].
    pub fn start(&self) -> Result<(), WorkloadError> {
        self.resume()
    }

    /// Stops all vCPUs at the end of the page each is writing, and returns how long that took. After this nothing
    /// writes to storage until [`WorkloadGuest::resume`]. Does nothing on a stopped guest.
    ///
    /// # Errors
    /// [`WorkloadError::VcpusStuck`] if one does not stop within 5 s; the guest must then be taken as running.
    pub fn quiesce(&self) -> Result<Duration, WorkloadError> {
        self.control.quiesce()
    }

    /// Lets the vCPUs go on where they stopped. Does nothing on a running guest.
    ///
    /// # Errors
    /// [`WorkloadError::NoState`] for a skeleton, [`WorkloadError::Thread`] if threads are missing and cannot be had.
    pub fn resume(&self) -> Result<(), WorkloadError> {
        let machine = self.control.machine().ok_or(WorkloadError::NoState)?;
        self.prepare_vcpus(machine.options.vcpus)?;
        self.control.resume()
    }

    /// The state of the stopped guest, at most [`STATE_BYTES_MAX`](super::STATE_BYTES_MAX) bytes.
    ///
    /// # Errors
    /// [`WorkloadError::Running`], [`WorkloadError::NoState`].
    pub fn save_state(&self) -> Result<Vec<u8>, WorkloadError> {
        let machine = self.stopped_machine()?;
        let state = GuestState {
            clock: ClockDomain::current(),
            storage_pages: machine.storage.pages(),
            options: machine.options,
            phase: machine.phase(),
            vcpus: (0..machine.vcpus()).map(|index| machine.lock_state(index).clone()).collect(),
        };
        state.encode()
    }

    /// Puts the state of a guest stopped elsewhere into this one. Bytes may come from anywhere: they are checked.
    ///
    /// # Errors
    /// [`WorkloadError::BadState`] with the reason, [`WorkloadError::Options`], [`WorkloadError::Running`],
    /// [`WorkloadError::Memory`]. After an error the guest is as it was.
    pub fn load_state(&self, bytes: &[u8]) -> Result<(), WorkloadError> {
        let mut state = GuestState::decode(bytes, self.storage.pages())?;
        let same_clock = state.clock.is_some() && state.clock == ClockDomain::current();
        for vcpu in &mut state.vcpus {
            if same_clock {
                vcpu.arrived = true;
            } else {
                // A reading of another clock says nothing here: the first tick has no gap.
                vcpu.last_tick_ns = 0;
            }
        }
        self.set_machine(state.options, state.vcpus, state.phase)
    }

    /// Tells the guest which part of the relocation it is in. Without effect on a skeleton without state.
    pub fn set_phase(&self, phase: Phase) {
        if let Some(machine) = self.control.machine() {
            machine.set_phase(phase);
        }
    }

    /// What the guest felt so far; may be asked while it runs.
    #[must_use]
    pub fn stats(&self) -> WorkloadStats {
        self.control.machine().map_or_else(WorkloadStats::default, |machine| {
            WorkloadStats::of((0..machine.vcpus()).map(|index| machine.lock_meter(index)))
        })
    }

    /// What the pages of this stopped guest are, for the other side to compare. The guest must not be resumed while
    /// the manifest is in use: make it when the source was released for good.
    ///
    /// # Errors
    /// [`WorkloadError::Running`], [`WorkloadError::NoState`], [`WorkloadError::Storage`].
    pub fn manifest(&self) -> Result<Manifest, WorkloadError> {
        let machine = self.stopped_machine()?;
        Manifest::new(&machine)
    }

    /// Compares the pages of this stopped guest with a manifest. The guest must not be resumed while the
    /// verifier is in use.
    ///
    /// # Errors
    /// [`WorkloadError::Running`], [`WorkloadError::NoState`], [`WorkloadError::Storage`].
    pub fn verifier(&self) -> Result<Verifier, WorkloadError> {
        Verifier::new(self.stopped_machine()?)
    }

    fn stopped_machine(&self) -> Result<Arc<Machine>, WorkloadError> {
        if self.control.is_running() {
            return Err(WorkloadError::Running);
        }
        self.control.machine().ok_or(WorkloadError::NoState)
    }
}

impl Drop for WorkloadGuest {
    fn drop(&mut self) {
        self.control.exit();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            let _ = thread.join(); // a vCPU that panicked has told so already
        }
    }
}
