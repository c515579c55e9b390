//! The stop rule used unless another is chosen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PassHistory, PassPolicy, PassSummary, Reason, Verdict, to_ms};

/// How many passes back the rule looks for the best moment once the passes no longer shrink. Longer than
/// a burst of a phased workload takes in passes, short enough that a lucky pass is forgotten.
const BEST_WINDOW_PASSES: usize = 8;
/// A moment counts as the best again when it is at most this much worse.
const BEST_TOLERANCE: f64 = 1.1;
/// Another pass gains nothing once sending the rest takes at most this share of the stop cost.
const NEGLIGIBLE_TRANSFER_SHARE: f64 = 0.25;

/// The default stop rule: first criterion that holds, in this order, after each pass.
///
/// *Predicted* is the time the guest would be stopped now: (pending bytes / link rate + stop cost) ×
/// [`safety_factor`](Self::safety_factor). "Quiesce if it fits" means: predicted is within MAXQUIESCE
/// and ends before MAXTOTAL; otherwise give up and say which limit is in the way.
///
/// 1. **MAXTOTAL exceeded**: it has passed. Give up.
/// 2. **IMMEDIATE**: after the first pass, quiesce if it fits. By default it always does: IMMEDIATE has
///    no limits unless they are given with it.
/// 3. **Converged**: predicted is at most [`target_blackout`](Self::target_blackout), or sending the
///    rest takes less than a quarter of the stop cost, so another pass could not help. Quiesce if it
///    fits (below the target it may still exceed a MAXQUIESCE that is smaller: then only criteria 1 and
///    4 end the passes).
/// 4. **Pass limit**: `max_passes` are done. Quiesce if it fits.
/// 5. **MAXTOTAL near**: a pass that sends the pending pages, and a stop as long as predicted now,
///    would end after MAXTOTAL, but stopping now would not. Quiesce, provided that predicted is within
///    MAXQUIESCE.
/// 6. **No longer shrinking**: none of the last [`stall_passes`](Self::stall_passes) passes left less
///    than [`shrink_ratio`](Self::shrink_ratio) × the best before them. Quiesce at the next local
///    minimum: when what is pending is within 10 % of the least of the last 8 passes, and predicted is
///    at most [`quiesce_share`](Self::quiesce_share) × MAXQUIESCE. A guest that works in bursts is so
///    stopped between two of them.
/// 7. **Out of reach**: no pass so far has left so little that a stop would have kept MAXQUIESCE, and if the passes that
///    are left shrink like the last ones, and one of them as well as the best since the first, none of them will either.
///    Give up. *The last ones* are at least
///    [`watch_passes`](Self::watch_passes) and have taken [`watch_time`](Self::watch_time) together, so that a guest is
///    not given up in the middle of a burst; a lull that would once have done is waited for until criterion 4.
/// 8. Otherwise **another pass**.
///
/// It ends: criterion 4 holds at the latest after `max_passes` passes. To go on with a move that is out of reach, give
/// it a larger MAXQUIESCE, IMMEDIATE, or the rule [`FixedPasses`](super::FixedPasses).
///
/// No other engine read for this has criterion 7: QEMU and Cloud Hypervisor go on until somebody outside loses patience
/// (`timeout_s` is an hour), Xen counts passes. KubeVirt watches QEMU from outside for want of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultPolicy {
    /// Criterion 3: stop as soon as the guest would be stopped this long at most. Default 2 ms: less than the
    /// fixed cost of stopping on most machines, so that passes go on until another would gain nothing.
    pub target_blackout: Duration,
    /// What predictions are multiplied with, at least 1. Default 1.25: the link is slower for small final
    /// passes than for large ones.
    pub safety_factor: f64,
    /// Criterion 6: passes without progress before the rule stops hoping. Default 3.
    pub stall_passes: usize,
    /// Criterion 6: a pass makes progress if it leaves less than this share of the best. Default 0.9.
    pub shrink_ratio: f64,
    /// Criterion 6: share of MAXQUIESCE that may be used while there are passes left. Default 0.8.
    pub quiesce_share: f64,
    /// Criterion 7: fewest passes from which the pace of the rest is told. Default 2.
    pub watch_passes: usize,
    /// Criterion 7: least time that these have taken together. Default 5 s, several bursts of a phased guest.
    pub watch_time: Duration,
}

impl Default for DefaultPolicy {
    fn default() -> Self {
        Self {
            target_blackout: Duration::from_millis(2),
            safety_factor: 1.25,
            stall_passes: 3,
            shrink_ratio: 0.9,
            quiesce_share: 0.8,
            watch_passes: 2,
            watch_time: Duration::from_secs(5),
        }
    }
}

impl DefaultPolicy {
    /// Criterion 3.
    fn converged(&self, history: &PassHistory, predicted_ms: f64) -> Option<Reason> {
        let (stop_cost_ms, transfer_ms) = (to_ms(history.stop_cost), history.transfer_ms());
        let (remaining_bytes, target_ms) = (history.pending_bytes, to_ms(self.target_blackout));
        if predicted_ms <= target_ms {
            return Some(Reason::Converged { remaining_bytes, predicted_ms, target_ms });
        }
        let negligible = transfer_ms <= stop_cost_ms * NEGLIGIBLE_TRANSFER_SHARE;
        negligible.then_some(Reason::NothingToGain {
            remaining_bytes,
            transfer_ms,
            stop_cost_ms,
            predicted_ms,
        })
    }

    /// Criterion 5, without the question whether stopping now fits.
    fn max_total_near(&self, history: &PassHistory, predicted_ms: f64) -> Option<Reason> {
        let limit_ms = to_ms(history.limits.max_total?);
        let elapsed_ms = to_ms(history.elapsed);
        let after_next_pass_ms = elapsed_ms + history.transfer_ms() + predicted_ms;
        (after_next_pass_ms > limit_ms).then_some(Reason::MaxTotalNear { elapsed_ms, predicted_ms, limit_ms })
    }

    /// Criterion 6, without the question whether stopping now fits.
    fn no_longer_shrinking(&self, history: &PassHistory, predicted_ms: f64) -> Option<Reason> {
        let left: Vec<u64> = history.passes.iter().map(|pass| pass.dirty_pages_after).collect();
        let (earlier, last) = left.split_at_checked(left.len().checked_sub(self.stall_passes.max(1))?)?;
        let best_earlier = *earlier.iter().min()?;
        let progress_below = best_earlier as f64 * self.shrink_ratio;
        if last.iter().any(|&pages| (pages as f64) < progress_below) {
            return None;
        }
        let window = &left[left.len().saturating_sub(BEST_WINDOW_PASSES)..];
        let best_pages = *window.iter().min()?;
        let pending_pages = *left.last()?;
        (pending_pages as f64 <= best_pages as f64 * BEST_TOLERANCE).then_some(Reason::NoLongerShrinking {
            remaining_bytes: history.pending_bytes,
            pending_pages,
            best_pages,
            predicted_ms,
        })
    }
}

/// Criterion 7.
impl DefaultPolicy {
    fn out_of_reach(&self, history: &PassHistory, predicted_ms: f64) -> Option<Reason> {
        let limit_ms = history.max_quiesce_ms()?;
        let passes = &history.passes;
        let last = passes.last()?;
        let too_long = |left_pages: f64| {
            let share = left_pages / last.dirty_pages_after.max(1) as f64;
            (history.transfer_ms() * share + to_ms(history.stop_cost)) * self.safety() > limit_ms
        };
        let least_left = |passes: &[PassSummary]| passes.iter().map(|pass| pass.dirty_pages_after).min();
        let least_ever = least_left(passes)?;
        if least_ever == 0 || !too_long(least_ever as f64) {
            return None;
        }
        let watched = self.watched(passes)?;
        let (before, after) = (watched.first()?.pages.max(1), least_left(watched)?);
        // A rest that grows is held for one that stays: the pace only ever counts for the move.
        let kept_per_pass = (after as f64 / before as f64).powf(1.0 / watched.len() as f64).min(1.0);
        let passes_left = history.limits.max_passes.saturating_sub(passes.len() as u32);
        // A guest whose rests vary may once more do as well as it has done.
        let luck = passes.iter().skip(1).map(|pass| pass.dirty_pages_after as f64 / pass.pages.max(1) as f64);
        let luck = luck.fold(1.0, f64::min);
        let least_to_come = after as f64 * kept_per_pass.powf(f64::from(passes_left)) * luck;
        too_long(least_to_come).then_some(Reason::OutOfReach {
            predicted_ms,
            limit_ms,
            watched_passes: watched.len() as u32,
            kept_per_pass,
        })
    }

    /// The latest passes that are enough to tell a pace from; `None` while there are too few.
    fn watched<'a>(&self, passes: &'a [PassSummary]) -> Option<&'a [PassSummary]> {
        let (mut time, mut count) = (Duration::ZERO, 0);
        for pass in passes.iter().rev() {
            time = time.saturating_add(pass.duration);
            count += 1;
            if count >= self.watch_passes.max(1) && time >= self.watch_time {
                return Some(&passes[passes.len() - count..]);
            }
        }
        None
    }

    fn safety(&self) -> f64 {
        self.safety_factor.max(1.0)
    }
}

impl PassPolicy for DefaultPolicy {
    fn name(&self) -> &'static str {
        "default"
    }

    fn rule(&self) -> String {
        let target_blackout = Self::default().target_blackout;
        if self.target_blackout == target_blackout {
            self.name().to_owned()
        } else {
            format!("{}:{}", self.name(), to_ms(self.target_blackout))
        }
    }

    fn predicted_quiesce_ms(&self, history: &PassHistory) -> f64 {
        history.predicted_quiesce_ms(self.safety())
    }

    fn judge(&self, history: &PassHistory) -> Verdict {
        let passes = u32::try_from(history.passes.len()).unwrap_or(u32::MAX);
        let predicted_ms = self.predicted_quiesce_ms(history);
        let elapsed_ms = to_ms(history.elapsed);

        // 1. MAXTOTAL exceeded.
        if let Some(limit_ms) = history.limits.max_total.map(to_ms).filter(|&limit_ms| elapsed_ms >= limit_ms)
        {
            return Verdict::GiveUp(Reason::MaxTotalExceeded { elapsed_ms, predicted_ms, limit_ms });
        }
        if passes == 0 {
            return Verdict::AnotherPass;
        }
        // 2. IMMEDIATE.
        if history.limits.immediate {
            return history.quiesce_or_give_up(predicted_ms, Reason::Immediate { predicted_ms });
        }
        let pass_limit_reached = passes >= history.limits.max_passes;
        // 3. Converged.
        if let Some(reason) = self.converged(history, predicted_ms) {
            let verdict = history.quiesce_or_give_up(predicted_ms, reason);
            // While there are passes left, the stop cost or the rest may still become smaller.
            if pass_limit_reached || matches!(verdict, Verdict::Quiesce(_)) {
                return verdict;
            }
        }
        // 4. Pass limit.
        if pass_limit_reached {
            return history.quiesce_or_give_up(predicted_ms, Reason::PassLimit { passes, predicted_ms });
        }
        // 5. MAXTOTAL near.
        if let Some(reason) = self.max_total_near(history, predicted_ms)
            && let quiesce @ Verdict::Quiesce(_) = history.quiesce_or_give_up(predicted_ms, reason)
        {
            return quiesce;
        }
        // 6. No longer shrinking.
        let share = self.quiesce_share.clamp(0.0, 1.0);
        let fits_with_reserve =
            history.max_quiesce_ms().is_none_or(|limit_ms| predicted_ms <= limit_ms * share);
        if fits_with_reserve
            && let Some(reason) = self.no_longer_shrinking(history, predicted_ms)
            && let quiesce @ Verdict::Quiesce(_) = history.quiesce_or_give_up(predicted_ms, reason)
        {
            return quiesce;
        }
        // 7. Out of reach. 8. Another pass.
        self.out_of_reach(history, predicted_ms).map_or(Verdict::AnotherPass, Verdict::GiveUp)
    }
}
