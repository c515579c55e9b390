//! Links and what comes over them.

use super::*;

impl Member {
    pub(super) fn link(&mut self, now_ms: u64, slot: Slot, up: bool) {
        if slot == self.slot {
            return;
        }
        self.links[slot.index()] = up;
        self.heard[slot.index()] = None;
        self.synced[slot.index()] = None;
        self.their_reach[slot.index()] = None;
        self.claims[slot.index()] = Claim::Known;
        if up {
            self.resynchronise(slot);
        } else {
            match &self.life {
                Life::Asking(ask) if ask.waits_for.contains(&slot) || ask.shares.contains_key(&slot) => {
                    self.ask_again();
                }
                Life::Leaving(_) => self.finish_leave_if_due(now_ms),
                _ => {}
            }
            self.operate(None);
        }
    }

    /// Asks those members for their shares that are linked and not reached yet.
    pub(super) fn want_shares(&mut self) {
        if self.is_member() {
            for slot in self.joined() {
                if self.links[slot.index()] && self.synced[slot.index()].is_none() {
                    self.effects.push(Effect::Send(slot, Message::ShareWanted));
                }
            }
        }
    }

    /// Gives a member that is reached again this one's share.
    pub(super) fn resynchronise(&mut self, slot: Slot) {
        if self.is_member() {
            let message = Message::Resynchronise { incarnation: self.incarnation, shares: self.shares() };
            self.effects.push(Effect::Send(slot, message));
        }
    }

    pub(super) fn message(&mut self, now_ms: u64, from: Slot, message: Message) {
        if from == self.slot || !self.links[from.index()] {
            return;
        }
        match message {
            Message::Heartbeat { reached, incarnation, state, .. } => {
                if state == MemberState::Joined {
                    self.claimed(from, incarnation);
                    self.heard[from.index()] = Some(incarnation);
                }
                if self.is_joined_as(from, incarnation) {
                    self.their_reach[from.index()] = Some(reached);
                }
            }
            Message::Request { transition, incarnation, level, shares } => {
                self.asked = Some(Asked { slot: from, transition, incarnation, level, shares });
                self.operate(None);
            }
            Message::Consent { incarnation, level, shares } if incarnation == self.incarnation => {
                match &mut self.life {
                    Life::Asking(_) if let Err((service, reason)) = outlook::check_level(from, level) => {
                        self.fail_join(&service, &reason);
                    }
                    Life::Asking(ask) => {
                        let awaited = ask.waits_for.remove(&from);
                        if awaited {
                            ask.shares.insert(from, shares);
                            self.commit_if_all_consent();
                        }
                    }
                    Life::Leaving(ask) => {
                        ask.waits_for.remove(&from);
                        self.finish_leave_if_due(now_ms);
                    }
                    _ => {}
                }
            }
            Message::Veto { incarnation, service, reason } if incarnation == self.incarnation => {
                if matches!(self.life, Life::Asking(_)) {
                    self.fail_join(&service, &reason);
                }
            }
            Message::Consent { .. } | Message::Veto { .. } => {}
            Message::Proceed { incarnation } => self.proceed(from, incarnation),
            Message::Abort { incarnation } => {
                self.asked.take_if(|asked| (asked.slot, asked.incarnation) == (from, incarnation));
                self.consented
                    .take_if(|consented| (consented.slot, consented.incarnation) == (from, incarnation));
            }
            Message::Resynchronise { incarnation, shares } => {
                self.claimed(from, incarnation);
                self.heard[from.index()] = Some(incarnation);
                self.resynchronised(from, incarnation, &shares);
            }
            Message::ShareWanted => self.resynchronise(from),
            Message::Service { service, body } => self.service_message(from, service, body),
        }
    }

    pub(super) fn is_joined_as(&self, slot: Slot, incarnation: u64) -> bool {
        self.record.is_some_and(|record| {
            let entry = record.entry(slot);
            entry.incarnation == incarnation
                && matches!(entry.state, MemberState::Joined | MemberState::Leaving)
        })
    }

    pub(super) fn resynchronised(&mut self, from: Slot, incarnation: u64, shares: &Shares) {
        if !self.is_member() {
            return;
        }
        if !self.is_joined_as(from, incarnation) {
            // It may have joined since the record was read last; it will be asked again.
            return self.operate(None);
        }
        // Its last word on joining was lost; that it speaks as a member says the same.
        self.consented.take_if(|consented| {
            (consented.slot, consented.incarnation, consented.transition)
                == (from, incarnation, Transition::Join)
        });
        match self.check(from, shares) {
            Ok(()) => {
                self.adopt(from, shares);
                self.synced[from.index()] = Some(incarnation);
            }
            Err((service, reason)) => self
                .effects
                .push(Effect::Console(format!("SSI system in slot {from}: service {service}: {reason}"))),
        }
    }

    pub(super) fn proceed(&mut self, from: Slot, incarnation: u64) {
        let of_this =
            |consented: &mut Consented| (consented.slot, consented.incarnation) == (from, incarnation);
        let Some(consented) = self.consented.take_if(of_this) else { return };
        let Some(record) = &mut self.record else { return };
        let entry = &mut record.entries[from.index()];
        match consented.transition {
            Transition::Join => {
                entry.state = MemberState::Joined;
                self.adopt(from, &consented.shares);
                self.synced[from.index()] = Some(incarnation);
            }
            Transition::Leave => {
                entry.state = MemberState::Down;
                self.synced[from.index()] = None;
            }
        }
        self.operate(None);
    }

    pub(super) fn service_message(&mut self, from: Slot, service: String, body: Vec<u8>) {
        match &self.life {
            Life::Asking(_) | Life::Committing(_) if self.early.len() < EARLY_MAX => {
                self.early.push((from, service, body));
            }
            Life::Joined | Life::WantsOut { .. } if self.view.states[from.index()] == MemberState::Joined => {
                self.hand_to_service(from, &service, &body);
            }
            _ => {}
        }
    }

    pub(super) fn hand_to_service(&mut self, from: Slot, name: &str, body: &[u8]) {
        let (view, mut out) = (self.view, Vec::new());
        if let Some(service) = self.services.iter_mut().find(|service| service.name() == name) {
            service.message(&view, from, body, &mut out);
        }
        self.outputs(name, out);
    }

    pub(super) fn request(&mut self, name: &str, number: u64, body: &[u8]) {
        let (view, mut out) = (self.view, Vec::new());
        if let Some(service) = self.services.iter_mut().find(|service| service.name() == name) {
            service.request(&view, number, body, &mut out);
        }
        self.outputs(name, out);
    }

    /// Nobody waits for an answer any more.
    pub(super) fn withdraw(&mut self, name: &str, number: u64) {
        let (view, mut out) = (self.view, Vec::new());
        if let Some(service) = self.services.iter_mut().find(|service| service.name() == name) {
            service.withdraw(&view, number, &mut out);
        }
        self.outputs(name, out);
    }

    /// An answer came too late for whoever had asked.
    pub(super) fn unclaimed(&mut self, name: &str, request: &[u8], answer: &[u8]) {
        let (view, mut out) = (self.view, Vec::new());
        if let Some(service) = self.services.iter_mut().find(|service| service.name() == name) {
            service.unclaimed(&view, request, answer, &mut out);
        }
        self.outputs(name, out);
    }

    pub(super) fn outputs(&mut self, name: &str, out: Vec<Output>) {
        for output in out {
            self.effects.push(match output {
                Output::Send { to, body } => {
                    Effect::Send(to, Message::Service { service: name.to_owned(), body })
                }
                Output::Answer { request, body } => Effect::Answer(request, body),
            });
        }
    }

    pub(super) fn with_services(&mut self, mut act: impl FnMut(&mut dyn Service, &View, &mut Vec<Output>)) {
        let view = self.view;
        for index in 0..self.services.len() {
            let mut out = Vec::new();
            act(&mut *self.services[index], &view, &mut out);
            let name = self.services[index].name();
            self.outputs(name, out);
        }
    }
}
