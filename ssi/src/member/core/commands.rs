//! What operators want.

use super::*;

impl Member {
    pub(super) fn command(&mut self, now_ms: u64, number: u64, command: Command) {
        if self.command.is_some() {
            return self.effects.push(Effect::Reply(number, Err(CommandRefused::Busy)));
        }
        self.command = Some((number, command));
        let here = self.view.states[self.slot.index()];
        match command {
            Command::Leave if self.life != Life::Down => self.leave(now_ms),
            Command::SetDown(slot) if self.may_set_down() && slot != self.slot => {
                match self.check_set_down(now_ms, slot) {
                    Ok(record) if record.entry(slot).state == MemberState::Joining => {
                        self.expel(slot, &record);
                    }
                    Ok(record) => self.declare(slot, &record),
                    Err(why) => self.reply(Err(why)),
                }
            }
            Command::SetTimeouts(timeouts) if self.life == Life::Joined => {
                self.operate(Some(Change::SetTimeouts(timeouts)));
            }
            Command::MoveRecord(label) if self.life == Life::Joined => {
                self.operate(Some(Change::MoveTo(label)));
            }
            _ => self.reply(Err(CommandRefused::Here(here))),
        }
    }

    /// Takes the way out that is open from here. While a step of joining is being made in the record there is none; it is
    /// tried again when the step is over.
    fn leave(&mut self, now_ms: u64) {
        let begins = |change: &Option<Change>| matches!(change, Some(Change::BeginJoin { .. }));
        match self.life {
            Life::Waiting { .. } => {
                self.waiting.retain(|change| !begins(change));
                if self.under_way.is_none_or(|(change, _)| !begins(&change)) {
                    self.reply(Ok(()));
                    self.stop(Stopped::Left);
                }
                return;
            }
            Life::Connecting | Life::Asking(_) => {
                self.tell_all(&Message::Abort { incarnation: self.incarnation });
                self.early.clear();
                self.operate(Some(Change::FailJoin(self.ident())));
            }
            Life::Joined | Life::Isolated => {}
            Life::Down
            | Life::Committing(_)
            | Life::Retreating
            | Life::WantsOut { .. }
            | Life::Leaving(_)
            | Life::Gone => return,
        }
        self.life = Life::WantsOut { retry_at_ms: now_ms };
        self.tick(now_ms);
    }

    /// An order to leave that came while there was no way out.
    pub(super) fn leave_if_wanted(&mut self, now_ms: u64) {
        if self.command.is_some_and(|(_, command)| command == Command::Leave) {
            self.leave(now_ms);
        }
    }

    /// One that waits outside may have to: if all have died, nobody else is there to do it.
    fn may_set_down(&self) -> bool {
        matches!(self.life, Life::Joined | Life::Waiting { .. })
    }

    pub(super) fn check_set_down(&self, now_ms: u64, slot: Slot) -> Result<Record, CommandRefused> {
        let record = self.record.ok_or(CommandRefused::There(slot, MemberState::Unknown))?;
        if record.entry(slot).state == MemberState::Down {
            return Err(CommandRefused::There(slot, MemberState::Down));
        }
        // Who joins holds nothing yet, so that it lives is no reason to wait for it.
        let joins = record.entry(slot).state == MemberState::Joining;
        if !joins && (self.links[slot.index()] || !self.is_silent(now_ms, slot)) {
            return Err(CommandRefused::Alive(slot));
        }
        Ok(record)
    }

    pub(super) fn reply(&mut self, outcome: Result<(), CommandRefused>) {
        if let Some((number, _)) = self.command.take() {
            self.effects.push(Effect::Reply(number, outcome));
        }
    }
}
