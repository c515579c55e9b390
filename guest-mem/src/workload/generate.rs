//! Page bodies by seed: the same (seed, page, version) gives the same bytes.
//!
//! The share of each class is a synthetic default, stated in [`ContentMix`]; the kinds follow the classes that
//! studies of guest memory tell apart (zero, text-like, pointer-heavy, incompressible, duplicated).

use super::page_format::{HEADER_BYTES, PageBytes, seal};
use super::{ContentMix, WorkloadOptions, text};
use crate::page::PageNumber;

const DUPLICATE_BODIES: u64 = 64;

/// The kind of a page's body; the number is what the page header carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PageClass {
    Zero = 1,
    Text = 2,
    Pointer = 3,
    Random = 4,
    Duplicate = 5,
}

/// Spreads `value` over all 64 bits (the finalizer of splitmix64, by Vigna).
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The class of a page when the guest starts.
pub(crate) fn first_class(options: &WorkloadOptions, page: PageNumber) -> PageClass {
    let percent = mix(mix(options.seed ^ 0xC1A5) ^ page.0) % 100;
    match options.content {
        ContentMix::Zero => PageClass::Zero,
        ContentMix::Random => PageClass::Random,
        ContentMix::Text => PageClass::Text,
        ContentMix::Pointer => PageClass::Pointer,
        ContentMix::Duplicates => PageClass::Duplicate,
        ContentMix::Realistic => match percent {
            0..25 => PageClass::Zero,
            25..70 => PageClass::Text,
            70..80 => PageClass::Pointer,
            80..95 => PageClass::Random,
            _ => PageClass::Duplicate,
        },
    }
}

/// The class of a page once it was written: data, unless all content is to be zero.
pub(crate) fn written_class(options: &WorkloadOptions, page: PageNumber) -> PageClass {
    match first_class(options, page) {
        PageClass::Zero if options.content != ContentMix::Zero => PageClass::Text,
        class => class,
    }
}

/// Makes the whole page, header and all. A zero class gives the zero page, whatever the version.
pub(crate) fn page(seed: u64, page: PageNumber, version: u32, class: PageClass, bytes: &mut PageBytes) {
    let body = &mut bytes[HEADER_BYTES..];
    let key = mix(mix(seed ^ page.0.rotate_left(32)) ^ u64::from(version));
    match class {
        PageClass::Zero => return bytes.fill(0),
        PageClass::Text => text::fill(key, body),
        PageClass::Pointer => pointers(key, body),
        PageClass::Random => random(key, body),
        PageClass::Duplicate => text::fill(mix(seed ^ (key % DUPLICATE_BODIES)), body),
    }
    seal(bytes, page, version, class as u8);
}

/// Word `index` of a stream that no compressor shrinks: a multiplication of 128 bits per word, as in wyhash.
/// Words do not depend on each other, so the processor makes several at a time.
#[inline]
pub(super) fn random_word(key: u64, index: u64) -> u64 {
    let state = key.wrapping_add(index.wrapping_mul(0xA076_1D64_78BD_642F));
    let product = u128::from(state) * u128::from(state ^ 0xE703_7ED1_A0B4_28DB);
    product as u64 ^ (product >> 64) as u64
}

fn random(key: u64, body: &mut [u8]) {
    for (word, index) in body.as_chunks_mut::<8>().0.iter_mut().zip(1..) {
        *word = random_word(key, index).to_le_bytes();
    }
}

/// Half pointers into one arena, a quarter small integers, a quarter zero: what object headers and trees look like.
fn pointers(key: u64, body: &mut [u8]) {
    let arena = 0x0000_7F00_0000_0000 | (key & 0xFF_0000_0000);
    // Tables in place of branches, which random words would always mispredict.
    let kept = [0, 0xFF, 0x0FFF_FFF0, 0x0FFF_FFF0];
    let added = [0, 0, arena, arena];
    for (word, index) in body.as_chunks_mut::<8>().0.iter_mut().zip(1..) {
        let value = random_word(key, index);
        let kind = (value >> 62) as usize;
        *word = (value & kept[kind] | added[kind]).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::super::page_format::{PageState, inspect};
    use super::*;
    use crate::page::PAGE_SIZE;

    fn options(content: ContentMix) -> WorkloadOptions {
        WorkloadOptions {
            pattern: Pattern::Idle,
            dirty_rate_bytes_per_s: 0,
            working_set_bytes: None,
            touched_bytes: 0,
            content,
            seed: 42,
            vcpus: 1,
        }
    }

    #[test]
    fn every_class_makes_sound_pages_that_differ_by_version_and_page() {
        for class in [PageClass::Text, PageClass::Pointer, PageClass::Random, PageClass::Duplicate] {
            let make = |number, version| {
                let mut bytes = [0; PAGE_SIZE];
                page(42, PageNumber(number), version, class, &mut bytes);
                assert_eq!(inspect(&bytes), PageState::Sound { page: PageNumber(number), version });
                bytes
            };
            assert_eq!(make(7, 1), make(7, 1), "{class:?}");
            assert_ne!(make(7, 1), make(7, 2), "{class:?}");
            assert_ne!(make(7, 1), make(8, 1), "{class:?}");
        }
        let mut bytes = [1; PAGE_SIZE];
        page(42, PageNumber(7), 9, PageClass::Zero, &mut bytes);
        assert_eq!(bytes, [0; PAGE_SIZE]);
    }

    #[test]
    fn the_realistic_mix_has_its_stated_shares() {
        let count = |class| {
            let of_class =
                |page: &u64| first_class(&options(ContentMix::Realistic), PageNumber(*page)) == class;
            (0..100_000).filter(of_class).count()
        };
        for (class, percent) in [
            (PageClass::Zero, 25),
            (PageClass::Text, 45),
            (PageClass::Pointer, 10),
            (PageClass::Random, 15),
            (PageClass::Duplicate, 5),
        ] {
            assert!(count(class).abs_diff(percent * 1000) < 700, "{class:?}: {}", count(class));
        }
    }

    #[test]
    fn a_written_page_is_zero_only_in_the_all_zero_mix() {
        for page in (0..1000).map(PageNumber) {
            assert_ne!(written_class(&options(ContentMix::Realistic), page), PageClass::Zero);
            assert_eq!(written_class(&options(ContentMix::Zero), page), PageClass::Zero);
        }
    }
}
