//! What must hold after every event, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Simulation;
use crate::member::{MemberState, Mode};
use crate::name::{Slot, UserId};
use crate::service::UserKind;

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
        self.check_words()?;
        self.check_record()
    }

    /// A single-configuration user's guest runs at most once, and beside no other of that user. One on a member that sleeps
    /// does not run. Looked at when one begins to run: here.
    pub(super) fn check_guests_of(&self, slot: Slot) -> Result<(), Violation> {
        self.nodes[slot.index()].guests.keys().try_for_each(|user| self.check_guest(slot, *user))
    }

    pub(super) fn check_guest(&self, slot: Slot, user: UserId) -> Result<(), Violation> {
        let kind = |slot: Slot| self.nodes[slot.index()].guests.get(&user);
        let runs = |other: &Slot| *other != slot && !self.nodes[other.index()].paused;
        for other in Slot::all().filter(runs) {
            if let (Some(here), Some(there)) = (kind(slot), kind(other))
                && (*here, *there) != (UserKind::Multi, UserKind::Multi)
            {
                let what = format!("{user} runs at slot {other} ({there:?}) and at slot {slot} ({here:?})");
                return Err(self.violation(what));
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
            let single = |(_, kind): &(UserId, UserKind)| *kind == UserKind::Single;
            known.extend(logon.here().filter(single).map(|(user, _)| (user, member.view().me)));
            known == truth && logon.here().collect::<BTreeMap<_, _>>() == node.guests
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
        let single = |(_, kind): &(&UserId, &UserKind)| **kind == UserKind::Single;
        let of = |slot: Slot| {
            self.nodes[slot.index()].guests.iter().filter(single).map(move |(user, _)| (*user, slot))
        };
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
