//! lgr and QEMU side by side: the same guest moved by both in turns, on one machine, in one run.
//!
//! ```text
//!  table ─▶ scenario: load, contenders, claims
//!              │
//!              ▼
//!           contest ── search (QEMU's best setting) ─▶ qemu ─▶ guest (boot sector)
//!              │
//!              ├─ turns: lgr_runs │ qemu, run by run ─▶ figures
//!              ▼
//!           claims ─▶ bench-results/MACHINE/peer-*.json ─▶ page (peer.md)
//! ```

mod child;
mod claims;
mod contest;
mod cpu;
mod figures;
pub(crate) mod guest;
mod lgr_runs;
mod line;
mod options;
mod page;
mod qemu;
pub(crate) mod rows;
pub(crate) mod scenario;
mod search;
pub(crate) mod table;
mod tsc;
mod warm;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use lgr::results::machine_name;
use lgr_engine::report::Environment;

use contest::Allowance;
use options::Options;
use scenario::Scenario;
use table::Scale;

/// Runs and minutes of `--quick`.
const QUICK_RUNS: u32 = 3;

/// Does what the command line says, and tells of it on `out`.
///
/// # Errors
/// Wrong usage, a machine that is too slow or too small, or an interrupt. Limits that are missed are no errors: they are
/// in the table.
pub(crate) fn run(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let options = Options::try_parse_from(words)?;
    // The flag says only that cargo called; there is nothing else that could be wanted.
    let _ = options.bench;
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let scenarios = selected(table::scenarios(scale), &options.scenario)?;
    if options.listing {
        write!(out, "{}", guest::program::assemble().listing())?;
        return Ok(());
    }
    if options.list {
        return list(&scenarios, out);
    }
    let Some(qemu) = qemu::find(&options.qemu) else {
        writeln!(
            out,
            "skipped: {} not found: on Debian 12 `apt install -t bookworm-backports qemu-system-x86`, see benches/peer/README.md",
            options.qemu.display()
        )?;
        return Ok(());
    };
    child::watch_for_ctrl_c()?;
    writeln!(out, "{}", qemu.version)?;
    let dir = folder(&options);
    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut minutes_left: f64 = scenarios.iter().map(|scenario| scenario.minutes).sum();
    for scenario in &scenarios {
        // What one scenario leaves, those after it have.
        let left = end.saturating_duration_since(Instant::now());
        let time = left.mul_f64((scenario.minutes / minutes_left).min(1.0));
        minutes_left -= scenario.minutes;
        let runs = if options.quick { options.runs.min(QUICK_RUNS) } else { options.runs };
        let mut tell = |line: &str| {
            // A terminal that is gone is no reason to stop measuring.
            let _ = writeln!(out, "{line}");
        };
        match contest::measure(scenario, &qemu, Allowance { runs, time }, &mut tell) {
            Ok(result) => lgr::results::write(&dir, &result)?,
            Err(error) => {
                child::check()?;
                // The other scenarios may still go.
                tell(&format!("{}: not measured: {error:#}", scenario.name));
            }
        }
    }
    writeln!(out, "\n{}", page::write(&dir)?)?;
    lgr::index::write(&dir)?;
    Ok(())
}

/// The scenarios asked for, or all.
fn selected(all: Vec<Scenario>, names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    let matches = |scenario: &Scenario, name: &str| {
        scenario.name == name || scenario.name.strip_prefix("peer-") == Some(name)
    };
    for name in names {
        let known = all.iter().any(|scenario| matches(scenario, name));
        ensure!(known, "no scenario is named {name}; --list shows them");
    }
    let wanted = |scenario: &Scenario| names.is_empty() || names.iter().any(|name| matches(scenario, name));
    Ok(all.into_iter().filter(wanted).collect())
}

fn list(scenarios: &[Scenario], out: &mut dyn Write) -> anyhow::Result<()> {
    for scenario in scenarios {
        writeln!(out, "{}: {} ({} minutes)", scenario.name, scenario.what, scenario.minutes)?;
        for claim in &scenario.claims {
            writeln!(out, "    {}: {}", claim.row, claim.must)?;
        }
    }
    Ok(())
}

/// Where this machine's results go; those of `--quick` go beside them.
fn folder(options: &Options) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-results");
    let mut name = options.machine.clone().unwrap_or_else(|| machine_name(&Environment::probe()));
    if options.quick {
        name.push_str("-quick");
    }
    options.output.clone().unwrap_or(root).join(name)
}
