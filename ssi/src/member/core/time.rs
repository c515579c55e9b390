//! What time brings: heartbeats, retries, and members whose heartbeat stands still.

use super::*;

impl Member {
    pub(super) fn is_silent(&self, now_ms: u64, slot: Slot) -> bool {
        now_ms.saturating_sub(self.watch[slot.index()].moved_at_ms) > self.timing.down_after_ms
    }

    /// This member's time, which never goes back. How long it had not looked when its clock was set back nobody can tell; it
    /// is at most as long as between two looks, else others' heartbeats and its own say nothing any more.
    pub(super) fn forward(&mut self, now_ms: u64) -> u64 {
        let time_ms = now_ms.saturating_add(self.set_back_ms);
        if time_ms >= self.handled_at_ms {
            return time_ms;
        }
        let time_now_ms = self.handled_at_ms.saturating_add(self.timing.gap_ms_max() + 1);
        self.set_back_ms = time_now_ms - now_ms;
        time_now_ms
    }

    /// Time in which this member looked at nothing, or a jump of its clock, tells nothing of others' heartbeats.
    pub(super) fn mind_the_gap(&mut self, now_ms: u64) {
        let gap_ms = now_ms.saturating_sub(self.handled_at_ms);
        if gap_ms > self.timing.gap_ms_max() {
            self.watch.iter_mut().for_each(|watch| watch.moved_at_ms = now_ms);
            if let Some((.., since_ms)) = &mut self.changing {
                *since_ms = now_ms;
            }
        }
        self.handled_at_ms = now_ms;
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        match self.life {
            Life::Waiting { retry_at_ms } if now_ms >= retry_at_ms => self.try_begin(now_ms),
            Life::WantsOut { retry_at_ms } if now_ms >= retry_at_ms => {
                self.life = Life::WantsOut { retry_at_ms: now_ms + self.timing.retry_ms };
                let ident = self.ident();
                self.operate(Some(Change::BeginLeave(ident)));
            }
            _ => {}
        }
        if self.is_live() && now_ms >= self.heartbeat_at_ms {
            self.heartbeat_at_ms = now_ms + self.timing.heartbeat_every_ms;
            self.write_heartbeat();
            self.heartbeat_to_all();
            self.want_shares();
            self.declare_silent(now_ms);
            self.expel_overdue(now_ms);
            self.retry_held();
        }
        if self.is_live() && now_ms >= self.beat_at_ms {
            self.beat_at_ms = now_ms + self.timing.heartbeat_every_ms;
            self.with_services(|service, view, out| service.beat(view, out));
        }
        match &self.life {
            Life::Connecting | Life::Asking(_) if self.is_join_overdue(now_ms) => self.quit_join(),
            Life::Leaving(_) => self.finish_leave_if_due(now_ms),
            _ => {}
        }
    }

    fn write_heartbeat(&mut self) {
        let is_heartbeat = |change: &Option<Change>| matches!(change, Some(Change::Heartbeat { .. }));
        if self.waiting.iter().any(is_heartbeat) {
            return;
        }
        let promises = self.timeouts() && self.level >= LEVEL_OF_PROMISES;
        // From here on others may have read it.
        self.has_promised |= promises;
        self.operate(Some(Change::Heartbeat { ident: self.ident(), promises }));
    }

    pub(super) fn heartbeat_to_all(&mut self) {
        let view = self.view;
        let heartbeat = Message::Heartbeat {
            incarnation: self.incarnation,
            state: view.states[self.slot.index()],
            mode: view.mode,
            reached: self.reach(),
        };
        self.tell_all(&heartbeat);
    }

    /// Whom this member reaches. One to whose join it has consented is one of them: its last word is on its way.
    pub(super) fn reach(&self) -> [bool; SLOTS] {
        let joining = self.consented.as_ref().filter(|consented| consented.transition == Transition::Join);
        std::array::from_fn(|index| {
            let joins = joining.is_some_and(|consented| consented.slot.index() == index) && self.links[index];
            self.synced[index].is_some() || joins || index == self.slot.index()
        })
    }

    pub(super) fn tell_all(&mut self, message: &Message) {
        let me = self.slot;
        for slot in Slot::all().filter(|slot| *slot != me) {
            if self.links[slot.index()] {
                self.effects.push(Effect::Send(slot, message.clone()));
            }
        }
    }

    /// Members that cannot live any more: their heartbeat stands still for longer than they may run without.
    pub(super) fn declare_silent(&mut self, now_ms: u64) {
        let Some(record) = self.record else { return };
        // If all have died, only those that start again are there to do it.
        let watches = self.is_member() || matches!(self.life, Life::Waiting { .. });
        if !record.timeouts || !watches {
            return;
        }
        let me = self.slot;
        for slot in Slot::all().filter(|slot| *slot != me) {
            let entry = record.entry(slot);
            if entry.state != MemberState::Down && entry.has_promised && self.is_silent(now_ms, slot) {
                self.declare(slot, &record);
            }
        }
    }

    /// A member that is stuck in joining holds nothing yet and holds everybody up.
    pub(super) fn declare_stuck(&mut self, now_ms: u64, slot: Slot) {
        let Some(record) = self.record else { return };
        let entry = record.entry(slot);
        let joining = entry.state == MemberState::Joining;
        if (joining || (record.timeouts && entry.has_promised)) && self.is_silent(now_ms, slot) {
            self.declare(slot, &record);
        }
    }

    pub(super) fn declare(&mut self, slot: Slot, record: &Record) {
        let entry = record.entry(slot);
        let ident = Ident { slot, incarnation: entry.incarnation };
        let change = Change::DeclareDown { ident, heartbeat: entry.heartbeat };
        if !self.waiting.contains(&Some(change)) {
            self.operate(Some(change));
        }
    }

    pub(super) fn retry_held(&mut self) {
        if self.is_member() && self.view.mode == Mode::Stable {
            self.with_services(|service, view, out| service.prepare_for_stable(view, out));
        }
    }
}
