//! The guest's state as bytes: what moves while the guest stands still. All numbers little-endian.
//!
//! ```text
//!   0       4        8           16                  16 + payload
//!   ├ LGRG ─┼ format ┼ checksum ─┼── postcard of GuestState ──┤     at most 64 KiB
//!                     xxh3 of the payload
//! ```

use super::clock::ClockDomain;
use super::meter::Phase;
use super::vcpu::VcpuState;
use super::{VCPUS_MAX, WorkloadError, WorkloadOptions};
use crate::page::PageCount;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Largest guest state in bytes.
pub const STATE_BYTES_MAX: usize = 64 * 1024;
const MAGIC: [u8; 4] = *b"LGRG";
const FORMAT: u32 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    format: U32,
    checksum: U64,
}

/// Everything of a guest that is not its storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GuestState {
    pub(crate) clock: Option<ClockDomain>,
    pub(crate) storage_pages: PageCount,
    pub(crate) options: WorkloadOptions,
    pub(crate) phase: Phase,
    pub(crate) vcpus: Vec<VcpuState>,
}

impl GuestState {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, WorkloadError> {
        let payload = postcard::to_allocvec(self).map_err(|error| refuse(error.to_string()))?;
        let header = Header { magic: MAGIC, format: FORMAT.into(), checksum: xxh3_64(&payload).into() };
        let bytes = [header.as_bytes(), &payload].concat();
        assert!(bytes.len() <= STATE_BYTES_MAX, "64 vCPUs of a few hundred bytes stay below the limit");
        Ok(bytes)
    }

    /// Takes state from outside: everything is checked before it is used.
    pub(crate) fn decode(bytes: &[u8], storage: PageCount) -> Result<Self, WorkloadError> {
        if bytes.len() > STATE_BYTES_MAX {
            return Err(refuse(format!("{} bytes, at most {STATE_BYTES_MAX} are taken", bytes.len())));
        }
        let (header, payload) =
            Header::ref_from_prefix(bytes).map_err(|_| refuse(format!("only {} bytes", bytes.len())))?;
        if header.magic != MAGIC {
            return Err(refuse("does not begin with LGRG".to_owned()));
        }
        if header.format.get() != FORMAT {
            return Err(refuse(format!("format {}, this side knows {FORMAT}", header.format)));
        }
        if header.checksum.get() != xxh3_64(payload) {
            return Err(refuse("checksum is wrong".to_owned()));
        }
        let (state, rest) =
            postcard::take_from_bytes::<Self>(payload).map_err(|error| refuse(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refuse(format!("{} bytes too many", rest.len())));
        }
        state.check(storage)?;
        Ok(state)
    }

    fn check(&self, storage: PageCount) -> Result<(), WorkloadError> {
        if self.storage_pages != storage {
            return Err(refuse(format!("is for storage of {}, not {storage}", self.storage_pages)));
        }
        if self.vcpus.len() > usize::from(VCPUS_MAX) || self.vcpus.len() != usize::from(self.options.vcpus) {
            return Err(refuse(format!("{} vCPUs where {} belong", self.vcpus.len(), self.options.vcpus)));
        }
        if !self.vcpus.iter().all(|vcpu| vcpu.position.is_alive()) {
            return Err(refuse("a random generator is all zero".to_owned()));
        }
        self.options.check(storage.bytes())
    }
}

fn refuse(why: String) -> WorkloadError {
    WorkloadError::BadState { why }
}

#[cfg(test)]
mod tests {
    use super::super::{ContentMix, Pattern};
    use super::*;
    use proptest::prelude::*;

    const PAGES: PageCount = PageCount(1024);

    fn state(vcpus: u8) -> GuestState {
        GuestState {
            clock: ClockDomain::current(),
            storage_pages: PAGES,
            options: WorkloadOptions {
                pattern: Pattern::Zipf,
                dirty_rate_bytes_per_s: 1 << 30,
                working_set_bytes: Some(1 << 20),
                touched_bytes: 2 << 20,
                content: ContentMix::Text,
                seed: u64::MAX,
                vcpus,
            },
            phase: Phase::During,
            vcpus: (0..vcpus).map(|index| VcpuState::new(9, index)).collect(),
        }
    }

    #[test]
    fn state_of_all_vcpus_survives_the_way_and_stays_small() {
        let sent = state(VCPUS_MAX);
        let bytes = sent.encode().unwrap();
        assert!(bytes.len() < STATE_BYTES_MAX / 4, "{}", bytes.len());
        assert_eq!(GuestState::decode(&bytes, PAGES).unwrap(), sent);
    }

    #[test]
    fn the_encoding_is_pinned() {
        let fixed = GuestState { clock: None, ..state(1) };
        let bytes = fixed.encode().unwrap();
        assert_eq!((bytes.len(), &bytes[..8]), (PINNED.0, b"LGRG\x01\0\0\0".as_slice()));
        assert_eq!(xxh3_64(&bytes), PINNED.1, "another encoding needs another format number");
    }

    /// Length of a known state, and the hash of its bytes.
    const PINNED: (usize, u64) = (100, 5_504_127_634_147_087_163);

    #[test]
    fn state_that_does_not_fit_this_side_is_refused_with_the_reason() {
        let why = |bytes: &[u8]| GuestState::decode(bytes, PAGES).unwrap_err().to_string();
        let good = state(2).encode().unwrap();
        assert!(why(&[]).contains("only 0 bytes"));
        assert!(why(&vec![0; STATE_BYTES_MAX + 1]).contains("at most"));
        assert!(why(&[0; 100]).contains("LGRG"));
        let change = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            bad
        };
        assert!(why(&change(4)).contains("format 0"));
        assert!(why(&change(40)).contains("checksum"));
        assert!(GuestState::decode(&good, PageCount(512)).unwrap_err().to_string().contains("512 pages"));
        let mut wrong = state(2);
        wrong.vcpus.pop();
        assert!(why(&wrong.encode().unwrap()).contains("1 vCPUs where 2 belong"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = GuestState::decode(&bytes, PAGES);
            // And with a header that lets the payload through.
            let payload_hash = xxh3_64(bytes.get(16..).unwrap_or_default());
            if bytes.len() >= 16 {
                bytes[..8].copy_from_slice(b"LGRG\x01\0\0\0");
                bytes[8..16].copy_from_slice(&payload_hash.to_le_bytes());
                let _ = GuestState::decode(&bytes, PAGES);
            }
        }
    }
}
