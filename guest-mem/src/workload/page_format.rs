//! What a touched page looks like, so that a wrong one can be named. All numbers little-endian.
//!
//! ```text
//!   0        8        16      20    21    22       24         32                        4096
//!   ├ magic ─┼ page # ┼version┼class┼flags┼reserved┼ checksum ┼────────── body ──────────┤
//!                                    checksum = xxh3 (64 bit) of the page with zeroes in the place of the checksum
//! ```
//!
//! Version 0 is not written as a header: it is the page that is all zero. A page that moved to the wrong place
//! carries another number, a stale one a lower version, a torn one a wrong checksum.

use crate::content::hash_page;
use crate::page::{PAGE_SIZE, PageNumber};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A page of private memory.
pub(crate) type PageBytes = [u8; PAGE_SIZE];

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 32;
/// Where the checksum begins.
const CHECKSUM_AT: usize = 24;
const MAGIC: u64 = u64::from_le_bytes(*b"LGRPAGE1");

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U64,
    page: U64,
    version: U32,
    class: u8,
    flags: u8,
    reserved: U16,
    checksum: U64,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// What a page turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageState {
    /// All zero: version 0.
    Zero,
    /// Header and checksum agree.
    Sound {
        /// The number it carries, which may not be the place where it lies.
        page: PageNumber,
        version: u32,
    },
    /// Anything else.
    Torn,
}

/// Writes the header, with the checksum of the body that is already there.
pub(crate) fn seal(bytes: &mut PageBytes, page: PageNumber, version: u32, class: u8) {
    let header = Header {
        magic: MAGIC.into(),
        page: page.0.into(),
        version: version.into(),
        class,
        flags: 0,
        reserved: 0.into(),
        checksum: 0.into(),
    };
    bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    let checksum = hash_page(bytes);
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(bytes: &PageBytes) -> u64 {
    let mut bytes = *bytes;
    bytes[CHECKSUM_AT..HEADER_BYTES].fill(0);
    hash_page(&bytes)
}

/// Looks at a private copy of a page (or at one whose guest is stopped).
pub(crate) fn inspect(bytes: &PageBytes) -> PageState {
    let (header, _) = Header::ref_from_prefix(bytes).expect("a page is longer than its header");
    if header.magic.get() != MAGIC {
        // Anything without the magic is either empty or broken.
        let empty = bytes.iter().all(|byte| *byte == 0);
        return if empty { PageState::Zero } else { PageState::Torn };
    }
    if header.checksum.get() != checksum(bytes) {
        return PageState::Torn;
    }
    PageState::Sound { page: PageNumber(header.page.get()), version: header.version.get() }
}

/// Version and class by the header alone: `(0, 0)` for a page without one.
pub(crate) fn version_and_class(header: &[u8; HEADER_BYTES]) -> (u32, u8) {
    let header: &Header = zerocopy::transmute_ref!(header);
    if header.magic.get() == MAGIC { (header.version.get(), header.class) } else { (0, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> PageBytes {
        let mut bytes = [0x5A; PAGE_SIZE];
        seal(&mut bytes, PageNumber(0x1234), 7, 3);
        bytes
    }

    #[test]
    fn the_header_is_pinned() {
        assert_eq!(sealed()[..CHECKSUM_AT], *b"LGRPAGE1\x34\x12\0\0\0\0\0\0\x07\0\0\0\x03\0\0\0");
        let checksum = u64::from_le_bytes(sealed()[CHECKSUM_AT..HEADER_BYTES].try_into().unwrap());
        assert_eq!(checksum, CHECKSUM_OF_SEALED);
    }

    const CHECKSUM_OF_SEALED: u64 = 15_115_387_248_583_907_442;

    #[test]
    fn a_sealed_page_is_sound_and_any_changed_byte_makes_it_torn() {
        let good = sealed();
        assert_eq!(inspect(&good), PageState::Sound { page: PageNumber(0x1234), version: 7 });
        for offset in (0..PAGE_SIZE).step_by(5) {
            let mut bad = good;
            bad[offset] ^= 0x10;
            assert_eq!(inspect(&bad), PageState::Torn, "byte {offset}");
        }
        assert_eq!(inspect(&[0; PAGE_SIZE]), PageState::Zero);
    }

    #[test]
    fn the_header_alone_tells_the_version() {
        assert_eq!(version_and_class(sealed()[..HEADER_BYTES].try_into().unwrap()), (7, 3));
        assert_eq!(version_and_class(&[0; HEADER_BYTES]), (0, 0));
    }
}
