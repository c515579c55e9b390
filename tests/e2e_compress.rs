//! A guest whose pages are packed on their way arrives whole: each kind of content with each codec, over each medium,
//! and through what can go wrong.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use common::{SMALL, Trial, assert_moved_whole};
use lgr_engine::report::{CodecReport, Report};

/// Relocates a small guest that writes, with `words`, and expects it whole at the destination.
fn moves_whole(words: &str) -> (Report, CodecReport) {
    let trial = Trial::new();
    let size = if words.contains("--memory") { "--run-before 0.05 --run-after 0.05" } else { SMALL };
    let (ended, report) = trial.relocate(&format!("{size} --dirty-rate 20M {words}"));
    assert_moved_whole(&ended, &report);
    let codec = report.codec.clone().unwrap();
    let counts = [codec.zero_bytes, codec.kept_bytes, codec.raw_bytes, codec.packed_bytes, codec.saved_bytes];
    // What was not counted is not zero.
    assert!(counts.iter().all(|count| count.is_none() == codec.why_not.is_some()), "{words}: {codec:?}");
    if codec.why_not.is_none() {
        let settled = counts[..4].iter().flatten().sum::<u64>();
        // What a dying queue carried is sent again.
        let again = words.contains("--fault") && Some(settled) > report.bytes_logical;
        assert!(
            again || Some(settled) == report.bytes_logical,
            "{words}: every page is of one codec: {codec:?}"
        );
        assert!(
            codec.saved_bytes <= Some(settled) && codec.packed_wire_bytes <= codec.packed_bytes,
            "{codec:?}"
        );
    }
    (report, codec)
}

#[test]
fn each_content_arrives_whole_with_each_codec() {
    for content in ["realistic", "zero", "random", "text", "pointer", "duplicates"] {
        for compress in ["never", "auto", "zstd", "zstd:9"] {
            let (_, codec) = moves_whole(&format!("--content {content} --compress {compress}"));
            let what = format!("{content}, {compress}: {codec:?}");
            match (content, compress) {
                (_, "never") => assert_eq!(codec.why_not.as_deref(), Some("not asked for"), "{what}"),
                (_, "auto") | ("zero", _) => {}
                ("random", _) => assert_eq!(codec.packed_bytes, Some(0), "{what}"),
                _ => {
                    assert!(codec.packed_wire_bytes.unwrap() * 3 < codec.packed_bytes.unwrap() * 2, "{what}")
                }
            }
        }
    }
}

#[test]
fn packed_pages_go_over_each_medium_and_engine() {
    for medium in ["tcp", "unix", "shm"] {
        for engine in ["auto", "blocking"] {
            let words = format!("--medium {medium} --engine {engine} --content text --compress zstd:3");
            let (_, codec) = moves_whole(&words);
            assert!(codec.packed_bytes > Some(8 << 20), "{medium}, {engine}: {codec:?}");
        }
    }
}

#[test]
fn a_link_that_is_slow_by_its_limit_is_packed_from_the_first_page_and_says_why() {
    for medium in ["tcp", "shm"] {
        let (report, codec) = moves_whole(&format!("--content text --bandwidth 8M --medium {medium}"));
        assert_eq!(codec.raw_bytes, Some(0), "{codec:?}");
        assert!(codec.packed_bytes > Some(8 << 20), "{codec:?}");
        assert_eq!(codec.link_bytes_per_s, Some(8 << 20));
        let last = codec.decisions.last().unwrap();
        assert!(last.codec.starts_with("zstd:") && last.why.starts_with("link 8 MB/s"), "{last:?}");
        assert_eq!(report.limits.rate_limit_bytes_per_s, Some(8 << 20));
    }
}

#[test]
fn a_link_with_a_limit_beyond_what_can_be_packed_is_not() {
    let (_, codec) = moves_whole("--content text --rate-limit 1T --workload idle");
    assert_eq!((codec.packed_bytes, codec.kept_bytes), (Some(0), Some(0)), "{codec:?}");
    assert_eq!(codec.decisions.len(), 1, "{codec:?}");
}

#[test]
fn shared_memory_is_no_wire() {
    let (_, codec) = moves_whole("--content text --medium shm");
    assert_eq!(codec.why_not.as_deref(), Some("shared memory is no wire"));
}

#[test]
fn packed_chunks_of_a_queue_that_is_cut_come_again() {
    for fault in ["cut:3@pass1", "cut:0@pass2", "cut:5@penultimate"] {
        let words = format!("--content text --compress zstd --rate-limit 32M --fault {fault}");
        moves_whole(&words);
    }
}

#[test]
fn chunks_of_a_guest_that_is_not_small_refer_to_a_dictionary() {
    let larger = "--memory 64M --rate-limit 100M --content duplicates";
    for words in
        ["", "--medium unix", "--medium shm", "--engine blocking", "--fault cut:3@pass1", "--queues 1"]
    {
        let (report, with) = moves_whole(&format!("{larger} {words}"));
        let len = with.dictionary_bytes.unwrap_or_else(|| panic!("{words}: {with:?}"));
        assert!((1..=1 << 20).contains(&len), "{with:?}");
        assert!(
            lgr_engine::report::table::render(&report).contains("chunks refer to a dictionary of "),
            "{words}"
        );
    }
    for words in
        ["--memory 16M --content duplicates", "--memory 64M --content random", "--memory 64M --content text"]
    {
        let compress = if words.ends_with("text") { "never" } else { "zstd:3" };
        let (_, without) = moves_whole(&format!("{words} --compress {compress}"));
        assert_eq!(without.dictionary_bytes, None, "{words}: {without:?}");
    }
}

#[test]
fn packed_pages_keep_the_pace_of_a_channel() {
    let (_, codec) = moves_whole("--content text --compress zstd --pace ficon4:1x4");
    assert!(codec.packed_bytes > Some(8 << 20), "{codec:?}");
}

#[test]
fn the_table_shows_what_was_packed() {
    let trial = Trial::new();
    let ended = trial.run(&format!("relocate {SMALL} --content text --compress zstd"));
    assert_eq!(ended.code(), Some(0), "{ended}");
    let out = ended.out();
    let line = out.lines().find(|line| line.starts_with("packed ")).unwrap_or_else(|| panic!("{ended}"));
    assert!(line.contains(" to 1), ") && out.contains("zstd:1 after"), "{ended}");
}

#[test]
fn a_codec_that_does_not_exist_is_refused() {
    let trial = Trial::new();
    for word in ["lz4", "zstd:0", "zstd:10", "zstd:"] {
        let ended = trial.run(&format!("relocate --compress {word}"));
        assert_eq!(ended.code(), Some(2), "{ended}");
        assert!(ended.words().contains("write auto, never, zstd or zstd:LEVEL"), "{ended}");
    }
}
