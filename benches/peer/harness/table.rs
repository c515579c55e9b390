//! The scenarios, one function each: the load, who carries it, and which lines of the table it decides.

use lgr::results::Limit;
use lgr::results::metrics::{ACHIEVED, BLACKOUT, CPU, QUIESCE};

use super::figures::{DIRTIED, ENDED, GROWTH, LINEAR, MOVE, RATE};
use super::qemu::{Carrier, Setting};
use super::rows;
use super::scenario::{Claim, Contender, Content, Kind, Load, Scenario, Test};
use super::search::Space;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// z/VM's own limit on how long a guest may be stopped.
const MAX_QUIESCE_MS: f64 = 10_000.0;

/// How large the guests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// As the table has them.
    Full,
    /// A quarter of it: to see that everything works, not for figures to keep.
    Quick,
}

impl Scale {
    fn of(self, bytes: u64) -> u64 {
        match self {
            Self::Full => bytes,
            Self::Quick => bytes / 4,
        }
    }
}

/// All scenarios.
pub(crate) fn scenarios(scale: Scale) -> Vec<Scenario> {
    // The longest comes last: it has the time that the others leave.
    vec![
        fresh(scale),
        never_touched(scale),
        sparse(scale),
        blackout(scale, "peer-blackout-256m", "dirtying 500 MB/s over 256 MiB", 256 * MIB),
        blackout(scale, "peer-blackout-1g", "dirtying 500 MB/s over 1 GiB", GIB),
        not_converging(scale),
        zstd(scale),
        queues(scale),
        growth(scale),
        zero(scale),
        bulk(scale),
    ]
}

/// An idle guest full of random pages, into memory that is ready.
fn idle(memory_bytes: u64) -> Load {
    Load {
        memory_bytes,
        touched_bytes: memory_bytes,
        content: Content::Random,
        dirty_bytes_per_s: 0.0,
        working_set_bytes: 0,
        prefaulted: true,
        bandwidth_bytes_per_s: None,
        patience_s: 60,
    }
}

fn lgr(name: &'static str, options: &str) -> Contender {
    let options = options.split_ascii_whitespace().map(str::to_owned).collect();
    Contender { name, kind: Kind::Lgr(options) }
}

fn qemu(name: &'static str, space: Space) -> Contender {
    Contender { name, kind: Kind::Qemu(space) }
}

fn claim(
    row: &'static str,
    must: &'static str,
    of: &'static [&'static str],
    metric: &'static str,
    test: Test,
) -> Claim {
    Claim { row, must, of, metric, test }
}

const BOTH_QEMU: &[&str] = &["qemu-tcp", "qemu-unix"];

fn bulk(scale: Scale) -> Scenario {
    use Limit::{AtLeast, AtMost};
    let at_least = |ratio| Test::Against(BOTH_QEMU, AtLeast(ratio));
    Scenario {
        name: "peer-bulk",
        what: "an idle guest of 4 GiB full of random pages, into memory that is ready",
        main: RATE,
        load: idle(scale.of(4 * GIB)),
        contenders: vec![
            lgr("lgr-tcp", "--medium tcp"),
            qemu("qemu-tcp", Space::wide(Setting::START)),
            lgr("lgr-unix", "--medium unix"),
            qemu("qemu-unix", Space::wide(Setting::START).over(Carrier::Unix)),
            lgr("lgr-shm", "--medium shm"),
            Contender { name: "link-tcp", kind: Kind::Link("tcp") },
            Contender { name: "streaming-copy", kind: Kind::Copy },
        ],
        claims: vec![
            claim(rows::BULK_TCP, "≥ 1.25 × the best QEMU", &["lgr-tcp"], RATE, at_least(1.25)),
            claim(
                rows::BULK_TCP,
                "≥ 0.90 of `lgr bench link`",
                &["lgr-tcp"],
                RATE,
                Test::Against(&["link-tcp"], AtLeast(0.90)),
            ),
            claim(rows::BULK_UNIX, "≥ 1.3 × the best QEMU", &["lgr-unix"], RATE, at_least(1.3)),
            claim(rows::BULK_SHM, "≥ 4 × the best QEMU", &["lgr-shm"], RATE, at_least(4.0)),
            claim(
                rows::BULK_SHM,
                "≥ 0.70 of two-thread streaming copy",
                &["lgr-shm"],
                RATE,
                Test::Against(&["streaming-copy"], AtLeast(0.70)),
            ),
            claim(rows::CPU, "≤ QEMU's", &["lgr-tcp"], CPU, Test::Against(&["qemu-tcp"], AtMost(1.0))),
            claim(
                rows::CPU,
                "≤ QEMU's, unix",
                &["lgr-unix"],
                CPU,
                Test::Against(&["qemu-unix"], AtMost(1.0)),
            ),
            claim(rows::CPU, "≤ QEMU's, shm", &["lgr-shm"], CPU, Test::Against(BOTH_QEMU, AtMost(1.0))),
        ],
        warms: false,
        minutes: 6.5,
        runs_max: u32::MAX,
    }
}

fn fresh(scale: Scale) -> Scenario {
    let start = Setting { prealloc: false, ..Setting::START };
    let ours = &["lgr-tcp", "lgr-unix"];
    Scenario {
        name: "peer-fresh",
        what: "an idle guest of 4 GiB full of random pages, into memory that nobody has touched",
        main: RATE,
        load: Load { prefaulted: false, ..idle(scale.of(4 * GIB)) },
        contenders: vec![
            lgr("lgr-tcp", "--medium tcp"),
            lgr("lgr-unix", "--medium unix"),
            qemu("qemu-tcp", Space::without_memfd(start)),
            qemu("qemu-unix", Space::without_memfd(start).over(Carrier::Unix)),
        ],
        claims: vec![
            claim(
                rows::FRESH,
                "≥ 1.2 × the best QEMU",
                ours,
                RATE,
                Test::Against(BOTH_QEMU, Limit::AtLeast(1.2)),
            ),
            claim(
                rows::FRESH,
                "≥ 1.2 × the best QEMU, both over TCP",
                &["lgr-tcp"],
                RATE,
                Test::Against(&["qemu-tcp"], Limit::AtLeast(1.2)),
            ),
        ],
        warms: true,
        minutes: 2.5,
        runs_max: u32::MAX,
    }
}

fn never_touched(scale: Scale) -> Scenario {
    let start = Setting { prealloc: false, ..Setting::START };
    Scenario {
        name: "peer-never-touched",
        what: "an idle guest of 16 GiB that has touched nothing",
        main: RATE,
        load: Load { touched_bytes: 0, prefaulted: false, ..idle(scale.of(16 * GIB)) },
        contenders: vec![lgr("lgr-tcp", "--medium tcp"), qemu("qemu-tcp", Space::without_memfd(start))],
        claims: vec![claim(
            rows::NEVER_TOUCHED,
            "≥ 50 × QEMU",
            &["lgr-tcp"],
            RATE,
            Test::Against(&["qemu-tcp"], Limit::AtLeast(50.0)),
        )],
        warms: false,
        minutes: 1.0,
        runs_max: u32::MAX,
    }
}

fn sparse(scale: Scale) -> Scenario {
    let start = Setting { prealloc: false, ..Setting::START };
    Scenario {
        name: "peer-sparse",
        what: "an idle guest of 64 GiB that has touched 1 GiB, with random pages",
        main: RATE,
        load: Load { touched_bytes: scale.of(GIB), prefaulted: false, ..idle(scale.of(64 * GIB)) },
        contenders: vec![lgr("lgr-tcp", "--medium tcp"), qemu("qemu-tcp", Space::without_memfd(start))],
        claims: vec![claim(
            rows::SPARSE,
            "≥ 5 × QEMU",
            &["lgr-tcp"],
            RATE,
            Test::Against(&["qemu-tcp"], Limit::AtLeast(5.0)),
        )],
        warms: true,
        minutes: 2.0,
        runs_max: u32::MAX,
    }
}

fn blackout(scale: Scale, name: &'static str, what: &'static str, working_set_bytes: u64) -> Scenario {
    use Limit::{AtLeast, AtMost};
    // An emulated guest notes its own writes, so the like of it is a guest that does. The kernel's way is held against the
    // same limits.
    let (noted, found) = (&["lgr-tcp-noted"], &["lgr-tcp"]);
    let against = |limit| Test::Against(&["qemu-20ms"], limit);
    let held = |must, of, metric, ratio| claim(rows::BLACKOUT, must, of, metric, against(AtMost(ratio)));
    let at = |downtime_limit_ms| {
        let start = Setting { downtime_limit_ms, ..Setting::START };
        Space::without_memfd(start).for_blackout()
    };
    let load = Load {
        dirty_bytes_per_s: 500e6,
        working_set_bytes: scale.of(working_set_bytes),
        patience_s: 30,
        ..idle(scale.of(4 * GIB))
    };
    Scenario {
        name,
        what,
        main: BLACKOUT,
        load,
        contenders: vec![
            lgr("lgr-tcp", "--medium tcp"),
            lgr("lgr-tcp-noted", "--medium tcp --tracker software"),
            qemu("qemu-20ms", at(20)),
            qemu("qemu-300ms", Space::fixed(Setting::START)),
        ],
        claims: vec![
            held("≤ 0.5 × QEMU's at its 20 ms limit", noted, BLACKOUT, 0.5),
            held("≤ 0.5 × QEMU's, writes found by the kernel", found, BLACKOUT, 0.5),
            held("and total time not longer", noted, MOVE, 1.0),
            held("and total time not longer, writes found by the kernel", found, MOVE, 1.0),
            claim(
                rows::BLACKOUT,
                "dirtied no less than QEMU's guest",
                noted,
                DIRTIED,
                against(AtLeast(0.95)),
            ),
            claim(
                rows::BLACKOUT,
                "dirtied no less than QEMU's guest, writes found by the kernel",
                found,
                DIRTIED,
                against(AtLeast(0.95)),
            ),
            claim(rows::SLOWDOWN, "≥ 0.9 at 500 MB/s", found, ACHIEVED, Test::Alone(AtLeast(0.9))),
        ],
        warms: false,
        minutes: 3.0,
        runs_max: u32::MAX,
    }
}

fn not_converging(scale: Scale) -> Scenario {
    let start = Setting { channels: 0, downtime_limit_ms: 20, ..Setting::START };
    let load = Load {
        dirty_bytes_per_s: 2e9,
        working_set_bytes: scale.of(GIB),
        patience_s: 15,
        ..idle(scale.of(4 * GIB))
    };
    let limit_s = MAX_QUIESCE_MS / 1e3;
    Scenario {
        name: "peer-not-converging",
        what: "dirtying 2 GB/s over 1 GiB, a single stream; QEMU's downtime limit is 20 ms, and it has 15 s",
        main: ENDED,
        load,
        contenders: vec![
            lgr("lgr-tcp", &format!("--medium tcp --queues 1 --max-quiesce {limit_s}")),
            qemu("qemu-tcp", Space::fixed(start)),
        ],
        claims: vec![
            claim(
                rows::NOT_CONVERGING,
                "ends by itself with a stated reason",
                &["lgr-tcp"],
                ENDED,
                Test::Alone(Limit::AtLeast(1.0)),
            ),
            claim(
                rows::NOT_CONVERGING,
                "within MAXQUIESCE",
                &["lgr-tcp"],
                QUIESCE,
                Test::Alone(Limit::AtMost(MAX_QUIESCE_MS)),
            ),
        ],
        warms: false,
        minutes: 1.2,
        runs_max: 5,
    }
}

fn zstd(scale: Scale) -> Scenario {
    let bandwidth_bytes_per_s = Some(125_000_000);
    let start = Setting { bandwidth_bytes_per_s, ..Setting::START };
    Scenario {
        name: "peer-zstd",
        what: "an idle guest of 1 GiB with realistic pages, both sides held to 1 Gb/s on the wire",
        main: MOVE,
        load: Load { content: Content::Realistic, bandwidth_bytes_per_s, ..idle(scale.of(GIB)) },
        contenders: vec![
            lgr("lgr-tcp", "--medium tcp"),
            qemu("qemu-zstd", Space::zstd(start)),
            qemu("qemu-raw", Space::fixed(start)),
        ],
        claims: vec![claim(
            rows::ZSTD,
            "total time ≤ 0.8 × QEMU multifd-zstd",
            &["lgr-tcp"],
            MOVE,
            Test::Against(&["qemu-zstd"], Limit::AtMost(0.8)),
        )],
        warms: false,
        minutes: 3.0,
        runs_max: u32::MAX,
    }
}

fn queues(scale: Scale) -> Scenario {
    const MUST: &str = "never slower with more queues than with fewer by over 10 %";
    static NAMES: [&str; 5] = ["queues-01", "queues-02", "queues-04", "queues-08", "queues-16"];
    let claims = (1..NAMES.len()).map(|more| {
        let test = Test::Against(&NAMES[..more], Limit::AtLeast(0.9));
        claim(rows::QUEUES, MUST, &NAMES[more..=more], RATE, test)
    });
    Scenario {
        name: "peer-queues",
        what: "an idle guest of 4 GiB full of random pages over TCP, by the number of queues",
        main: RATE,
        load: idle(scale.of(4 * GIB)),
        contenders: vec![
            lgr(NAMES[0], "--medium tcp --queues 1"),
            lgr(NAMES[1], "--medium tcp --queues 2"),
            lgr(NAMES[2], "--medium tcp --queues 4"),
            lgr(NAMES[3], "--medium tcp --queues 8"),
            lgr(NAMES[4], "--medium tcp --queues 16"),
        ],
        claims: claims.collect(),
        warms: false,
        minutes: 2.0,
        runs_max: u32::MAX,
    }
}

fn growth(scale: Scale) -> Scenario {
    let memory_bytes = scale.of(8 * GIB);
    let sizes = [
        ("touched-0256m", 256 * MIB),
        ("touched-0512m", 512 * MIB),
        ("touched-1g", GIB),
        ("touched-2g", 2 * GIB),
        ("touched-4g", 4 * GIB),
        ("touched-8g", 8 * GIB),
    ];
    let sizes = sizes.map(|(name, bytes)| (name, scale.of(bytes)));
    let points = sizes.map(|(name, bytes)| (bytes as f64 / GIB as f64, name));
    let mut contenders: Vec<Contender> =
        sizes.iter().map(|(name, bytes)| lgr(name, &format!("--medium tcp --touched {bytes}"))).collect();
    contenders.push(Contender { name: "line", kind: Kind::Line(points.to_vec()) });
    contenders.push(Contender { name: "harvest", kind: Kind::Harvest });
    const MUST: &str = "total time linear in touched bytes from 256 MiB to 8 GiB (fit shown)";
    let alone = Test::Alone;
    Scenario {
        name: "peer-growth",
        what: "an idle guest of 8 GiB over TCP, by how much it has touched, with random pages",
        main: MOVE,
        load: idle(memory_bytes),
        contenders,
        claims: vec![
            claim(rows::GROWTH, MUST, &["line"], LINEAR, alone(Limit::AtLeast(0.98))),
            claim(rows::GROWTH, "its exponent ≤ 1.1", &["line"], GROWTH, alone(Limit::AtMost(1.1))),
            claim(
                rows::GROWTH,
                "bookkeeping ≥ 100 GB/s logical",
                &["harvest"],
                RATE,
                alone(Limit::AtLeast(100e9)),
            ),
        ],
        warms: false,
        minutes: 2.5,
        runs_max: 5,
    }
}

fn zero(scale: Scale) -> Scenario {
    Scenario {
        name: "peer-zero",
        what: "an idle guest of 4 GiB full of zeroes that it has written, into memory that is ready",
        main: RATE,
        load: Load { content: Content::Zero, ..idle(scale.of(4 * GIB)) },
        contenders: vec![
            lgr("lgr-tcp", "--medium tcp"),
            qemu("qemu-tcp", Space::without_memfd(Setting::START)),
        ],
        claims: vec![claim(
            rows::ZERO,
            "≥ 1 × the best QEMU",
            &["lgr-tcp"],
            RATE,
            Test::Against(&["qemu-tcp"], Limit::AtLeast(1.0)),
        )],
        warms: false,
        minutes: 1.0,
        runs_max: u32::MAX,
    }
}
