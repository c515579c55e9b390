//! The report as text for people.

use super::Report;

/// The report as a table, for a terminal of 100 columns or more; ends with a newline.
pub fn render(report: &Report) -> String {
    format!("{}: {} -> {}: {}\n", report.guest, report.source, report.destination, report.finish.code)
}
