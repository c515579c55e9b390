//! Comparisons beside what was asked for, all on one scale: 1 is the limit, and right of it is kept.

use std::collections::BTreeMap;

use super::canvas::{Anchor, Canvas, MARGIN, Picture, TEXT, TOP, WIDTH, fitted};
use super::intervals::{asked, name_room};
use super::scale::{Scale, tick_label};
use crate::results::{Comparison, Limit, Metric, Unit, Verdict};

const ROW: f64 = 38.0;
/// Room for value, limit and verdict at the right.
const VALUE_ROOM: f64 = 170.0;

/// Each comparison that has a limit; `None` if none has.
pub fn limits(
    title: &str,
    comparisons: &[Comparison],
    metrics: &BTreeMap<String, Metric>,
) -> Option<Picture> {
    let rows: Vec<(&Comparison, Limit)> =
        comparisons.iter().filter_map(|comparison| Some((comparison, comparison.limit?))).collect();
    if rows.is_empty() {
        return None;
    }
    let subtitle =
        "how many times better than the limit: the median with its interval; right of the line is kept";
    let mut canvas = Canvas::new(title, subtitle);
    let left = name_room(rows.iter().map(|(comparison, _)| comparison.name.as_str()));
    let (right, bottom) = (WIDTH - MARGIN - VALUE_ROOM, TOP + 10.0 + ROW * rows.len() as f64);
    let ends = rows.iter().flat_map(|(comparison, limit)| {
        let value = comparison.value;
        [Some(value.value), value.low, value.high].into_iter().flatten().map(|value| kept(*limit, value))
    });
    let (least, most) = ends.fold((0.5_f64, 2.0_f64), |(least, most), end| (least.min(end), most.max(end)));
    let scale = Scale::logarithmic(least.max(0.001), most * 1.05, (left, right));
    for tick in scale.ticks(Unit::Ratio, 6) {
        let x = scale.at(tick);
        canvas.line((x, TOP), (x, bottom), "lgr-grid");
        let label = format!("{} ×", tick_label(Unit::Ratio, tick));
        canvas.text(x, bottom + 17.0, Anchor::Middle, "lgr-quiet lgr-small", &label);
    }
    canvas.line((scale.at(1.0), TOP - 4.0), (scale.at(1.0), bottom), "lgr-limit lgr-dash");
    for (number, (comparison, limit)) in rows.iter().enumerate() {
        let y = TOP + 10.0 + ROW * (number as f64 + 0.5);
        let name = fitted(&comparison.name, left - 12.0 - MARGIN, TEXT);
        canvas.text(left - 12.0, y + 4.0, Anchor::End, "lgr-text", &name);
        let unit = match (&comparison.reference, metrics.get(&comparison.metric)) {
            (None, Some(metric)) => metric.unit,
            _ => Unit::Ratio,
        };
        draw_row(&mut canvas, &scale, y, comparison, *limit, unit);
    }
    Some(canvas.finish(bottom + 32.0))
}

/// A value in limits kept: above 1 is better than asked for.
fn kept(limit: Limit, value: f64) -> f64 {
    match limit {
        Limit::AtLeast(bound) => value / bound,
        Limit::AtMost(bound) => bound / value.max(1e-9),
    }
}

fn draw_row(canvas: &mut Canvas, scale: &Scale, y: f64, comparison: &Comparison, limit: Limit, unit: Unit) {
    let passed = comparison.verdict == Some(Verdict::Pass);
    let class = if passed { "lgr-good" } else { "lgr-bad" };
    let value = comparison.value;
    if let (Some(low), Some(high)) = (value.low, value.high) {
        let (one, other) = (scale.at(kept(limit, low)), scale.at(kept(limit, high)));
        canvas.rect((one.min(other), y - 4.0), ((other - one).abs().max(2.0), 8.0), class, 0.35);
    }
    canvas.dot((scale.at(kept(limit, value.value)), y), 5.0, class, 1.0);
    let sign = if unit == Unit::Ratio && comparison.reference.is_some() { " ×" } else { "" };
    let shown = format!("{}{sign}", unit.show(value.value));
    let verdict = comparison.verdict.map_or("", Verdict::name);
    let unsure = if comparison.clear == Some(false) { ", not clear" } else { "" };
    let x = WIDTH - MARGIN;
    canvas.text(
        x,
        y - 2.0,
        Anchor::End,
        &format!("{class} lgr-strong"),
        &format!("{shown} · {verdict}{unsure}"),
    );
    let wanted = format!("asked: {} {}{sign}", asked(limit), unit.show(limit.bound()));
    canvas.text(x, y + 13.0, Anchor::End, "lgr-quiet lgr-small", &wanted);
}
