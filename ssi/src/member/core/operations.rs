//! Operations on the record, one at a time, and what follows from their outcome.

use super::super::WhyDown;
use super::*;

impl Member {
    /// Queues an operation; a plain read is not queued twice.
    pub(super) fn operate(&mut self, change: Option<Change>) {
        if change.is_some() || !self.waiting.contains(&None) {
            self.waiting.push_back(change);
        }
    }

    pub(super) fn next_operation(&mut self, now_ms: u64) {
        if self.under_way.is_none()
            && self.life != Life::Gone
            && let Some(change) = self.waiting.pop_front()
        {
            self.under_way = Some((change, now_ms));
            self.check_claims();
            self.effects.push(Effect::Record(change));
        }
    }

    pub(super) fn record_done(&mut self, now_ms: u64, outcome: RecordOutcome) {
        let Some((change, began_ms)) = self.under_way.take() else { return };
        match outcome {
            RecordOutcome::Done(record) => {
                self.take_record(now_ms, record);
                if let Some(change) = change {
                    self.change_made(now_ms, began_ms, change);
                }
            }
            RecordOutcome::Refused(why, record) => {
                self.take_record(now_ms, record);
                match change {
                    Some(change) if is_made(&change, &record) => self.change_made(now_ms, began_ms, change),
                    Some(change) => self.change_refused(now_ms, change, why),
                    None => {}
                }
            }
            RecordOutcome::Failed(why) => {
                self.effects.push(Effect::Console(format!("Persistent data record: {why}")));
                // Tried again, until this member has to stop for it.
                if change.is_some_and(|change| !matches!(change, Change::Heartbeat { .. })) {
                    self.waiting.push_front(change);
                }
                self.heartbeat_at_ms = now_ms + self.timing.retry_ms;
            }
        }
    }

    pub(super) fn take_record(&mut self, now_ms: u64, mut record: Record) {
        // A member's last word may have been faster than a record that was read before it.
        if let Some(known) = self.record {
            for (entry, known) in record.entries.iter_mut().zip(known.entries) {
                if entry.incarnation == known.incarnation && stage(entry.state) < stage(known.state) {
                    entry.state = known.state;
                }
            }
        }
        for slot in Slot::all() {
            let (entry, watch) = (record.entry(slot), &mut self.watch[slot.index()]);
            if (entry.incarnation, entry.heartbeat) != (watch.incarnation, watch.heartbeat)
                || self.record.is_none()
            {
                let (incarnation, heartbeat) = (entry.incarnation, entry.heartbeat);
                *watch = Watch { incarnation, heartbeat, moved_at_ms: now_ms };
            }
        }
        self.settle_claims(&record);
        self.record = Some(record);
        self.watch_transition(now_ms);
    }

    pub(super) fn change_made(&mut self, now_ms: u64, began_ms: u64, change: Change) {
        let of_mine = match change {
            Change::BeginJoin { .. } => true,
            Change::FinishJoin(ident)
            | Change::FailJoin(ident)
            | Change::QuitJoin(ident)
            | Change::BeginLeave(ident)
            | Change::Heartbeat { ident, .. } => ident == self.ident(),
            _ => false,
        };
        if of_mine {
            self.written_at_ms = began_ms;
        }
        match change {
            Change::BeginJoin { .. } => {
                let own = self.record.map(|record| *record.entry(self.slot));
                self.incarnation = own.map_or(0, |own| own.incarnation);
                self.has_promised = own.is_some_and(|own| own.has_promised);
                self.heartbeat_at_ms = now_ms + self.timing.heartbeat_every_ms;
                self.join_deadline_ms = now_ms + self.timing.consent_patience_ms;
                self.life = Life::Connecting;
            }
            Change::FinishJoin(_) => self.join_finished(),
            // It may want to leave already.
            Change::FailJoin(_) if matches!(self.life, Life::WantsOut { .. }) => {}
            Change::FailJoin(_) => self.life = Life::Isolated,
            Change::QuitJoin(_) => self.wait_outside(now_ms),
            Change::BeginLeave(_) => self.ask_to_leave(now_ms),
            Change::FinishLeave(_) => {
                let incarnation = self.incarnation;
                self.tell_all(&Message::Proceed { incarnation });
                self.reply(Ok(()));
                self.stop(Stopped::Left);
            }
            Change::Expel { ident, from } => {
                self.console_expelled(ident.slot);
                // One that was leaving is not down by that: who has ordered it down waits on.
                if from == MemberState::Joining
                    && self.command.is_some_and(|(_, command)| command == Command::SetDown(ident.slot))
                {
                    self.reply(Ok(()));
                }
            }
            Change::DeclareDown { ident, .. } => {
                self.console_down(ident.slot);
                if self.command.is_some_and(|(_, command)| command == Command::SetDown(ident.slot)) {
                    self.reply(Ok(()));
                }
            }
            Change::SetTimeouts(_) | Change::MoveTo(_) => self.reply(Ok(())),
            Change::Heartbeat { promises, .. } => {
                let is_promise = |change: &Option<Change>| {
                    matches!(change, Some(Change::Heartbeat { promises: true, .. }))
                };
                self.has_promised = promises || self.waiting.iter().any(is_promise);
            }
            Change::Abend(_) => {}
        }
    }

    pub(super) fn change_refused(&mut self, now_ms: u64, change: Change, why: ChangeRefused) {
        let retry_at_ms = now_ms + self.timing.retry_ms;
        match change {
            Change::BeginJoin { .. } => match why {
                ChangeRefused::NotYours(slot, _) => self.stop(Stopped::Twin(slot)),
                _ => self.life = Life::Waiting { retry_at_ms },
            },
            Change::BeginLeave(_) if matches!(why, ChangeRefused::Busy(..)) => {
                self.life = Life::WantsOut { retry_at_ms };
            }
            Change::Heartbeat { .. }
            | Change::FinishJoin(_)
            | Change::FailJoin(_)
            | Change::QuitJoin(_)
            | Change::BeginLeave(_)
            | Change::FinishLeave(_) => self.stop(match why {
                ChangeRefused::Incarnation(slot, _) => Stopped::Twin(slot),
                ChangeRefused::State(_, MemberState::Isolated) => Stopped::Expelled,
                _ => Stopped::DeclaredDown,
            }),
            Change::DeclareDown { ident, .. } | Change::Expel { ident, from: MemberState::Joining } => {
                if self.command.is_some_and(|(_, command)| command == Command::SetDown(ident.slot)) {
                    self.reply(Err(CommandRefused::Record(why)));
                }
            }
            Change::SetTimeouts(_) | Change::MoveTo(_) => self.reply(Err(CommandRefused::Record(why))),
            Change::Expel { .. } | Change::Abend(_) => {}
        }
    }

    pub(super) fn console_down(&mut self, slot: Slot) {
        self.effects.push(Effect::Console(format!("SSI system in slot {slot} has been declared down")));
    }
}

/// The order in which one life of a member goes through its states: never back. One that leaves may be isolated for it.
fn stage(state: MemberState) -> u8 {
    match state {
        MemberState::Joining => 0,
        MemberState::Joined => 1,
        MemberState::Leaving | MemberState::Isolated => 2,
        MemberState::Down | MemberState::Suspended | MemberState::Unknown => 3,
    }
}

/// A change that was tried again because nobody said how it went, and that had been made: by nobody else, as it leads to
/// this state in this life only once.
fn is_made(change: &Change, record: &Record) -> bool {
    let is = |ident: &Ident, state: MemberState| {
        let entry = record.entry(ident.slot);
        (entry.incarnation, entry.state) == (ident.incarnation, state)
    };
    match change {
        Change::FinishJoin(ident) => is(ident, MemberState::Joined),
        Change::FailJoin(ident) => is(ident, MemberState::Isolated),
        Change::BeginLeave(ident) => is(ident, MemberState::Leaving),
        Change::QuitJoin(ident) | Change::FinishLeave(ident) => {
            is(ident, MemberState::Down) && record.entry(ident.slot).why == WhyDown::Left
        }
        Change::DeclareDown { ident, .. } => is(ident, MemberState::Down),
        Change::BeginJoin { .. }
        | Change::Heartbeat { .. }
        | Change::Expel { .. }
        | Change::Abend(_)
        | Change::SetTimeouts(_)
        | Change::MoveTo(_) => false,
    }
}
