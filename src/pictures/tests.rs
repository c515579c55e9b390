//! Every picture is well-formed, holds more than axes, and no text of it lies on another or off the sheet.

use std::collections::BTreeMap;

use lgr_engine::report::{PassKind, PassReport, QuiesceParts, TimelineReport};
use roxmltree::{Document, Node};

use super::canvas::{WIDTH, width_of};
use super::*;
use crate::results::{Comparison, Estimate, Limit, Metric, Verdict, metrics};

fn pass(number: u32, kind: PassKind, pages: u64, ms: f64, began_ms: f64) -> PassReport {
    PassReport {
        number,
        kind,
        pages,
        zero_pages: Some(pages / 5),
        bytes: pages * 4096,
        wire_bytes: pages * 3300,
        ms,
        dirty_pages_after: Some(0),
        cut_short: false,
        predicted_quiesce_ms: None,
        dirty_rate_bytes_per_s: None,
        repeated: false,
        began_ms: Some(began_ms),
    }
}

/// Passes that shrink to nothing, as those of a guest that writes slowly.
fn shrinking(live: u32) -> Vec<PassReport> {
    let mut began_ms = 0.0;
    let mut all: Vec<PassReport> = (1..=live)
        .map(|number| {
            let pages = 524_288 >> (3 * (number - 1)).min(18);
            let ms = pages as f64 / 900.0;
            let kind = if number == 1 { PassKind::First } else { PassKind::Intermediate };
            began_ms += ms;
            pass(number, kind, pages, ms, began_ms - ms)
        })
        .collect();
    all.push(pass(live + 1, PassKind::Penultimate, 344, 2.7, began_ms));
    all.push(pass(live + 2, PassKind::Final, 0, 0.35, began_ms + 2.7));
    all
}

fn timeline(samples: u64, queues: u64) -> TimelineReport {
    let bytes = |sample: u64| {
        (0..queues).map(|queue| 4_000_000 + 300_000 * ((queue * 7 + sample * 3) % 11)).collect()
    };
    TimelineReport {
        at_ms: (1..=samples).map(|sample| sample * 50).collect(),
        tx_bytes: (0..samples).map(bytes).collect(),
        depth: vec![vec![1; queues as usize]; samples as usize],
    }
}

fn parts(scale: f64) -> QuiesceParts {
    QuiesceParts {
        stop: 0.16 * scale,
        harvest: 0.9 * scale,
        state: 1.29 * scale,
        penultimate: 0.6 * scale,
        final_pass: 0.25 * scale,
        commit: 0.05 * scale,
        resume: 0.05 * scale,
        other: 0.01 * scale,
    }
}

fn rows(names: &[&str], values: &[f64]) -> Vec<Row> {
    let row = |(number, name): (usize, &&str)| Row {
        name: (*name).to_owned(),
        values: values.iter().map(|value| value * (1.0 + number as f64)).collect(),
    };
    names.iter().enumerate().map(row).collect()
}

fn comparison(name: &str, value: f64, limit: Limit, verdict: Verdict) -> Comparison {
    Comparison {
        name: name.to_owned(),
        metric: metrics::THROUGHPUT.to_owned(),
        contestant: "lgr".to_owned(),
        reference: Some("QEMU".to_owned()),
        value: Estimate { value, low: Some(value * 0.93), high: Some(value * 1.08), confidence: Some(0.95) },
        p_value: Some(0.001),
        limit: Some(limit),
        verdict: Some(verdict),
        clear: Some(value > 1.0),
    }
}

/// One of each kind, with easy and with awkward data.
fn all() -> Vec<Picture> {
    let known = metrics::known();
    let throughput = &known[metrics::THROUGHPUT];
    let long = "a contestant whose name is far too long to stand beside its own bar in any picture";
    let few = shrinking(3);
    let many = shrinking(28);
    let comparisons = [
        comparison("bulk random, tcp, against the best QEMU", 1.41, Limit::AtLeast(1.25), Verdict::Pass),
        comparison("never-touched 16 GiB against QEMU", 81.0, Limit::AtLeast(50.0), Verdict::Pass),
        comparison("blackout at 500 MB/s", 0.71, Limit::AtMost(0.5), Verdict::Fail),
        comparison(long, 0.02, Limit::AtLeast(0.9), Verdict::Fail),
    ];
    let stops: Vec<(String, QuiesceParts)> = ["tcp", "unix", "shm"]
        .iter()
        .zip([1.0, 0.8, 5.0])
        .map(|(name, scale)| ((*name).to_owned(), parts(scale)))
        .collect();
    let metric = |unit| Metric { unit, ..throughput.clone() };
    [
        passes("live: tcp", &few),
        passes("many passes", &many),
        convergence("patterns", &[("uniform", &few), ("hotcold", &many), ("zipf", &few[..4]), (long, &few)]),
        queues("queues", &timeline(12, 16), &few),
        queues("one sample", &timeline(1, 1), &[]),
        histogram(
            "blackout",
            "a dot per run",
            Unit::Ms,
            &rows(&["tcp", "unix", long], &[3.2, 3.3, 4.1, 9.7]),
        ),
        histogram("blackout", "bars", Unit::Ms, &rows(&["tcp"], &[5.0; 300])),
        quiesce("one stop", &stops[..1]),
        quiesce("three stops", &stops),
        intervals(
            "rate",
            "each run",
            throughput,
            &rows(&["tcp", "unix", long], &[3.1e9, 3.4e9, 3.2e9]),
            None,
        ),
        intervals("x", "", &metric(Unit::Ms), &rows(&["a"], &[0.02]), Some(Limit::AtMost(10.0))),
        intervals("x", "", &metric(Unit::Bytes), &rows(&["a", "b"], &[1e9, 2e9]), Some(Limit::AtLeast(5e8))),
        limits("targets", &comparisons, &known),
    ]
    .into_iter()
    .map(|picture| picture.expect("there is something to draw"))
    .collect()
}

/// The box of a text: left, top, right, bottom.
fn text_box(node: Node<'_, '_>) -> (f64, f64, f64, f64) {
    let number = |name: &str| node.attribute(name).and_then(|text| text.parse::<f64>().ok()).expect(name);
    let class = node.attribute("class").unwrap_or("");
    let size = match class {
        class if class.contains("lgr-title") => 16.0,
        class if class.contains("lgr-small") => 11.0,
        _ => 12.0,
    };
    let words: String =
        node.descendants().filter_map(|child| child.is_text().then(|| child.text()).flatten()).collect();
    let (x, y, width) = (number("x"), number("y"), width_of(words.trim(), size));
    let left = match node.attribute("text-anchor") {
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        _ => x,
    };
    (left, y - size * 0.8, left + width, y + size * 0.2)
}

#[test]
fn every_picture_is_well_formed_and_holds_more_than_axes() {
    for picture in all() {
        let svg = picture.to_svg();
        let document = Document::parse(&svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
        let marks = document.descendants().filter(|node| {
            let class = node.attribute("class").unwrap_or("");
            let of_a_series = class.split(' ').any(|class| {
                class
                    .strip_prefix("lgr-")
                    .is_some_and(|end| end.parse::<u8>().is_ok() || end == "good" || end == "bad")
            });
            of_a_series && node.tag_name().name() != "text"
        });
        assert!(marks.count() >= 1, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}

#[test]
fn no_text_lies_on_another_or_off_the_sheet() {
    for picture in all() {
        let svg = picture.to_svg();
        let document = Document::parse(&svg).expect("well-formed");
        let height: f64 =
            document.root_element().attribute("height").and_then(|text| text.parse().ok()).expect("height");
        let texts: Vec<_> =
            document.descendants().filter(|node| node.has_tag_name((svg_namespace(), "text"))).collect();
        assert!(texts.len() > 3);
        for (number, text) in texts.iter().enumerate() {
            let one = text_box(*text);
            let inside = one.0 >= 0.0 && one.2 <= WIDTH + 1.0 && one.1 >= 0.0 && one.3 <= height;
            assert!(inside, "{}: off the sheet: {:?} {one:?}", picture.title(), text.text());
            for other in &texts[number + 1..] {
                let two = text_box(*other);
                let apart = one.2 <= two.0 || two.2 <= one.0 || one.3 <= two.1 || two.3 <= one.1;
                assert!(apart, "{}: {:?} lies on {:?}", picture.title(), text.text(), other.text());
            }
        }
    }
}

fn svg_namespace() -> &'static str {
    "http://www.w3.org/2000/svg"
}

#[test]
fn nothing_is_drawn_of_nothing() {
    assert!(passes("x", &[]).is_none());
    assert!(convergence("x", &[("a", &[])]).is_none());
    assert!(queues("x", &TimelineReport::default(), &[]).is_none());
    assert!(histogram("x", "", Unit::Ms, &rows(&["a"], &[0.0])).is_none());
    assert!(quiesce("x", &[]).is_none());
    assert!(intervals("x", "", &metrics::known()[metrics::TOTAL], &rows(&["a"], &[]), None).is_none());
    assert!(limits("x", &[], &BTreeMap::new()).is_none());
}

#[test]
fn hostile_numbers_draw_something() {
    let mut odd = timeline(3, 2);
    odd.at_ms = vec![u64::MAX, 0, 5];
    odd.tx_bytes[0] = vec![u64::MAX; 400];
    assert!(queues("x", &odd, &[pass(1, PassKind::First, u64::MAX >> 20, f64::MAX, -5.0)]).is_some());
    assert!(
        intervals("x", "", &metrics::known()[metrics::TOTAL], &rows(&["a"], &[1e300, -1e300]), None)
            .is_some()
    );
}
