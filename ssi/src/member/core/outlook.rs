//! What follows from all that is known now: whom to answer, and how the cluster looks.

use super::*;

impl Member {
    pub(super) fn reconcile(&mut self, now_ms: u64) {
        if self.life == Life::Gone {
            return;
        }
        self.answer_request();
        self.drop_settled_consent(now_ms);
        self.take_level();
        self.leave_if_wanted(now_ms);
        match &self.life {
            Life::Connecting => self.connect(),
            Life::Asking(_) => self.commit_if_all_consent(),
            _ => {}
        }
        if self.life != Life::Gone {
            self.publish();
        }
    }

    /// Services speak the language of the oldest member.
    fn take_level(&mut self) {
        let Some(level) = self.record.and_then(|record| record.members_level()) else { return };
        let level = level.min(self.level);
        if std::mem::replace(&mut self.members_level, level) != level {
            self.services.iter_mut().for_each(|service| service.level_changed(level));
        }
    }

    /// A request that the record confirms is answered.
    pub(super) fn answer_request(&mut self) {
        let (Some(asked), Some(record)) = (&self.asked, self.record) else { return };
        let (slot, transition, incarnation) = (asked.slot, asked.transition, asked.incarnation);
        let wanted = match transition {
            Transition::Join => MemberState::Joining,
            Transition::Leave => MemberState::Leaving,
        };
        let entry = record.entry(slot);
        if entry.incarnation < incarnation || (entry.incarnation == incarnation && entry.state != wanted) {
            return; // the record that is known here is older than the request; it is being read
        }
        if self.consented.as_ref().is_some_and(|consented| consented.slot != slot) {
            return; // the last word of the one before is still on its way
        }
        let Some(Asked { level, shares, .. }) = self.asked.take() else { return };
        if entry.incarnation != incarnation || !self.is_member() {
            return;
        }
        if transition == Transition::Join
            && let Err((service, reason)) = check_level(slot, level).and_then(|()| self.check(slot, &shares))
        {
            let veto = Message::Veto { incarnation, service, reason };
            return self.effects.push(Effect::Send(slot, veto));
        }
        self.consented = Some(Consented { slot, incarnation, transition, shares });
        // Held from here on; what the consent says must not grow any more.
        self.publish();
        let consent = Message::Consent { incarnation, level: self.level, shares: self.shares() };
        self.effects.push(Effect::Send(slot, consent));
    }

    /// The record may say how a transition ended whose last message was lost.
    pub(super) fn drop_settled_consent(&mut self, now_ms: u64) {
        let (Some(consented), Some(record)) = (&self.consented, self.record) else { return };
        let (slot, entry) = (consented.slot, record.entry(consented.slot));
        let pending = entry.incarnation == consented.incarnation
            && matches!(entry.state, MemberState::Joining | MemberState::Leaving);
        let told_yet = entry.state == MemberState::Joined && self.links[slot.index()];
        if pending {
            self.declare_stuck(now_ms, slot);
        } else if !told_yet {
            self.consented = None;
        }
    }

    pub(super) fn compute_view(&self) -> View {
        let mut view = View { me: self.slot, ..self.view };
        for slot in Slot::all() {
            view.states[slot.index()] = self.state_of(slot);
            let state = view.states[slot.index()];
            let joining = self
                .consented
                .as_ref()
                .is_some_and(|consented| consented.slot == slot && consented.transition == Transition::Join);
            let member = matches!(state, MemberState::Joined | MemberState::Suspended);
            view.reached[slot.index()] = self.links[slot.index()] && (member || joining);
        }
        view.mode = self.mode(&view);
        view
    }

    pub(super) fn state_of(&self, slot: Slot) -> MemberState {
        let Some(record) = &self.record else { return MemberState::Unknown };
        let entry = record.entry(slot);
        if slot == self.slot {
            return match self.life {
                Life::Down | Life::Gone | Life::Waiting { .. } => MemberState::Down,
                Life::Connecting | Life::Retreating | Life::Asking(_) | Life::Committing(_) => {
                    MemberState::Joining
                }
                Life::Joined => MemberState::Joined,
                Life::Isolated => MemberState::Isolated,
                Life::WantsOut { .. } => entry.state,
                Life::Leaving(_) => MemberState::Leaving,
            };
        }
        let reached = self.synced[slot.index()] == Some(entry.incarnation);
        match entry.state {
            MemberState::Joined if self.is_member() && !reached => MemberState::Suspended,
            state => state,
        }
    }

    pub(super) fn mode(&self, view: &View) -> Mode {
        if !self.is_member() {
            let joins = view.states[self.slot.index()] == MemberState::Joining;
            return if joins { Mode::InFlux } else { Mode::Safe };
        }
        let unreached = view.states.contains(&MemberState::Suspended);
        let reached_by_others = view.peers().all(|peer| {
            let theirs = self.their_reach[peer.index()];
            theirs.is_none_or(|theirs| view.peers().all(|slot| slot == peer || theirs[slot.index()]))
        });
        if unreached || !reached_by_others || self.stranger().is_some() {
            return Mode::Safe;
        }
        // One that wants to leave may be leaving already, and not know it yet.
        if self.life != Life::Joined {
            return Mode::InFlux;
        }
        let changing = self.record.and_then(|record| record.changing());
        if self.consented.is_some() || changing.is_some() { Mode::InFlux } else { Mode::Stable }
    }

    /// Tells services, peers and operators what is different now.
    pub(super) fn publish(&mut self) {
        let view = self.compute_view();
        let before = std::mem::replace(&mut self.view, view);
        if before == view {
            return;
        }
        for slot in Slot::all() {
            let (from, to) = (before.states[slot.index()], view.states[slot.index()]);
            if from != to && (from, to) != (MemberState::Unknown, MemberState::Down) {
                let system = self.record.and_then(|record| record.entry(slot).system);
                let name = system.map_or_else(|| "--------".to_owned(), |system| system.to_string());
                let (from, to) = (from.as_str().to_uppercase(), to.as_str().to_uppercase());
                self.effects.push(Effect::Console(format!(
                    "HCPPLM1697I The state of SSI system {name} has changed from {from} to {to}"
                )));
            }
        }
        if before.mode != view.mode {
            let mode = view.mode.as_str().to_uppercase();
            self.effects.push(Effect::Console(format!("HCPPLM1698I The mode of the SSI cluster is {mode}")));
        }
        self.effects.push(Effect::Changed(view));
        self.with_services(|service, view, out| service.member_changed(view, out));
        if view.mode == Mode::Stable {
            self.with_services(|service, view, out| service.prepare_for_stable(view, out));
        }
        self.heartbeat_to_all();
    }
}

/// Members of too old a level cannot be in one cluster with this one. Those of a newer one know that themselves.
pub(super) fn check_level(slot: Slot, level: u16) -> Result<(), (String, String)> {
    if level >= LEVEL_OLDEST {
        return Ok(());
    }
    let reason =
        format!("slot {slot} speaks level {level} of the protocol, and {LEVEL_OLDEST} is the oldest known");
    Err(("Level".to_owned(), reason))
}
