//! What all members read and write in one place, the persistent data record, and the changes they make to it.
//!
//! Every change is one atomic read, check and write. So each of these transitions happens once, or not at all, whoever
//! tries and whoever dies:
//!
//! ```text
//!            BeginJoin            FinishJoin             BeginLeave            FinishLeave
//!   Down ───────────────▶ Joining ───────────▶ Joined ───────────────▶ Leaving ───────────▶ Down (left)
//!              QuitJoin:     │ FailJoin           │                       │
//!              Down (left)   ▼                    │ Abend: Down (stopped) │
//!                         Isolated ───────────────┴───────────────────────┘
//!   Joining ── Expel ──▶ Down (declared)          Leaving ── Expel ──▶ Isolated
//!   any state but Down ── DeclareDown, only while its heartbeat stands still ──▶ Down (declared)
//! ```
//!
//! Nobody is declared down without an operator who has not *promised* in the record to stop itself in time: to turn
//! cross-system timeouts on is not enough, since a member that cannot read the record does not know of it.
//!
//! At most one member is Joining or Leaving. A member that has been declared down finds that out at its next heartbeat,
//! which is refused, and stops.

use serde::{Deserialize, Serialize};

use super::message::{LEVEL, LEVEL_OF_PROMISES};
use super::{MemberState, WhyDown};
use crate::name::{ClusterName, MEMBERS_MAX, Slot, SystemName, VolumeLabel};

/// One member's part of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Whose slot it is; `None`: available.
    pub system: Option<SystemName>,
    /// Never Suspended or Unknown: those are views of others.
    pub state: MemberState,
    /// Why it is down, if it is.
    pub why: WhyDown,
    /// Counts the starts of this member.
    pub incarnation: u64,
    /// Counts while the member lives.
    pub heartbeat: u64,
    /// Level of the protocol that this life of the member speaks; 0: it has had none.
    pub level: u16,
    /// This life will stop itself when it has not written its heartbeat in time.
    pub has_promised: bool,
}

/// The record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// Members whose heartbeat stands still are declared down without an operator, if they have promised to stop.
    pub timeouts: bool,
    /// Level of the record itself: one of level 1 has no room for levels and promises of members.
    pub level: u16,
    /// By slot.
    pub entries: [Entry; MEMBERS_MAX as usize],
}

/// A change of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// A member starts.
    BeginJoin {
        /// Its slot.
        slot: Slot,
        /// Its name.
        system: SystemName,
        /// Level of the protocol that it speaks.
        level: u16,
    },
    /// All others have consented.
    FinishJoin(Ident),
    /// Somebody has not.
    FailJoin(Ident),
    /// Somebody is not reached: the member waits outside until it may try again.
    QuitJoin(Ident),
    /// By another member: it joins or leaves for longer than any may. Whether it lives makes no difference. Who joins holds
    /// nothing yet and is down by it. Who leaves is out of the others' way, but what it holds is free only when it is down.
    Expel {
        /// Who.
        ident: Ident,
        /// Joining or Leaving: whoever has come to its end meanwhile is let be.
        from: MemberState,
    },
    /// A member wants to go.
    BeginLeave(Ident),
    /// It holds nothing any more.
    FinishLeave(Ident),
    /// It lives.
    Heartbeat {
        /// Who.
        ident: Ident,
        /// It will stop itself if this was its last heartbeat.
        promises: bool,
    },
    /// It stops without leaving.
    Abend(Ident),
    /// It is declared down.
    DeclareDown {
        /// Who.
        ident: Ident,
        /// Its heartbeat as last seen: it must not have moved since.
        heartbeat: u64,
    },
    /// Cross-system timeouts on or off.
    SetTimeouts(bool),
    /// The record goes to another volume. Nothing in it changes; whoever keeps it sees to that.
    MoveTo(VolumeLabel),
}

/// One life of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ident {
    /// Its slot.
    pub slot: Slot,
    /// Its incarnation.
    pub incarnation: u64,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangeRefused {
    /// The slot belongs to another system, or to none.
    #[error("slot {0} belongs to {1:?}")]
    NotYours(Slot, Option<SystemName>),
    /// Somebody else joins or leaves.
    #[error("slot {0} is {1}: one member joins or leaves at a time")]
    Busy(Slot, MemberState),
    /// The member is in a state from which the change does not lead.
    #[error("slot {0} is {1}")]
    State(Slot, MemberState),
    /// Another life of the member than the one that asks.
    #[error("slot {0} is in its life number {1}")]
    Incarnation(Slot, u64),
    /// It lives.
    #[error("slot {0} gives signs of life")]
    Alive(Slot),
    /// So many starts that they cannot be counted any more.
    #[error("slot {0} has had all the lives that can be counted")]
    Spent(Slot),
    /// The volume does not take the record.
    #[error("volume {0} does not take the record")]
    Volume(VolumeLabel),
}

impl Record {
    /// A cluster whose members are all down.
    pub fn new(cluster: ClusterName, systems: [Option<SystemName>; MEMBERS_MAX as usize]) -> Self {
        let entry = |system| Entry {
            system,
            state: MemberState::Down,
            why: WhyDown::Undetermined,
            incarnation: 0,
            heartbeat: 0,
            level: 0,
            has_promised: false,
        };
        Self { cluster, timeouts: true, level: LEVEL, entries: systems.map(entry) }
    }

    /// One member's part.
    pub fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot.index()]
    }

    /// The slots in `state`.
    pub fn in_state(&self, state: MemberState) -> impl Iterator<Item = Slot> {
        Slot::all().filter(move |slot| self.entry(*slot).state == state)
    }

    /// The member that joins or leaves, if one does.
    pub fn changing(&self) -> Option<Slot> {
        Slot::all()
            .find(|slot| matches!(self.entry(*slot).state, MemberState::Joining | MemberState::Leaving))
    }

    /// Level of the oldest member that is in or wants in.
    pub fn members_level(&self) -> Option<u16> {
        let is_in = |entry: &&Entry| !matches!(entry.state, MemberState::Down | MemberState::Isolated);
        self.entries.iter().filter(is_in).map(|entry| entry.level).min()
    }

    /// Makes `change`, or nothing.
    ///
    /// # Errors
    /// [`ChangeRefused`].
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeRefused> {
        use MemberState::{Down, Isolated, Joined, Joining, Leaving};
        match *change {
            Change::BeginJoin { slot, system, level } => self.begin_join(slot, system, level),
            Change::FinishJoin(ident) => self.step(ident, &[Joining], Joined),
            Change::FailJoin(ident) => self.step(ident, &[Joining], Isolated),
            Change::QuitJoin(ident) => self.go_down(ident, &[Joining], WhyDown::Left),
            Change::Expel { ident, from: Leaving } => {
                let heartbeat = self.entry(ident.slot).heartbeat;
                self.step(ident, &[Leaving], Isolated)?;
                // It is no sign of its life.
                self.entries[ident.slot.index()].heartbeat = heartbeat;
                Ok(())
            }
            Change::Expel { ident, .. } => self.go_down(ident, &[Joining], WhyDown::Declared),
            Change::BeginLeave(ident) => {
                self.check_quiet(ident.slot)?;
                self.step(ident, &[Joined, Isolated], Leaving)
            }
            Change::FinishLeave(ident) => self.go_down(ident, &[Leaving], WhyDown::Left),
            Change::Abend(ident) => {
                self.go_down(ident, &[Joining, Joined, Leaving, Isolated], WhyDown::Stopped)
            }
            Change::Heartbeat { ident, promises } => {
                let keeps_promises = self.level >= LEVEL_OF_PROMISES;
                let entry = self.live(ident)?;
                if entry.state == Down {
                    return Err(ChangeRefused::State(ident.slot, Down));
                }
                entry.heartbeat = entry.heartbeat.wrapping_add(1);
                entry.has_promised = promises && keeps_promises;
                Ok(())
            }
            Change::DeclareDown { ident, heartbeat } => {
                if self.live(ident)?.heartbeat != heartbeat {
                    return Err(ChangeRefused::Alive(ident.slot));
                }
                self.go_down(ident, &[Joining, Joined, Leaving, Isolated], WhyDown::Declared)
            }
            Change::SetTimeouts(timeouts) => {
                self.timeouts = timeouts;
                Ok(())
            }
            Change::MoveTo(_) => Ok(()),
        }
    }

    fn begin_join(&mut self, slot: Slot, system: SystemName, level: u16) -> Result<(), ChangeRefused> {
        self.check_quiet(slot)?;
        let level = level.min(self.level);
        let promises = self.timeouts && level >= LEVEL_OF_PROMISES;
        let entry = &mut self.entries[slot.index()];
        if entry.system != Some(system) {
            return Err(ChangeRefused::NotYours(slot, entry.system));
        }
        if entry.state != MemberState::Down {
            return Err(ChangeRefused::State(slot, entry.state));
        }
        // A life is told from those before it by its number alone.
        entry.incarnation = entry.incarnation.checked_add(1).ok_or(ChangeRefused::Spent(slot))?;
        entry.heartbeat = entry.heartbeat.wrapping_add(1);
        entry.state = MemberState::Joining;
        (entry.level, entry.has_promised) = (level, promises);
        Ok(())
    }

    /// Nobody but `slot` joins or leaves.
    fn check_quiet(&self, slot: Slot) -> Result<(), ChangeRefused> {
        match self.changing() {
            Some(other) if other != slot => Err(ChangeRefused::Busy(other, self.entry(other).state)),
            _ => Ok(()),
        }
    }

    fn live(&mut self, ident: Ident) -> Result<&mut Entry, ChangeRefused> {
        let entry = &mut self.entries[ident.slot.index()];
        if entry.incarnation != ident.incarnation {
            return Err(ChangeRefused::Incarnation(ident.slot, entry.incarnation));
        }
        Ok(entry)
    }

    fn step(&mut self, ident: Ident, from: &[MemberState], to: MemberState) -> Result<(), ChangeRefused> {
        let entry = self.live(ident)?;
        if !from.contains(&entry.state) {
            return Err(ChangeRefused::State(ident.slot, entry.state));
        }
        entry.state = to;
        entry.heartbeat = entry.heartbeat.wrapping_add(1);
        Ok(())
    }

    fn go_down(&mut self, ident: Ident, from: &[MemberState], why: WhyDown) -> Result<(), ChangeRefused> {
        self.step(ident, from, MemberState::Down)?;
        self.entries[ident.slot.index()].why = why;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u8) -> Slot {
        Slot::new(number).unwrap()
    }

    fn system(number: u8) -> SystemName {
        SystemName::new(["MEMBERA", "MEMBERB", "MEMBERC", "MEMBERD"][usize::from(number) - 1]).unwrap()
    }

    fn record() -> Record {
        let name = ClusterName::new("DEMOSSI").unwrap();
        Record::new(name, [1, 2, 3, 4].map(|number| Some(system(number))))
    }

    fn begin(number: u8, name: u8) -> Change {
        Change::BeginJoin { slot: slot(number), system: system(name), level: LEVEL }
    }

    fn heartbeat_of(ident: Ident) -> Change {
        Change::Heartbeat { ident, promises: true }
    }

    fn join(record: &mut Record, number: u8) -> Ident {
        record.apply(&begin(number, number)).unwrap();
        let ident = Ident { slot: slot(number), incarnation: record.entry(slot(number)).incarnation };
        record.apply(&Change::FinishJoin(ident)).unwrap();
        ident
    }

    #[test]
    fn one_member_joins_or_leaves_at_a_time() {
        let mut record = record();
        let first = join(&mut record, 1);
        record.apply(&begin(2, 2)).unwrap();
        let busy = Err(ChangeRefused::Busy(slot(2), MemberState::Joining));
        assert_eq!(record.apply(&begin(3, 3)), busy);
        assert_eq!(record.apply(&Change::BeginLeave(first)), busy);
    }

    #[test]
    fn who_gives_a_sign_of_life_is_not_declared_down_and_who_was_hears_of_it() {
        let mut record = record();
        let ident = join(&mut record, 1);
        let heartbeat = record.entry(slot(1)).heartbeat;
        record.apply(&heartbeat_of(ident)).unwrap();
        let declare = |heartbeat| Change::DeclareDown { ident, heartbeat };
        assert_eq!(record.apply(&declare(heartbeat)), Err(ChangeRefused::Alive(slot(1))));
        record.apply(&declare(heartbeat + 1)).unwrap();
        let down = Err(ChangeRefused::State(slot(1), MemberState::Down));
        assert_eq!(record.apply(&heartbeat_of(ident)), down);
        assert_eq!(record.entry(slot(1)).why, WhyDown::Declared);
        join(&mut record, 1);
        assert_eq!(record.apply(&heartbeat_of(ident)), Err(ChangeRefused::Incarnation(slot(1), 2)));
    }

    #[test]
    fn to_be_expelled_is_no_sign_of_life_and_who_has_come_to_its_end_is_let_be() {
        let mut record = record();
        let ident = join(&mut record, 1);
        let expel = |from| Change::Expel { ident, from };
        let joined = Err(ChangeRefused::State(slot(1), MemberState::Joined));
        assert_eq!(record.apply(&expel(MemberState::Joining)), joined);
        assert_eq!(record.apply(&expel(MemberState::Leaving)), joined);
        record.apply(&Change::BeginLeave(ident)).unwrap();
        let heartbeat = record.entry(slot(1)).heartbeat;
        assert!(record.apply(&expel(MemberState::Joining)).is_err());
        record.apply(&expel(MemberState::Leaving)).unwrap();
        let entry = record.entry(slot(1));
        assert_eq!((entry.state, entry.heartbeat), (MemberState::Isolated, heartbeat));
    }

    #[test]
    fn a_record_of_level_1_takes_no_levels_and_no_promises() {
        let mut record = Record { level: 1, ..record() };
        let ident = join(&mut record, 1);
        record.apply(&heartbeat_of(ident)).unwrap();
        assert_eq!((record.entry(slot(1)).level, record.entry(slot(1)).has_promised), (1, false));
        record.level = LEVEL;
        record.apply(&heartbeat_of(ident)).unwrap();
        assert!(record.entry(slot(1)).has_promised);
        join(&mut record, 2);
        assert_eq!((record.entry(slot(2)).level, record.members_level()), (LEVEL, Some(1)));
    }

    #[test]
    fn a_second_system_of_the_same_name_does_not_get_in() {
        let mut record = record();
        join(&mut record, 1);
        let again = record.apply(&begin(1, 1));
        assert_eq!(again, Err(ChangeRefused::State(slot(1), MemberState::Joined)));
        let other = record.apply(&begin(2, 3));
        assert_eq!(other, Err(ChangeRefused::NotYours(slot(2), Some(system(2)))));
    }
}
