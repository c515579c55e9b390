//! Several relocations summed up.

use lgr_engine::report::Report;
use lgr_engine::report::table::{speed, time};

/// One line for one of several relocations.
pub(crate) fn line(number: u32, report: &Report) -> String {
    let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
    format!(
        "run {number}: {}, {}, blackout {}, {}",
        show(report.total_ms),
        report.throughput_bytes_per_s.map_or_else(|| "-".to_owned(), |rate| speed(rate as f64)),
        show(report.blackout_ms),
        match report.verified {
            Some(true) => "verified",
            Some(false) => "NOT VERIFIED",
            None => "not compared",
        }
    )
}

/// Least, median and most of what matters.
pub(crate) fn table(reports: &[Report]) -> String {
    let row = |name: &str, values: Vec<f64>, show: &dyn Fn(f64) -> String| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else { return String::new() };
        let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        format!("{name:12}{:>14}{:>14}{:>14}\n", show(*least), show(middle), show(*most))
    };
    let pick = |field: &dyn Fn(&Report) -> Option<f64>| reports.iter().filter_map(field).collect::<Vec<_>>();
    let as_speed = |value: f64| speed(value);
    let verified = reports.iter().filter(|report| report.verified == Some(true)).count();
    let mut text = format!("\n{:12}{:>14}{:>14}{:>14}\n", "", "least", "median", "most");
    text += &row("total", pick(&|r| r.total_ms), &time);
    text += &row("transfer", pick(&|r| r.transfer_ms), &time);
    text += &row("throughput", pick(&|r| r.throughput_bytes_per_s.map(|rate| rate as f64)), &as_speed);
    text += &row("quiesce", pick(&|r| r.quiesce_ms), &time);
    text += &row("blackout", pick(&|r| r.blackout_ms), &time);
    text + &format!("{verified} of {} runs verified\n", reports.len())
}
