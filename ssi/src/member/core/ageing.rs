//! Time taken out of a member, for whoever compares members of different times.

use super::*;

impl Member {
    /// This member as if all that happened to it so far had happened `by_ms` earlier, seen at `now_ms`.
    ///
    /// Times so long ago, or deadlines so long past, that how long makes no difference any more are levelled. So of two
    /// members that behave alike from now on, most become equal: a model checker needs to visit only one of them.
    pub fn age(&mut self, now_ms: u64, by_ms: u64) {
        let earlier = |time_ms: u64, least_ms: u64| time_ms.saturating_sub(by_ms).max(least_ms);
        let due = |time_ms: &mut u64| *time_ms = earlier(*time_ms, now_ms);
        match &mut self.life {
            Life::Waiting { retry_at_ms } | Life::WantsOut { retry_at_ms } => due(retry_at_ms),
            Life::Asking(ask) | Life::Committing(ask) | Life::Leaving(ask) => due(&mut ask.deadline_ms),
            Life::Down | Life::Connecting | Life::Retreating | Life::Joined | Life::Isolated | Life::Gone => {
            }
        }
        due(&mut self.heartbeat_at_ms);
        due(&mut self.beat_at_ms);
        due(&mut self.begin_from_ms);
        due(&mut self.join_deadline_ms);
        if let Some((.., since_ms)) = &mut self.changing {
            *since_ms = earlier(*since_ms, now_ms.saturating_sub(self.timing.transition_ms_max + 1));
        }
        self.handled_at_ms = earlier(self.handled_at_ms, now_ms.saturating_sub(self.timing.gap_ms_max() + 1));
        let written_least_ms = now_ms.saturating_sub(self.timing.fence_after_ms + 1);
        self.written_at_ms = earlier(self.written_at_ms, written_least_ms);
        if let Some((_, began_ms)) = &mut self.under_way {
            *began_ms = earlier(*began_ms, written_least_ms);
        }
        let moved_least_ms = now_ms.saturating_sub(self.timing.down_after_ms + 1);
        for watch in &mut self.watch {
            watch.moved_at_ms = earlier(watch.moved_at_ms, moved_least_ms);
        }
    }
}
