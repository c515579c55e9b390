//! A member's clock: it runs a little fast or slow, jumps ahead, and is set back.

/// Where clocks begin, so that one that is set back does not go below zero.
const BEGINS_MS: i64 = 1_000_000_000;

/// Of one member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    ahead_ms: i64,
    /// By how much it runs fast.
    drift_permille: i64,
    pub(super) jumped_at_ms: u64,
}

impl Clock {
    pub(super) fn new(drift_permille: i64) -> Self {
        Self { ahead_ms: BEGINS_MS, drift_permille, jumped_at_ms: 0 }
    }

    /// What it shows at a true time.
    pub(super) fn local_ms(&self, true_ms: u64) -> u64 {
        let true_ms = true_ms.cast_signed();
        (true_ms + true_ms * self.drift_permille / 1_000 + self.ahead_ms).max(0).cast_unsigned()
    }

    /// When it will show this.
    pub(super) fn true_ms(&self, local_ms: u64) -> u64 {
        let since = local_ms.cast_signed() - self.ahead_ms;
        (since.max(0) * 1_000 / (1_000 + self.drift_permille)).cast_unsigned()
    }

    pub(super) fn jump(&mut self, now_ms: u64, by_ms: i64) {
        self.ahead_ms += by_ms;
        self.jumped_at_ms = now_ms;
    }
}
