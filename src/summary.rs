//! Several relocations summed up.

use lgr_engine::report::table::{speed, time};
use lgr_engine::report::{Report, RunsOn};

/// One line for one of several relocations.
pub(crate) fn line(number: u32, report: &Report) -> String {
    if !moved(report) {
        return format!("run {number}: not moved: {}: {}", report.finish.code, report.finish.reason);
    }
    let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
    format!(
        "run {number}: {}, {}, blackout {}, {}",
        show(report.total_ms),
        report.throughput_bytes_per_s.map_or_else(|| "-".to_owned(), |rate| speed(rate as f64)),
        show(report.blackout_ms),
        match report.verified {
            Some(true) => "verified",
            Some(false) => "VERIFICATION FAILED",
            None => "not compared",
        }
    )
}

fn moved(report: &Report) -> bool {
    report.runs_on == RunsOn::Destination && report.died_with.is_none()
}

/// Least, median and most of what matters, over the runs that moved: how long one took to fail is no time of a move.
pub(crate) fn table(reports: &[Report]) -> String {
    let row = |name: &str, values: Vec<f64>, show: &dyn Fn(f64) -> String| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else { return String::new() };
        let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        format!("{name:12}{:>14}{:>14}{:>14}\n", show(*least), show(middle), show(*most))
    };
    let all = reports.len();
    let reports: Vec<&Report> = reports.iter().filter(|report| moved(report)).collect();
    let pick = |field: &dyn Fn(&Report) -> Option<f64>| {
        reports.iter().filter_map(|report| field(report)).collect::<Vec<_>>()
    };
    let as_speed = |value: f64| speed(value);
    let verified = reports.iter().filter(|report| report.verified == Some(true)).count();
    let mut text = String::from("\n");
    if !reports.is_empty() {
        text += &format!("{:12}{:>14}{:>14}{:>14}\n", "", "least", "median", "most");
    }
    text += &row("total", pick(&|r| r.total_ms), &time);
    text += &row("transfer", pick(&|r| r.transfer_ms), &time);
    text += &row("throughput", pick(&|r| r.throughput_bytes_per_s.map(|rate| rate as f64)), &as_speed);
    text += &row("quiesce", pick(&|r| r.quiesce_ms), &time);
    text += &row("blackout", pick(&|r| r.blackout_ms), &time);
    text + &format!("{} of {all} runs moved, {verified} of them verified\n", reports.len())
}

#[cfg(test)]
mod tests {
    use lgr_engine::report::{Finish, FinishCode, Side};

    use super::*;

    fn report(code: FinishCode, runs_on: RunsOn, total_ms: f64) -> Report {
        let [source, destination] = ["A", "B"].map(|name| name.parse().expect("a valid name"));
        let finish = Finish::new(code, "said so");
        let guest = "LINUX1".parse().expect("a valid name");
        let mut report = Report::new(Side::Source, guest, source, destination, finish);
        (report.runs_on, report.total_ms, report.verified) = (runs_on, Some(total_ms), Some(true));
        report
    }

    #[test]
    fn runs_that_did_not_move_are_counted_apart_and_their_times_are_not_times_of_a_move() {
        let moved = report(FinishCode::Completed, RunsOn::Destination, 100.0);
        let stayed = report(FinishCode::MaxTotalExceeded, RunsOn::Source, 9000.0);
        assert_eq!(line(2, &stayed), "run 2: not moved: 04 max_total_exceeded: said so");
        assert!(line(1, &moved).contains("100 ms") && line(1, &moved).ends_with(", verified"));
        let text = table(&[moved.clone(), stayed.clone()]);
        assert!(
            text.ends_with("1 of 2 runs moved, 1 of them verified\n") && !text.contains("9.00 s"),
            "{text}"
        );
        assert_eq!(table(&[stayed]), "\n0 of 1 runs moved, 0 of them verified\n");
        let dead = Report { died_with: Some(Side::Destination), ..moved };
        assert!(line(1, &dead).starts_with("run 1: not moved"), "{}", line(1, &dead));
    }
}
