//! Whether passes converge: what each of them sent.

use lgr_engine::report::{PassKind, PassReport};

use super::canvas::{Anchor, Canvas, MARGIN, Picture, SERIES, TOP, WIDTH, series};
use super::scale::{Scale, tick_label};
use crate::results::Unit;

const HEIGHT: f64 = 210.0;
const LEFT: f64 = MARGIN + 62.0;
const RIGHT: f64 = WIDTH - MARGIN - 10.0;
/// The least that is sent, and the floor of the scale; a pass of nothing stands on it, hollow.
const PAGE_BYTES: f64 = 4096.0;
/// Runs that are told apart by colour.
const RUNS_MAX: usize = SERIES;
/// Columns of the table that fit below the picture.
const COLUMNS_MAX: usize = 10;

/// Memory and wire bytes of each pass of one run, with a table of pages, bytes and times. `None` without passes.
pub fn passes(title: &str, passes: &[PassReport]) -> Option<Picture> {
    let subtitle = "guest memory sent in each pass, and the bytes it took on the wire";
    let mut frame = Frame::begin(title, subtitle, &[passes])?;
    frame.shade_stopped(passes);
    frame.draw_grid();
    let memory: Vec<f64> = passes.iter().map(|pass| pass.bytes as f64).collect();
    let wire: Vec<f64> = passes.iter().map(|pass| pass.wire_bytes as f64).collect();
    frame.track(&wire, 1);
    frame.track(&memory, 0);
    let end = frame.table(passes);
    let legend = [(series(0), "guest memory".to_owned()), (series(1), "on the wire".to_owned())];
    let end = frame.canvas.legend(end + 30.0, &legend);
    Some(frame.canvas.finish(end + 8.0))
}

/// Memory in each pass of several runs, a line for each. `None` without passes.
pub fn convergence(title: &str, runs: &[(&str, &[PassReport])]) -> Option<Picture> {
    let subtitle =
        "guest memory sent in each pass; hollow: nothing was left; the last two are over the stopped guest";
    let runs: Vec<_> = runs.iter().filter(|(_, passes)| !passes.is_empty()).take(RUNS_MAX).collect();
    let all: Vec<&[PassReport]> = runs.iter().map(|(_, passes)| *passes).collect();
    let mut frame = Frame::begin(title, subtitle, &all)?;
    frame.draw_grid();
    for (number, (_, passes)) in runs.iter().enumerate() {
        let memory: Vec<f64> = passes.iter().map(|pass| pass.bytes as f64).collect();
        frame.track(&memory, number);
    }
    let numbers: Vec<String> = (1..=frame.count).map(|number| number.to_string()).collect();
    let every = frame.count.div_ceil(16).max(1);
    for (number, text) in numbers.iter().enumerate().step_by(every) {
        let x = frame.x(number);
        frame.canvas.text(x, TOP + HEIGHT + 18.0, Anchor::Middle, "lgr-quiet lgr-small", text);
    }
    frame.canvas.text(MARGIN, TOP + HEIGHT + 18.0, Anchor::Start, "lgr-quiet lgr-small", "pass");
    let legend: Vec<_> =
        runs.iter().enumerate().map(|(number, (name, _))| (series(number), (*name).to_owned())).collect();
    let end = frame.canvas.legend(TOP + HEIGHT + 46.0, &legend);
    Some(frame.canvas.finish(end + 8.0))
}

/// The axes that both pictures share: passes from left to right, bytes upwards on a logarithmic scale.
struct Frame {
    canvas: Canvas,
    scale: Scale,
    count: usize,
}

impl Frame {
    fn begin(title: &str, subtitle: &str, runs: &[&[PassReport]]) -> Option<Self> {
        let count = runs.iter().map(|passes| passes.len()).max().filter(|count| *count > 0)?;
        let bytes = runs.iter().flat_map(|passes| passes.iter().map(|pass| pass.bytes.max(pass.wire_bytes)));
        let most = bytes.max().unwrap_or(0) as f64;
        let scale = Scale::logarithmic(PAGE_BYTES, (most * 2.0).max(1048576.0), (TOP + HEIGHT, TOP));
        Some(Self { canvas: Canvas::new(title, subtitle), scale, count })
    }

    fn draw_grid(&mut self) {
        for tick in self.scale.ticks(Unit::Bytes, 7) {
            let y = self.scale.at(tick);
            self.canvas.line((LEFT, y), (RIGHT, y), "lgr-grid");
            let label = tick_label(Unit::Bytes, tick);
            self.canvas.text(LEFT - 8.0, y + 4.0, Anchor::End, "lgr-quiet lgr-small", &label);
        }
        self.canvas.line((LEFT, TOP + HEIGHT), (RIGHT, TOP + HEIGHT), "lgr-axis");
    }

    fn step(&self) -> f64 {
        (RIGHT - LEFT) / self.count as f64
    }

    fn x(&self, number: usize) -> f64 {
        LEFT + (number as f64 + 0.5) * self.step()
    }

    /// Grey behind the passes over the stopped guest.
    fn shade_stopped(&mut self, passes: &[PassReport]) {
        let stopped = |pass: &PassReport| matches!(pass.kind, PassKind::Penultimate | PassKind::Final);
        let Some(first) = passes.iter().position(stopped) else { return };
        let from = self.x(first) - self.step() / 2.0;
        self.canvas.rect((from, TOP), (RIGHT - from, HEIGHT), "lgr-shade", 1.0);
        self.canvas.text(RIGHT - 6.0, TOP + 14.0, Anchor::End, "lgr-quiet lgr-small", "guest stopped");
    }

    /// A line with a dot for each pass.
    fn track(&mut self, bytes: &[f64], number: usize) {
        let points: Vec<(f64, f64)> =
            bytes.iter().enumerate().map(|(pass, bytes)| (self.x(pass), self.scale.at(*bytes))).collect();
        self.canvas.polyline(&points, &format!("lgr-stroke-{} lgr-thick", number % SERIES));
        for (point, bytes) in points.iter().zip(bytes) {
            if *bytes > 0.0 {
                self.canvas.dot(*point, 4.0, &series(number), 1.0);
            } else {
                self.canvas.dot(*point, 4.0, "lgr-sheet", 1.0);
                self.canvas.dot(*point, 4.0, &format!("lgr-stroke-{} lgr-thick", number % SERIES), 1.0);
            }
        }
    }

    /// Pages, bytes and times of the passes below their places; gives where it ends.
    fn table(&mut self, passes: &[PassReport]) -> f64 {
        let every = self.count.div_ceil(COLUMNS_MAX).max(1);
        let y = TOP + HEIGHT;
        for (line, name) in ["pass", "pages", "memory", "time"].into_iter().enumerate() {
            let y = y + 24.0 + 17.0 * line as f64;
            self.canvas.text(MARGIN, y, Anchor::Start, "lgr-quiet lgr-small", name);
        }
        for (number, pass) in passes.iter().enumerate().filter(|(number, _)| number % every == 0) {
            let x = self.x(number);
            let cells = [
                pass.number.to_string(),
                pass.pages.to_string(),
                Unit::Bytes.show(pass.bytes as f64),
                Unit::Ms.show(pass.ms),
            ];
            for (line, cell) in cells.iter().enumerate() {
                let class = if line == 0 { "lgr-text lgr-strong lgr-small" } else { "lgr-text lgr-small" };
                self.canvas.text(x, y + 24.0 + 17.0 * line as f64, Anchor::Middle, class, cell);
            }
        }
        y + 24.0 + 17.0 * 3.0
    }
}
