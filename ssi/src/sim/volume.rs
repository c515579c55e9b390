//! The volume that has the record: late, cut off, and silent about what it has done.

use super::process::Written;
use super::{Event, Lasting, Simulation, Violation};
use crate::member::{Change, ChangeRefused, RecordOutcome};
use crate::name::Slot;

impl Simulation {
    pub(super) fn carry(
        &mut self,
        slot: Slot,
        boot: u64,
        change: Option<Change>,
        written: Written,
    ) -> Result<(), Violation> {
        let troubled = self.now_ms < self.trouble_until_ms;
        let lost = troubled && self.dice.once_in(60);
        let may_be_cut_off = troubled || self.lasting == Lasting::Volume(slot);
        let cut_off = may_be_cut_off && self.now_ms < self.node(slot).cut_off_until_ms;
        if cut_off || (lost && self.dice.once_in(2)) {
            let outcome = RecordOutcome::Failed("no answer, nothing done".to_owned());
            self.after(5, Event::Answer(slot, boot, outcome));
            return Ok(());
        }
        let promised = match change {
            Some(Change::DeclareDown { ident, .. }) => self.record.entry(ident.slot).has_promised,
            _ => false,
        };
        let refused = match change {
            Some(Change::MoveTo(label)) if self.dice.once_in(3) => Some(ChangeRefused::Volume(label)),
            _ => change.and_then(|change| self.record.apply(&change).err()),
        };
        if let Some(change) = change.filter(|_| refused.is_none()) {
            self.check_down(&change, promised)?;
        }
        match change {
            Some(Change::FinishJoin(_)) if refused.is_none() => {
                self.tally.joins += 1;
                self.joined_with[slot.index()] = written;
                self.joined_at_ms[slot.index()] = self.now_ms;
                self.tally.mixed += u64::from(self.is_mixed());
                self.check_fit(slot)?;
            }
            Some(Change::FailJoin(_)) if refused.is_none() => self.tally.isolated += 1,
            Some(Change::QuitJoin(_)) if refused.is_none() => self.tally.stepped_back += 1,
            Some(Change::Expel { .. }) if refused.is_none() => self.tally.expelled += 1,
            Some(Change::DeclareDown { .. }) if refused.is_none() => self.tally.declared += 1,
            _ => {}
        }
        self.watch_transition();
        let outcome = match refused {
            _ if lost => RecordOutcome::Failed("no answer, though it was done".to_owned()),
            None => RecordOutcome::Done(self.record),
            Some(why) => RecordOutcome::Refused(why, self.record),
        };
        let delay = 1 + self.dice.roll(10);
        self.after(delay, Event::Answer(slot, boot, outcome));
        if refused.is_none()
            && let Some(Change::BeginJoin { .. } | Change::BeginLeave(_)) = change
        {
            self.linger(slot);
        }
        Ok(())
    }

    /// Since when does who joins or leaves do so?
    fn watch_transition(&mut self) {
        let slot = self.record.changing();
        if self.changing_since.map(|(slot, _)| slot) != slot {
            self.changing_since = slot.map(|slot| (slot, self.now_ms));
        }
    }
}
