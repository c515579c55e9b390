//! What is filled, by whom, and when.

use std::time::{Duration, Instant};

use guest_mem::{PageNumber, StorageOptions};

use super::*;

const BLOCK_PAGES: u64 = PIECE_PAGES * BLOCK_PIECES;

fn extent(first: u64, pages: u64, class: ExtentClass) -> Extent {
    let page = PAGE_SIZE as u64;
    Extent { offset_bytes: first * page, len_bytes: (pages * page) as u32, class }
}

/// Fills nothing, and notes what it was asked for.
fn noting(blocks: u64, threads: usize) -> (Fresh, Arc<Mutex<Vec<u64>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let note = noted.clone();
    let fill = Box::new(move |run: &Run| {
        note.lock().unwrap().push(run.start.get() / BLOCK_PAGES);
        Ok(())
    });
    let all = Runs::from_run(Run::new(0, blocks * BLOCK_PAGES));
    (Fresh::filling(blocks * BLOCK_PAGES, &all, threads, fill).unwrap(), noted)
}

/// The blocks that were filled, once it is as many as that; threads take their time.
fn filled(noted: &Mutex<Vec<u64>>, count: usize) -> Vec<u64> {
    let began = Instant::now();
    while noted.lock().unwrap().len() < count && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut blocks = noted.lock().unwrap().clone();
    blocks.sort_unstable();
    blocks
}

#[test]
fn without_threads_only_whole_pieces_that_are_coming_and_not_there_are_filled_when_data_arrives() {
    let storage = Arc::new(Storage::create(&StorageOptions::small(64 << 20)).unwrap());
    storage.write_bytes(PageNumber(1536), 0, b"there");
    let coming: Runs = [Run::new(100, 1000), Run::new(1536, 512), Run::new(8192, 512)].into_iter().collect();
    let missing = coming.difference(&storage.touched().unwrap());
    let memory = storage.clone();
    let fill = Box::new(move |run: &Run| memory.make_ready(run));
    let fresh = Fresh::filling(storage.pages().get(), &missing, 0, fill).unwrap();
    let touched = || storage.touched().unwrap();
    fresh.make_ready(&[extent(512, 64, ExtentClass::Zero)]).unwrap();
    assert_eq!(touched().pages().get(), 1, "zeros need no memory");
    fresh.make_ready(&[extent(0, 64, ExtentClass::Raw)]).unwrap();
    let there = Run::new(1536, 1);
    assert_eq!(touched().as_slice(), [Run::new(512, 512), there]);
    fresh.make_ready(&[extent(500, 30, ExtentClass::Raw), extent(1537, 1, ExtentClass::Raw)]).unwrap();
    assert_eq!(touched().as_slice(), [Run::new(512, 512), there]);
    fresh.make_ready(&[extent(8300, 1, ExtentClass::Raw)]).unwrap();
    assert_eq!(touched().as_slice(), [Run::new(512, 512), there, Run::new(8192, 512)]);
    storage.release(&Runs::from_run(Run::new(512, 512))).unwrap();
    fresh.make_ready(&[extent(512, 1, ExtentClass::Packed)]).unwrap();
    assert_eq!(touched().as_slice(), [there, Run::new(8192, 512)], "once is enough");
}

#[test]
fn memory_is_filled_ahead_of_the_pages_and_no_further_than_that() {
    for threads in [1, 2] {
        let (fresh, noted) = noting(100, threads);
        let first: Vec<u64> = (0..AHEAD_BLOCKS as u64).collect();
        assert_eq!(filled(&noted, AHEAD_BLOCKS), first, "before the first page");
        fresh.make_ready(&[extent(0, 99 * 16, ExtentClass::Zero)]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(filled(&noted, AHEAD_BLOCKS), first, "zeros move nothing on");
        fresh.make_ready(&[extent(3 * BLOCK_PAGES, 1, ExtentClass::Raw)]).unwrap();
        assert_eq!(filled(&noted, AHEAD_BLOCKS + 3), (0..AHEAD_BLOCKS as u64 + 3).collect::<Vec<_>>());
        // A leap: what is far behind stays empty, until something comes to it after all.
        fresh.make_ready(&[extent(60 * BLOCK_PAGES, 1, ExtentClass::Packed)]).unwrap();
        let now = filled(&noted, AHEAD_BLOCKS + 3 + BEHIND_BLOCKS + AHEAD_BLOCKS);
        assert_eq!((now[AHEAD_BLOCKS + 3], *now.last().unwrap()), (56, 60 + AHEAD_BLOCKS as u64 - 1));
        fresh.make_ready(&[extent(30 * BLOCK_PAGES, 1, ExtentClass::Raw)]).unwrap();
        assert!(noted.lock().unwrap().contains(&30), "and it is there when that returns");
    }
}

#[test]
fn each_block_is_filled_once_whoever_comes_to_it() {
    let (fresh, noted) = noting(64, 2);
    std::thread::scope(|scope| {
        for device in 0..4 {
            let fresh = &fresh;
            scope.spawn(move || {
                for block in (device..64).chain(0..device) {
                    fresh.make_ready(&[extent(block * BLOCK_PAGES, 8, ExtentClass::Raw)]).unwrap();
                }
            });
        }
    });
    assert_eq!(filled(&noted, 64), (0..64).collect::<Vec<_>>());
}

#[test]
fn after_the_first_pass_nothing_is_filled_but_what_data_comes_to() {
    let (fresh, noted) = noting(64, 2);
    filled(&noted, AHEAD_BLOCKS);
    fresh.join();
    fresh.make_ready(&[extent(40 * BLOCK_PAGES, 8, ExtentClass::Raw)]).unwrap();
    let now = noted.lock().unwrap().clone();
    assert_eq!((now.len(), now.last()), (AHEAD_BLOCKS + 1, Some(&40)));
}

#[test]
fn memory_that_runs_out_has_a_reason_and_nobody_waits_for_it() {
    for threads in [0, 2] {
        let fill = Box::new(|run: &Run| {
            let source = std::io::Error::from_raw_os_error(libc::ENOMEM);
            Err(StorageError::OutOfMemory { offset_bytes: run.offset_bytes(), source })
        });
        let all = Runs::from_run(Run::new(0, 64 * BLOCK_PAGES));
        let fresh = Fresh::filling(64 * BLOCK_PAGES, &all, threads, fill).unwrap();
        assert!(fresh.make_ready(&[extent(50 * BLOCK_PAGES, 8, ExtentClass::Raw)]).is_err());
        assert!(fresh.make_ready(&[extent(0, 8, ExtentClass::Raw)]).is_err());
        assert!(fresh.trouble().is_some_and(|why| why.contains("memory")), "{:?}", fresh.trouble());
    }
}

#[test]
fn memory_that_is_ready_needs_nothing() {
    let storage = Arc::new(Storage::create(&StorageOptions::small(8 << 20)).unwrap());
    let coming = Runs::from_run(Run::new(0, 1024));
    storage.prefault(&coming, 1, &|_| ()).unwrap();
    assert!(Fresh::new(&storage, &coming).unwrap().is_none());
    let odd = Runs::from_run(Run::new(1030, 1000));
    assert!(Fresh::new(&storage, &odd).unwrap().is_none(), "no whole piece");
}
