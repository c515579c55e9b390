//! The rule most other engines have: a limit on the time to send what is left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PassHistory, PassPolicy, Reason, Verdict, to_ms};

/// Quiesce as soon as what is left could be sent within a limit: pending bytes / link rate ≤ limit.
///
/// This is QEMU's `downtime-limit` (300 ms unless set) and cloud-hypervisor's `downtime_ms`. What stopping costs beside
/// the pages is not in the sum, so the guest may be stopped for longer than the limit. Those engines go on for ever with
/// a guest that changes memory faster than the link carries it; here the pass limit ends it, and MAXTOTAL and
/// MAXQUIESCE are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Longest time that sending the rest may take.
    pub limit: Duration,
}

impl Default for Threshold {
    fn default() -> Self {
        Self { limit: Duration::from_millis(300) }
    }
}

impl PassPolicy for Threshold {
    fn name(&self) -> &'static str {
        "threshold"
    }

    fn rule(&self) -> String {
        format!("{}:{}", self.name(), to_ms(self.limit))
    }

    fn judge(&self, history: &PassHistory) -> Verdict {
        if history.passes.is_empty() {
            return Verdict::AnotherPass;
        }
        let (transfer_ms, limit_ms) = (history.transfer_ms(), to_ms(self.limit));
        if transfer_ms <= limit_ms {
            let predicted_ms = self.predicted_quiesce_ms(history);
            let remaining_bytes = history.pending_bytes;
            let reason = Reason::BelowThreshold { remaining_bytes, transfer_ms, limit_ms, predicted_ms };
            return history.quiesce_or_give_up(predicted_ms, reason);
        }
        if history.passes.len() < history.limits.max_passes.max(1) as usize {
            return Verdict::AnotherPass;
        }
        let passes = history.passes.len();
        let text =
            format!("{passes} passes done, and the rest still takes {transfer_ms:.1} of {limit_ms:.1} ms");
        Verdict::GiveUp(Reason::Other { policy: self.name().to_owned(), text })
    }
}
