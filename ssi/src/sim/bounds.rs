//! How long things may last, whatever happens.

use super::{Lasting, Simulation, Violation};
use crate::member::{MemberState, Mode};
use crate::name::Slot;

/// A request is answered within this time in which its member is awake, in ms: thirty heartbeats, and what clocks differ by.
const REQUEST_MS_MAX: u64 = 40_000;
/// A member joins or leaves for so long at most while a joined one watches: fifteen seconds, the way to the record and back,
/// and what clocks differ by.
const TRANSITION_MS_MAX: u64 = 28_000;

impl Simulation {
    /// Looked at now and then: nothing waits without a bound.
    pub(super) fn check_bounds(&mut self) -> Result<(), Violation> {
        self.check_requests()?;
        self.check_transition()
    }

    fn check_requests(&mut self) -> Result<(), Violation> {
        for slot in Slot::all() {
            let node = &self.nodes[slot.index()];
            if node.paused || node.blocked {
                continue;
            }
            for asked in node.requests.values() {
                let waits_ms = self.now_ms - asked.at_ms.max(node.steady_since_ms);
                self.tally.longest_wait_ms = self.tally.longest_wait_ms.max(waits_ms);
                if waits_ms > REQUEST_MS_MAX {
                    let what =
                        format!("slot {slot} has not answered the logon of {} for {waits_ms} ms", asked.user);
                    return Err(self.violation(what));
                }
            }
        }
        Ok(())
    }

    fn check_transition(&mut self) -> Result<(), Violation> {
        let Some((slot, since_ms)) = self.changing_since else { return Ok(()) };
        let watches_since_ms = |other: Slot| {
            let node = &self.nodes[other.index()];
            let watches = other != slot
                && node.member.is_some()
                && !node.paused
                && !node.blocked
                && self.now_ms >= node.cut_off_until_ms
                && self.record.entry(other).state == MemberState::Joined;
            watches.then_some(node.steady_since_ms.max(node.cut_off_until_ms))
        };
        let Some(watched_ms) = Slot::all().filter_map(watches_since_ms).min() else { return Ok(()) };
        let lasts_ms = self.now_ms - since_ms.max(watched_ms);
        self.tally.longest_transition_ms = self.tally.longest_transition_ms.max(lasts_ms);
        if lasts_ms > TRANSITION_MS_MAX {
            let state = self.record.entry(slot).state;
            return Err(
                self.violation(format!("slot {slot} is {state} for {lasts_ms} ms, and others wait for it"))
            );
        }
        Ok(())
    }

    /// Something stays broken: what must hold for those who can, long after everything else has healed.
    pub(super) fn check_lasting(&mut self) -> Result<(), Violation> {
        let (gone, cut) = match self.lasting {
            Lasting::Nothing => return Ok(()),
            Lasting::Link(a, b) => (None, Some((a, b))),
            // One whose heartbeat stands still is declared down by itself only if it has promised to stop.
            Lasting::Volume(slot) if self.record.entry(slot).state == MemberState::Joined => return Ok(()),
            Lasting::Member(slot) | Lasting::Volume(slot) => (Some(slot), None),
        };
        self.tally.lasting += 1;
        let is_joined = |slot: Slot| self.record.entry(slot).state == MemberState::Joined;
        let apart = cut.is_some_and(|(a, b)| is_joined(a) && is_joined(b));
        for slot in Slot::all().filter(|slot| Some(*slot) != gone) {
            let Some(member) = &self.nodes[slot.index()].member else {
                return Err(
                    self.violation(format!("slot {slot} does not run, though nothing keeps it from it"))
                );
            };
            let mode = member.view().mode;
            let kept_out = cut.is_some_and(|(a, b)| slot == a || slot == b) && !apart;
            let is_well = match mode {
                Mode::Stable => true,
                Mode::Safe => apart || (kept_out && !is_joined(slot)),
                Mode::InFlux => false,
            };
            if !is_well {
                let what = format!("with {:?} slot {slot} is {mode}:", self.lasting);
                return Err(self.violation(format!("{what} {}", self.unrest().what)));
            }
            if mode == Mode::Safe && member.waits_for().is_none() {
                return Err(self.violation(format!("slot {slot} is {mode} and does not say why")));
            }
        }
        Ok(())
    }
}
