//! A straight line through times, by least squares, and how fast they grow.

use std::collections::BTreeMap;

use super::figures::{GROWTH, LINEAR};

/// What fits a series of (GiB, ms).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    fixed_ms: f64,
    ms_per_gib: f64,
    /// Share of the variance that the line explains.
    r_squared: f64,
    /// Slope of the logarithms.
    exponent: f64,
}

/// Fits both lines.
pub(crate) fn fit(points: &[(f64, f64)]) -> Fit {
    let (fixed_ms, ms_per_gib, r_squared) = least_squares(points);
    let logarithms: Vec<_> = points.iter().map(|(gib, ms)| (gib.ln(), ms.ln())).collect();
    let (_, exponent, _) = least_squares(&logarithms);
    Fit { fixed_ms, ms_per_gib, r_squared, exponent }
}

/// Where the line begins, its slope, and R².
fn least_squares(points: &[(f64, f64)]) -> (f64, f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum()
    };
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    let slope = xy / xx;
    (mean_y - slope * mean_x, slope, xy * xy / (xx * yy))
}

impl Fit {
    /// As metrics of a sample.
    pub(crate) fn figures(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([(LINEAR.to_owned(), self.r_squared), (GROWTH.to_owned(), self.exponent)])
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{:.1} ms + {:.1} ms per GiB, R² {:.4}, exponent {:.3}",
            self.fixed_ms, self.ms_per_gib, self.r_squared, self.exponent
        )
    }
}
