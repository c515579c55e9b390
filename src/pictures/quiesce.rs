//! How long the guest was stopped, in parts.

use lgr_engine::report::QuiesceParts;

use super::canvas::{Anchor, Canvas, MARGIN, Picture, TEXT, TOP, WIDTH, fitted, series};
use super::intervals::name_room;
use super::scale::{Scale, tick_label};
use crate::results::Unit;

const ROW: f64 = 40.0;
const BAR: f64 = 22.0;
const VALUE_ROOM: f64 = 80.0;

/// A bar for each stop, a piece for each part. `None` when nothing was stopped.
pub fn quiesce(title: &str, rows: &[(String, QuiesceParts)]) -> Option<Picture> {
    let most = rows.iter().map(|(_, parts)| parts.sum_ms()).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let mut canvas = Canvas::new(title, "guest held stopped, in its parts, in order of time");
    let left = name_room(rows.iter().map(|(name, _)| name.as_str()));
    let (right, bottom) = (WIDTH - MARGIN - VALUE_ROOM, TOP + 6.0 + ROW * rows.len() as f64);
    let scale = Scale::linear(most, (left, right));
    for tick in scale.ticks(Unit::Ms, 6) {
        let x = scale.at(tick);
        canvas.line((x, TOP), (x, bottom), "lgr-grid");
        canvas.text(x, bottom + 17.0, Anchor::Middle, "lgr-quiet lgr-small", &tick_label(Unit::Ms, tick));
    }
    for (number, (name, parts)) in rows.iter().enumerate() {
        let y = TOP + 6.0 + ROW * (number as f64 + 0.5);
        canvas.text(left - 12.0, y + 4.0, Anchor::End, "lgr-text", &fitted(name, left - 12.0 - MARGIN, TEXT));
        draw_bar(&mut canvas, &scale, y, parts);
        let shown = Unit::Ms.show(parts.sum_ms());
        canvas.text(WIDTH - MARGIN, y + 4.0, Anchor::End, "lgr-text lgr-strong", &shown);
    }
    canvas.line((left, TOP), (left, bottom), "lgr-axis");
    let names = rows[0].1.named_ms().map(|(name, _)| name);
    let entry = |(number, name): (usize, &str)| {
        let longest = rows.iter().map(|(_, parts)| parts.named_ms()[number].1).fold(0.0, f64::max);
        let shown =
            if rows.len() == 1 { format!("{name} {}", Unit::Ms.show(longest)) } else { name.to_owned() };
        (longest > 0.0).then(|| (series(number), shown))
    };
    let entries: Vec<_> = names.into_iter().enumerate().filter_map(entry).collect();
    let end = canvas.legend(bottom + 44.0, &entries);
    Some(canvas.finish(end + 8.0))
}

fn draw_bar(canvas: &mut Canvas, scale: &Scale, y: f64, parts: &QuiesceParts) {
    let mut before_ms = 0.0;
    for (number, (_, ms)) in parts.named_ms().into_iter().enumerate().filter(|(_, (_, ms))| *ms > 0.0) {
        let (from, to) = (scale.at(before_ms), scale.at(before_ms + ms));
        canvas.rect((from, y - BAR / 2.0), (to - from, BAR), &series(number), 1.0);
        before_ms += ms;
    }
}
