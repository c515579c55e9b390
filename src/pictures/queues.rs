//! What each device queue carried over time: a strip for each queue, darker where it carried more, and all together
//! above.

use lgr_engine::report::{PassReport, TimelineReport};

use super::canvas::{Anchor, Canvas, MARGIN, Picture, TOP, WIDTH, width_of};
use super::scale::{Scale, tick_label};
use crate::results::Unit;

const TOTAL_HEIGHT: f64 = 96.0;
const STRIP: f64 = 12.0;
const GAP: f64 = 34.0;
const LEFT: f64 = MARGIN + 62.0;
const RIGHT: f64 = WIDTH - MARGIN - 10.0;
/// Queues that are drawn; a link has 16 at most.
const QUEUES_MAX: usize = 16;
const SAMPLES_MAX: usize = 1024;

/// Rates of the source's queues over time, with the passes marked. `None` when nothing was sampled.
pub fn queues(title: &str, timeline: &TimelineReport, passes: &[PassReport]) -> Option<Picture> {
    let spans = spans(timeline);
    let count = spans.iter().map(|span| span.rates.len()).max().unwrap_or(0);
    let end_ms = spans.last()?.to_ms;
    let fastest = spans.iter().flat_map(|span| span.rates.iter().copied()).fold(0.0, f64::max);
    if count == 0 || fastest <= 0.0 {
        return None;
    }
    let subtitle = "bytes sent per second: all queues together, and each queue below";
    let mut canvas = Canvas::new(title, subtitle);
    let time = Scale::linear(end_ms, (LEFT, RIGHT));
    draw_total(&mut canvas, &time, &spans);
    let top = TOP + TOTAL_HEIGHT + GAP;
    let bottom = top + STRIP * count as f64;
    for queue in 0..count {
        let y = top + STRIP * queue as f64;
        canvas.rect((LEFT, y), (RIGHT - LEFT, STRIP - 2.0), "lgr-shade", 1.0);
        canvas.text(LEFT - 8.0, y + 9.0, Anchor::End, "lgr-quiet lgr-small", &format!("queue {queue}"));
        for span in &spans {
            let share = span.rates.get(queue).copied().unwrap_or(0.0) / fastest;
            if share >= 0.01 {
                let (from, to) = (time.at(span.from_ms), time.at(span.to_ms));
                canvas.rect((from, y), (to - from, STRIP - 2.0), "lgr-0", share);
            }
        }
    }
    mark_passes(&mut canvas, &time, passes, (end_ms, bottom));
    for tick in time.ticks(Unit::Ms, 8) {
        let x = time.at(tick);
        canvas.line((x, bottom), (x, bottom + 4.0), "lgr-axis");
        canvas.text(x, bottom + 18.0, Anchor::Middle, "lgr-quiet lgr-small", &tick_label(Unit::Ms, tick));
    }
    draw_ramp(&mut canvas, bottom + 44.0, fastest);
    Some(canvas.finish(bottom + 60.0))
}

/// Rates between two samples, in bytes per second, by queue.
struct Span {
    from_ms: f64,
    to_ms: f64,
    rates: Vec<f64>,
}

fn spans(timeline: &TimelineReport) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut from_ms = 0.0;
    for (at_ms, bytes) in timeline.at_ms.iter().zip(&timeline.tx_bytes).take(SAMPLES_MAX) {
        let to_ms = *at_ms as f64;
        if to_ms > from_ms {
            let rate = |bytes: &u64| *bytes as f64 * 1e3 / (to_ms - from_ms);
            spans.push(Span { from_ms, to_ms, rates: bytes.iter().take(QUEUES_MAX).map(rate).collect() });
            from_ms = to_ms;
        }
    }
    spans
}

fn draw_total(canvas: &mut Canvas, time: &Scale, spans: &[Span]) {
    let totals: Vec<f64> = spans.iter().map(|span| span.rates.iter().sum()).collect();
    let most = totals.iter().copied().fold(0.0, f64::max);
    let rate = Scale::linear(most * 1.08, (TOP + TOTAL_HEIGHT, TOP));
    for tick in rate.ticks(Unit::BytesPerS, 5) {
        let y = rate.at(tick);
        canvas.line((LEFT, y), (RIGHT, y), "lgr-grid");
        let label = tick_label(Unit::BytesPerS, tick);
        canvas.text(LEFT - 8.0, y + 4.0, Anchor::End, "lgr-quiet lgr-small", &label);
    }
    let mut outline = Vec::new();
    for (span, total) in spans.iter().zip(&totals) {
        let (from, to, y) = (time.at(span.from_ms), time.at(span.to_ms), rate.at(*total));
        canvas.rect((from, y), (to - from, TOP + TOTAL_HEIGHT - y), "lgr-0", 0.22);
        outline.extend([(from, y), (to, y)]);
    }
    canvas.polyline(&outline, "lgr-stroke-0 lgr-thick");
    canvas.line((LEFT, TOP + TOTAL_HEIGHT), (RIGHT, TOP + TOTAL_HEIGHT), "lgr-axis");
}

/// Where passes begin; a number only where there is room for it.
fn mark_passes(canvas: &mut Canvas, time: &Scale, passes: &[PassReport], (end_ms, bottom): (f64, f64)) {
    let mut free_from = f64::NEG_INFINITY;
    for pass in passes {
        let Some(began_ms) = pass.began_ms.filter(|ms| (0.0..=end_ms).contains(ms)) else { continue };
        let x = time.at(began_ms);
        let label =
            if free_from == f64::NEG_INFINITY { "pass 1".to_owned() } else { pass.number.to_string() };
        if x >= free_from {
            canvas.line((x, TOP), (x, bottom), "lgr-axis lgr-dash");
            canvas.text(x + 3.0, TOP + TOTAL_HEIGHT + 16.0, Anchor::Start, "lgr-quiet lgr-small", &label);
            free_from = x + width_of(&label, 11.0) + 8.0;
        }
    }
}

/// What the shades mean.
fn draw_ramp(canvas: &mut Canvas, y: f64, fastest: f64) {
    let (steps, width) = (24, 7.0);
    canvas.text(LEFT, y, Anchor::Start, "lgr-quiet lgr-small", "a queue: 0");
    let from = LEFT + 62.0;
    for step in 0..steps {
        let share = (step + 1) as f64 / steps as f64;
        canvas.rect((from + width * step as f64, y - 9.0), (width, 10.0), "lgr-0", share);
    }
    let end = from + width * steps as f64 + 8.0;
    canvas.text(end, y, Anchor::Start, "lgr-quiet lgr-small", &Unit::BytesPerS.show(fastest));
}
