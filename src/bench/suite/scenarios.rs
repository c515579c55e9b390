//! The scenarios of the suite, as data: what is moved, how often, and what the numbers are held against.

use lgr::results::metrics::{BLACKOUT, RELOCATIONS, THROUGHPUT, TOTAL, TRANSFER_RATE};
use lgr::results::{Limit, PictureKind};

/// How thorough the suite is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// A few minutes: small guests, five runs.
    Quick,
    /// Half an hour: large guests, ten runs.
    Full,
}

/// A value for each depth.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<T> {
    quick: T,
    full: T,
}

impl<T: Copy> By<T> {
    /// The value for a depth.
    pub(super) const fn at(self, depth: Depth) -> T {
        match depth {
            Depth::Quick => self.quick,
            Depth::Full => self.full,
        }
    }
}

const fn by<T>(quick: T, full: T) -> By<T> {
    By { quick, full }
}

/// A named scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// Its name, and its files'.
    pub(super) name: &'static str,
    /// The part of the index it belongs to.
    pub(super) group: &'static str,
    /// What it is, in a sentence.
    pub(super) what: &'static str,
    /// The metric it is about.
    pub(super) main_metric: &'static str,
    /// The pictures that say something about it.
    pub(super) pictures: &'static [PictureKind],
    /// Runs of each variant that count; none means that it is left out.
    pub(super) runs: By<u32>,
    /// Memory of the guest, in MiB, unless a variant has its own.
    pub(super) memory_mib: By<u64>,
    /// Options that all variants have in common.
    pub(super) words: &'static str,
    /// What takes turns.
    pub(super) variants: &'static [Variant],
    /// What is compared with what.
    pub(super) checks: &'static [Check],
}

/// One of the things that are compared in a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// Its name; if empty, it is named for its memory.
    pub(super) name: &'static str,
    /// Its own options, in place of the common ones where both say something.
    pub(super) words: &'static str,
    /// Its own memory, in MiB.
    pub(super) memory_mib: Option<By<u64>>,
    /// Many guests in one run, in place of one.
    pub(super) crowd: Option<Crowd>,
}

/// Several guests that are moved in one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// Guests in all.
    pub(super) guests: By<u32>,
    /// So many are on their way at once.
    pub(super) at_once: u32,
}

/// Two variants compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    /// In words.
    pub(super) name: &'static str,
    pub(super) metric: &'static str,
    pub(super) variant: &'static str,
    /// With which; without one, the metric itself is held against the limit.
    pub(super) reference: Option<&'static str>,
    pub(super) limit: Option<Limit>,
}

const fn variant(name: &'static str, words: &'static str) -> Variant {
    Variant { name, words, memory_mib: None, crowd: None }
}

const fn sized(name: &'static str, quick_mib: u64, full_mib: u64) -> Variant {
    Variant { name, words: "", memory_mib: Some(by(quick_mib, full_mib)), crowd: None }
}

const fn over(name: &'static str, words: &'static str, mib: u64) -> Variant {
    Variant { name, words, memory_mib: Some(by(mib, mib)), crowd: None }
}

const fn crowd(name: &'static str, at_once: u32) -> Variant {
    Variant { name, words: "", memory_mib: None, crowd: Some(Crowd { guests: by(8, 32), at_once }) }
}

const fn check(
    name: &'static str,
    metric: &'static str,
    variant: &'static str,
    reference: &'static str,
    limit: Option<Limit>,
) -> Check {
    Check { name, metric, variant, reference: Some(reference), limit }
}

const MEDIA: [Variant; 3] =
    [variant("tcp", "--medium tcp"), variant("unix", "--medium unix"), variant("shm", "--medium shm")];

const QUEUES: [Variant; 5] = [
    variant("1 queue", "--queues 1"),
    variant("2 queues", "--queues 2"),
    variant("4 queues", "--queues 4"),
    variant("8 queues", "--queues 8"),
    variant("16 queues", "--queues 16"),
];

/// More queues may cost a tenth at most.
const NOT_SLOWER: Option<Limit> = Some(Limit::AtLeast(0.9));
const QUEUE_CHECKS: [Check; 4] = [
    check("2 queues against 1", TRANSFER_RATE, "2 queues", "1 queue", NOT_SLOWER),
    check("4 queues against 2", TRANSFER_RATE, "4 queues", "2 queues", NOT_SLOWER),
    check("8 queues against 4", TRANSFER_RATE, "8 queues", "4 queues", NOT_SLOWER),
    check("16 queues against 8", TRANSFER_RATE, "16 queues", "8 queues", NOT_SLOWER),
];

const PATTERNS: [Variant; 8] = [
    variant("uniform", "--workload uniform"),
    variant("sequential", "--workload sequential"),
    variant("hotcold", "--workload hotcold"),
    variant("zipf", "--workload zipf"),
    variant("phased", "--workload phased"),
    variant("small", "--workload small"),
    variant("java", "--workload java"),
    variant("churn", "--workload churn"),
];

/// Pictures of a guest that writes while it is moved.
const LIVE: &[PictureKind] =
    &[PictureKind::Samples, PictureKind::Passes, PictureKind::Blackout, PictureKind::Quiesce];
/// Pictures of memory that lies still.
const STILL: &[PictureKind] = &[PictureKind::Samples, PictureKind::Queues];

const RUNS: By<u32> = by(5, 10);

/// All scenarios, in the order in which they run.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bulk-random",
        group: "bulk",
        what: "Memory that does not change and does not compress, over each medium; and into memory that is \
               all made ready before the first pass",
        main_metric: THROUGHPUT,
        pictures: STILL,
        runs: RUNS,
        memory_mib: by(192, 2048),
        words: "--workload idle --content random",
        variants: &[MEDIA[0], MEDIA[1], MEDIA[2], variant("tcp, ready before", "--medium tcp --prefault")],
        checks: &[
            check("unix against tcp", THROUGHPUT, "unix", "tcp", None),
            check("shm against tcp", THROUGHPUT, "shm", "tcp", None),
        ],
    },
    Scenario {
        name: "bulk-realistic",
        group: "bulk",
        what: "Memory that does not change, of zero, text-like, pointer-heavy, random and duplicate pages, over each \
               medium",
        main_metric: THROUGHPUT,
        pictures: STILL,
        runs: RUNS,
        memory_mib: by(192, 2048),
        words: "--workload idle --content realistic",
        variants: &MEDIA,
        checks: &[],
    },
    Scenario {
        name: "bulk-zero",
        group: "bulk",
        what: "Memory that was written, with zeroes",
        main_metric: THROUGHPUT,
        pictures: &[PictureKind::Samples],
        runs: RUNS,
        memory_mib: by(192, 2048),
        words: "--workload idle --content zero",
        variants: &[MEDIA[0], MEDIA[2]],
        checks: &[],
    },
    Scenario {
        name: "bulk-never-touched",
        group: "bulk",
        what: "A guest of 16 GiB that has touched 1 MiB",
        main_metric: TOTAL,
        pictures: &[PictureKind::Samples],
        runs: RUNS,
        memory_mib: by(16 << 10, 16 << 10),
        words: "--workload idle --content random --touched 1M",
        variants: &[MEDIA[0], MEDIA[2]],
        checks: &[],
    },
    Scenario {
        name: "live-media",
        group: "live",
        what: "A guest that changes 200 MiB per second, nine writes in ten to a tenth of its memory, over each medium",
        main_metric: BLACKOUT,
        pictures: LIVE,
        runs: RUNS,
        memory_mib: by(192, 1024),
        words: "--workload hotcold --dirty-rate 200M",
        variants: &MEDIA,
        checks: &[],
    },
    Scenario {
        name: "live-patterns-300m",
        group: "live",
        what: "Every dirty pattern at 300 MiB per second, over tcp",
        main_metric: BLACKOUT,
        pictures: LIVE,
        runs: RUNS,
        memory_mib: by(128, 512),
        words: "--dirty-rate 300M",
        variants: &PATTERNS,
        checks: &[],
    },
    Scenario {
        name: "live-patterns-1g",
        group: "live",
        what: "Every dirty pattern at 1 GiB per second, over tcp",
        main_metric: BLACKOUT,
        pictures: LIVE,
        runs: by(0, 10),
        memory_mib: by(128, 512),
        words: "--dirty-rate 1G",
        variants: &PATTERNS,
        checks: &[],
    },
    Scenario {
        name: "live-rates",
        group: "live",
        what: "Uniform writes over 256 MiB, slower and faster, over tcp",
        main_metric: BLACKOUT,
        pictures: LIVE,
        runs: RUNS,
        memory_mib: by(256, 1024),
        words: "--workload uniform --working-set 256M",
        variants: &[
            variant("100 MiB/s", "--dirty-rate 100M"),
            variant("250 MiB/s", "--dirty-rate 250M"),
            variant("500 MiB/s", "--dirty-rate 500M"),
            variant("1 GiB/s", "--dirty-rate 1G"),
            variant("2 GiB/s", "--dirty-rate 2G"),
        ],
        checks: &[],
    },
    Scenario {
        name: "queues-tcp",
        group: "queues",
        what: "1 to 16 device queues over tcp",
        main_metric: TRANSFER_RATE,
        pictures: &[PictureKind::Samples, PictureKind::Limits, PictureKind::Queues],
        runs: RUNS,
        memory_mib: by(192, 1024),
        words: "--workload idle --content random --medium tcp",
        variants: &QUEUES,
        checks: &QUEUE_CHECKS,
    },
    Scenario {
        name: "queues-unix",
        group: "queues",
        what: "1 to 16 device queues over unix",
        main_metric: TRANSFER_RATE,
        pictures: &[PictureKind::Samples, PictureKind::Limits, PictureKind::Queues],
        runs: by(0, 10),
        memory_mib: by(192, 1024),
        words: "--workload idle --content random --medium unix",
        variants: &QUEUES,
        checks: &QUEUE_CHECKS,
    },
    Scenario {
        name: "queues-shm",
        group: "queues",
        what: "1 to 16 device queues over shm",
        main_metric: TRANSFER_RATE,
        pictures: &[PictureKind::Samples, PictureKind::Limits],
        runs: by(0, 10),
        memory_mib: by(192, 1024),
        words: "--workload idle --content random --medium shm",
        variants: &QUEUES,
        checks: &QUEUE_CHECKS,
    },
    Scenario {
        name: "paced-ficon",
        group: "paced",
        what: "Held to the timing of FICON channels with four devices each; of each link's devices one less carries pages",
        main_metric: super::PACED,
        pictures: &[PictureKind::Samples, PictureKind::Limits, PictureKind::Queues],
        runs: RUNS,
        memory_mib: by(128, 512),
        words: "--workload idle --content random",
        variants: &[
            variant("Express4, 1 channel", "--pace ficon4:1x4"),
            variant("Express8S, 1 channel", "--pace ficon8s:1x4"),
            variant("Express16S, 1 channel", "--pace ficon16s:1x4"),
            variant("Express4, 4 channels", "--pace ficon4:4x4"),
        ],
        checks: &[
            paced("Express4, 1 channel, of the model", "Express4, 1 channel"),
            paced("Express8S, 1 channel, of the model", "Express8S, 1 channel"),
            paced("Express16S, 1 channel, of the model", "Express16S, 1 channel"),
            paced("Express4, 4 channels, of the model", "Express4, 4 channels"),
        ],
    },
    Scenario {
        name: "slow-link",
        group: "paced",
        what: "Realistic memory, part of which changes, over a link held to 1 Gb/s: packed, and as it is",
        main_metric: TOTAL,
        pictures: &[PictureKind::Samples, PictureKind::Passes, PictureKind::Queues],
        runs: RUNS,
        memory_mib: by(64, 512),
        words: "--workload hotcold --dirty-rate 20M --content realistic --rate-limit 119M",
        variants: &[variant("as it is", "--compress never"), variant("packed", "--compress auto")],
        checks: &[check("packed against as it is", TOTAL, "packed", "as it is", None)],
    },
    Scenario {
        name: "slow-links",
        group: "slow",
        what: "Random memory over links of 1, 10 and 100 Mb/s that the members know nothing of, 16 queues; and a guest that \
               writes meanwhile",
        main_metric: super::OF_IDEAL,
        pictures: &[PictureKind::Samples, PictureKind::Passes, PictureKind::Queues],
        runs: by(0, 3),
        memory_mib: by(16, 16),
        words: "--medium tcp --content random --compress never",
        variants: &[
            over("1 Mb/s", "--workload idle --slow-link 125000", 8),
            over("10 Mb/s", "--workload idle --slow-link 1250000", 16),
            over("100 Mb/s", "--workload idle --slow-link 12500000", 64),
            over("10 Mb/s, written", "--workload hotcold --dirty-rate 256K --slow-link 1250000", 16),
        ],
        checks: &[
            ideal("1 Mb/s, of the ideal time", "1 Mb/s"),
            ideal("10 Mb/s, of the ideal time", "10 Mb/s"),
            ideal("100 Mb/s, of the ideal time", "100 Mb/s"),
            ideal("10 Mb/s, written, of the ideal time", "10 Mb/s, written"),
        ],
    },
    Scenario {
        name: "small-guests",
        group: "size",
        what: "Guests of 16 MiB, one after the other and several at once; each with two processes of its own",
        main_metric: RELOCATIONS,
        pictures: &[PictureKind::Samples, PictureKind::Blackout],
        runs: by(3, 10),
        memory_mib: by(16, 16),
        words: "--workload hotcold --dirty-rate 20M --queues 4",
        variants: &[crowd("one by one", 1), crowd("4 at once", 4), crowd("8 at once", 8)],
        checks: &[],
    },
    Scenario {
        name: "sparse",
        group: "size",
        what: "The same touched memory in guests of more and more memory",
        main_metric: TOTAL,
        pictures: &[PictureKind::Samples],
        runs: RUNS,
        memory_mib: by(192, 1024),
        words: "--workload hotcold --dirty-rate 50M --touched 256M",
        variants: &[
            sized("all touched", 256, 256),
            sized("in 64 GiB", 64 << 10, 64 << 10),
            sized("in 1 TiB", 1 << 20, 1 << 20),
        ],
        checks: &[
            check("64 GiB against 256 MiB", TOTAL, "in 64 GiB", "all touched", None),
            check("1 TiB against 256 MiB", TOTAL, "in 1 TiB", "all touched", None),
        ],
    },
    Scenario {
        name: "growth",
        group: "size",
        what: "More and more touched memory, over tcp",
        main_metric: TOTAL,
        pictures: &[PictureKind::Samples],
        runs: by(3, 5),
        memory_mib: by(192, 1024),
        words: "--workload idle --content random",
        variants: &[
            sized("", 32, 256),
            sized("", 64, 512),
            sized("", 128, 1024),
            sized("", 256, 2048),
            sized("", 512, 4096),
        ],
        checks: &[],
    },
];

const fn ideal(name: &'static str, variant: &'static str) -> Check {
    Check { name, metric: super::OF_IDEAL, variant, reference: None, limit: Some(Limit::AtMost(1.15)) }
}

const fn paced(name: &'static str, variant: &'static str) -> Check {
    Check { name, metric: super::PACED, variant, reference: None, limit: Some(Limit::AtLeast(0.9)) }
}
