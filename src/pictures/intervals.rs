//! Samples, medians and intervals in rows, one below the other.

use super::canvas::{Anchor, Canvas, MARGIN, Picture, TEXT, TOP, WIDTH, fitted, series, width_of};
use super::scale::{Scale, tick_label};
use crate::results::{Limit, Metric, Summary};

/// What was measured of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Every sample.
    pub values: Vec<f64>,
}

const ROW: f64 = 34.0;
/// Room for the number at the right.
const VALUE_ROOM: f64 = 86.0;

/// A bar to each row's median, its interval, every sample as a dot, and the limit if there is one. `None` without
/// samples.
pub fn intervals(
    title: &str,
    subtitle: &str,
    metric: &Metric,
    rows: &[Row],
    limit: Option<Limit>,
) -> Option<Picture> {
    let rows: Vec<(&Row, Summary)> =
        rows.iter().filter_map(|row| Some((row, Summary::of(&row.values)?))).collect();
    if rows.is_empty() {
        return None;
    }
    let most = rows.iter().map(|(_, summary)| summary.most).fold(0.0, f64::max);
    let most = limit.map_or(most, |limit| most.max(limit.bound()));
    let left = name_room(rows.iter().map(|(row, _)| row.name.as_str()));
    let (right, bottom) = (WIDTH - MARGIN - VALUE_ROOM, TOP + 14.0 + ROW * rows.len() as f64);
    let scale = Scale::linear(most * 1.02, (left, right));
    let mut canvas = Canvas::new(title, subtitle);
    for tick in scale.ticks(metric.unit, 5) {
        let x = scale.at(tick);
        canvas.line((x, TOP + 8.0), (x, bottom), "lgr-grid");
        canvas.text(x, bottom + 17.0, Anchor::Middle, "lgr-quiet lgr-small", &tick_label(metric.unit, tick));
    }
    for (number, (row, summary)) in rows.iter().enumerate() {
        let y = TOP + 14.0 + ROW * (number as f64 + 0.5);
        canvas.text(
            left - 12.0,
            y + 4.0,
            Anchor::End,
            "lgr-text",
            &fitted(&row.name, left - 12.0 - MARGIN, TEXT),
        );
        draw_row(&mut canvas, &scale, y, row, summary, &series(0));
        let shown = metric.unit.show(summary.median.value);
        canvas.text(WIDTH - MARGIN, y + 4.0, Anchor::End, "lgr-text lgr-strong", &shown);
    }
    canvas.line((left, TOP + 8.0), (left, bottom), "lgr-axis");
    if let Some(limit) = limit {
        let x = scale.at(limit.bound());
        canvas.line((x, TOP + 4.0), (x, bottom), "lgr-limit lgr-dash");
        let (anchor, x) = if x > right - 80.0 { (Anchor::End, x - 6.0) } else { (Anchor::Start, x + 6.0) };
        let words = format!("{} {}", asked(limit), metric.unit.show(limit.bound()));
        canvas.text(x, TOP + 6.0, anchor, "lgr-bad lgr-small", &words);
    }
    Some(canvas.finish(bottom + 32.0))
}

/// The bar; on it the interval in the upper half and the samples in the lower.
fn draw_row(canvas: &mut Canvas, scale: &Scale, y: f64, row: &Row, summary: &Summary, class: &str) {
    let (zero, median) = (scale.at(0.0), scale.at(summary.median.value));
    canvas.rect((zero, y - 8.0), (median - zero, 16.0), class, 0.28);
    canvas.rect((median - 1.25, y - 10.0), (2.5, 20.0), class, 1.0);
    if let (Some(low), Some(high)) = (summary.median.low, summary.median.high) {
        let (low, high) = (scale.at(low), scale.at(high));
        canvas.line((low, y - 4.0), (high, y - 4.0), "lgr-hollow");
        for end in [low, high] {
            canvas.line((end, y - 7.5), (end, y - 0.5), "lgr-hollow");
        }
    }
    for value in &row.values {
        canvas.dot((scale.at(*value), y + 4.5), 2.8, class, 0.6);
    }
}

/// The word for a limit.
pub(crate) const fn asked(limit: Limit) -> &'static str {
    match limit {
        Limit::AtLeast(_) => "≥",
        Limit::AtMost(_) => "≤",
    }
}

/// Where rows begin, so that most names fit before them.
pub(super) fn name_room<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let widest = names.map(|name| width_of(name, TEXT)).fold(60.0, f64::max);
    MARGIN + widest.min(230.0) + 14.0
}
