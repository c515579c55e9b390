//! What a relocation leaves behind: one struct, exported as JSON with a schema, and shown as a table.
//!
//! ```text
//!  source side ──▶ Report (half) ─┐
//!                                 ├─▶ Report::merge ─▶ to_json_pretty   for programs
//!  destination ──▶ Report (half) ─┘                    table::render    for people
//! ```
//!
//! Each side fills in what it knows and leaves the rest `null`. A number that was not measured is
//! `null` and never zero. Guest memory (`bytes`, `bytes_logical`) and bytes on the wire are always
//! given apart; the stop is split into named parts; a dirty rate is left out for passes too short to
//! tell one. The fields follow what z/VM keeps of a relocation (RLOBK, MPIBK, monitor record D4R12) and
//! what other engines' users asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::owner::{GuestName, MemberName};
use crate::source::Outcome;

mod codec;
mod environment;
#[cfg(test)]
mod facts_tests;
mod finish;
mod merge;
mod parts;
pub mod table;
#[cfg(test)]
mod tests;

pub use codec::{CodecDecision, CodecReport};
pub use environment::{Environment, ProcessUsage, tell_program_revision};
pub use finish::{Finish, FinishCode, UnknownFinishCode};
pub use merge::MergeError;
pub use parts::{
    EngineKind, Fallback, LimitsGiven, LinkTls, PassKind, PassReport, PerSide, QueueLatency, QueueReport,
    QuiesceParts, RunsOn, Side, TickPercentiles, Ticks, TimelineReport, VERIFICATION_FAULTS_MAX,
    Verification,
};

/// Version of the report's schema. Raised by one whenever a field changes its meaning or goes away;
/// a new field alone does not raise it.
pub const SCHEMA_VERSION: u32 = 3;
/// Oldest version that is read, too.
const SCHEMA_VERSION_OLDEST: u32 = 2;

/// One relocation, from request to finish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Live guest relocation report")]
pub struct Report {
    /// Version of this schema.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// The guest that was to be moved.
    pub guest: GuestName,
    /// The member it ran on.
    pub source: MemberName,
    /// The member it was to run on.
    pub destination: MemberName,
    /// Whose knowledge is in this report; both sides after a merge.
    pub sides_known: Vec<Side>,
    /// The options as given, by their names on the command line.
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
    /// The limits in force at the end.
    pub limits: LimitsGiven,

    /// Whether the guest's memory was compared after the move and every page was right; `null` when it
    /// was not compared. A relocation that is not verified counts as failed.
    pub verified: Option<bool>,
    /// What the comparison looked at and found.
    pub verification: Option<Verification>,
    /// How it ended, and why.
    pub finish: Finish,
    /// Who runs the guest now, by the owner record.
    pub runs_on: RunsOn,

    /// The side whose process ended, and the guest that it ran with it, as far as anybody who watched it knows; `null` if
    /// none was seen to end. `runs_on` is still what the owner record says.
    #[serde(default)]
    pub died_with: Option<Side>,

    /// From the wish to move the guest, which runs, until it runs at the destination (or the move was given up), in ms.
    /// It is `link_ms`, `prepare_ms` and `transfer_ms`, one after the other.
    pub total_ms: Option<f64>,
    /// Forming the link, in ms; `null` where the link was there already.
    #[serde(default)]
    pub link_ms: Option<f64>,
    /// From the offer until the destination was ready for the first pass: eligibility, a skeleton guest, with `--prefault`
    /// memory made ready; in ms. All that was left if the move ended before.
    #[serde(default)]
    pub prepare_ms: Option<f64>,
    /// From there until the guest runs at the destination (or the move was given up), in ms: the passes and the stop.
    #[serde(default)]
    pub transfer_ms: Option<f64>,
    /// How long the engine held the guest stopped, in ms; `null` when it never stopped it.
    pub quiesce_ms: Option<f64>,
    /// `quiesce_ms` in parts.
    pub quiesce: Option<QuiesceParts>,
    /// How long the guest did not run as it saw itself: the largest gap between its ticks, in ms.
    pub blackout_ms: Option<f64>,
    /// The guest's tick gaps before, during and after the move.
    #[serde(default)]
    pub ticks: Ticks,

    /// Size of the guest's memory, in bytes.
    pub guest_memory_bytes: u64,
    /// Guest memory ever written, so the size of the first pass, in bytes.
    pub bytes_touched: Option<u64>,
    /// Guest memory sent in all passes together, zero pages counted in full, in bytes.
    pub bytes_logical: Option<u64>,
    /// Bytes of all transfers the source sent, headers included.
    pub bytes_wire: Option<u64>,
    /// `bytes_touched` over `total_ms`, in bytes per second; `null` if the guest was not moved.
    pub throughput_bytes_per_s: Option<u64>,
    /// `bytes_touched` over `transfer_ms`, in bytes per second.
    #[serde(default)]
    pub transfer_bytes_per_s: Option<u64>,
    /// Memory the guest's writers meant to change per second; `null` when they have no target.
    pub intended_write_bytes_per_s: Option<u64>,
    /// Memory they really changed per second while the move went on.
    pub achieved_write_bytes_per_s: Option<u64>,
    /// Processor time of each side's process while memory was moved (`transfer_ms`), user and system, in seconds.
    #[serde(default)]
    pub cpu_s: PerSide<f64>,
    /// Largest resident memory of each side's process, in bytes.
    #[serde(default)]
    pub memory_peak_bytes: PerSide<u64>,

    /// The stop rule in force, with its numbers, for example `default` or `threshold:300`.
    pub policy: String,
    /// Every pass, repeated and final ones too, in order of time.
    #[serde(default)]
    pub passes: Vec<PassReport>,
    /// Every device queue, by side and number.
    #[serde(default)]
    pub queues: Vec<QueueReport>,
    /// What the source's queues did over time.
    #[serde(default)]
    pub timeline: TimelineReport,
    /// What carried the data: `tcp`, `unix` or `shm`.
    pub medium: String,
    /// How the link was encrypted, and who each side found at the other end; `null` in plaintext.
    #[serde(default)]
    pub tls: Option<LinkTls>,
    /// How data pages went out, by codec; `null` in a half of the destination and in reports of older programs.
    #[serde(default)]
    pub codec: Option<CodecReport>,
    /// Page size the guest's memory is counted in, in bytes.
    pub page_size: u64,
    /// Unit in which changed memory is found, in bytes; larger than a page with huge pages.
    pub granule: u64,
    /// How changed memory was found.
    pub tracker: String,
    /// How the queues did their I/O; `blocking` if one side at least could not use io_uring.
    pub engine: EngineKind,
    /// What was used in place of something better that is missing here, and why.
    #[serde(default)]
    pub fallbacks: Vec<Fallback>,
    /// The machine of each side.
    #[serde(default)]
    pub environment: PerSide<Environment>,
}

/// Why a text is not a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not JSON, or a field is missing or has another type.
    #[error("not a relocation report: {0}")]
    Json(#[from] serde_json::Error),
    /// It has a schema this program does not know. Use the program that wrote it.
    #[error(
        "the report has schema version {found}, this program knows versions {SCHEMA_VERSION_OLDEST} to {SCHEMA_VERSION}"
    )]
    UnknownVersion {
        /// The version in the report.
        found: u64,
    },
}

/// The one field that all versions of the schema have.
#[derive(Deserialize)]
struct Versioned {
    schema_version: u64,
}

impl Versioned {
    fn check(&self) -> Result<(), ReportError> {
        if (u64::from(SCHEMA_VERSION_OLDEST)..=u64::from(SCHEMA_VERSION)).contains(&self.schema_version) {
            return Ok(());
        }
        Err(ReportError::UnknownVersion { found: self.schema_version })
    }
}

impl Report {
    /// A report of `side` with the names and the end, and everything else not known yet.
    pub fn new(
        side: Side,
        guest: GuestName,
        source: MemberName,
        destination: MemberName,
        finish: Finish,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            guest,
            source,
            destination,
            sides_known: vec![side],
            options: BTreeMap::new(),
            limits: LimitsGiven::default(),
            verified: None,
            verification: None,
            finish,
            runs_on: RunsOn::Unknown,
            died_with: None,
            total_ms: None,
            link_ms: None,
            prepare_ms: None,
            transfer_ms: None,
            quiesce_ms: None,
            quiesce: None,
            blackout_ms: None,
            ticks: Ticks::default(),
            guest_memory_bytes: 0,
            bytes_touched: None,
            bytes_logical: None,
            bytes_wire: None,
            throughput_bytes_per_s: None,
            transfer_bytes_per_s: None,
            intended_write_bytes_per_s: None,
            achieved_write_bytes_per_s: None,
            cpu_s: PerSide::default(),
            memory_peak_bytes: PerSide::default(),
            policy: String::new(),
            passes: Vec::new(),
            queues: Vec::new(),
            timeline: TimelineReport::default(),
            medium: String::new(),
            tls: None,
            codec: None,
            page_size: 4096,
            granule: 4096,
            tracker: String::new(),
            engine: EngineKind::IoUring,
            fallbacks: Vec::new(),
            environment: PerSide::default(),
        }
    }

    /// The source's report, so far as its core knows it.
    pub(crate) fn of_outcome(
        guest: GuestName,
        source: MemberName,
        destination: MemberName,
        outcome: &Outcome,
    ) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (quiesce, parts) = outcome.quiesce.clone().unzip();
        Self {
            runs_on: outcome.runs_on,
            total_ms: Some(ms(outcome.total)),
            link_ms: Some(outcome.link).filter(|link| !link.is_zero()).map(ms),
            prepare_ms: Some(ms(outcome.prepare)),
            transfer_ms: Some(ms(outcome.transfer)),
            quiesce_ms: quiesce.map(ms),
            quiesce: parts,
            ..Self::new(Side::Source, guest, source, destination, outcome.finish.clone())
        }
    }

    /// A guest that was not moved has no rate.
    fn derive_rates(&mut self) {
        let bytes = self.bytes_touched.filter(|_| self.runs_on == RunsOn::Destination);
        let over = |ms: Option<f64>| {
            let (bytes, ms) = bytes.zip(ms.filter(|ms| *ms > 0.0))?;
            Some((bytes as f64 * 1e3 / ms) as u64)
        };
        self.throughput_bytes_per_s = over(self.total_ms);
        self.transfer_bytes_per_s = over(self.transfer_ms);
    }

    /// Fills in what follows from other fields: `throughput_bytes_per_s`, `transfer_bytes_per_s`, `verified`, and the
    /// part of the stop that has no name. Call it last.
    pub fn derive_fields(&mut self) {
        self.derive_rates();
        if let Some(verification) = &self.verification {
            self.verified = Some(verification.passed());
        }
        if let (Some(quiesce_ms), Some(parts)) = (self.quiesce_ms, &mut self.quiesce) {
            parts.other = 0.0;
            let unnamed = quiesce_ms - parts.sum_ms();
            // Less than a nanosecond is what adding floats leaves.
            parts.other = if unnamed < 1e-6 { 0.0 } else { unnamed };
        }
    }

    /// The report as indented JSON with a newline at its end.
    pub fn to_json_pretty(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report has string keys only");
        text.push('\n');
        text
    }

    /// Reads a report.
    ///
    /// # Errors
    /// The text is not a report, or one with another schema version.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        // The version is looked at first: a later schema may lack fields this one needs.
        serde_json::from_str::<Versioned>(text)?.check()?;
        Ok(serde_json::from_str::<Self>(text)?.brought_up_to_date())
    }

    /// What a report of an older version says, in the words of this one. Version 2 left out of its total what came before
    /// the first pass.
    fn brought_up_to_date(self) -> Self {
        if self.schema_version == SCHEMA_VERSION {
            return self;
        }
        let codec = self.codec.map(CodecReport::without_made_up_zeros);
        let verification = self.verification.map(|found| found.of_version_2(self.runs_on));
        let total_ms = self.total_ms.map(|ms| ms + self.prepare_ms.unwrap_or(0.0));
        let mut report = Self {
            schema_version: SCHEMA_VERSION,
            codec,
            verification,
            transfer_ms: self.total_ms,
            total_ms,
            ..self
        };
        report.derive_rates();
        report
    }

    /// Reads an array of reports, as several runs leave it.
    ///
    /// # Errors
    /// As [`Report::from_json`], if one of them is not a report.
    pub fn several_from_json(text: &str) -> Result<Vec<Self>, ReportError> {
        for versioned in serde_json::from_str::<Vec<Versioned>>(text)? {
            versioned.check()?;
        }
        let reports: Vec<Self> = serde_json::from_str(text)?;
        Ok(reports.into_iter().map(Self::brought_up_to_date).collect())
    }

    /// The JSON schema of a report (draft 2020-12).
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Report).to_value()
    }
}
