//! Behaviour of storage as its users see it.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1 << 20;

fn small(len_bytes: u64) -> Storage {
    Storage::create(&StorageOptions::small(len_bytes)).unwrap()
}

#[test]
fn sizes_outside_the_offer_are_refused_with_the_offer() {
    for len_bytes in [0, 4096, MIB - 4096, (1 << 40) + 4096, u64::MAX] {
        let text = Storage::create(&StorageOptions::small(len_bytes)).unwrap_err().to_string();
        assert!(text.contains("1 MiB") && text.contains("1 TiB"), "{text}");
    }
    let odd = Storage::create(&StorageOptions::small(MIB + 1)).unwrap_err();
    assert!(matches!(odd, StorageError::SizeNotMultiple { unit_bytes: 4096, .. }));
    let odd = Storage::create(&StorageOptions { len_bytes: 3 * MIB, backing: Backing::HugeTlb }).unwrap_err();
    assert!(matches!(odd, StorageError::SizeNotMultiple { unit_bytes: 0x20_0000, .. }));
}

#[test]
fn one_tebibyte_takes_only_what_is_touched() {
    let storage = small(1 << 40);
    assert_eq!(storage.resident_bytes().unwrap(), 0);
    let last = PageNumber(storage.pages().0 - 1);
    storage.write_bytes(last, 4092, b"tail");
    storage.write_bytes(PageNumber(77), 0, b"head");
    assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(77, 1), Run::new(last.0, 1)]);
    assert_eq!(storage.resident_bytes().unwrap(), 2 * 4096);
}

#[test]
fn released_pages_read_as_zero_and_count_as_never_touched() {
    let storage = small(MIB);
    for page in 0..4 {
        storage.write_page(PageNumber(page), &[7; PAGE_SIZE]);
    }
    storage.release(&Runs::from_run(Run::new(1, 2))).unwrap();
    assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(0, 1), Run::new(3, 1)]);
    let mut page = [1; PAGE_SIZE];
    storage.read_page(PageNumber(2), &mut page);
    assert_eq!(page, [0; PAGE_SIZE]);
}

#[test]
fn prefault_fills_exactly_the_runs_and_tells_every_byte() {
    let storage = small(64 * MIB);
    let runs = Runs::from_unsorted(vec![Run::new(0, 5000), Run::new(9000, 17), Run::new(16000, 384)]);
    let told = AtomicU64::new(0);
    let progress = |bytes| {
        told.fetch_add(bytes, Ordering::Relaxed);
    };
    storage.prefault(&runs, 2, &progress).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), runs.bytes());
    assert_eq!(storage.touched().unwrap(), runs);
}

#[test]
fn runs_outside_storage_are_refused() {
    let storage = small(MIB);
    for run in [Run::new(256, 1), Run::new(0, 257), Run::new(u64::MAX, 2)] {
        assert!(matches!(storage.check_run(&run), Err(StorageError::OutOfRange { .. })));
    }
    let outside = Runs::from_run(Run::new(250, 7));
    assert!(storage.prefault(&outside, 1, &|_| {}).is_err());
    assert!(storage.release(&outside).is_err());
}

#[test]
fn nobody_can_shrink_storage_under_its_mapping() {
    let storage = small(MIB);
    assert!(rustix::fs::ftruncate(storage.fd(), 4096).is_err());
}

#[test]
fn transparent_huge_pages_keep_content_and_report_their_granule() {
    let storage = Storage::create(&StorageOptions { len_bytes: 8 * MIB, backing: Backing::Thp }).unwrap();
    assert_eq!(storage.granule_bytes(), HUGE_PAGE_SIZE);
    assert_eq!(storage.as_ptr().addr() as u64 % HUGE_PAGE_SIZE, 0);
    storage.write_page(PageNumber(600), &[9; PAGE_SIZE]);
    assert!(storage.touched().unwrap().contains(PageNumber(600)));
}

#[test]
fn hugetlb_storage_works_or_says_how_to_get_pages() {
    match Storage::create(&StorageOptions { len_bytes: 4 * MIB, backing: Backing::HugeTlb }) {
        Ok(storage) => {
            storage.write_page(PageNumber(513), &[9; PAGE_SIZE]);
            assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(512, 512)]);
            assert_eq!(storage.resident_bytes().unwrap(), HUGE_PAGE_SIZE);
        }
        Err(error @ StorageError::NoHugePages { .. }) => {
            assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
        }
        Err(error) => assert!(error.to_string().contains("memfd_create"), "{error}"),
    }
}

#[test]
fn backings_are_named_as_they_are_parsed() {
    for backing in [Backing::Small, Backing::Thp, Backing::HugeTlb] {
        assert_eq!(backing.to_string().parse::<Backing>(), Ok(backing));
    }
    assert!("giant".parse::<Backing>().unwrap_err().contains("hugetlb"));
}
