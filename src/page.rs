//! One relocation as a page of HTML: figures, pictures and tables in one file that needs nothing else, no script and no
//! network, and can be read on a phone.

use std::fmt::Write;

use lgr_engine::report::{CodecReport, EngineKind, PassReport, Report, RunsOn, Side, TickPercentiles};

use crate::index::day;
use crate::pictures::{self, Picture};
use crate::results::Unit;
use crate::results::metrics::three_digits;

const STYLE: &str = include_str!("page.css");

/// The page for a report.
pub fn html(report: &Report) -> String {
    let title = format!("Relocation of {}", report.guest);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n\
         <style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n",
        escaped(&title),
        pictures::style_sheet()
    );
    page += &heading(&title, report);
    page += &facts(report);
    page += &drawn(report);
    page += &pass_table(&report.passes);
    page += &tick_table(report);
    page += &circumstances(report);
    page += &options(report);
    page + "</main>\n</body>\n</html>\n"
}

fn heading(title: &str, report: &Report) -> String {
    let (class, outcome) = outcome(report);
    format!(
        "<h1>{}</h1>\n<p class=\"quiet\">{} to {}, {} over {}</p>\n<p><strong class=\"{class}\">{outcome}</strong> {}</p>\n",
        escaped(title),
        escaped(&report.source.to_string()),
        escaped(&report.destination.to_string()),
        Unit::Bytes.show(report.guest_memory_bytes as f64),
        escaped(&report.medium),
        escaped(&sentence(&report.finish.reason))
    )
}

/// What became of the guest, no surer than the report is.
fn outcome(report: &Report) -> (&'static str, &'static str) {
    let alone = report.verification.as_ref().is_some_and(|found| found.sound_pages.is_some());
    match (report.runs_on, report.died_with, report.verified) {
        (_, _, Some(false)) => ("bad", "Its memory failed the check."),
        (_, Some(Side::Source), _) => ("bad", "Not moved, and the guest died with its source."),
        (_, Some(Side::Destination), _) => ("bad", "Moved, and the guest died with its destination."),
        (RunsOn::Source, ..) => ("bad", "Not moved."),
        (RunsOn::Nobody, ..) => ("bad", "Nobody runs the guest."),
        (RunsOn::Unknown, ..) => ("bad", "Who runs the guest is in the owner record."),
        (RunsOn::Destination, ..) if report.engine == EngineKind::Modelled => ("good", "It would move."),
        (RunsOn::Destination, _, Some(true)) if alone => {
            ("good", "Moved; every page is sound by itself, there was nothing to compare with.")
        }
        (RunsOn::Destination, _, Some(true)) => ("good", "Moved, and every page compared."),
        (RunsOn::Destination, _, None) => ("good", "Moved; its memory was not compared."),
    }
}

/// With a capital at its start and a full stop at its end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let text: String = first.to_uppercase().chain(letters).collect();
    if text.ends_with('.') { text } else { text + "." }
}

/// The figures that matter, large.
fn facts(report: &Report) -> String {
    let show = |unit: Unit, value: Option<f64>| value.map(|value| unit.show(value));
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    let writes = report
        .achieved_write_bytes_per_s
        .zip(report.intended_write_bytes_per_s.filter(|intended| *intended > 0))
        .map(|(achieved, intended)| format!("{} %", three_digits(achieved as f64 * 100.0 / intended as f64)));
    let largest = |ticks: &Option<TickPercentiles>| ticks.as_ref().map(|ticks| ticks.max_us / 1e3);
    let rows = [
        ("Whole move", show(Unit::Ms, report.total_ms)),
        ("Guest did not run", show(Unit::Ms, report.blackout_ms)),
        ("Its longest wait during the passes", show(Unit::Ms, largest(&report.ticks.during))),
        ("Its longest wait before", show(Unit::Ms, largest(&report.ticks.before))),
        ("Link formed", show(Unit::Ms, report.link_ms)),
        ("Destination made ready", show(Unit::Ms, report.prepare_ms)),
        ("From the first pass on", show(Unit::Ms, report.transfer_ms)),
        ("Rate over touched memory", show(Unit::BytesPerS, whole(report.throughput_bytes_per_s))),
        ("Rate from the first pass on", show(Unit::BytesPerS, whole(report.transfer_bytes_per_s))),
        ("Memory sent", show(Unit::Bytes, whole(report.bytes_logical))),
        ("On the wire", show(Unit::Bytes, whole(report.bytes_wire))),
        ("Of its writes, the guest did", writes),
    ];
    let mut text = "<dl class=\"facts\">\n".to_owned();
    for (name, value) in rows.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let _ = writeln!(text, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    }
    text + "</dl>\n"
}

fn drawn(report: &Report) -> String {
    let stop =
        report.quiesce.clone().map(|parts| vec![("guest stopped".to_owned(), parts)]).unwrap_or_default();
    let all: [Option<Picture>; 3] = [
        pictures::passes("Passes", &report.passes),
        pictures::queues("Queues of the source", &report.timeline, &report.passes),
        pictures::quiesce("The stop", &stop),
    ];
    all.iter().flatten().map(|picture| format!("<figure>{}</figure>\n", picture.to_inline())).collect()
}

fn pass_table(passes: &[PassReport]) -> String {
    if passes.is_empty() {
        return String::new();
    }
    let headings = ["Pass", "Kind", "Pages", "Zero", "Memory", "Wire", "Time", "Left dirty", "Dirty rate"];
    let rows = passes.iter().map(|pass| {
        vec![
            pass.number.to_string(),
            pass.kind.name().to_owned()
                + if pass.repeated { ", repeated" } else { "" }
                + if pass.cut_short { ", cut short" } else { "" },
            pass.pages.to_string(),
            counted(pass.zero_pages),
            Unit::Bytes.show(pass.bytes as f64),
            Unit::Bytes.show(pass.wire_bytes as f64),
            Unit::Ms.show(pass.ms),
            counted(pass.dirty_pages_after),
            pass.dirty_rate_bytes_per_s.map_or("-".to_owned(), |rate| Unit::BytesPerS.show(rate as f64)),
        ]
    });
    table("Passes in numbers", &headings, rows)
}

fn counted(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn tick_table(report: &Report) -> String {
    let ticks =
        [("before", &report.ticks.before), ("during", &report.ticks.during), ("after", &report.ticks.after)];
    let row = |(name, ticks): (&str, &Option<TickPercentiles>)| {
        let ticks = ticks.as_ref()?;
        let show = |us: f64| Unit::Ms.show(us / 1e3);
        let cells = [ticks.p50_us, ticks.p90_us, ticks.p99_us, ticks.p99_9_us, ticks.max_us].map(show);
        Some(
            std::iter::once(name.to_owned())
                .chain([ticks.count.to_string()])
                .chain(cells)
                .collect::<Vec<_>>(),
        )
    };
    let rows: Vec<_> = ticks.into_iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let headings = ["The move", "Ticks", "Median", "90 %", "99 %", "99.9 %", "Largest"];
    table("Gaps between the guest's ticks", &headings, rows.into_iter())
}

fn table(title: &str, headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| -> String {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cell))).collect()
    };
    let head = cells("th", &mut headings.iter().map(|heading| (*heading).to_owned()));
    let mut text =
        format!("<h2>{title}</h2>\n<div class=\"table\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = writeln!(text, "<tr>{}</tr>", cells("td", &mut row.into_iter()));
    }
    text + "</tbody>\n</table></div>\n"
}

fn circumstances(report: &Report) -> String {
    let mut rows = vec![("page".to_owned(), format!("{} bytes", report.page_size))];
    for (name, value) in [("stop rule", &report.policy), ("dirty tracker", &report.tracker)] {
        rows.extend((!value.is_empty()).then(|| (name.to_owned(), value.clone())));
    }
    if !report.tracker.is_empty() {
        rows.push(("changes found by".to_owned(), format!("{} bytes", report.granule)));
    }
    rows.extend(report.codec.as_ref().map(|codec| ("packing".to_owned(), packing(codec))));
    let reason = report.finish.policy_reason.as_ref().map(ToString::to_string);
    let decided = if report.quiesce_ms.is_some() { "stopped because" } else { "given up because" };
    rows.extend(reason.map(|reason| (decided.to_owned(), reason)));
    for (side, cpu_s, peak, machine) in [
        ("source", report.cpu_s.source, report.memory_peak_bytes.source, &report.environment.source),
        (
            "destination",
            report.cpu_s.destination,
            report.memory_peak_bytes.destination,
            &report.environment.destination,
        ),
    ] {
        let used = [
            cpu_s.map(|seconds| format!("{seconds:.2} s of processor time")),
            peak.map(|bytes| format!("{} of memory at most", Unit::Bytes.show(bytes as f64))),
            machine.as_ref().map(|machine| {
                let (model, cores, kernel) = (&machine.cpu_model, machine.cores, &machine.kernel);
                let date = day(machine.date_unix_s);
                format!("{model}, {cores} cores, Linux {kernel}, lgr {}, {date}", machine.lgr_version)
            }),
        ];
        let used: Vec<String> = used.into_iter().flatten().collect();
        if !used.is_empty() {
            rows.push((side.to_owned(), used.join("; ")));
        }
    }
    for fallback in &report.fallbacks {
        let text = format!("{} in place of {}: {}", fallback.used, fallback.wanted, fallback.reason);
        rows.push((format!("fallback, {}", fallback.side.name()), text));
    }
    pairs("Circumstances", rows.into_iter())
}

/// What was packed and what that saved, or why nothing was.
fn packing(codec: &CodecReport) -> String {
    if let Some(why) = &codec.why_not {
        return format!("{}: {why}", codec.choice);
    }
    let mut parts = Vec::new();
    for (bytes, what) in [
        (codec.packed_bytes, "packed"),
        (codec.packed_wire_bytes, "what that became"),
        (codec.kept_bytes, "kept"),
        (codec.raw_bytes, "as it was"),
        (codec.zero_bytes, "zero"),
    ] {
        parts.extend(bytes.map(|bytes| format!("{} {what}", Unit::Bytes.show(bytes as f64))));
    }
    parts.extend(codec.pack_cpu_s.map(|cpu_s| format!("{cpu_s:.2} s of the source's processor time")));
    format!("{}: {}", codec.choice, parts.join(", "))
}

fn options(report: &Report) -> String {
    let shown = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let given = report.options.iter().filter(|(_, value)| !value.is_null());
    pairs("Options", given.map(|(name, value)| (name.replace('_', "-"), shown(value))))
}

fn pairs(title: &str, rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: String = rows
        .map(|(name, value)| {
            format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escaped(&name), escaped(&value))
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("<h2>{title}</h2>\n<div class=\"table\"><table class=\"pairs\">\n{rows}</table></div>\n")
}

/// Text from a file as text of a page, whatever is in it.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}
