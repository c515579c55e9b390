//! The report as text for people: the passes as a table, everything else in one line each.

use std::fmt::Write as _;

use guest_mem::units::{Size, scaled};

use super::{
    CodecReport, EngineKind, PassReport, PerSide, QueueReport, Report, RunsOn, Side, TickPercentiles,
};

/// Width of the words that begin a line.
const LABEL_WIDTH: usize = 10;
/// Most faults that are shown; the JSON report has more.
const FAULTS_SHOWN_MAX: usize = 4;

/// The report as text of about 115 columns; ends with a newline. A pure function of the report, without
/// colours, so that it can be kept and compared.
pub fn render(report: &Report) -> String {
    let mut lines = Lines::default();
    head(&mut lines, report);
    passes(&mut lines, &report.passes);
    times(&mut lines, report);
    volume(&mut lines, report);
    queues(&mut lines, &report.queues);
    ticks(&mut lines, report);
    cost(&mut lines, report);
    for fallback in &report.fallbacks {
        let (side, used, wanted) = (fallback.side.name(), &fallback.used, &fallback.wanted);
        lines.add("fallback", format!("{used} in place of {wanted} at the {side}: {}", fallback.reason));
    }
    verification(&mut lines, report);
    verdict(&mut lines, report);
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, label: &str, text: impl AsRef<str>) {
        let line = format!("{label:<LABEL_WIDTH$}{}", text.as_ref());
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

fn head(lines: &mut Lines, report: &Report) {
    lines.add("guest", format!("{}: {} -> {}", report.guest, report.source, report.destination));
    let touched = report.bytes_touched.map(|bytes| format!(", {} touched", size(bytes))).unwrap_or_default();
    // A half of a destination that never took the guest knows none of these.
    if report.guest_memory_bytes > 0 {
        let (memory, page) = (size(report.guest_memory_bytes), size(report.page_size));
        let tracked = format!(", tracked by {}", size(report.granule));
        let tracked = if report.tracker.is_empty() { "" } else { &tracked };
        lines.add("memory", format!("{memory}{touched}, pages of {page}{tracked}"));
    }
    let how = how(report);
    if !how.is_empty() {
        lines.add("how", how.join(", "));
    }
}

/// What carried the guest, and every option that decides how fast.
fn how(report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    if !report.medium.is_empty() {
        let engine = match report.engine {
            EngineKind::IoUring => "io_uring",
            EngineKind::Blocking => "blocking I/O",
            EngineKind::Modelled => "virtual time",
        };
        parts.push(report.medium.clone());
        parts.extend(report.tls.as_ref().map(|tls| format!("{} {}", tls.version, tls.suite)));
        parts.push(engine.to_owned());
    }
    for (name, value) in [("tracker", &report.tracker), ("policy", &report.policy)] {
        parts.extend((!value.is_empty()).then(|| format!("{name} {value}")));
    }
    parts.extend(report.limits.immediate.then(|| "immediate".to_owned()));
    let limit = report.limits.rate_limit_bytes_per_s;
    parts.extend(limit.map(|rate| format!("at most {}", speed(rate as f64))));
    let between = report.options.get("slow_link").and_then(serde_json::Value::as_u64);
    parts.extend(between.map(|rate| format!("over a link of {}", speed(rate as f64))));
    let given = |name: &str| report.options.get(name).and_then(|value| value.as_str());
    parts.extend(given("pace").map(|layout| format!("paced as {layout}")));
    parts.extend(given("compress").filter(|when| *when != "auto").map(|when| format!("packing {when}")));
    let hashed = report.options.get("hash_live") == Some(&true.into());
    parts.extend(hashed.then(|| "live memory hashed".to_owned()));
    parts
}

fn passes(lines: &mut Lines, passes: &[PassReport]) {
    if passes.is_empty() {
        return;
    }
    lines.gap();
    let row = |cells: [&str; 9]| {
        let [number, kind, pages, zero, memory, wire, time, rate, dirty] = cells;
        format!(
            "{number:>4}  {kind:<13}{pages:>12}{zero:>12}{memory:>12}{wire:>12}{time:>11}{rate:>12}{dirty:>12}"
        )
    };
    let mut table = row(["pass", "kind", "pages", "zero", "memory", "wire", "time", "rate", "left dirty"]);
    table.push_str("  dirty rate\n");
    for pass in passes {
        let rate = if pass.ms > 0.0 { pass.bytes as f64 * 1e3 / pass.ms } else { 0.0 };
        table.push_str(&row([
            &pass.number.to_string(),
            pass.kind.name(),
            &pass.pages.to_string(),
            &counted(pass.zero_pages),
            &size(pass.bytes),
            &size(pass.wire_bytes),
            &time(pass.ms),
            &speed(rate),
            &counted(pass.dirty_pages_after),
        ]));
        let dirty_rate = pass.dirty_rate_bytes_per_s.map_or("-".to_owned(), |rate| speed(rate as f64));
        let repeated = if pass.repeated { "  repeated" } else { "" };
        let cut = if pass.cut_short { "  cut short" } else { "" };
        let _ = writeln!(table, "  {dirty_rate:>10}{repeated}{cut}");
    }
    lines.0.push_str(&table);
    lines.gap();
}

fn counted(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn times(lines: &mut Lines, report: &Report) {
    let mut parts = Vec::new();
    let known = [
        ("total", report.total_ms),
        ("quiesce", report.quiesce_ms),
        ("blackout in the guest", report.blackout_ms),
    ];
    for (name, ms) in known {
        parts.extend(ms.map(|ms| format!("{name} {}", time(ms))));
    }
    if !parts.is_empty() {
        lines.add("time", parts.join(", "));
    }
    if let Some(parts) = total_in_parts(report) {
        lines.add("total", parts);
    }
    if let Some(quiesce) = &report.quiesce {
        let named = quiesce.named_ms();
        // A part that did not happen is left out; the sum is the same.
        let parts: Vec<String> =
            named.iter().filter(|(_, ms)| *ms > 0.0).map(|(name, ms)| format!("{name} {ms:.2}")).collect();
        if !parts.is_empty() {
            lines.add("quiesce", format!("{} ms", parts.join(" + ")));
        }
    }
    gaps(lines, report);
}

/// What the guest waited at most, stopped and running: a short blackout is not all that it feels.
fn gaps(lines: &mut Lines, report: &Report) {
    let largest = |ticks: &Option<TickPercentiles>| ticks.as_ref().map(|ticks| time(ticks.max_us / 1e3));
    let Some(during) = largest(&report.ticks.during) else { return };
    let blackout = report.blackout_ms.map(|ms| format!("blackout {}, ", time(ms))).unwrap_or_default();
    let before = largest(&report.ticks.before).map(|gap| format!(", before them {gap}")).unwrap_or_default();
    lines.add("gaps", format!("{blackout}largest during the passes {during}{before}"));
}

/// What the whole move is made of, from the wish on. The passes are what is left of the transfer without the stop.
fn total_in_parts(report: &Report) -> Option<String> {
    let (prepare_ms, transfer_ms) = (report.prepare_ms?, report.transfer_ms?);
    let stop_ms = report.quiesce_ms.unwrap_or(0.0);
    let parts = [
        ("link", report.link_ms.unwrap_or(0.0)),
        ("ready", prepare_ms),
        ("passes", (transfer_ms - stop_ms).max(0.0)),
        ("stop", stop_ms),
    ];
    let named: Vec<String> = parts
        .iter()
        .filter(|(_, part_ms)| *part_ms > 0.0)
        .map(|(name, part_ms)| format!("{name} {}", time(*part_ms)))
        .collect();
    (!named.is_empty()).then(|| named.join(" + "))
}

fn volume(lines: &mut Lines, report: &Report) {
    let mut parts = Vec::new();
    parts.extend(report.bytes_logical.map(|bytes| format!("{} of memory sent", size(bytes))));
    parts.extend(report.bytes_wire.map(|bytes| format!("{} on the wire", size(bytes))));
    parts.extend(report.throughput_bytes_per_s.map(|rate| {
        let transfer = report.transfer_bytes_per_s.map(|rate| speed(rate as f64));
        let over_passes =
            transfer.map(|rate| format!(" ({rate} from the first pass on)")).unwrap_or_default();
        format!("{} of touched memory{over_passes}", speed(rate as f64))
    }));
    if !parts.is_empty() {
        lines.add("moved", parts.join(", "));
    }
    codec(lines, report.codec.as_ref());
    let intended = report.intended_write_bytes_per_s.map(|rate| match rate {
        0 => ", and none intended".to_owned(),
        rate => format!(" of {} intended", speed(rate as f64)),
    });
    if let Some(achieved) = report.achieved_write_bytes_per_s {
        let achieved = if achieved == 0 { "nothing".to_owned() } else { speed(achieved as f64) };
        lines.add("writes", format!("{achieved}{}", intended.unwrap_or_default()));
    }
}

/// What packing did; nothing where it did nothing.
fn codec(lines: &mut Lines, codec: Option<&CodecReport>) {
    let Some(codec) = codec else { return };
    let (Some(packed), Some(became), Some(kept)) =
        (codec.packed_bytes, codec.packed_wire_bytes, codec.kept_bytes)
    else {
        return;
    };
    if packed + kept == 0 {
        return;
    }
    let mut parts = vec!["nothing".to_owned()];
    if packed > 0 {
        let ratio = packed as f64 / became.max(1) as f64;
        parts = vec![format!("{} to {} ({ratio:.2} to 1)", size(packed), size(became))];
    }
    parts.push(format!("{} kept", size(kept)));
    parts.extend(codec.raw_bytes.map(|raw| format!("{} raw", size(raw))));
    parts.extend(codec.pack_cpu_s.map(|cpu_s| format!("{cpu_s:.2} s of processor time")));
    lines.add("packed", parts.join(", "));
    if let Some(len) = codec.dictionary_bytes {
        lines.add("", format!("chunks refer to a dictionary of {}", size(len)));
    }
    if let Some(last) = codec.decisions.last() {
        lines.add("", format!("{} after {}: {}", last.codec, time(last.at_ms), last.why));
    }
}

fn queues(lines: &mut Lines, queues: &[QueueReport]) {
    for side in [Side::Source, Side::Destination] {
        let ours: Vec<&QueueReport> = queues.iter().filter(|queue| queue.side == side).collect();
        // The source's queues are told by what they sent, the destination's by what they received.
        let moved = |queue: &QueueReport| match side {
            Side::Source => queue.tx_bytes,
            Side::Destination => queue.rx_bytes,
        };
        if ours.is_empty() {
            continue;
        }
        // The write rule leaves one or two to the other side; those carry messages only.
        let used: Vec<u64> =
            ours.iter().filter(|queue| queue.transfers > 0).map(|queue| moved(queue)).collect();
        let (least, most) = (used.iter().min().copied(), used.iter().max().copied());
        let used = used.len();
        let sum = |count: fn(&QueueReport) -> u64| ours.iter().map(|queue| count(queue)).sum::<u64>();
        let (stalls, resends) = (sum(|queue| queue.stalls), sum(|queue| queue.resends));
        let each = least.zip(most).map(|(least, most)| format!(", {} to {} each", size(least), size(most)));
        let mut text = format!(
            "{used} of {} with pages at the {}{}, stalls {stalls}, resends {resends}",
            ours.len(),
            side.name(),
            each.unwrap_or_default()
        );
        // Devices that went down together are told of together.
        let down = ours.iter().filter(|queue| queue.state != "up");
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for queue in down {
            match reasons.iter_mut().find(|(reason, _)| *reason == queue.state) {
                Some((_, devices)) => devices.push(queue.device.to_string()),
                None => reasons.push((&queue.state, vec![queue.device.to_string()])),
            }
        }
        for (reason, devices) in reasons {
            let noun = if devices.len() == 1 { "device" } else { "devices" };
            let _ = write!(text, "; {noun} {}: {reason}", devices.join(" "));
        }
        lines.add("queues", text);
    }
}

fn ticks(lines: &mut Lines, report: &Report) {
    let part = |name: &str, ticks: &Option<TickPercentiles>| {
        let ticks = ticks.as_ref()?;
        let [p50, p99, max] = [ticks.p50_us, ticks.p99_us, ticks.max_us].map(|us| time(us / 1e3));
        Some(format!("{name} {p50} / {p99} / {max}"))
    };
    let ticks = &report.ticks;
    let parts: Vec<String> =
        [part("before", &ticks.before), part("during", &ticks.during), part("after", &ticks.after)]
            .into_iter()
            .flatten()
            .collect();
    if !parts.is_empty() {
        lines.add("ticks", format!("{} (median / 99% / largest)", parts.join(", ")));
    }
}

fn cost(lines: &mut Lines, report: &Report) {
    let gigabytes = report.bytes_logical.filter(|&bytes| bytes > 0).map(|bytes| bytes as f64 / 1e9);
    let cpu = per_side(&report.cpu_s, |&cpu_s| match gigabytes {
        Some(gigabytes) => format!("{cpu_s:.2} s ({:.2} s per GB)", cpu_s / gigabytes),
        None => format!("{cpu_s:.2} s"),
    });
    let memory = per_side(&report.memory_peak_bytes, |&bytes| size(bytes));
    for (label, text) in [("cpu", cpu), ("peak", memory)] {
        if let Some(text) = text {
            lines.add(label, text);
        }
    }
}

fn verification(lines: &mut Lines, report: &Report) {
    let Some(found) = &report.verification else {
        return;
    };
    let kinds = [
        (found.exact_pages, "exact"),
        (found.rewritten_pages, "rewritten since"),
        (found.sound_pages, "sound by themselves, with nothing to compare"),
    ];
    let kinds = kinds.iter().filter_map(|(pages, kind)| pages.map(|pages| format!("{pages} {kind}, ")));
    let (checked, faults) = (found.pages_checked, found.fault_count);
    // A comparison that could not begin has no pages of any kind, and a fault that says why.
    let label = if report.verified == Some(true) { "verified" } else { "checked" };
    lines.add(label, format!("{checked} pages: {}{faults} faults", kinds.collect::<String>()));
    for fault in found.faults.iter().take(FAULTS_SHOWN_MAX) {
        lines.add("", fault);
    }
    let hidden = found.fault_count.saturating_sub(found.faults.len().min(FAULTS_SHOWN_MAX) as u64);
    if hidden > 0 && found.fault_count > 0 {
        lines.add("", format!("and {hidden} more"));
    }
}

fn verdict(lines: &mut Lines, report: &Report) {
    if let Some(reason) = report.finish.policy_reason.as_ref().map(ToString::to_string)
        && !report.finish.reason.contains(&reason)
    {
        lines.add("stop rule", reason);
    }
    let mut parts = vec![format!("{}: {}", report.finish.code, report.finish.reason)];
    if report.engine != EngineKind::Modelled {
        let verified = match report.verified {
            Some(true) => "verified",
            Some(false) => "VERIFICATION FAILED",
            None => "not verified",
        };
        parts.push(verified.to_owned());
    }
    parts.push(whereabouts(report));
    lines.add("finish", parts.join("; "));
}

/// Who runs the guest, no surer than this report is.
fn whereabouts(report: &Report) -> String {
    let (side, member) = match report.runs_on {
        RunsOn::Source => (Side::Source, report.source),
        RunsOn::Destination => (Side::Destination, report.destination),
        RunsOn::Nobody => return "nobody runs the guest".to_owned(),
        RunsOn::Unknown => return "see the owner record for who runs the guest".to_owned(),
    };
    match report.died_with {
        Some(dead) => format!("the guest died with its {}; the record names {member}", dead.name()),
        None if report.engine == EngineKind::Modelled => format!("the guest would be at {member}"),
        None if report.knows(side) => format!("the guest belongs to {member}"),
        // The other side's word is missing: its process may be gone, and the guest with it.
        None => format!("the record names {member}"),
    }
}

fn per_side<T>(values: &PerSide<T>, show: impl Fn(&T) -> String) -> Option<String> {
    let parts: Vec<String> = [("source", &values.source), ("destination", &values.destination)]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {}", show(value))))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Memory in binary units with about three digits: `4.00 GiB`.
pub fn size(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// A rate in decimal units, as links are sold: `3.57 GB/s`.
pub fn speed(bytes_per_s: f64) -> String {
    const UNITS: [&str; 5] = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
    if bytes_per_s < 1.0 {
        return "-".to_owned();
    }
    scaled(bytes_per_s, 1000.0, &UNITS)
}

/// A time in milliseconds, shown in µs, ms or s with about three digits.
pub fn time(ms: f64) -> String {
    scaled(ms.max(0.0) * 1e3, 1000.0, &["us", "ms", "s"])
}
