//! A span for each batch of channel programs: what a device carries from one pause to the next.

use tracing::Span;
use tracing::field::Empty;

/// The programs of one device since it last had nothing to carry.
pub(crate) struct Batch {
    device: u8,
    span: Span,
    programs: u64,
    bytes: u64,
}

impl Batch {
    pub(crate) fn new(device: u8) -> Self {
        Self { device, span: Span::none(), programs: 0, bytes: 0 }
    }

    /// A program is about to be carried.
    pub(crate) fn begin(&mut self) {
        if self.programs == 0 {
            let device = self.device;
            self.span =
                tracing::debug_span!(target: "isfc", "programs", device, programs = Empty, bytes = Empty);
        }
        self.programs += 1;
    }

    /// A program of `bytes` bytes was carried.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// There is nothing to carry now.
    pub(crate) fn end(&mut self) {
        if self.programs > 0 {
            let span = std::mem::replace(&mut self.span, Span::none());
            span.record("programs", self.programs).record("bytes", self.bytes);
            (self.programs, self.bytes) = (0, 0);
        }
    }
}
