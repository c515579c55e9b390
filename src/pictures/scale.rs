//! From values to places, and the round numbers between them.

use crate::results::Unit;

/// A linear or logarithmic scale from a range of values to a range of places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    logarithmic: bool,
}

impl Scale {
    /// From zero to at least `most`.
    pub(super) fn linear(most: f64, to: (f64, f64)) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        Self { from: (0.0, most), to, logarithmic: false }
    }

    /// From `least` to `most`, both above zero.
    pub(super) fn logarithmic(least: f64, most: f64, to: (f64, f64)) -> Self {
        let least = if least.is_finite() && least > 0.0 { least } else { 1.0 };
        let most = if most.is_finite() && most > least { most } else { least * 10.0 };
        Self { from: (least, most), to, logarithmic: true }
    }

    /// The place of a value; values outside are at the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.from;
        let share = if self.logarithmic {
            (value.max(low) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        self.to.0 + share.clamp(0.0, 1.0) * (self.to.1 - self.to.0)
    }

    /// About `count` round values inside the range.
    pub(super) fn ticks(&self, unit: Unit, count: usize) -> Vec<f64> {
        if self.logarithmic { self.log_ticks(unit, count) } else { self.linear_ticks(unit, count) }
    }

    fn linear_ticks(&self, unit: Unit, count: usize) -> Vec<f64> {
        let (low, high) = self.from;
        let base = scale_of(unit, high);
        let step = round_step((high - low) / base / count.max(1) as f64) * base;
        let first = (low / step).ceil();
        (0..=2 * count.max(1))
            .map(|n| (first + n as f64) * step)
            .take_while(|tick| *tick <= high * 1.000_001)
            .collect()
    }

    fn log_ticks(&self, unit: Unit, count: usize) -> Vec<f64> {
        let (low, high) = self.from;
        let base = if unit == Unit::Bytes { 2.0_f64 } else { 10.0 };
        let (first, last) = ((low.log(base) - 1e-9).ceil() as i32, (high.log(base) + 1e-9).floor() as i32);
        let all = (last - first + 1).max(1) as usize;
        if unit != Unit::Bytes && all <= 2 {
            // One decade: 1, 2 and 5 of each.
            let around = (first - 1..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * base.powi(power)));
            return around.filter(|tick| (low * 0.999..=high * 1.001).contains(tick)).collect();
        }
        let step = all.div_ceil(count.max(1)).max(1);
        (first..=last).step_by(step).map(|power| base.powi(power)).collect()
    }
}

/// Bytes are counted in powers of 1024, everything else in powers of 10.
fn scale_of(unit: Unit, most: f64) -> f64 {
    if unit == Unit::Bytes && most >= 1024.0 { 1024_f64.powf(most.log(1024.0).floor()) } else { 1.0 }
}

/// 1, 2, 2.5 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-300).log10().floor());
    let share = step / power;
    power * [1.0, 2.0, 2.5, 5.0].into_iter().find(|round| *round >= share - 1e-9).unwrap_or(10.0)
}

/// A tick's label: as few digits as it needs.
pub(super) fn tick_label(unit: Unit, value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let shown = unit.show(value);
    let Some((number, rest)) = shown.split_once(' ') else { return trimmed(&shown) };
    format!("{} {rest}", trimmed(number))
}

fn trimmed(number: &str) -> String {
    if !number.contains('.') {
        return number.to_owned();
    }
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::linear(3.57e9, (0.0, 100.0));
        assert_eq!(scale.ticks(Unit::BytesPerS, 5), [0.0, 1e9, 2e9, 3e9]);
        let scale = Scale::linear(1500.0 * 1024.0, (0.0, 100.0));
        assert_eq!(scale.ticks(Unit::Bytes, 4), [0.0, 524_288.0, 1_048_576.0]);
        let scale = Scale::logarithmic(4096.0, 1e9, (0.0, 100.0));
        assert!(scale.ticks(Unit::Bytes, 5).iter().all(|tick| (4096.0..=1e9).contains(tick)));
        assert_eq!(Scale::logarithmic(1.0, 10.0, (0.0, 1.0)).ticks(Unit::Ms, 5), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn nothing_and_nonsense_have_a_place_too() {
        for scale in [Scale::linear(0.0, (0.0, 10.0)), Scale::logarithmic(f64::NAN, 0.0, (0.0, 10.0))] {
            assert!((0.0..=10.0).contains(&scale.at(0.0)) && (0.0..=10.0).contains(&scale.at(1e300)));
            assert!(scale.ticks(Unit::Ms, 5).len() < 20);
        }
    }

    #[test]
    fn labels_have_no_idle_zeroes() {
        assert_eq!(tick_label(Unit::BytesPerS, 1e9), "1 GB/s");
        assert_eq!(tick_label(Unit::BytesPerS, 1.5e9), "1.5 GB/s");
        assert_eq!(tick_label(Unit::Ms, 100.0), "100 ms");
        assert_eq!(tick_label(Unit::Ms, 0.0), "0");
        assert_eq!(tick_label(Unit::BytesPerS, 0.0), "0");
        assert_eq!(tick_label(Unit::Ratio, 0.5), "0.5");
    }
}
