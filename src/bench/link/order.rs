//! What the receiving process tells the sending one, a line of JSON each, over its standard input and output.

use isfc::{Engine, Medium};
use serde::{Deserialize, Serialize};

/// How bytes get from one process to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// The limit: plain blocking sockets, a thread per connection and side; for shm, all cores copying.
    Plain,
    /// A logical link on io_uring.
    IoUring,
    /// A logical link on blocking threads.
    Blocking,
}

impl Way {
    /// The link's engine; `None` for plain sockets.
    pub(super) fn engine(self) -> Option<Engine> {
        match self {
            Self::Plain => None,
            Self::IoUring => Some(Engine::IoUring),
            Self::Blocking => Some(Engine::Blocking),
        }
    }

    pub(super) fn describe(self, medium: Medium) -> &'static str {
        match (self, medium) {
            (Self::Plain, Medium::Shm) => "streaming copy, all cores",
            (Self::Plain, _) => "plain sockets",
            (Self::IoUring, _) => "link, io_uring",
            (Self::Blocking, _) => "link, blocking",
        }
    }
}

/// To the sending process. Each is answered once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Make and fill this much memory.
    Prepare { region_bytes: u64 },
    /// Connect to the address, as `isfc::Address` prints it.
    Connect { way: Way, address: String, queues: u8 },
    /// Send this many chunks the given way.
    Stream { way: Way, chunks: u64 },
    /// Hang up everything.
    Disconnect,
}

/// From the sending process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Done; `cpu_s` is the processor time that took.
    Done { cpu_s: f64 },
    /// It could not be done.
    Failed { reason: String },
}
