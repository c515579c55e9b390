//! What a relocation tells while it goes on: for a progress bar, a log, or a program.

use serde::{Deserialize, Serialize};

use crate::report::{PassKind, Report, Side};

/// Something worth showing. As JSON, one object per line with an `event` field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The destination waits for a source.
    Listening {
        /// Where; with the port the kernel chose.
        address: String,
    },
    /// The link is up.
    Connected {
        /// Who is at the other end.
        peer: String,
        /// Devices of the link.
        queues: u8,
        /// `tcp`, `unix` or `shm`.
        medium: String,
        /// `io_uring` or `blocking`.
        engine: String,
        /// How the link is encrypted and who the peer is by its certificate, in words; `null` in plaintext.
        #[serde(default)]
        tls: Option<String>,
    },
    /// Something that takes time before the first pass: making a guest, making memory ready.
    Preparing {
        /// Which side.
        side: Side,
        /// What is being done.
        what: String,
        /// So far, in bytes.
        done_bytes: u64,
        /// In all, in bytes.
        total_bytes: u64,
    },
    /// A pass begins.
    PassStarted {
        /// Its number, from 1.
        number: u32,
        /// Its kind.
        kind: PassKind,
        /// Its pages.
        pages: u64,
    },
    /// A pass goes on.
    PassProgress {
        /// Its number.
        number: u32,
        /// Guest memory sent so far, in bytes.
        done_bytes: u64,
        /// Guest memory of the pass, in bytes.
        total_bytes: u64,
    },
    /// A pass is complete at the destination.
    PassDone {
        /// Its number.
        number: u32,
        /// Its kind.
        kind: PassKind,
        /// Its pages.
        pages: u64,
        /// How long it took, in ms.
        ms: f64,
    },
    /// What a pass over the running guest says of the stop.
    Predicted {
        /// The pass, from 1.
        number: u32,
        /// Guest memory that it left to be sent, in bytes.
        left_bytes: u64,
        /// How long the guest would be stopped now, as the stop rule reckons, in ms.
        quiesce_ms: f64,
        /// MAXQUIESCE, in ms; `null` for no limit.
        limit_ms: Option<f64>,
    },
    /// The guest has been stopped.
    Quiesced,
    /// The guest runs.
    Running {
        /// On which side.
        side: Side,
    },
    /// The memory is being compared.
    Verifying {
        /// Pages compared.
        done_pages: u64,
        /// Pages in all.
        total_pages: u64,
    },
    /// Something a reader may want to know: a device lost, a caller refused.
    Note {
        /// In words.
        text: String,
    },
    /// It is over.
    Finished {
        /// What this side knows.
        report: Box<Report>,
    },
}

/// Takes events; called from the control thread, never per page.
pub trait Observer: Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Takes events and forgets them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}
