//! Which page is next? One small machine per vCPU; its state moves with the guest.

use super::generate::mix;
use super::{Pattern, WorkloadError};
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

/// Nine writes in ten go to a tenth of the pages.
const HOT_WRITES_PERCENT: u64 = 90;
const HOT_PAGES_PERCENT: u64 = 10;
/// YCSB's default skew.
const ZIPF_THETA: f64 = 0.99;
/// A Java sweep redirties so much of the heap.
const SWEEP_PERCENT: u64 = 86;
/// The collection copies survivors into this share of the pages.
const SURVIVOR_SHARE: u64 = 16;
/// A phased workload bursts for the first half of this.
const PHASED_CYCLE_NS: u64 = 1_000_000_000;
const PHASED_BURST_NS: u64 = PHASED_CYCLE_NS / 2;

/// Where one vCPU is in its pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    random: Xoshiro256PlusPlus,
    /// Next index (sequential, java).
    next: u64,
    /// Sweeps done (java).
    sweep: u64,
    /// Time into the cycle (phased).
    cycle_ns: u64,
}

impl Position {
    pub(crate) fn new(seed: u64, vcpu: u8) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(mix(seed ^ u64::from(vcpu) << 56));
        Self { random, next: 0, sweep: 0, cycle_ns: 0 }
    }

    /// False for the one generator state (all zero) that never leaves itself: state from outside could hold it, and
    /// a zipf draw would never end.
    pub(crate) fn is_alive(&self) -> bool {
        let mut random = self.random.clone();
        (0..4).any(|_| random.next_u64() != 0)
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A number below `end` (which is not 0); the bias of 2⁻⁶⁴ per page does not matter here.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.random.next_u64()) * u128::from(end)) >> 64) as u64
    }
}

/// The fixed half of a pattern: what follows from the options alone and so need not move.
#[derive(Debug)]
pub(crate) struct PageOrder {
    pattern: Pattern,
    /// Pages to choose from.
    pages: u64,
    zipf: Option<ScatteredZipf>,
}

#[derive(Debug)]
struct ScatteredZipf {
    ranks: Zipf<f64>,
    /// Coprime to the number of pages, so that multiplying by it permutes them.
    multiplier: u64,
}

impl PageOrder {
    pub(crate) fn new(pattern: Pattern, pages: u64) -> Result<Self, WorkloadError> {
        let zipf = match pattern {
            Pattern::Zipf if pages > 0 => {
                let ranks = Zipf::new(pages as f64, ZIPF_THETA)
                    .map_err(|error| WorkloadError::Options { why: error.to_string() })?;
                Some(ScatteredZipf { ranks, multiplier: coprime_near_golden(pages) })
            }
            _ => None,
        };
        Ok(Self { pattern, pages, zipf })
    }

    /// Index of the next page to write, below the number of pages (which is not 0).
    pub(crate) fn next(&self, at: &mut Position) -> u64 {
        let pages = self.pages;
        match (self.pattern, &self.zipf) {
            (Pattern::Sequential, _) => {
                let index = at.next % pages;
                at.next = index + 1;
                index
            }
            (Pattern::HotCold, _) => {
                let hot = (pages * HOT_PAGES_PERCENT / 100).max(1);
                if pages == hot || at.below(100) < HOT_WRITES_PERCENT {
                    at.below(hot)
                } else {
                    hot + at.below(pages - hot)
                }
            }
            (Pattern::Zipf, Some(zipf)) => {
                let rank = (zipf.ranks.sample(&mut at.random) as u64).clamp(1, pages) - 1;
                ((u128::from(rank) * u128::from(zipf.multiplier)) % u128::from(pages)) as u64
            }
            (Pattern::JavaSweep, _) => self.next_of_sweep(at),
            _ => at.below(pages),
        }
    }

    /// Allocation: forward over the heap, leaving out pages by chance. Collection, at its end: the survivors.
    fn next_of_sweep(&self, at: &mut Position) -> u64 {
        let survivors = (self.pages / SURVIVOR_SHARE).max(1);
        loop {
            let step = at.next;
            if step >= self.pages.saturating_add(survivors) {
                at.next = 0;
                at.sweep = at.sweep.wrapping_add(1);
                continue;
            }
            at.next = step + 1;
            if step >= self.pages {
                return self.pages - survivors + (step - self.pages);
            }
            let chance = mix(at.sweep.rotate_left(40) ^ step) % 100;
            // The first page of a sweep is always taken, so that the search ends.
            if step == 0 || chance < SWEEP_PERCENT {
                return step;
            }
        }
    }

    /// Time in nanoseconds, out of `elapsed_ns`, in which the pattern writes at the asked rate. A phased one
    /// writes at twice the rate in its bursts, so the average stays the rate.
    pub(crate) fn writing_ns(&self, at: &mut Position, elapsed_ns: u64) -> u64 {
        match self.pattern {
            Pattern::Idle => 0,
            Pattern::Phased => {
                let from = at.cycle_ns % PHASED_CYCLE_NS;
                let to = from.saturating_add(elapsed_ns);
                at.cycle_ns = to % PHASED_CYCLE_NS;
                (burst_ns_until(to) - burst_ns_until(from)).saturating_mul(2)
            }
            _ => elapsed_ns,
        }
    }
}

fn burst_ns_until(time_ns: u64) -> u64 {
    time_ns / PHASED_CYCLE_NS * PHASED_BURST_NS + (time_ns % PHASED_CYCLE_NS).min(PHASED_BURST_NS)
}

fn coprime_near_golden(pages: u64) -> u64 {
    let golden = ((pages as f64) * 0.618_033_988_749_895) as u64;
    (golden.max(1)..).find(|candidate| gcd(*candidate, pages) == 1).unwrap_or(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u64 = 1000;
    const WRITES: u64 = 50_000;

    /// How often each page is chosen.
    fn histogram(pattern: Pattern, pages: u64) -> Vec<u64> {
        let order = PageOrder::new(pattern, pages).unwrap();
        let mut at = Position::new(7, 0);
        let mut counts = vec![0; pages as usize];
        (0..WRITES).for_each(|_| counts[order.next(&mut at) as usize] += 1);
        counts
    }

    #[test]
    fn every_pattern_keeps_within_its_pages_whatever_their_number() {
        for pattern in Pattern::all() {
            for pages in [1, 2, 3, 15, 16, 17, 1000] {
                assert_eq!(histogram(pattern, pages).iter().sum::<u64>(), WRITES, "{pattern} over {pages}");
            }
        }
    }

    #[test]
    fn hot_pages_get_nine_writes_in_ten() {
        let counts = histogram(Pattern::HotCold, PAGES);
        let hot: u64 = counts[..100].iter().sum();
        assert!(hot.abs_diff(WRITES * 9 / 10) < WRITES / 50, "{hot}");
        assert!(counts[100..].iter().filter(|count| **count > 0).count() > 800);
    }

    #[test]
    fn zipf_favours_few_pages_and_scatters_them() {
        let counts = histogram(Pattern::Zipf, PAGES);
        let mut sorted: Vec<(u64, usize)> = counts.iter().copied().zip(0..).collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let first: u64 = sorted[..10].iter().map(|(count, _)| count).sum();
        // With theta 0.99 over 1000 ranks the first ten have 39 % of the weight.
        assert!(first > WRITES / 3 && first < WRITES / 2, "{first}");
        assert!(sorted[0].1.abs_diff(sorted[1].1) > 100, "neighbouring ranks are far apart");
    }

    #[test]
    fn uniform_and_small_reach_every_page_alike() {
        for pattern in [Pattern::Uniform, Pattern::SmallUpdates, Pattern::Phased, Pattern::Churn] {
            let counts = histogram(pattern, 100);
            assert!(counts.iter().all(|count| count.abs_diff(500) < 150), "{pattern}");
        }
    }

    #[test]
    fn a_sequential_walk_goes_round() {
        let order = PageOrder::new(Pattern::Sequential, 3).unwrap();
        let mut at = Position::new(0, 0);
        let walk: Vec<u64> = (0..7).map(|_| order.next(&mut at)).collect();
        assert_eq!(walk, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_java_sweep_redirties_its_share_and_copies_survivors() {
        let order = PageOrder::new(Pattern::JavaSweep, PAGES).unwrap();
        let mut at = Position::new(0, 0);
        let mut sweep = Vec::new();
        while at.sweep == 0 {
            sweep.push(order.next(&mut at));
        }
        let allocated = sweep.windows(2).take_while(|pair| pair[0] < pair[1]).count() as u64;
        assert!(allocated.abs_diff(860) < 40, "{allocated}");
        let survivors = &sweep[allocated as usize + 1..sweep.len() - 1];
        assert!(survivors.iter().all(|index| *index >= PAGES - PAGES / SURVIVOR_SHARE));
        assert!(!survivors.is_empty());
    }

    #[test]
    fn bursts_double_the_rate_and_quiet_time_writes_nothing() {
        let order = PageOrder::new(Pattern::Phased, PAGES).unwrap();
        let mut at = Position::new(0, 0);
        let millis: Vec<u64> = (0..4).map(|_| order.writing_ns(&mut at, 250_000_000) / 1_000_000).collect();
        assert_eq!(millis, [500, 500, 0, 0]);
        assert_eq!(order.writing_ns(&mut at, 3_250_000_000), 3_500_000_000);
    }

    #[test]
    fn the_position_alone_continues_the_sequence() {
        for pattern in Pattern::all() {
            let order = PageOrder::new(pattern, PAGES).unwrap();
            let mut at = Position::new(9, 1);
            for _ in 0..777 {
                order.next(&mut at);
            }
            let mut moved: Position = postcard::from_bytes(&postcard::to_allocvec(&at).unwrap()).unwrap();
            for _ in 0..777 {
                assert_eq!(order.next(&mut at), order.next(&mut moved), "{pattern}");
            }
        }
    }
}
