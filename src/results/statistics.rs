//! Medians, their intervals, ratios, and whether a difference is noise. Nothing here assumes how samples are
//! distributed.
//!
//! | What | How |
//! |---|---|
//! | interval of a median | order statistics: the narrowest symmetric pair of samples that holds the median with at least 95 % (Conover, *Practical Nonparametric Statistics*, section 3.2). With fewer than six samples no pair does; then it is the least and the most, with the confidence they have. |
//! | interval of a ratio of medians | percentile bootstrap: 10,000 resamples of both sides, the middle 95 % of their ratios. The generator has a fixed seed, so the same samples give the same interval. |
//! | noise | Mann-Whitney U test, two-sided. The distribution is counted out, ties too, up to 60 samples; above that it is the normal approximation with the correction for ties. |

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The methods in one sentence, as results carry it.
pub const METHOD: &str = "median with an interval by order statistics (95 % or as stated); ratio of medians with a 95 % \
                          percentile bootstrap interval (10,000 resamples, fixed seed); p by the Mann-Whitney U test";

/// The confidence asked for.
const CONFIDENCE: f64 = 0.95;
const RESAMPLES: usize = 10_000;
/// Most samples of a side that a resample draws, so that a file cannot make us work for ever.
const RESAMPLED_MAX: usize = 1_000;
/// Most samples, both sides together, for which the rank sums are counted out.
const EXACT_MAX: usize = 60;

/// A number with the interval it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end of its interval; `null` when there is one sample only.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// How confident the interval is, from 0 to 1.
    pub confidence: Option<f64>,
}

/// One metric of one contestant, over the samples that count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Samples.
    pub count: u32,
    /// Their median and its interval.
    pub median: Estimate,
    /// Least of them.
    pub least: f64,
    /// Most.
    pub most: f64,
}

impl Summary {
    /// Sums samples up; `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self {
            count: u32::try_from(sorted.len()).unwrap_or(u32::MAX),
            median: median_estimate(values)?,
            least: *sorted.first()?,
            most: *sorted.last()?,
        })
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    median_of_sorted(&sorted(values))
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count.is_multiple_of(2) => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// The median with an interval by order statistics; `None` of nothing.
pub fn median_estimate(values: &[f64]) -> Option<Estimate> {
    let sorted = sorted(values);
    let value = median_of_sorted(&sorted)?;
    let count = sorted.len();
    if count == 1 {
        return Some(Estimate { value, low: None, high: None, confidence: None });
    }
    let (cut, confidence) = samples_to_cut(count);
    let (low, high) = (Some(sorted[cut]), Some(sorted[count - 1 - cut]));
    Some(Estimate { value, low, high, confidence: Some(confidence) })
}

/// How many samples may be cut off at each end so that the rest still holds the median with 95 %, and with how much
/// it does.
fn samples_to_cut(count: usize) -> (usize, f64) {
    // The chance that at most `cut` of `count` samples fall below the median is that of so many heads.
    let mut probability = (-(count as f64) * std::f64::consts::LN_2).exp();
    let mut below = 0.0;
    let mut best = (0, 1.0 - 2.0 * probability);
    for cut in 0..count / 2 {
        below += probability;
        let confidence = 1.0 - 2.0 * below;
        if confidence < CONFIDENCE {
            break;
        }
        best = (cut, confidence);
        probability *= (count - cut) as f64 / (cut + 1) as f64;
    }
    best
}

/// The median of `values` over that of `others`, with a bootstrap interval; `None` when a side is empty or a median
/// is not positive. With one sample on a side there is no interval.
pub fn ratio_of_medians(values: &[f64], others: &[f64]) -> Option<Estimate> {
    let (top, bottom) = (median(values)?, median(others)?);
    if top <= 0.0 || bottom <= 0.0 {
        return None;
    }
    let value = top / bottom;
    if values.len() < 2 || others.len() < 2 {
        return Some(Estimate { value, low: None, high: None, confidence: None });
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut scratch = Vec::new();
    let mut resampled = |from: &[f64]| {
        scratch.clear();
        let count = from.len().min(RESAMPLED_MAX);
        scratch.extend((0..count).map(|_| from[random.random_range(0..from.len())]));
        scratch.sort_by(f64::total_cmp);
        median_of_sorted(&scratch).unwrap_or(f64::NAN)
    };
    let ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| resampled(values) / resampled(others))
        .filter(|ratio| ratio.is_finite())
        .collect();
    let ratios = sorted(&ratios);
    let at =
        |quantile: f64| ratios.get(((ratios.len().max(1) - 1) as f64 * quantile).round() as usize).copied();
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Estimate { value, low: at(tail), high: at(1.0 - tail), confidence: Some(CONFIDENCE) })
}

/// A straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Its value at zero.
    pub at_zero: f64,
    /// How much it rises per unit.
    pub slope: f64,
    /// How much of the points' variance it explains, from 0 to 1.
    pub r_squared: f64,
}

/// The line of least squares through points; `None` of fewer than three, or if they stand above one another.
pub fn line_through(points: &[(f64, f64)]) -> Option<Line> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let sum =
        |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    let slope = xy / xx;
    let r_squared = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
    (xx > 0.0).then_some(Line { at_zero: mean_y - slope * mean_x, slope, r_squared })
}

/// The two-sided p of the Mann-Whitney U test; `None` when a side is empty.
pub fn mann_whitney(values: &[f64], others: &[f64]) -> Option<f64> {
    if values.is_empty() || others.is_empty() {
        return None;
    }
    let mut all: Vec<(f64, bool)> = values.iter().map(|value| (*value, true)).collect();
    all.extend(others.iter().map(|value| (*value, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ranks = doubled_ranks(&all);
    let rank_sum: usize = ranks.iter().zip(&all).filter(|(_, (_, own))| *own).map(|(rank, _)| rank).sum();
    Some(if all.len() <= EXACT_MAX {
        exact_p(&ranks, values.len(), rank_sum)
    } else {
        normal_p(&ranks, values.len(), rank_sum)
    })
}

/// The least p that so many samples on each side can have; above the level asked for, nothing can be told.
pub fn least_p(values: usize, others: usize) -> f64 {
    // Of all ways to choose which samples are the first side's, one is the most extreme at each end.
    let ways: f64 = (1..=values).map(|step| (others + step) as f64 / step as f64).product();
    (2.0 / ways).min(1.0)
}

/// Twice each value's rank (from 1), equal values sharing theirs: whole numbers, so that sums are exact.
fn doubled_ranks(sorted: &[(f64, bool)]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sorted.len());
    let mut start = 0;
    while start < sorted.len() {
        let equal = sorted[start..].iter().take_while(|(value, _)| *value == sorted[start].0).count().max(1);
        ranks.resize(start + equal, 2 * start + equal + 1);
        start += equal;
    }
    ranks
}

/// Counts, among all ways to choose `chosen` of the ranks, those whose sum is at least as far from the middle.
fn exact_p(ranks: &[usize], chosen: usize, rank_sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // ways[k][s]: ways to choose k ranks with sum s, as a share of nothing yet; f64 holds C(60, 30) well enough.
    let mut ways = vec![vec![0.0_f64; total + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for (seen, &rank) in ranks.iter().enumerate() {
        for count in (1..=chosen.min(seen + 1)).rev() {
            for sum in (rank..=total).rev() {
                ways[count][sum] += ways[count - 1][sum - rank];
            }
        }
    }
    // Distances from the mean, times the number of ranks: whole numbers.
    let distance = |sum: usize| (sum * ranks.len()).abs_diff(total * chosen);
    let found = distance(rank_sum);
    let all: f64 = ways[chosen].iter().sum();
    let as_far: f64 = ways[chosen]
        .iter()
        .enumerate()
        .filter(|(sum, _)| distance(*sum) >= found)
        .map(|(_, ways)| ways)
        .sum();
    (as_far / all).min(1.0)
}

/// The normal approximation, with the variance that ties leave and half a rank of continuity correction.
fn normal_p(ranks: &[usize], chosen: usize, rank_sum: usize) -> f64 {
    let (count, chosen) = (ranks.len() as f64, chosen as f64);
    let mean = ranks.iter().sum::<usize>() as f64 / count;
    let variance_of_ranks =
        ranks.iter().map(|rank| (*rank as f64 - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let variance = chosen * (count - chosen) / count * variance_of_ranks;
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((rank_sum as f64 - chosen * mean).abs() - 1.0).max(0.0) / variance.sqrt();
    two_sided_tail(z)
}

/// The chance that a normal variable is farther than `z` from its mean (Abramowitz and Stegun 7.1.26, to 1.5e-7).
fn two_sided_tail(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial = t
        * (0.254_829_592
            + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (polynomial * (-x * x).exp()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_care_for_order_or_one_wild_run() {
        assert_eq!(median(&[3.0, 1.0, 900.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_interval_of_a_median_is_the_tabled_pair_of_samples() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let estimate = median_estimate(&values).expect("ten values");
        assert_eq!((estimate.low, estimate.high), (Some(2.0), Some(9.0)));
        assert!((estimate.confidence.expect("ten values") - 0.978_515_625).abs() < 1e-9);
        // Three samples cannot reach 95 %: the interval says what it reaches.
        let estimate = median_estimate(&[1.0, 2.0, 3.0]).expect("three values");
        assert_eq!((estimate.low, estimate.high, estimate.confidence), (Some(1.0), Some(3.0), Some(0.75)));
        assert_eq!(median_estimate(&[7.0]).expect("one value").low, None);
        // A thousand samples: Conover's normal approximation gives the 469th and the 532nd.
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        let estimate = median_estimate(&values).expect("values");
        assert_eq!((estimate.low, estimate.high), (Some(469.0), Some(532.0)));
    }

    #[test]
    fn the_rank_test_gives_the_tabled_chances() {
        // No overlap: 2 of C(6, 3) and of C(10, 5) ways.
        assert!((mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).expect("values") - 0.1).abs() < 1e-12);
        let five = mann_whitney(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]).expect("values");
        assert!((five - 2.0 / 252.0).abs() < 1e-12 && (five - least_p(5, 5)).abs() < 1e-12);
        // All equal: nothing differs.
        assert!((mann_whitney(&[1.0; 5], &[1.0; 5]).expect("values") - 1.0).abs() < 1e-12);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
    }

    #[test]
    fn counting_and_approximating_agree_where_they_meet() {
        let values: Vec<f64> = (0..30).map(|n| f64::from(n * 7 % 31)).collect();
        let others: Vec<f64> = (0..30).map(|n| f64::from(n * 11 % 37) + 4.0).collect();
        let exact = mann_whitney(&values, &others).expect("values");
        let mut all: Vec<(f64, bool)> = values.iter().map(|value| (*value, true)).collect();
        all.extend(others.iter().map(|value| (*value, false)));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ranks = doubled_ranks(&all);
        let sum = ranks.iter().zip(&all).filter(|(_, (_, own))| *own).map(|(rank, _)| rank).sum();
        let near = normal_p(&ranks, values.len(), sum);
        assert!((exact - near).abs() < 0.003, "{exact} {near}");
    }

    #[test]
    fn a_line_goes_through_points_on_a_line() {
        let line = line_through(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]).expect("three points");
        assert!((line.at_zero - 3.0).abs() < 1e-9 && (line.slope - 2.0).abs() < 1e-9);
        assert!((line.r_squared - 1.0).abs() < 1e-9);
        assert_eq!(line_through(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn a_ratio_has_an_interval_around_it_and_is_the_same_every_time() {
        let fast = [2.0, 2.1, 1.9, 2.05, 1.95, 2.0];
        let slow = [1.0, 1.05, 0.95, 1.0, 1.02, 0.98];
        let ratio = ratio_of_medians(&fast, &slow).expect("values");
        let (low, high) = (ratio.low.expect("low"), ratio.high.expect("high"));
        assert!((ratio.value - 2.0).abs() < 1e-9 && low < 2.0 && high > 2.0 && low > 1.8 && high < 2.3);
        assert_eq!(ratio_of_medians(&fast, &slow), Some(ratio));
        assert_eq!(ratio_of_medians(&fast, &[0.0, 0.0]), None);
        assert_eq!(ratio_of_medians(&[], &slow), None);
    }
}
