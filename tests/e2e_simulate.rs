//! `lgr simulate link` gives what IBM measured, and the committed table is what it prints.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::process::{Command, Output};

fn simulate(words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lgr"));
    command.args(["simulate", "link"]).args(words.split_whitespace()).output().unwrap()
}

#[test]
fn one_express4_channel_carries_what_ibm_measured() {
    let output = simulate("--channels 1 --devices 12 --gen ficon-express4 --json");
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| lines.iter().map(|line| line[name].as_f64().unwrap()).collect::<Vec<_>>();
    let rate: f64 = of("bytes_per_s").iter().sum();
    assert!((0.95..1.05).contains(&(rate / 342e6)), "{rate}");
    let ssch = of("ssch_per_s");
    assert!(ssch[..10].iter().all(|rate| (0.95..1.05).contains(&(rate / 45.0))), "{ssch:?}");
    assert_eq!(ssch[10..], [0.0, 0.0]);
}

#[test]
fn the_committed_table_is_what_the_command_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bench-results/simulate-link/table.md");
    let committed = std::fs::read_to_string(path).unwrap();
    assert_eq!(String::from_utf8(simulate("--table").stdout).unwrap(), committed);
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    for words in [
        "--devices 17",
        "--channels 0",
        "--channels 5 --devices 4",
        "--gen escon",
        "--distance-km 301",
        "--table --json",
        "--table --gen ficon4",
    ] {
        let output = simulate(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{words}");
    }
}

fn cluster(words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lgr"));
    command.args(["simulate", "cluster"]).args(words.split_whitespace()).output().unwrap()
}

#[test]
fn a_cluster_breaks_no_invariant_and_says_what_happened_to_it() {
    let output = cluster("--seeds 50 --first 777 --json");
    assert_eq!(output.status.code(), Some(0));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["seeds"].as_u64(), told["first"].as_u64()), (Some(50), Some(777)));
    assert_eq!(told["broken"].as_array().map(Vec::len), Some(0));
    for happened in ["events", "joins", "granted", "refused", "declared"] {
        assert!(told[happened].as_u64() > Some(10), "{happened}: {told}");
    }
}

#[test]
fn a_seed_that_is_replayed_shows_everything_and_always_the_same() {
    let (first, again) = (cluster("--replay 5"), cluster("--replay 5"));
    assert_eq!(first.status.code(), Some(0));
    assert!(first.stdout == again.stdout, "two runs of a seed differ");
    let text = String::from_utf8(first.stdout).unwrap();
    assert!(
        text.contains("HCPPLM1698I The mode of the SSI cluster is STABLE"),
        "{}",
        &text[text.len() - 500..]
    );
    assert_eq!(cluster("--seeds 0").status.code(), Some(2));
}

/// Five channels with sixteen devices are not five times three.
#[test]
fn devices_that_do_not_divide_evenly_are_all_named() {
    let text = String::from_utf8(simulate("--channels 5 --devices 16 --gen ficon8s").stdout).unwrap();
    assert!(text.starts_with("ficon-express8s, 5 channels, 16 devices, 0 km\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("lesser")).count(), 16, "{text}");
}
