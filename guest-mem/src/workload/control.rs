//! Stopping and letting go all vCPU threads, promptly and together.
//!
//! ```text
//!   controller   resume ──▶ epoch += 1            quiesce ──▶ stop = true ──▶ wait until all are parked
//!   vCPU         park() ends: epoch is new        between two pages: stop? ──▶ end the tick, park(): parked += 1
//! ```
//!
//! A vCPU leaves its park only for a new epoch. So a resume followed at once by a quiesce cannot strand it: it
//! comes out, sees the stop, and parks again, this time counted for the new epoch.

use super::WorkloadError;
use super::machine::Machine;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A vCPU looks for the stop between two pages, so it is stuck (or dead) if it has not parked after this time.
const PARK_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    /// vCPUs that run in this epoch: those with an index below.
    active: usize,
    parked: usize,
    running: bool,
    exit: bool,
    machine: Option<Arc<Machine>>,
}

/// Shared by the guest's handle and its vCPU threads.
#[derive(Debug, Default)]
pub(crate) struct Control {
    state: Mutex<State>,
    /// For vCPUs: a new epoch, a stop, or the exit.
    wake: Condvar,
    /// For the controller: a vCPU parked.
    parked: Condvar,
    /// The stop as a vCPU sees it while writing, without the lock.
    stop: AtomicBool,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement that changes it, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if vCPUs may be writing.
    pub(crate) fn is_running(&self) -> bool {
        self.lock().running
    }

    /// What the guest consists of; `None` in a skeleton that has no state yet.
    pub(crate) fn machine(&self) -> Option<Arc<Machine>> {
        self.lock().machine.clone()
    }

    /// Gives a guest that does not run its state.
    pub(crate) fn set_machine(&self, machine: Arc<Machine>) -> Result<(), WorkloadError> {
        let mut state = self.lock();
        if state.running {
            return Err(WorkloadError::Running);
        }
        state.machine = Some(machine);
        Ok(())
    }

    /// Lets all vCPUs go. Does nothing if they run.
    pub(crate) fn resume(&self) -> Result<(), WorkloadError> {
        let mut state = self.lock();
        let active = state.machine.as_ref().ok_or(WorkloadError::NoState)?.vcpus();
        if !state.running {
            state.epoch += 1;
            state.active = active;
            state.parked = 0;
            state.running = true;
            self.stop.store(false, Ordering::Release);
            self.wake.notify_all();
        }
        Ok(())
    }

    /// Stops all vCPUs; when this returns, none writes any more, and what they wrote is visible here.
    pub(crate) fn quiesce(&self) -> Result<Duration, WorkloadError> {
        let began = Instant::now();
        let mut state = self.lock();
        if state.running {
            self.stop.store(true, Ordering::Release);
            self.wake.notify_all();
            while state.parked < state.active {
                let left = PARK_LIMIT.saturating_sub(began.elapsed());
                if left.is_zero() {
                    let stuck = state.active - state.parked;
                    return Err(WorkloadError::VcpusStuck {
                        stuck,
                        waited_ms: PARK_LIMIT.as_millis() as u64,
                    });
                }
                state = self.parked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            state.running = false;
        }
        Ok(began.elapsed())
    }

    /// Tells all vCPU threads to end.
    pub(crate) fn exit(&self) {
        self.stop.store(true, Ordering::Release);
        self.lock().exit = true;
        self.wake.notify_all();
    }

    /// For vCPU `index`: says that it has stopped (if it ran in `epoch`), and waits to be let go in a later one.
    /// Gives the new epoch and the machine to run; `None` to end.
    pub(crate) fn park(&self, index: usize, epoch: &mut u64) -> Option<Arc<Machine>> {
        let mut state = self.lock();
        if *epoch == state.epoch && index < state.active && *epoch > 0 {
            state.parked += 1;
            self.parked.notify_all();
        }
        loop {
            if state.exit {
                return None;
            }
            if state.epoch != *epoch {
                *epoch = state.epoch;
                if index < state.active {
                    return state.machine.clone();
                }
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For vCPUs: must the writing end?
    pub(crate) fn must_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// For vCPUs: waits for the next tick, `wait` from now, or for the stop.
    pub(crate) fn wait_for_tick(&self, wait: Duration) {
        let state = self.lock();
        if !self.must_stop() {
            drop(self.wake.wait_timeout(state, wait));
        }
    }
}
