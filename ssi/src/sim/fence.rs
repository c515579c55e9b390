//! An engine that stands still while its guests go on, and the watchdog beside it; what others may conclude from the record,
//! and what a member may still say.
//!
//! The engine is blocked as if a line for the log hung: its inputs wait. Its links are kept up by other threads, its guests
//! run, and whoever asks is answered from what the engine published last. Only the watchdog still works: it has the deadline
//! that the core gave out before the engine was blocked, and a clock.

use std::collections::BTreeMap;

use super::process::logon;
use super::{Event, Simulation, USERS, Violation};
use crate::member::{Change, Ident};
use crate::name::{Slot, UserId};
use crate::service::UserKind;

/// An engine stands still for as long as this at most, in ms.
const BLOCKED_MS: u64 = 20_000;
/// Planted: nobody but the engine looks at the deadline.
const NO_WATCHDOG: bool = cfg!(feature = "planted-fence-behind-console");

impl Simulation {
    /// Trouble: the engine stands still for a while.
    pub(super) fn block(&mut self, slot: Slot) {
        let blocked_ms = 1 + self.dice.roll(BLOCKED_MS);
        let node = self.node(slot);
        if node.member.is_none() || node.paused || node.blocked {
            return;
        }
        node.blocked = true;
        let boot = node.boot;
        self.note(|| format!("{slot}: its engine stands still for {blocked_ms} ms"));
        self.after(blocked_ms, Event::Resume(slot, boot));
    }

    /// Its deadline, as its engine took it down last, has passed by its own clock.
    fn is_over(&self, slot: Slot) -> bool {
        let node = &self.nodes[slot.index()];
        node.fence_at_ms.is_some_and(|at_ms| node.clock.local_ms(self.now_ms) > at_ms)
    }

    /// The watchdogs: whoever is past its deadline has no guests any more, and its process ends.
    pub(super) fn watch(&mut self) {
        for slot in Slot::all() {
            let node = &self.nodes[slot.index()];
            // One whose engine works comes to its end by the core, and that of a process that sleeps sleeps, too.
            if !NO_WATCHDOG && node.blocked && !node.paused && self.is_over(slot) {
                self.note(|| format!("{slot}: the watchdog ends it"));
                self.tally.watched += 1;
                self.tally.fenced += 1;
                self.die(slot);
            }
        }
    }

    /// Whoever is down by the record has no guests that run: what it held is given to others from now on. `promised`: by
    /// what the record said just before. One that had promised nothing is declared down by an operator, who answers for it.
    pub(super) fn check_down(&self, change: &Change, promised: bool) -> Result<(), Violation> {
        let (ident, answered_for) = match *change {
            Change::DeclareDown { ident, .. } => (ident, !promised),
            Change::Abend(ident) => (ident, false),
            _ => return Ok(()),
        };
        let node = &self.nodes[ident.slot.index()];
        let lives = node.member.as_ref().is_some_and(|member| member.ident() == ident);
        if !lives || answered_for || node.paused || node.guests.is_empty() {
            return Ok(());
        }
        let Ident { slot, incarnation } = ident;
        Err(self.violation(format!(
            "slot {slot} is down in its life {incarnation}, and runs {:?} still",
            node.guests
        )))
    }

    /// Whom a member says to have: what its engine published last, until its deadline.
    fn says_here(&self, slot: Slot) -> Vec<UserId> {
        let node = &self.nodes[slot.index()];
        let Some(member) = node.member.as_ref().filter(|_| !node.paused && !self.is_over(slot)) else {
            return Vec::new();
        };
        // Those that come and go; their names are the first.
        let here = logon(member).into_iter().flat_map(|logon| logon.here()).take(USERS);
        here.filter(|(_, kind)| *kind == UserKind::Single).map(|(user, _)| user).collect()
    }

    /// Nobody says to have a user that another one has.
    pub(super) fn check_words(&self) -> Result<(), Violation> {
        let mut said: BTreeMap<UserId, Slot> = BTreeMap::new();
        for slot in Slot::all() {
            for user in self.says_here(slot) {
                if let Some(other) = said.insert(user, slot) {
                    return Err(
                        self.violation(format!("slot {other} and slot {slot} both say to have {user}"))
                    );
                }
            }
        }
        let runs = |slot: &Slot| !self.nodes[slot.index()].paused;
        for slot in Slot::all().filter(runs) {
            for user in self.nodes[slot.index()].guests.keys().take(USERS) {
                if let Some(other) = said.get(user).filter(|other| **other != slot) {
                    return Err(self
                        .violation(format!("slot {other} says to have {user}, which runs at slot {slot}")));
                }
            }
        }
        Ok(())
    }
}
