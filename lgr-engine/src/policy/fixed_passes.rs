//! A rule that counts.

use serde::{Deserialize, Serialize};

use super::{PassHistory, PassPolicy, Reason, Verdict};

/// Quiesce after a fixed number of passes, converged or not: the smallest policy, for experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedPasses(
    /// Passes over the running guest; zero is read as 1.
    pub u32,
);

impl PassPolicy for FixedPasses {
    fn name(&self) -> &'static str {
        "fixed-passes"
    }

    fn rule(&self) -> String {
        format!("{}:{}", self.name(), self.0)
    }

    fn judge(&self, history: &PassHistory) -> Verdict {
        let wanted = self.0.min(history.limits.max_passes).max(1) as usize;
        if history.passes.len() < wanted {
            return Verdict::AnotherPass;
        }
        let predicted_ms = self.predicted_quiesce_ms(history);
        let reason = Reason::PassLimit { passes: history.passes.len() as u32, predicted_ms };
        history.quiesce_or_give_up(predicted_ms, reason)
    }
}
