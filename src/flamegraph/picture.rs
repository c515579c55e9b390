//! Lines of stacks as a picture.

use anyhow::Context;
use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

/// A flame graph: sides at the bottom, stages above them in order of time, then threads and functions.
pub(super) fn draw(stacks: &str) -> anyhow::Result<Vec<u8>> {
    if stacks.is_empty() {
        return Ok(EMPTY.into());
    }
    let mut options = Options::default();
    options.title = "lgr: processor time of a relocation".to_owned();
    options.subtitle =
        Some("by side, stage, thread and function; a sample for each tick of the kernel".to_owned());
    options.colors = Palette::Multi(MultiPalette::Rust);
    options.deterministic = true;
    // Keeps the order of the lines, which is that of time, but takes them from the last to the first.
    options.flame_chart = true;
    options.image_width = Some(1600);
    options.min_width = 0.15;
    options.text_truncate_direction = TextTruncateDirection::Left;
    let mut svg = Vec::new();
    from_lines(&mut options, stacks.lines().rev(), &mut svg).context("a flame graph of these stacks")?;
    Ok(svg)
}

/// A move too short for a single tick.
const EMPTY: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"600\" height=\"40\">\
    <text x=\"10\" y=\"25\" font-family=\"sans-serif\" font-size=\"14\">No samples: the move was too short.</text></svg>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_stages_in_order_of_time() {
        let lines = "source;pass 9 first;ctc-*;turn 5\nsource;pass 10 intermediate;ctc-*;turn 4\n";
        let svg = String::from_utf8(draw(lines).unwrap()).unwrap();
        let at = |text: &str| svg.find(text).unwrap_or_else(|| panic!("no {text} in {svg}"));
        assert!(at("pass 9 first") < at("pass 10 intermediate"));
        assert!(String::from_utf8(draw("").unwrap()).unwrap().contains("No samples"));
    }
}
