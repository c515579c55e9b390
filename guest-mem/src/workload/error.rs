//! What can go wrong with the workload guest.

use super::VCPUS_MAX;
use crate::storage::StorageError;
use std::io;

/// Failures of [`WorkloadGuest`](super::WorkloadGuest).
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The options make no sense together.
    #[error("workload: {why}")]
    Options {
        /// What is wrong and what to choose.
        why: String,
    },
    /// Bookkeeping memory could not be had.
    #[error("workload: cannot reserve memory for the {what}: {source}")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// What `mmap` said.
        source: io::Error,
    },
    /// A vCPU thread could not be started.
    #[error("workload: cannot start a vCPU thread: {source}; raise the limit on threads (ulimit -u)")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// The guest has to be stopped for this.
    #[error("the guest runs: quiesce it first")]
    Running,
    /// A skeleton was given no state yet.
    #[error("the guest is a skeleton without state: load its state first")]
    NoState,
    /// A vCPU did not stop.
    #[error("{stuck} vCPUs did not stop within {waited_ms} ms")]
    VcpusStuck {
        /// How many.
        stuck: usize,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// Guest state from outside was refused.
    #[error("guest state: {why}")]
    BadState {
        /// What is wrong with it.
        why: String,
    },
    /// More vCPUs than there can be.
    #[error("{vcpus} vCPUs: at most {VCPUS_MAX}")]
    TooManyVcpus {
        /// How many were asked for.
        vcpus: u8,
    },
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
