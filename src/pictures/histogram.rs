//! How often a value came: a dot for each sample, stacked where they crowd, bars where there are too many to stack.

use super::canvas::{Anchor, Canvas, MARGIN, Picture, TEXT, TOP, WIDTH, fitted};
use super::intervals::{Row, name_room};
use super::scale::{Scale, tick_label};
use crate::results::{Summary, Unit};

const ROW: f64 = 62.0;
const DOT: f64 = 3.6;
/// Dots that fit on top of each other in a row.
const STACK_MAX: usize = 6;
const VALUE_ROOM: f64 = 86.0;

/// A histogram for each row over one logarithmic axis, with the median marked. `None` without a value above zero.
pub fn histogram(title: &str, subtitle: &str, unit: Unit, rows: &[Row]) -> Option<Picture> {
    let above_zero = |row: &Row| Row {
        name: row.name.clone(),
        values: row.values.iter().copied().filter(|value| *value > 0.0).collect(),
    };
    let rows: Vec<Row> = rows.iter().map(above_zero).filter(|row| !row.values.is_empty()).collect();
    if rows.is_empty() {
        return None;
    }
    let all = || rows.iter().flat_map(|row| row.values.iter().copied());
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let left = name_room(rows.iter().map(|row| row.name.as_str()));
    let (right, bottom) = (WIDTH - MARGIN - VALUE_ROOM, TOP + 6.0 + ROW * rows.len() as f64);
    let scale = Scale::logarithmic(least / 1.3, most * 1.3, (left, right));
    let mut canvas = Canvas::new(title, subtitle);
    for tick in scale.ticks(unit, 7) {
        let x = scale.at(tick);
        canvas.line((x, TOP), (x, bottom), "lgr-grid");
        canvas.text(x, bottom + 17.0, Anchor::Middle, "lgr-quiet lgr-small", &tick_label(unit, tick));
    }
    for (number, row) in rows.iter().enumerate() {
        let base = TOP + 6.0 + ROW * (number as f64 + 1.0) - 8.0;
        canvas.line((left, base), (right, base), "lgr-axis");
        let name = fitted(&row.name, left - 12.0 - MARGIN, TEXT);
        canvas.text(left - 12.0, base - 8.0, Anchor::End, "lgr-text", &name);
        draw_row(&mut canvas, &scale, (left, right), base, row);
        if let Some(summary) = Summary::of(&row.values) {
            let x = scale.at(summary.median.value);
            canvas.line((x, base - ROW + 16.0), (x, base), "lgr-stroke-1 lgr-thick");
            let shown = unit.show(summary.median.value);
            canvas.text(WIDTH - MARGIN, base - 14.0, Anchor::End, "lgr-text lgr-strong", &shown);
            let most = format!("most {}", unit.show(summary.most));
            canvas.text(WIDTH - MARGIN, base, Anchor::End, "lgr-quiet lgr-small", &most);
        }
    }
    let legend = [("lgr-0".to_owned(), "a run".to_owned()), ("lgr-1".to_owned(), "median".to_owned())];
    let end = canvas.legend(bottom + 42.0, &legend);
    Some(canvas.finish(end + 8.0))
}

fn draw_row(canvas: &mut Canvas, scale: &Scale, (left, right): (f64, f64), base: f64, row: &Row) {
    // As wide as a dot, so that a dot is near its value and no dot lies on another.
    let bin_width = 2.0 * DOT;
    let mut bins = vec![0_usize; ((right - left) / bin_width) as usize + 1];
    let last = bins.len() - 1;
    for value in &row.values {
        let bin = ((scale.at(*value) - left) / bin_width) as usize;
        bins[bin.min(last)] += 1;
    }
    let tallest = bins.iter().copied().max().unwrap_or(0);
    for (number, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let x = left + (number as f64 + 0.5) * bin_width;
        if tallest <= STACK_MAX {
            for place in 0..*count {
                canvas.dot((x, base - DOT - 1.0 - place as f64 * (2.0 * DOT)), DOT, "lgr-0", 0.85);
            }
        } else {
            let height = *count as f64 / tallest as f64 * (ROW - 20.0);
            canvas.rect((x - bin_width * 0.42, base - height), (bin_width * 0.84, height), "lgr-0", 0.85);
        }
    }
}
