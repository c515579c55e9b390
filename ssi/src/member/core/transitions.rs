//! Joining and leaving: asking the others, and committing in the record.

use super::*;

impl Member {
    pub(super) fn start(&mut self, now_ms: u64) {
        if self.life != Life::Down {
            return;
        }
        for service in &self.services {
            if let Err(reason) = service.check_worthy() {
                let service = service.name().to_owned();
                return self.stop(Stopped::Unworthy { service, reason });
            }
        }
        self.life = Life::Waiting { retry_at_ms: now_ms + self.timing.retry_ms };
        self.operate(None);
    }

    /// May this member begin to join? An earlier life of it must be over first.
    pub(super) fn try_begin(&mut self, now_ms: u64) {
        self.life = Life::Waiting { retry_at_ms: now_ms + self.timing.retry_ms };
        let Some(record) = self.record else { return self.operate(None) };
        let own = record.entry(self.slot);
        if own.state != MemberState::Down {
            if self.is_silent(now_ms, self.slot) {
                let ident = Ident { slot: self.slot, incarnation: own.incarnation };
                return self.operate(Some(Change::DeclareDown { ident, heartbeat: own.heartbeat }));
            }
            return self.operate(None);
        }
        if let Some(other) = record.changing() {
            self.declare_stuck(now_ms, other);
            self.expel_overdue(now_ms);
            return self.operate(None);
        }
        if now_ms < self.begin_from_ms || !self.has_way_in() {
            self.declare_silent(now_ms);
            return self.operate(None);
        }
        self.operate(Some(Change::BeginJoin { slot: self.slot, system: self.system, level: self.level }));
    }

    /// The other members that are joined by the record.
    pub(super) fn joined(&self) -> Vec<Slot> {
        let record = self.record.as_ref();
        let slots = record.into_iter().flat_map(|record| record.in_state(MemberState::Joined));
        slots.filter(|slot| *slot != self.slot).collect()
    }

    pub(super) fn shares(&self) -> Shares {
        self.services.iter().map(|service| (service.name().to_owned(), service.state())).collect()
    }

    pub(super) fn connect(&mut self) {
        if let Some(stranger) = self.stranger() {
            return self.fail_join("Record", &stranger);
        }
        if !self.all_known() {
            return;
        }
        if self.unreached().next().is_some() {
            return; // until the deadline
        }
        let waits_for: BTreeSet<Slot> = self.joined().into_iter().collect();
        let deadline_ms = self.join_deadline_ms;
        self.request_of(&waits_for, Transition::Join);
        self.life = Life::Asking(Ask { waits_for, deadline_ms, ..Ask::default() });
        self.commit_if_all_consent();
    }

    pub(super) fn request_of(&mut self, slots: &BTreeSet<Slot>, transition: Transition) {
        let shares = self.shares();
        for slot in slots {
            let (incarnation, level, shares) = (self.incarnation, self.level, shares.clone());
            let request = Message::Request { transition, incarnation, level, shares };
            self.effects.push(Effect::Send(*slot, request));
        }
    }

    pub(super) fn commit_if_all_consent(&mut self) {
        let joined = self.joined();
        let Life::Asking(ask) = &mut self.life else { return };
        ask.waits_for.retain(|slot| joined.contains(slot));
        ask.shares.retain(|slot, _| joined.contains(slot));
        if !ask.waits_for.is_empty() && !cfg!(feature = "planted-early-commit") {
            return;
        }
        let ask = ask.clone();
        let veto = ask.shares.iter().find_map(|(slot, shares)| self.check(*slot, shares).err());
        if let Some((service, reason)) = veto {
            return self.fail_join(&service, &reason);
        }
        self.life = Life::Committing(ask);
        let ident = self.ident();
        self.operate(Some(Change::FinishJoin(ident)));
    }

    /// Do this member's services agree with another's?
    pub(super) fn check(&self, slot: Slot, shares: &Shares) -> Result<(), (String, String)> {
        for service in &self.services {
            let name = service.name();
            let Some((_, state)) = shares.iter().find(|(theirs, _)| theirs == name) else {
                return Err((name.to_owned(), format!("slot {slot} does not have it")));
            };
            service.check_join(slot, state).map_err(|reason| (name.to_owned(), reason))?;
        }
        Ok(())
    }

    pub(super) fn adopt(&mut self, slot: Slot, shares: &Shares) {
        for service in &mut self.services {
            if let Some((_, state)) = shares.iter().find(|(theirs, _)| theirs == service.name()) {
                service.adopt(slot, state);
            }
        }
    }

    pub(super) fn fail_join(&mut self, service: &str, reason: &str) {
        let incarnation = self.incarnation;
        self.effects.push(Effect::Console(format!(
            "HCPPLM1663E SSI function JOIN has failed for service {service}. ({reason})"
        )));
        self.tell_all(&Message::Abort { incarnation });
        let ident = self.ident();
        self.early.clear();
        self.life = Life::Connecting;
        self.operate(Some(Change::FailJoin(ident)));
        self.life = Life::Isolated;
    }

    /// A link is lost: the attempt is off, and begins anew when all are reached, if that is in time.
    pub(super) fn ask_again(&mut self) {
        let incarnation = self.incarnation;
        self.tell_all(&Message::Abort { incarnation });
        self.early.clear();
        self.life = Life::Connecting;
    }

    pub(super) fn join_finished(&mut self) {
        let Life::Committing(ask) = std::mem::replace(&mut self.life, Life::Joined) else { return };
        for (slot, shares) in &ask.shares {
            self.adopt(*slot, shares);
            // A link that went down meanwhile has to be synchronised again.
            if self.links[slot.index()] {
                self.synced[slot.index()] = self.record.map(|record| record.entry(*slot).incarnation);
            }
        }
        (self.told_unreached, self.join_attempts) = ([false; SLOTS], 0);
        self.services.iter_mut().for_each(|service| service.enable());
        let text = format!("HCPPLM1699I The SSI system {} has joined the SSI cluster", self.system);
        self.effects.push(Effect::Console(text));
        let incarnation = self.incarnation;
        self.tell_all(&Message::Proceed { incarnation });
        self.publish();
        for (from, service, body) in std::mem::take(&mut self.early) {
            self.hand_to_service(from, &service, &body);
        }
        self.heartbeat_to_all();
    }

    pub(super) fn ask_to_leave(&mut self, now_ms: u64) {
        let waits_for: BTreeSet<Slot> =
            self.joined().into_iter().filter(|slot| self.links[slot.index()]).collect();
        let deadline_ms = now_ms + self.timing.consent_patience_ms;
        self.request_of(&waits_for, Transition::Leave);
        self.life = Life::Leaving(Ask { waits_for, deadline_ms, ..Ask::default() });
        self.finish_leave_if_due(now_ms);
    }

    /// Those who do not answer will find it in the record.
    pub(super) fn finish_leave_if_due(&mut self, now_ms: u64) {
        let Life::Leaving(ask) = &mut self.life else { return };
        let links = self.links;
        ask.waits_for.retain(|slot| links[slot.index()]);
        if ask.waits_for.is_empty() || now_ms >= ask.deadline_ms {
            let change = Change::FinishLeave(self.ident());
            if !self.waiting.contains(&Some(change))
                && self.under_way.is_none_or(|(under_way, _)| under_way != Some(change))
            {
                self.operate(Some(change));
            }
        }
    }
}
