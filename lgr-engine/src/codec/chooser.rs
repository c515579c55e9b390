//! Which codec moves most memory per second, from what was measured. No clock, no I/O: windows in, decisions out.
//!
//! The model has two limits. A link carries `link` bytes per second, so packing with ratio *r* lets *r* times as much
//! memory through; and the processors pack `cores × speed` bytes of memory per second at most, where `cores` are those that
//! others, the guest above all, leave to packing:
//!
//! ```text
//!  memory   ▲            zstd: min(link × ratio, cores × speed)
//!  per      │        ╱▔▔▔▔▔▔▔▔▔▔▔▔▔   the processors are the limit
//!  second   │      ╱      ╱
//!           │    ╱     ╱              raw: link
//!           │  ╱    ╱
//!           └───────────┴────────────▶ link
//!             packed      raw
//! ```
//!
//! The rules, in this order, at the end of each window:
//!
//! 1. **Link.** If a rate limit is set, the link is that. Otherwise it is what went over the wire, when the devices spent
//!    most of their time waiting; a window in which they were busy themselves only shows that the link is at least as fast.
//! 2. **Costs.** Speed and ratio of each level come from a sample of the guest's pages, taken before the first pass. Those of
//!    the level in use follow what its chunks do. How many processors are left for packing shows while it packs: its threads
//!    have a share of the time in which they want one. What others no longer use is slowly counted on again.
//! 3. **No gain.** If packing moved less memory per second than raw pages did, it ends, and is not tried again for a while
//!    that doubles each time.
//! 4. **Start.** Raw pages go on until the devices wait for the link and the model promises [`GAIN_MIN`].
//! 5. **Level.** Among the levels the one with the most memory per second; of those within [`LEVEL_TOLERANCE`] of it the
//!    lowest, because it costs least.

use std::time::Duration;

use super::{Codec, Compress};

/// Levels that are chosen from.
pub const CANDIDATES: [i32; 4] = [1, 2, 3, 6];
/// Least promised gain for which raw pages are given up.
pub const GAIN_MIN: f64 = 1.2;
/// A level this much slower than the best is as good.
pub const LEVEL_TOLERANCE: f64 = 0.05;
/// The devices are the limit themselves if they use more than this share of the processors.
pub const BUSY_SHARE_MAX: f64 = 0.35;
/// Part of the processors that others had, counted on again after each window in which they have them no longer.
const REGAINED: f64 = 0.02;
/// Windows without another try after the first that gained nothing.
const HOLD_WINDOWS: u32 = 20;
/// That wait doubles so often at most.
const HOLD_DOUBLINGS_MAX: u32 = 6;
/// Weight of the newest window.
const NEWEST: f64 = 0.5;
/// Decisions that are kept for the report; later ones only take effect.
pub const DECISIONS_MAX: usize = 32;

/// What a level costs and gains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Memory that one processor packs in a second, in bytes.
    pub bytes_per_cpu_s: f64,
    /// Bytes that became one.
    pub ratio: f64,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// How long it was.
    pub elapsed: Duration,
    /// Bytes on the wire.
    pub wire_bytes: u64,
    /// Memory that is not zero and is settled by what was sent, in bytes.
    pub data_bytes: u64,
    /// Processor time of the devices' threads, packing included.
    pub device_cpu: Duration,
    /// Memory that was packed, what it became, and the processor time it took.
    pub pack_in_bytes: u64,
    /// See [`Self::pack_in_bytes`].
    pub pack_out_bytes: u64,
    /// See [`Self::pack_in_bytes`].
    pub pack_cpu: Duration,
    /// Processors that packing would have if as many chunks as may be were packed at a time; none if nothing was.
    pub free_cores: Option<f64>,
}

/// A decision and its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What is done from now on.
    pub codec: Codec,
    /// Why, in words.
    pub why: String,
}

/// Chooses the codec of a relocation.
#[derive(Debug)]
pub struct Chooser {
    codec: Codec,
    automatic: bool,
    cores: f64,
    /// Of these, what others leave to packing.
    pack_cores: f64,
    costs: [Cost; CANDIDATES.len()],
    limit_bytes_per_s: Option<f64>,
    link_bytes_per_s: Option<f64>,
    /// Memory per second that went out raw.
    raw_bytes_per_s: Option<f64>,
    hold_windows: u32,
    /// How often packing gained nothing.
    in_vain: u32,
    decisions: Vec<Decision>,
}

impl Chooser {
    /// Before the first pass. `costs` belong to [`CANDIDATES`]; `cores` may pack; `limit_bytes_per_s` is the rate limit.
    pub fn new(
        choice: Compress,
        costs: [Cost; CANDIDATES.len()],
        cores: usize,
        limit_bytes_per_s: Option<u64>,
    ) -> Self {
        let limit = limit_bytes_per_s.map(|rate| rate as f64);
        let mut chooser = Self {
            codec: Codec::Raw,
            automatic: choice == Compress::Auto,
            cores: cores.max(1) as f64,
            pack_cores: cores.max(1) as f64,
            costs,
            limit_bytes_per_s: limit,
            link_bytes_per_s: limit,
            raw_bytes_per_s: None,
            hold_windows: 0,
            in_vain: 0,
            decisions: Vec::new(),
        };
        match choice {
            Compress::Zstd(level) => chooser.decide(Codec::Zstd(level), "asked for".to_owned()),
            Compress::Never => chooser.decide(Codec::Raw, "asked for".to_owned()),
            Compress::Auto => {
                chooser.decide(Codec::Raw, "until the link is known".to_owned());
                if let Some(link) = limit {
                    chooser.consider(link);
                }
            }
        }
        chooser
    }

    /// What is done now.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What the link carries, in bytes per second, as far as it is known.
    pub fn link_bytes_per_s(&self) -> Option<u64> {
        self.link_bytes_per_s.map(|rate| rate as u64)
    }

    /// The first decisions, in order of time; new ones since the last call are at its end.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// Packing has become another thing: these are its costs from now on.
    pub fn renew_costs(&mut self, costs: [Cost; CANDIDATES.len()]) {
        self.costs = costs;
        if let (true, Codec::Zstd(_), Some(link)) = (self.automatic, self.codec, self.link_bytes_per_s) {
            self.consider(link);
        }
    }

    /// Takes a window, and says what is done from now on.
    pub fn judge(&mut self, window: &Window) -> Codec {
        let seconds = window.elapsed.as_secs_f64();
        if !self.automatic || seconds <= 0.0 || window.wire_bytes == 0 {
            return self.codec;
        }
        let (wire, data) = (window.wire_bytes as f64 / seconds, window.data_bytes as f64 / seconds);
        let busy = window.device_cpu.as_secs_f64() / (seconds * self.cores);
        let waits = busy < BUSY_SHARE_MAX;
        self.learn_link(wire, waits);
        self.learn_cost(window);
        self.learn_cores(window.free_cores.unwrap_or(self.cores));
        match self.codec {
            Codec::Raw => {
                self.raw_bytes_per_s = Some(data);
                self.hold_windows = self.hold_windows.saturating_sub(1);
                if (waits || self.limit_bytes_per_s.is_some()) && self.hold_windows == 0 {
                    self.consider(self.link_bytes_per_s.unwrap_or(wire));
                }
            }
            Codec::Zstd(_) => {
                let raw = self.raw_bytes_per_s.or(self.limit_bytes_per_s).unwrap_or(0.0);
                if data < raw {
                    let doublings = self.in_vain.min(HOLD_DOUBLINGS_MAX);
                    self.hold_windows = HOLD_WINDOWS << doublings;
                    self.in_vain += 1;
                    let why = format!("{} of memory packed, {} raw", per_s(data), per_s(raw));
                    self.decide(Codec::Raw, why);
                } else {
                    self.consider(self.link_bytes_per_s.unwrap_or(wire));
                }
            }
        }
        self.codec
    }

    fn learn_link(&mut self, wire: f64, waits: bool) {
        self.link_bytes_per_s = Some(match (self.limit_bytes_per_s, self.link_bytes_per_s) {
            (Some(limit), _) => limit,
            (None, None) => wire,
            (None, Some(link)) if waits => link + (wire - link) * NEWEST,
            (None, Some(link)) => link.max(wire),
        });
    }

    fn learn_cost(&mut self, window: &Window) {
        let Codec::Zstd(level) = self.codec else { return };
        let seconds = window.pack_cpu.as_secs_f64();
        let Some(at) = CANDIDATES.iter().position(|candidate| *candidate == level) else { return };
        if window.pack_in_bytes < 1 << 20 || window.pack_out_bytes == 0 || seconds <= 0.0 {
            return;
        }
        let cost = &mut self.costs[at];
        cost.bytes_per_cpu_s += (window.pack_in_bytes as f64 / seconds - cost.bytes_per_cpu_s) * NEWEST;
        let ratio = window.pack_in_bytes as f64 / window.pack_out_bytes as f64;
        cost.ratio += (ratio - cost.ratio) * NEWEST;
    }

    fn learn_cores(&mut self, free: f64) {
        let more = free.min(self.cores) - self.pack_cores;
        self.pack_cores += more * if more < 0.0 { NEWEST } else { REGAINED };
    }

    /// Rules 4 and 5 for a link of `link` bytes per second.
    fn consider(&mut self, link: f64) {
        let promised = |cost: &Cost| (link * cost.ratio).min(self.pack_cores * cost.bytes_per_cpu_s);
        let most = self.costs.iter().map(promised).fold(0.0, f64::max);
        let good_enough = |cost: &Cost| promised(cost) >= most * (1.0 - LEVEL_TOLERANCE);
        let Some(at) = self.costs.iter().position(good_enough) else { return };
        let codec = if most >= link * GAIN_MIN { Codec::Zstd(CANDIDATES[at]) } else { Codec::Raw };
        // What is in use stays as long as it is as good, so that two equals do not take turns.
        let current = CANDIDATES.iter().position(|level| self.codec == Codec::Zstd(*level));
        let stays = current.is_some_and(|at| good_enough(&self.costs[at])) && codec != Codec::Raw;
        if codec == self.codec || stays {
            return;
        }
        let cost = self.costs[at];
        let why = format!(
            "link {}, {} promised with zstd:{} ({:.2} to 1, {} per processor)",
            per_s(link),
            per_s(most),
            CANDIDATES[at],
            cost.ratio,
            per_s(cost.bytes_per_cpu_s),
        );
        self.decide(codec, why);
    }

    fn decide(&mut self, codec: Codec, why: String) {
        self.codec = codec;
        if self.decisions.len() < DECISIONS_MAX {
            self.decisions.push(Decision { codec, why });
        }
    }
}

fn per_s(bytes: f64) -> String {
    format!("{:.0} MB/s", bytes / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COSTS: [Cost; 4] = [
        Cost { bytes_per_cpu_s: 500e6, ratio: 2.2 },
        Cost { bytes_per_cpu_s: 400e6, ratio: 2.3 },
        Cost { bytes_per_cpu_s: 300e6, ratio: 2.5 },
        Cost { bytes_per_cpu_s: 80e6, ratio: 2.7 },
    ];

    fn chooser(limit: Option<u64>) -> Chooser {
        Chooser::new(Compress::Auto, COSTS, 2, limit)
    }

    /// A tenth of a second on a link of `link` bytes per second, between devices that use `busy` of a processor for
    /// each wire byte's nanosecond of work.
    fn run(chooser: &mut Chooser, link: f64, cores: f64, wire_cost_s_per_byte: f64) -> f64 {
        let cost = match chooser.codec() {
            Codec::Raw => None,
            Codec::Zstd(level) => CANDIDATES.iter().position(|at| *at == level).map(|at| COSTS[at]),
        };
        let ratio = cost.map_or(1.0, |cost| cost.ratio);
        let pack_s = cost.map_or(0.0, |cost| 1.0 / cost.bytes_per_cpu_s);
        let cpu_s_per_byte = pack_s + wire_cost_s_per_byte / ratio;
        let data = (link * ratio).min(cores / cpu_s_per_byte);
        let (wire, seconds) = (data / ratio, 0.1);
        chooser.judge(&Window {
            elapsed: Duration::from_secs_f64(seconds),
            wire_bytes: (wire * seconds) as u64,
            data_bytes: (data * seconds) as u64,
            device_cpu: Duration::from_secs_f64(data * cpu_s_per_byte * seconds),
            pack_in_bytes: if cost.is_some() { (data * seconds) as u64 } else { 0 },
            pack_out_bytes: if cost.is_some() { (wire * seconds) as u64 } else { 0 },
            pack_cpu: Duration::from_secs_f64(data * pack_s * seconds),
            free_cores: cost.map(|_| cores),
        });
        data
    }

    #[test]
    fn a_link_that_is_not_the_limit_is_never_packed() {
        let mut chooser = chooser(None);
        for _ in 0..1000 {
            run(&mut chooser, 10e9, 2.0, 0.25e-9);
            assert_eq!(chooser.codec(), Codec::Raw);
        }
        assert_eq!(chooser.decisions().len(), 1);
    }

    #[test]
    fn a_slow_link_is_packed_after_one_window_and_stays_so() {
        for (link, level) in [(10e6, 6), (125e6, 3), (300e6, 1)] {
            let mut chooser = chooser(None);
            let raw = run(&mut chooser, link, 2.0, 0.25e-9);
            assert_eq!(chooser.codec(), Codec::Zstd(level), "{link}");
            for _ in 0..100 {
                let packed = run(&mut chooser, link, 2.0, 0.25e-9);
                assert!(packed > raw * GAIN_MIN);
            }
            assert!(chooser.decisions().len() <= 3, "{:?}", chooser.decisions());
        }
    }

    #[test]
    fn a_rate_limit_is_known_before_the_first_page() {
        assert_eq!(chooser(Some(125_000_000)).codec(), Codec::Zstd(3));
        assert_eq!(chooser(Some(5_000_000_000)).codec(), Codec::Raw);
    }

    #[test]
    fn what_was_asked_for_is_done_whatever_happens() {
        for (choice, codec) in [(Compress::Never, Codec::Raw), (Compress::Zstd(7), Codec::Zstd(7))] {
            let mut chooser = Chooser::new(choice, COSTS, 2, Some(125_000_000));
            for _ in 0..10 {
                run(&mut chooser, 125e6, 2.0, 0.25e-9);
                assert_eq!(chooser.codec(), codec);
            }
        }
    }

    #[test]
    fn packing_that_moves_less_than_raw_pages_ends_and_is_tried_ever_more_seldom() {
        let mut chooser = chooser(None);
        run(&mut chooser, 200e6, 2.0, 0.25e-9);
        let mut packed = 0;
        for _ in 0..1000 {
            // The processors are taken by somebody else: 0.1 of one is left.
            let window = |wire: f64, data: f64| Window {
                elapsed: Duration::from_millis(100),
                wire_bytes: wire as u64,
                data_bytes: data as u64,
                device_cpu: Duration::from_millis(10),
                free_cores: (data > wire).then_some(0.1),
                ..Window::default()
            };
            match chooser.codec() {
                Codec::Raw => chooser.judge(&window(20e6, 20e6)),
                Codec::Zstd(_) => {
                    packed += 1;
                    chooser.judge(&window(2e6, 5e6))
                }
            };
        }
        assert!((4..20).contains(&packed), "{packed} windows of 1000");
        // They are free again, and that shows at the next try.
        let tried_again = (0..2000).any(|_| {
            run(&mut chooser, 20e6, 2.0, 0.25e-9);
            chooser.codec() != Codec::Raw
        });
        assert!(tried_again);
        for _ in 0..100 {
            run(&mut chooser, 20e6, 2.0, 0.25e-9);
        }
        assert!(matches!(chooser.codec(), Codec::Zstd(_)), "and it stays");
    }

    #[test]
    fn other_costs_make_another_level_the_best() {
        let mut chooser = chooser(Some(125_000_000));
        assert_eq!(chooser.codec(), Codec::Zstd(3));
        let slow = Cost { bytes_per_cpu_s: 100e6, ratio: 2.5 };
        chooser.renew_costs([COSTS[0], COSTS[1], slow, COSTS[3]]);
        assert_eq!(chooser.codec(), Codec::Zstd(1));
        assert_eq!(chooser.decisions().len(), 3);
        let mut fixed = Chooser::new(Compress::Zstd(7), COSTS, 2, Some(125_000_000));
        fixed.renew_costs(COSTS);
        assert_eq!(fixed.codec(), Codec::Zstd(7));
    }

    #[test]
    fn processors_that_others_use_are_not_counted_on() {
        // The guest leaves 0.5 of 2: level 3 fills the link no longer, level 1 does.
        let (mut chooser, link) = (chooser(Some(100_000_000)), 100e6);
        assert_eq!(chooser.codec(), Codec::Zstd(3));
        for _ in 0..20 {
            run(&mut chooser, link, 0.5, 0.0);
        }
        assert_eq!(chooser.codec(), Codec::Zstd(1), "{:?}", chooser.decisions());
        for _ in 0..100 {
            run(&mut chooser, link, 2.0, 0.0);
        }
        assert_eq!(chooser.codec(), Codec::Zstd(3), "they are free again: {:?}", chooser.decisions());
    }

    #[test]
    fn content_that_packs_badly_goes_out_raw() {
        let costs = COSTS.map(|cost| Cost { ratio: 1.05, ..cost });
        let chooser = Chooser::new(Compress::Auto, costs, 2, Some(125_000_000));
        assert_eq!(chooser.codec(), Codec::Raw);
    }

    proptest! {
        #[test]
        fn any_windows_leave_a_codec_that_exists_and_few_decisions(
            windows in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 40, 0u64..1 << 36, 0u64..1 << 36), 0..200)
        ) {
            let mut chooser = chooser(None);
            for (wire_bytes, data_bytes, cpu_ns, pack) in windows {
                chooser.judge(&Window {
                    elapsed: Duration::from_nanos(pack),
                    wire_bytes,
                    data_bytes,
                    device_cpu: Duration::from_nanos(cpu_ns),
                    pack_in_bytes: pack,
                    pack_out_bytes: wire_bytes,
                    pack_cpu: Duration::from_nanos(cpu_ns),
                    free_cores: (wire_bytes > 0).then_some(cpu_ns as f64 / pack as f64),
                });
                let known = matches!(chooser.codec(), Codec::Raw)
                    || CANDIDATES.iter().any(|level| chooser.codec() == Codec::Zstd(*level));
                prop_assert!(known);
            }
            prop_assert!(chooser.decisions().len() <= DECISIONS_MAX);
        }
    }
}
