//! A sheet to draw on: text, lines and shapes by class, a title, and a style sheet for light and dark pages.

use svg::Document;
use svg::node::element::{Circle, Group, Line, Path, Rectangle, Style, Text, Title};
use svg::node::{Node, Text as Words};

/// Width of every picture.
pub(super) const WIDTH: f64 = 760.0;
/// Room at the sides.
pub(super) const MARGIN: f64 = 20.0;
/// Where the picture proper begins, below title and subtitle.
pub(super) const TOP: f64 = 64.0;
/// Size of ordinary text.
pub(super) const TEXT: f64 = 12.0;
/// Most characters of a text; longer ones come from files and would not be legible anyway.
const TEXT_CHARACTERS_MAX: usize = 160;

/// Colours by class: the property, on light pages, and on dark ones.
const COLOURS: [(&str, &str, &str, &str); 11] = [
    ("sheet", "fill", "#ffffff", "#14181f"),
    ("title", "fill", "#16202b", "#edf1f5"),
    ("text", "fill", "#2b3642", "#d3dae2"),
    ("quiet", "fill", "#5d6a78", "#96a3b1"),
    ("grid", "stroke", "#e3e8ed", "#28303a"),
    ("axis", "stroke", "#98a4b1", "#5f6c7a"),
    ("limit", "stroke", "#c2255c", "#ff8fb3"),
    ("bad", "fill", "#c2255c", "#ff8fb3"),
    ("good", "fill", "#1b7f5c", "#5fd3a8"),
    ("shade", "fill", "#eef2f6", "#1d242d"),
    ("hollow", "stroke", "#2b3642", "#d3dae2"),
];

/// Colours of series, on light pages and on dark ones; `lgr-N` fills, `lgr-stroke-N` strokes.
const SERIES_COLOURS: [(&str, &str); 9] = [
    ("#2c6fbb", "#6cabf0"),
    ("#e07b17", "#f5a54a"),
    ("#2a9d74", "#5cc9a0"),
    ("#b04a9d", "#de86cd"),
    ("#7a6bc9", "#a99df0"),
    ("#c9a313", "#e6c74f"),
    ("#3aa6c4", "#72cfe8"),
    ("#d1495b", "#f08391"),
    ("#8b98a5", "#a7b4c1"),
];

/// Colours that series take in turn.
pub(super) const SERIES: usize = SERIES_COLOURS.len();

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Picture {
    title: String,
    height: f64,
    shapes: Group,
}

impl Picture {
    /// The title in it.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// A whole SVG file, with its style.
    pub fn to_svg(&self) -> String {
        let document = self.document().add(Style::new(style_sheet()));
        format!("{}\n", document.add(self.sheet()).add(self.shapes.clone()))
    }

    /// An element for a page of HTML that has the style sheet of all pictures once.
    pub fn to_inline(&self) -> String {
        format!("{}\n", self.document().add(self.sheet()).add(self.shapes.clone()))
    }

    fn document(&self) -> Document {
        Document::new()
            .set("viewBox", (0, 0, WIDTH, self.height))
            .set("width", WIDTH)
            .set("height", self.height)
            .set("role", "img")
            .add(Title::new(printable(&self.title)))
    }

    fn sheet(&self) -> Rectangle {
        Rectangle::new().set("class", "lgr-sheet").set("width", WIDTH).set("height", self.height).set("rx", 8)
    }
}

/// The style of all pictures; dark colours where the reader's system asks for them.
pub(crate) fn style_sheet() -> String {
    format!(
        ".lgr-words{{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'Liberation Sans',sans-serif;\
         font-size:{TEXT}px}}\n.lgr-title{{font-size:16px;font-weight:600}}\n.lgr-small{{font-size:11px}}\n\
         .lgr-strong{{font-weight:600}}\n.lgr-hollow{{fill:none;stroke-width:1.5}}\n\
         .lgr-thick{{stroke-width:2;fill:none}}\n.lgr-dash{{stroke-dasharray:4 3;stroke-width:1.5}}\n\
         {}@media (prefers-color-scheme:dark){{\n{}}}\n",
        rules(false),
        rules(true)
    )
}

fn rules(dark: bool) -> String {
    let mut text = String::new();
    for (class, property, on_light, on_dark) in COLOURS {
        text += &format!(".lgr-{class}{{{property}:{}}}\n", if dark { on_dark } else { on_light });
    }
    for (number, (on_light, on_dark)) in SERIES_COLOURS.into_iter().enumerate() {
        let colour = if dark { on_dark } else { on_light };
        text += &format!(".lgr-{number}{{fill:{colour}}}\n.lgr-stroke-{number}{{stroke:{colour}}}\n");
    }
    text
}

/// The class of a series.
pub(super) fn series(number: usize) -> String {
    format!("lgr-{}", number % SERIES)
}

/// A picture while it is drawn.
#[derive(Debug)]
pub(super) struct Canvas {
    title: String,
    shapes: Group,
}

impl Canvas {
    /// A sheet with a title and a line under it.
    pub(super) fn new(title: &str, subtitle: &str) -> Self {
        let mut canvas = Self { title: title.to_owned(), shapes: Group::new().set("class", "lgr-words") };
        let room = WIDTH - 2.0 * MARGIN;
        canvas.text(MARGIN, 28.0, Anchor::Start, "lgr-title", &fitted(title, room, 16.5));
        canvas.text(MARGIN, 46.0, Anchor::Start, "lgr-quiet", &fitted(subtitle, room, TEXT));
        canvas
    }

    /// A text whose baseline is at `y`.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = Text::new("")
            .set("x", tenth(x))
            .set("y", tenth(y))
            .set("text-anchor", anchor)
            .set("class", class)
            .add(Words::new(printable(words)));
        self.add(text);
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let line = Line::new().set("x1", tenth(from.0)).set("y1", tenth(from.1));
        self.add(line.set("x2", tenth(to.0)).set("y2", tenth(to.1)).set("class", class));
    }

    /// A rectangle by its upper left corner; a tiny one is still seen.
    pub(super) fn rect(&mut self, at: (f64, f64), size: (f64, f64), class: &str, opacity: f64) {
        let rect = Rectangle::new().set("x", tenth(at.0)).set("y", tenth(at.1));
        let rect = rect.set("width", tenth(size.0.max(0.5))).set("height", tenth(size.1.max(0.5)));
        self.add(rect.set("class", class).set("fill-opacity", (opacity * 100.0).round() / 100.0));
    }

    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, class: &str, opacity: f64) {
        let dot = Circle::new().set("cx", tenth(at.0)).set("cy", tenth(at.1)).set("r", radius);
        self.add(dot.set("class", class).set("fill-opacity", opacity));
    }

    /// A line through points, as `class` strokes it.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let mut data = String::new();
        for (number, (x, y)) in points.iter().enumerate() {
            data += &format!("{}{} {}", if number == 0 { "M" } else { "L" }, tenth(*x), tenth(*y));
        }
        if !data.is_empty() {
            self.add(Path::new().set("d", data).set("class", class));
        }
    }

    /// A legend that begins at `y` and takes as many lines as it needs; gives where it ends.
    pub(super) fn legend(&mut self, y: f64, entries: &[(String, String)]) -> f64 {
        let (mut x, mut y) = (MARGIN, y);
        for (class, name) in entries {
            let name = fitted(name, 300.0, TEXT);
            let width = 18.0 + width_of(&name, TEXT) + 12.0;
            if x > MARGIN && x + width > WIDTH - MARGIN + 12.0 {
                x = MARGIN;
                y += 20.0;
            }
            self.rect((x, y - 10.0), (12.0, 12.0), class, 1.0);
            self.text(x + 18.0, y, Anchor::Start, "lgr-text", &name);
            x += width;
        }
        y + 8.0
    }

    pub(super) fn add(&mut self, shape: impl Into<Box<dyn Node>>) {
        self.shapes.append(shape);
    }

    /// The picture, so high.
    pub(super) fn finish(self, height: f64) -> Picture {
        Picture { title: self.title, height: height.ceil(), shapes: self.shapes }
    }
}

/// Tenths are fine enough, and keep files small.
fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Without what XML cannot hold, and not endless.
fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(TEXT_CHARACTERS_MAX).collect()
}

/// How wide a text is about, in a sans-serif font of that size; rather too wide than too narrow.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    let em = |letter: char| match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '|' | '\'' | '!' | ' ' => 0.32,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '-' | '/' => 0.4,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        'A'..='Z' => 0.72,
        _ => 0.6,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// The text, cut so that it fits.
pub(super) fn fitted(text: &str, room: f64, size: f64) -> String {
    let text = printable(text);
    if width_of(&text, size) <= room {
        return text;
    }
    let mut cut = String::new();
    for letter in text.chars() {
        if width_of(&cut, size) + width_of("m…", size) > room {
            break;
        }
        cut.push(letter);
    }
    cut.trim_end().to_owned() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_outside_stay_words() {
        let mut canvas = Canvas::new("<script>\u{1}", "a & b");
        canvas.text(0.0, 0.0, Anchor::Start, "lgr-text", "\"</text>");
        let svg = canvas.finish(100.0).to_svg();
        assert!(!svg.contains("<script") && !svg.contains('\u{1}') && svg.contains("a &amp; b"), "{svg}");
        assert!(svg.contains("&lt;/text"));
    }

    #[test]
    fn a_text_that_does_not_fit_is_cut() {
        assert_eq!(fitted("short", 100.0, TEXT), "short");
        let cut = fitted("a name that is much too long for its place", 100.0, TEXT);
        assert!(cut.ends_with('…') && width_of(&cut, TEXT) <= 100.0, "{cut}");
    }
}
