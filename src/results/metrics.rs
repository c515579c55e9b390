//! The metrics of a relocation: names, units, and which way is better. A name ends in its unit.

use std::collections::BTreeMap;

use lgr_engine::report::Report;
use lgr_engine::report::table::{size, speed, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Guest memory touched over the whole time of the move.
pub const THROUGHPUT: &str = "throughput_bytes_per_s";
/// From the wish until the guest runs at the destination.
pub const TOTAL: &str = "total_ms";
/// Forming the link: the first part of it.
pub const LINK: &str = "link_ms";
/// From the offer until the first pass: the second.
pub const PREPARE: &str = "prepare_ms";
/// From the first pass until the guest runs at the destination: the third.
pub const TRANSFER: &str = "transfer_ms";
/// Guest memory touched over the third part alone.
pub const TRANSFER_RATE: &str = "transfer_bytes_per_s";
/// How long the engine held the guest stopped.
pub const QUIESCE: &str = "quiesce_ms";
/// How long the guest did not run, as it saw itself.
pub const BLACKOUT: &str = "blackout_ms";
/// Processor time of both sides over touched memory.
pub const CPU: &str = "cpu_s_per_gib";
/// Bytes on the wire over guest memory sent.
pub const WIRE_SHARE: &str = "wire_share_ratio";
/// Guest memory sent in all passes over touched memory.
pub const RESENT: &str = "sent_over_touched_ratio";
/// Passes, those over the stopped guest too.
pub const PASSES: &str = "passes_count";
/// What the guest wrote during the move over what it meant to.
pub const ACHIEVED: &str = "achieved_writes_ratio";
/// Bytes on the wire over the time from the first pass on.
pub const WIRE_RATE: &str = "wire_bytes_per_s";
/// Largest resident memory of the source.
pub const MEMORY_PEAK: &str = "memory_peak_bytes";
/// Relocations finished over the time from the first request to the last end, start of processes included.
pub const RELOCATIONS: &str = "relocations_per_s";

/// What a number is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerS,
    /// Milliseconds.
    Ms,
    /// Seconds of processor time per GiB of memory.
    CpuSPerGib,
    /// So many per second.
    PerS,
    /// A count.
    Count,
    /// One number over another of the same unit.
    Ratio,
}

impl Unit {
    /// A value with its unit, about three digits.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Bytes => size(value.max(0.0) as u64),
            Self::BytesPerS => speed(value),
            Self::Ms => time(value).replace("us", "µs"),
            Self::CpuSPerGib => format!("{value:.2} s/GiB"),
            Self::PerS => format!("{} /s", three_digits(value)),
            Self::Count => three_digits(value),
            Self::Ratio => three_digits(value),
        }
    }
}

/// About three digits, without an exponent.
pub(crate) fn three_digits(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.095 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// It tells of the run, and has no better side.
    Neither,
}

/// What a metric means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// What it is, in a few words.
    pub what: String,
    /// What it is counted in.
    pub unit: Unit,
    /// Which way it is better.
    pub better: Better,
}

/// Every metric that [`of_report`] can give, and [`RELOCATIONS`].
pub fn known() -> BTreeMap<String, Metric> {
    let rows = [
        (THROUGHPUT, "touched memory over total time", Unit::BytesPerS, Better::Higher),
        (TOTAL, "time of the move, from the wish until the guest runs on", Unit::Ms, Better::Lower),
        (LINK, "forming the link", Unit::Ms, Better::Lower),
        (PREPARE, "from the offer until the first pass", Unit::Ms, Better::Lower),
        (TRANSFER, "from the first pass until the guest runs on", Unit::Ms, Better::Lower),
        (
            TRANSFER_RATE,
            "touched memory over the time from the first pass on",
            Unit::BytesPerS,
            Better::Higher,
        ),
        (QUIESCE, "guest held stopped", Unit::Ms, Better::Lower),
        (BLACKOUT, "guest did not run, as it saw itself", Unit::Ms, Better::Lower),
        (CPU, "processor time of both sides per touched memory", Unit::CpuSPerGib, Better::Lower),
        (WIRE_SHARE, "bytes on the wire over memory sent", Unit::Ratio, Better::Lower),
        (RESENT, "memory sent over memory touched", Unit::Ratio, Better::Lower),
        (PASSES, "passes, those over the stopped guest too", Unit::Count, Better::Neither),
        (ACHIEVED, "what the guest wrote during the move over what it meant to", Unit::Ratio, Better::Higher),
        (
            WIRE_RATE,
            "bytes on the wire over the time from the first pass on",
            Unit::BytesPerS,
            Better::Neither,
        ),
        (MEMORY_PEAK, "largest resident memory of the source", Unit::Bytes, Better::Lower),
        (RELOCATIONS, "relocations over wall time, start of processes included", Unit::PerS, Better::Higher),
    ];
    rows.into_iter()
        .map(|(name, what, unit, better)| (name.to_owned(), Metric { what: what.to_owned(), unit, better }))
        .collect()
}

/// The metrics of one relocation; what the report does not tell is left out.
pub fn of_report(report: &Report) -> BTreeMap<String, f64> {
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    let over = |top: Option<f64>, bottom: Option<f64>| {
        top.zip(bottom).filter(|(_, bottom)| *bottom > 0.0).map(|(top, bottom)| top / bottom)
    };
    let touched = whole(report.bytes_touched);
    let (logical, wire) = (whole(report.bytes_logical), whole(report.bytes_wire));
    let cpu_s = report.cpu_s.source.zip(report.cpu_s.destination).map(|(source, other)| source + other);
    let gib = touched.map(|bytes| bytes / (1_u64 << 30) as f64);
    let (intended, achieved) = (report.intended_write_bytes_per_s, report.achieved_write_bytes_per_s);
    let passes = (!report.passes.is_empty()).then_some(report.passes.len() as f64);
    [
        (THROUGHPUT, whole(report.throughput_bytes_per_s)),
        (TOTAL, report.total_ms),
        (LINK, report.link_ms),
        (PREPARE, report.prepare_ms),
        (TRANSFER, report.transfer_ms),
        (TRANSFER_RATE, whole(report.transfer_bytes_per_s)),
        (QUIESCE, report.quiesce_ms),
        (BLACKOUT, report.blackout_ms),
        (CPU, over(cpu_s, gib)),
        (WIRE_SHARE, over(wire, logical)),
        (RESENT, over(logical, touched)),
        (PASSES, passes),
        (ACHIEVED, over(whole(achieved), whole(intended))),
        (WIRE_RATE, over(wire, report.transfer_ms.map(|ms| ms / 1e3))),
        (MEMORY_PEAK, whole(report.memory_peak_bytes.source)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value.filter(|value| value.is_finite())?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_about_three_digits_and_their_unit() {
        assert_eq!(Unit::BytesPerS.show(3.57e9), "3.57 GB/s");
        assert_eq!(Unit::Ms.show(0.35), "350 µs");
        assert_eq!(Unit::Ratio.show(1.254), "1.25");
        assert_eq!(Unit::Ratio.show(52.04), "52.0");
        assert_eq!(Unit::Count.show(5.0), "5");
        assert_eq!(Unit::Bytes.show(2048.0), "2.00 KiB");
    }

    #[test]
    fn a_metric_is_named_for_its_unit() {
        for (name, metric) in known() {
            let end = match metric.unit {
                Unit::Bytes => "_bytes",
                Unit::BytesPerS => "_bytes_per_s",
                Unit::Ms => "_ms",
                Unit::CpuSPerGib => "_s_per_gib",
                Unit::PerS => "_per_s",
                Unit::Count => "_count",
                Unit::Ratio => "_ratio",
            };
            assert!(name.ends_with(end), "{name}");
        }
    }
}
