//! What must hold after every event, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Simulation;
use crate::member::{MemberState, Mode};
use crate::name::{Slot, UserId};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in ms of virtual time.
    pub at_ms: u64,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ms: {}", self.at_ms, self.what)
    }
}

impl Simulation {
    pub(super) fn violation(&self, what: String) -> Violation {
        Violation { at_ms: self.now_ms, what }
    }

    /// After every event.
    pub(super) fn check(&self) -> Result<(), Violation> {
        self.check_guests()?;
        self.check_words()?;
        self.check_record()
    }

    /// A single-configuration user's guest runs at most once. One on a member that sleeps does not run.
    fn check_guests(&self) -> Result<(), Violation> {
        let mut runs: BTreeMap<UserId, Slot> = BTreeMap::new();
        for slot in Slot::all().filter(|slot| !self.nodes[slot.index()].paused) {
            for user in &self.nodes[slot.index()].guests {
                if let Some(other) = runs.insert(*user, slot) {
                    return Err(self.violation(format!("{user} runs at slot {other} and at slot {slot}")));
                }
            }
        }
        Ok(())
    }

    /// One member joins or leaves at a time.
    fn check_record(&self) -> Result<(), Violation> {
        let changing = Slot::all().filter(|slot| {
            matches!(self.record.entry(*slot).state, MemberState::Joining | MemberState::Leaving)
        });
        match changing.count() {
            0 | 1 => Ok(()),
            count => Err(self.violation(format!("{count} members join or leave at once"))),
        }
    }

    /// Whoever joins fits those that are joined: whatever was said between them, a veto holds.
    pub(super) fn check_fit(&self, slot: Slot) -> Result<(), Violation> {
        let with = |slot: Slot| self.joined_with[slot.index()];
        match self.record.in_state(MemberState::Joined).find(|other| with(*other) != with(slot)) {
            None => Ok(()),
            Some(other) => Err(self.violation(format!(
                "slot {slot} joins, though its configuration does not fit that of slot {other}"
            ))),
        }
    }

    /// Only a joined member of a stable cluster grants.
    pub(super) fn check_grant(&self, slot: Slot, user: UserId) -> Result<(), Violation> {
        let view = self.nodes[slot.index()].member.as_ref().map(|member| *member.view());
        let mode = view.map(|view| view.mode);
        let state = self.record.entry(slot).state;
        if mode == Some(Mode::Stable) && state == MemberState::Joined {
            return Ok(());
        }
        Err(self.violation(format!("slot {slot} grants {user}: it is {state}, its mode {mode:?}")))
    }

    /// Every member knows the same holders, and they are the true ones.
    pub(super) fn is_of_one_mind(&self) -> bool {
        let truth = self.holders();
        self.nodes.iter().all(|node| {
            let Some(member) = &node.member else { return false };
            let Some(logon) = super::process::logon(member) else { return false };
            let mut known: BTreeMap<UserId, Slot> = logon.elsewhere().collect();
            known.extend(logon.here().map(|(user, _)| (user, member.view().me)));
            known == truth
        })
    }

    /// Every member speaks the level of the oldest.
    pub(super) fn is_of_one_level(&self) -> bool {
        let mut members = self.nodes.iter().filter_map(|node| node.member.as_ref());
        members.all(|member| Some(member.members_level()) == self.record.members_level())
    }

    /// Members of several levels are joined.
    pub(super) fn is_mixed(&self) -> bool {
        let levels: BTreeSet<u16> =
            self.record.in_state(MemberState::Joined).map(|slot| self.record.entry(slot).level).collect();
        levels.len() > 1
    }

    fn holders(&self) -> BTreeMap<UserId, Slot> {
        let of = |slot: Slot| self.nodes[slot.index()].guests.iter().map(move |user| (*user, slot));
        Slot::all().flat_map(of).collect()
    }

    /// Why the cluster is not at rest.
    pub(super) fn unrest(&self) -> Violation {
        let mut what = "the cluster does not come to rest:".to_owned();
        for (slot, node) in Slot::all().zip(&self.nodes) {
            let view = node.member.as_ref().map(|member| {
                let view = member.view();
                let knows = super::process::logon(member).map(|logon| logon.elsewhere().collect::<Vec<_>>());
                (view.mode, view.states, knows.unwrap_or_default())
            });
            let (waits, runs) = (node.requests.len(), &node.guests);
            what += &format!(" slot {slot} {view:?}, runs {runs:?}, {waits} requests wait;");
        }
        what += &format!(" of one mind: {}; record {:?}", self.is_of_one_mind(), self.record.entries);
        self.violation(what)
    }
}
