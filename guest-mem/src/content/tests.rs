//! Behaviour of the content tests, on every path this processor has.

use super::*;
use crate::storage::{Storage, StorageOptions};
use proptest::prelude::*;

fn storage_with(pages: &[(u64, [u8; PAGE_SIZE])]) -> Storage {
    let storage = Storage::create(&StorageOptions::small(1 << 20)).unwrap();
    for (page, bytes) in pages {
        storage.write_page(crate::PageNumber(*page), bytes);
    }
    storage
}

fn one_byte_at(offset: usize) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    page[offset] = 1;
    page
}

#[test]
fn a_single_set_byte_anywhere_is_found_on_every_path() {
    let storage = storage_with(&[]);
    let page = storage.page_ptr(crate::PageNumber(0));
    for offset in 0..PAGE_SIZE {
        storage.write_page(crate::PageNumber(0), &one_byte_at(offset));
        let mut copy = [0; PAGE_SIZE];
        // SAFETY: the page is inside storage, aligned, and nobody else uses it.
        unsafe {
            assert!(!is_zero(page, PAGE_SIZE), "byte {offset}");
            assert!(!portable::is_zero(page, PAGE_SIZE), "byte {offset}");
            assert!(!portable::is_zero_bytes(page, PAGE_SIZE), "byte {offset}");
            assert!(!copy_zero(page, &mut copy), "byte {offset}");
            assert_eq!(copy, one_byte_at(offset));
            assert!(!portable::copy_page_zero(page, &mut copy), "byte {offset}");
        }
        assert_eq!(copy, one_byte_at(offset));
    }
    storage.zero_page(crate::PageNumber(0));
    // SAFETY: as above.
    unsafe {
        assert!(is_zero(page, PAGE_SIZE) && is_zero(page, 0) && portable::is_zero(page, PAGE_SIZE));
        assert!(copy_zero(page, &mut [1; PAGE_SIZE]) && portable::copy_page_zero(page, &mut [1; PAGE_SIZE]));
    }
}

#[test]
fn the_mask_names_the_zero_pages() {
    let storage = storage_with(&[(0, [1; PAGE_SIZE]), (5, one_byte_at(4095)), (70, one_byte_at(0))]);
    let mut masks = Vec::new();
    // SAFETY: 100 pages are inside storage.
    unsafe { zero_pages(storage.as_ptr(), 100, |first, mask| masks.push((first, mask))) };
    assert_eq!(masks, [(0, !(1 | 1 << 5)), (64, ((1 << 36) - 1) & !(1 << 6))]);
}

#[test]
fn the_fused_pass_agrees_with_plain_hashing() {
    let mut text = [0; PAGE_SIZE];
    text.iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8);
    let storage = storage_with(&[(0, text), (2, one_byte_at(9))]);
    let (mut copy, mut contents, mut hashes) = (vec![1; 3 * PAGE_SIZE], Vec::new(), Vec::new());
    // SAFETY: three pages are inside storage.
    unsafe { copy_zero_hash_pages(storage.as_ptr(), &mut copy, &mut contents) };
    hash_pages(&copy, &mut hashes);
    assert_eq!(contents.iter().map(|content| content.hash).collect::<Vec<_>>(), hashes);
    assert_eq!(contents.iter().map(|content| content.zero).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(hashes[1], zero_page_hash());
    assert_eq!(copy[..PAGE_SIZE], text);
}

proptest! {
    #[test]
    fn page_hashes_are_those_of_xxh3_on_every_path(seed in any::<u64>(), keep in 0usize..PAGE_SIZE) {
        let mut page = [0u8; PAGE_SIZE];
        let mut value = seed;
        for word in page[..keep].as_chunks_mut::<8>().0 {
            value = value.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ seed;
            *word = value.to_le_bytes();
        }
        let (storage, mut copy) = (storage_with(&[(0, page)]), [1; PAGE_SIZE]);
        // SAFETY: the page is inside storage.
        let content = unsafe { copy_zero_hash(storage.as_ptr(), &mut copy) };
        prop_assert_eq!(content.hash, xxh3_64(&page));
        prop_assert_eq!(content.zero, page.iter().all(|byte| *byte == 0));
        prop_assert_eq!(copy, page);
        prop_assert_eq!(hash_page(&page), xxh3_64(&page));
        let mut hashes = Vec::new();
        hash_pages(&[page, page].concat(), &mut hashes);
        prop_assert_eq!(hashes, [xxh3_64(&page); 2]);
    }

    #[test]
    fn any_address_and_length_are_tested_rightly(
        bytes in prop::collection::vec(prop::sample::select(&[0u8, 0, 0, 0, 0, 0, 0, 1][..]), 0..300), skip in 0usize..20,
    ) {
        let part = &bytes[skip.min(bytes.len())..];
        // SAFETY: the pointer and length are those of a slice.
        let zero = unsafe { is_zero(part.as_ptr(), part.len()) };
        prop_assert_eq!(zero, part.iter().all(|byte| *byte == 0));
    }
}
