//! `lgr doctor`: what this kernel and machine offer a relocation, and what is used in place of what is missing.
//!
//! Every probe tries the thing itself where that is cheap (a write under dirty tracking, a ring, a socket), because
//! a version number tells little about seccomp filters and containers. A probe never fails: what it
//! cannot find out is part of its row.

mod machine;
mod mechanisms;

use std::process::ExitCode;

use serde::Serialize;

use crate::progress::print;
use crate::table::Table;

/// Options of `lgr doctor`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

/// Is it there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Yes,
    No,
    Limited,
}

/// One row: something a relocation uses, or would use if it were there.
#[derive(Clone, Debug, Serialize)]
struct Capability {
    capability: &'static str,
    state: State,
    detail: String,
    /// What takes its place; `None` if nothing has to or nothing can.
    used_instead: Option<String>,
    /// Without it, and without anything in its place, no relocation can run.
    essential: bool,
}

impl Capability {
    fn new(capability: &'static str, state: State, detail: impl Into<String>) -> Self {
        Self { capability, state, detail: detail.into(), used_instead: None, essential: false }
    }

    /// `yes` if `outcome` is, else `no` and why.
    fn tried(capability: &'static str, outcome: Result<String, String>) -> Self {
        match outcome {
            Ok(detail) => Self::new(capability, State::Yes, detail),
            Err(reason) => Self::new(capability, State::No, reason),
        }
    }

    /// Says what is used in its place, unless it is fully there.
    fn instead(mut self, used_instead: &str) -> Self {
        if self.state != State::Yes && !used_instead.is_empty() {
            self.used_instead = Some(used_instead.to_owned());
        }
        self
    }

    fn essential(mut self) -> Self {
        self.essential = true;
        self
    }

    fn is_fatal(&self) -> bool {
        self.essential && self.state == State::No && self.used_instead.is_none()
    }
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    /// A relocation can run here, perhaps with something else in place of what is missing.
    ready: bool,
    /// One line that says so, or what is missing.
    verdict: String,
    capabilities: Vec<Capability>,
}

impl Diagnosis {
    fn of(capabilities: Vec<Capability>) -> Self {
        let fatal: Vec<String> = capabilities
            .iter()
            .filter(|row| row.is_fatal())
            .map(|row| format!("{} ({})", row.capability, row.detail))
            .collect();
        let replaced: Vec<&str> = capabilities
            .iter()
            .filter(|row| row.essential && row.used_instead.is_some())
            .map(|row| row.capability)
            .collect();
        let verdict = if !fatal.is_empty() {
            format!("not ready: no relocation can run here without {}", fatal.join(", "))
        } else if !replaced.is_empty() {
            format!(
                "ready: a relocation can run here, with something else in place of {}",
                replaced.join(", ")
            )
        } else {
            "ready: a relocation can run here".to_owned()
        };
        Self { ready: fatal.is_empty(), verdict, capabilities }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["capability", "state", "detail", "used instead"], &[]);
        for row in &self.capabilities {
            let state = match row.state {
                State::Yes => "yes",
                State::No => "no",
                State::Limited => "limited",
            };
            table.row([row.capability, state, &row.detail, row.used_instead.as_deref().unwrap_or("")]);
        }
        table
    }
}

/// Looks at the machine and prints what it finds. Exit code 1 if no relocation can run here.
///
/// # Errors
/// Only if the answer cannot be printed.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut capabilities = machine::probe();
    capabilities.extend(mechanisms::probe());
    let diagnosis = Diagnosis::of(capabilities);
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&diagnosis)?));
    } else {
        print(&format!("{}\n{}\n", diagnosis.table(), diagnosis.verdict));
    }
    Ok(if diagnosis.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_essential_and_without_a_stand_in_stops_a_relocation() {
        let fallback = Capability::tried("io_uring", Err("forbidden".into())).essential().instead("threads");
        let luxury = Capability::tried("perf", Err("not found".into()));
        let diagnosis = Diagnosis::of(vec![fallback.clone(), luxury.clone()]);
        assert!(
            diagnosis.ready && diagnosis.verdict.contains("in place of io_uring"),
            "{}",
            diagnosis.verdict
        );
        let lost = Capability::tried("memfd", Err("EPERM".into())).essential();
        let diagnosis = Diagnosis::of(vec![fallback, luxury, lost]);
        assert!(!diagnosis.ready);
        assert!(diagnosis.verdict.ends_with("without memfd (EPERM)"), "{}", diagnosis.verdict);
    }

    #[test]
    fn the_test_machine_is_described_row_by_row() {
        let mut rows = machine::probe();
        rows.extend(mechanisms::probe());
        assert!(rows.len() > 12);
        for row in &rows {
            assert!(!row.detail.is_empty() && !row.detail.contains('\n'), "{row:?}");
        }
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.capability).collect();
        assert_eq!(names.len(), rows.len(), "each capability once");
    }
}
