//! The source's half of the report: what its passes did.

use guest_mem::PAGE_SIZE;

use super::super::halves::fill_experience;
use super::{Run, ms};
use crate::codec::Compress;
use crate::report::{CodecReport, Fallback, LimitsGiven, PassReport, Report, Side};
use crate::source::{Outcome, PassDone};

impl Run<'_> {
    pub(super) fn report(&mut self, outcome: &Outcome, policy: &str, rate_limit: Option<u64>) -> Report {
        let record = self.record;
        let mut report = Report::of_outcome(record.guest, self.member, self.destination, outcome);
        report.limits = LimitsGiven::new(&self.limits, rate_limit);
        fill_experience(&mut report, self.guest);
        report.guest_memory_bytes = self.guest.storage().len_bytes();
        report.bytes_touched = Some(self.touched_bytes);
        report.policy = policy.to_owned();
        report.tracker = self.guest.tracker().kind().to_string();
        report.granule = self.guest.tracker().granule_bytes();
        if let Some(reason) = self.guest.tracker_fallback() {
            report.fallbacks.push(Fallback {
                side: Side::Source,
                wanted: "userfaultfd".to_owned(),
                used: "software".to_owned(),
                reason: reason.to_owned(),
            });
        }
        self.report_codec(&mut report);
        report.passes = outcome.passes.iter().map(|done| self.pass_report(done)).collect();
        report.bytes_logical = Some(report.passes.iter().map(|pass| pass.bytes).sum());
        report.bytes_wire = Some(self.passes.iter().map(|sent| sent.pass.wire_bytes()).sum());
        report
    }

    fn report_codec(&self, report: &mut Report) {
        let why_not = self.why_not_packed.clone();
        if let (Compress::Zstd(_), Some(reason)) = (self.compress, why_not.clone()) {
            let (wanted, used) = (self.compress.to_string(), "raw".to_owned());
            report.fallbacks.push(Fallback { side: Side::Source, wanted, used, reason });
        }
        report.codec = Some(match (self.feed.packing(), why_not) {
            (Some(packing), _) => CodecReport::new(self.compress, &packing.summary()),
            (None, why_not) => CodecReport::none(self.compress, why_not.unwrap_or_default()),
        });
    }

    fn pass_report(&self, done: &PassDone) -> PassReport {
        let sent = self.passes.iter().find(|sent| sent.epoch == done.epoch);
        let first = self.passes.first().map(|sent| sent.began);
        let pages = match sent {
            Some(sent) if done.cut_short => {
                (sent.pass.sent_bytes() / PAGE_SIZE as u64).min(sent.pass.totals().pages)
            }
            _ => done.pages,
        };
        PassReport {
            number: done.number,
            kind: done.kind,
            pages,
            // Counted when pages are made ready to be sent, which some of a pass that was cut short never were.
            zero_pages: sent.filter(|_| !done.cut_short).map(|sent| sent.pass.zero_pages()),
            bytes: pages * PAGE_SIZE as u64,
            wire_bytes: sent.map_or(0, |sent| sent.pass.wire_bytes()),
            ms: ms(done.duration),
            dirty_pages_after: done.dirty_pages_after,
            cut_short: done.cut_short,
            predicted_quiesce_ms: done.predicted_quiesce_ms,
            dirty_rate_bytes_per_s: done.dirty_rate_bytes_per_s(),
            repeated: done.repeated,
            began_ms: sent.zip(first).map(|(sent, first)| ms(sent.began - first)),
        }
    }
}
