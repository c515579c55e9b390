//! What the devices have sent, by codec, and what it cost them. Added to once per chunk.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Amounts of one chunk, of a window, or of all.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)+
        }

        /// The sums of all devices.
        #[derive(Debug, Default)]
        pub(crate) struct Meter {
            $($name: AtomicU64,)+
        }

        impl Meter {
            pub(crate) fn add(&self, counts: &Counts) {
                $(self.$name.fetch_add(counts.$name, Ordering::Relaxed);)+
            }

            pub(crate) fn totals(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        impl Sub for Counts {
            type Output = Self;

            fn sub(self, earlier: Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)+ }
            }
        }
    };
}

counts! {
    /// Chunks.
    chunks,
    /// Chunks that were packed.
    packed_chunks,
    /// Bytes on the wire, headers too.
    wire_bytes,
    /// Memory sent as zero.
    zero_bytes,
    /// Memory sent as it is.
    raw_bytes,
    /// Memory not sent because the destination has it.
    kept_bytes,
    /// Memory sent packed.
    packed_bytes,
    /// What that became.
    packed_wire_bytes,
    /// Memory that was tried to be packed.
    tried_bytes,
    /// What that became; as many where it gained nothing.
    became_bytes,
    /// Processor time of trying, in ns.
    pack_cpu_ns,
    /// Time that went by meanwhile, in ns: more where others had the processor.
    pack_wall_ns,
    /// Processor time of the device's thread, in ns.
    device_cpu_ns,
}

impl Counts {
    /// Memory that is not zero and is settled.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.raw_bytes + self.kept_bytes + self.packed_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_difference_of_two_sums() {
        let meter = Meter::default();
        meter.add(&Counts { chunks: 1, raw_bytes: 10, ..Counts::default() });
        let before = meter.totals();
        meter.add(&Counts { chunks: 2, kept_bytes: 5, packed_bytes: 7, ..Counts::default() });
        let window = meter.totals() - before;
        assert_eq!((window.chunks, window.data_bytes()), (2, 12));
    }
}
