//! What can be wrong with a trace.

use std::io;

use super::FORMAT_VERSION;

/// Why a file is not a trace that can be used, or why one cannot be written. Offsets are in bytes from the begin.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file does not begin as a trace does.
    #[error("not a dirty trace: at byte 0 it does not begin with LGRTRACE")]
    Foreign,
    /// A layout that this program does not know.
    #[error("at byte 8: the trace has format version {0}, this program knows version {FORMAT_VERSION}")]
    UnknownVersion(u32),
    /// The file ends too early: the recording, or a copy of it, was cut off.
    #[error("cut off at byte {offset_bytes}: {what} is missing there")]
    CutOff {
        /// Where the file ends.
        offset_bytes: u64,
        /// What should have followed.
        what: &'static str,
    },
    /// Bytes that are not as they were written, or never were right.
    #[error("damaged at byte {offset_bytes}: {what}")]
    Damaged {
        /// Where the damaged block begins.
        offset_bytes: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something that a trace may not hold.
    #[error("no trace may hold this: {0}")]
    Limit(&'static str),
    /// It cannot be read or written.
    #[error("at byte {offset_bytes}: {source}")]
    Io {
        /// How far it came.
        offset_bytes: u64,
        /// What the system said.
        source: io::Error,
    },
}
