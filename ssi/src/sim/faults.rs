//! Faults that are not of one moment: clocks, members that linger, directories that differ, crowds, and what stays broken.

use super::{Event, SLOTS, Simulation, USERS, Violation, user};
use crate::member::{Change, Ident, Input, MemberState};
use crate::name::Slot;
use crate::service::UserKind;

/// Between two jumps of a member's clock, in ms.
const JUMPS_APART_MS: u64 = 15_000;
/// For so many heartbeats a member lingers, of a second each.
const LINGERS_FOR: u64 = 40;

/// What stays broken when all else has healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    Nothing,
    /// There is no link between these.
    Link(Slot, Slot),
    /// This member never comes back.
    Member(Slot),
    /// This member cannot reach the record.
    Volume(Slot),
}

impl Simulation {
    pub(super) fn any_slot(&mut self) -> Slot {
        Slot::new(1 + self.dice.roll(SLOTS as u64) as u8).expect("1 to 4")
    }

    /// By a little, or by more than any member may be silent, or back. A clock that runs twice as fast for long is no clock,
    /// nor is one that is set back by less than shows.
    pub(super) fn jump(&mut self, slot: Slot) -> Result<(), Violation> {
        let jump_ms = match self.dice.roll(3) {
            0 => self.dice.roll(1_500).cast_signed(),
            1 => self.dice.roll(60_000).cast_signed(),
            _ => -(2_500 + self.dice.roll(60_000)).cast_signed(),
        };
        let (now_ms, joined) = (self.now_ms, self.record.entry(slot).state == MemberState::Joined);
        let jumps = self.clocks_jump;
        let node = self.node(slot);
        if jumps && !node.paused && !node.blocked && now_ms > node.clock.jumped_at_ms + JUMPS_APART_MS {
            node.clock.jump(now_ms, jump_ms);
            node.steady_since_ms = now_ms;
            let counts = u64::from(node.member.is_some() && joined);
            self.tally.jumps += counts;
            self.tally.set_back += counts * u64::from(jump_ms < 0);
            self.note(|| format!("{slot}: its clock jumps by {jump_ms} ms"));
            // The watchdog has a deadline of the clock as it was, so the engine must see the new one before it hangs.
            self.input(slot, Input::Tick)?;
        }
        Ok(())
    }

    /// One of two members does not hear the other any more, which goes on hearing it.
    pub(super) fn deafen(&mut self, slot: Slot) {
        let other = self.any_slot();
        if self.network.deafen(slot, other, self.now_ms) {
            self.tally.deaf += 1;
            self.note(|| format!("{slot} does not hear {other}"));
        }
    }

    /// The member's process hangs in the midst of joining or leaving; whatever writes its heartbeat goes on.
    pub(super) fn linger(&mut self, slot: Slot) {
        if !std::mem::take(&mut self.node(slot).will_linger) || !self.lives(slot) {
            return;
        }
        let (entry, node) = (*self.record.entry(slot), &self.nodes[slot.index()]);
        let (boot, written) = (node.boot, node.written);
        let ident = Ident { slot, incarnation: entry.incarnation };
        let heartbeat = Change::Heartbeat { ident, promises: entry.has_promised };
        for second in 1..=LINGERS_FOR {
            self.after(second * 1_000, Event::Carry(slot, boot, Some(heartbeat), written));
        }
        self.tally.lingering += 1;
        self.heartbeats_until_ms[slot.index()] = self.now_ms + LINGERS_FOR * 1_000;
        self.note(|| format!("{slot}: hangs, and its heartbeat goes on"));
        self.die(slot);
    }

    /// Somebody edits the directory; not all members have the new one at once.
    pub(super) fn edit_directory(&mut self) {
        let number = self.dice.roll(USERS as u64);
        let kind = if self.dice.once_in(2) { UserKind::Single } else { UserKind::Multi };
        for index in 0..SLOTS {
            if !self.dice.once_in(4) {
                self.nodes[index].kinds[number as usize] = kind;
            }
        }
        self.tally.edits += 1;
        self.note(|| format!("{} is {kind:?} by now", user(number)));
    }

    /// Hundreds of users at once.
    pub(super) fn crowd(&mut self, slot: Slot) -> Result<(), Violation> {
        let (first, count) = (self.dice.roll(1_000), 200 + self.dice.roll(800));
        self.tally.crowds += 1;
        for number in first..first + count {
            self.log_on(slot, user(100 + number), UserKind::Single)?;
        }
        Ok(())
    }

    pub(super) fn some_lasting(&mut self) -> Lasting {
        let (one, other) = (self.any_slot(), self.any_slot());
        match self.dice.roll(12) {
            0 if one != other => Lasting::Link(one, other),
            1 => Lasting::Member(one),
            2 => Lasting::Volume(one),
            _ => Lasting::Nothing,
        }
    }

    /// All has healed but this.
    pub(super) fn keep_broken(&mut self) {
        let lasting = self.lasting;
        match lasting {
            Lasting::Nothing => return,
            Lasting::Link(one, other) => self.network.toggle(one, other),
            Lasting::Member(slot) => {
                self.node(slot).is_gone = true;
                self.die(slot);
            }
            Lasting::Volume(slot) => self.node(slot).cut_off_until_ms = u64::MAX,
        }
        self.note(|| format!("stays broken: {lasting:?}"));
    }

    /// That, too.
    pub(super) fn mend_lasting(&mut self) {
        self.lasting = Lasting::Nothing;
        self.network.heal();
        for node in &mut self.nodes {
            node.is_gone = false;
            node.cut_off_until_ms = node.cut_off_until_ms.min(self.now_ms);
        }
    }
}
