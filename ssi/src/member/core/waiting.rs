//! What a member waits for, and for how long: others wait for whoever joins or leaves, so no such wait is without an end.

use super::*;

/// Planted: who wants in begins before it reaches everybody and never steps back, and nobody expels it.
const WAITS_FOR_EVER: bool = cfg!(feature = "planted-endless-join");

impl Member {
    /// Joined members that this one cannot speak with: there is no link, or they have not said anything over it.
    pub(super) fn unreached(&self) -> impl Iterator<Item = Slot> + '_ {
        self.joined().into_iter().filter(|slot| {
            let life = self.record.map(|record| record.entry(*slot).incarnation);
            !self.links[slot.index()] || self.heard[slot.index()] != life
        })
    }

    /// It reaches everybody whose consent it will need; if not, its operators are told.
    pub(super) fn has_way_in(&mut self) -> bool {
        let unreached: Vec<Slot> = self.unreached().collect();
        let told = std::array::from_fn(|index| unreached.iter().any(|slot| slot.index() == index));
        if !unreached.is_empty() && std::mem::replace(&mut self.told_unreached, told) != told {
            let text = "HCPPLM1669I Waiting for ISFC connectivity in order to join the SSI cluster";
            self.effects.push(Effect::Console(text.to_owned()));
            for slot in &unreached {
                let text =
                    format!("SSI system {} does not reach {}", self.system, self.unreached_text(*slot));
                self.effects.push(Effect::Console(text));
            }
        }
        unreached.is_empty() || WAITS_FOR_EVER
    }

    fn unreached_text(&self, slot: Slot) -> String {
        let why =
            if self.links[slot.index()] { "it has said nothing over its link" } else { "no link is up" };
        format!("{}: {why}", self.name_of(slot))
    }

    fn name_of(&self, slot: Slot) -> String {
        let system = self.record.and_then(|record| record.entry(slot).system);
        system.map_or_else(|| format!("slot {slot}"), |system| system.to_string())
    }

    pub(super) fn is_join_overdue(&self, now_ms: u64) -> bool {
        !WAITS_FOR_EVER && now_ms >= self.join_deadline_ms
    }

    /// Steps back, so that nobody waits for this member.
    pub(super) fn quit_join(&mut self) {
        let waits_for = self.waits_for().unwrap_or_default();
        let pause_ms = self.timing.join_pause_ms(self.join_attempts + 1);
        self.effects.push(Effect::Console(format!(
            "SSI system {} stops joining and tries again in {pause_ms} ms: it has waited {} ms {waits_for}",
            self.system, self.timing.consent_patience_ms
        )));
        self.tell_all(&Message::Abort { incarnation: self.incarnation });
        self.early.clear();
        self.life = Life::Retreating;
        self.operate(Some(Change::QuitJoin(self.ident())));
    }

    /// It has stepped back: nothing of this life is in the record any more, nor will be.
    pub(super) fn wait_outside(&mut self, now_ms: u64) {
        self.waiting.retain(|change| !matches!(change, Some(Change::Heartbeat { .. })));
        self.has_promised = false;
        self.join_attempts = self.join_attempts.saturating_add(1);
        self.begin_from_ms = now_ms + self.timing.join_pause_ms(self.join_attempts);
        self.life = Life::Waiting { retry_at_ms: now_ms + self.timing.retry_ms };
    }

    /// Since when does who joins or leaves do so?
    pub(super) fn watch_transition(&mut self, now_ms: u64) {
        let record = self.record;
        let changing = record.and_then(|record| {
            let slot = record.changing()?;
            let entry = record.entry(slot);
            Some((Ident { slot, incarnation: entry.incarnation }, entry.state))
        });
        if self.changing.map(|(ident, state, _)| (ident, state)) != changing {
            self.changing = changing.map(|(ident, state)| (ident, state, now_ms));
        }
    }

    /// Whoever joins or leaves for too long is put out of the others' way, whatever its heartbeat does.
    pub(super) fn expel_overdue(&mut self, now_ms: u64) {
        let may = self.is_member() || matches!(self.life, Life::Waiting { .. });
        let (Some((ident, _, since_ms)), Some(record)) = (self.changing, self.record) else { return };
        let overdue = now_ms.saturating_sub(since_ms) > self.timing.transition_ms_max;
        if may && overdue && ident.slot != self.slot && !WAITS_FOR_EVER {
            self.expel(ident.slot, &record);
        }
    }

    pub(super) fn expel(&mut self, slot: Slot, record: &Record) {
        let entry = record.entry(slot);
        let ident = Ident { slot, incarnation: entry.incarnation };
        let change = Change::Expel { ident, from: entry.state };
        if !self.waiting.contains(&Some(change)) {
            self.operate(Some(change));
        }
    }

    pub(super) fn console_expelled(&mut self, slot: Slot) {
        let text =
            format!("SSI system {} has been expelled: it joined or left for too long", self.name_of(slot));
        self.effects.push(Effect::Console(text));
    }

    /// Whom or what this member waits for, in words, if it waits.
    pub fn waits_for(&self) -> Option<String> {
        let names = |slots: &mut dyn Iterator<Item = Slot>| {
            let names: Vec<String> = slots.map(|slot| self.name_of(slot)).collect();
            names.join(", ")
        };
        let unreached: Vec<String> = self.unreached().map(|slot| self.unreached_text(slot)).collect();
        let changing = self.changing.filter(|(ident, ..)| ident.slot != self.slot);
        let changing =
            changing.map(|(ident, state, _)| format!("for {}, which is {state}", self.name_of(ident.slot)));
        match &self.life {
            Life::Waiting { .. } if self.record.is_none() => Some("for the record".to_owned()),
            Life::Waiting { .. } if changing.is_some() => changing,
            Life::Waiting { .. } | Life::Connecting if !unreached.is_empty() => {
                Some(format!("for a link to {}", unreached.join("; ")))
            }
            Life::Waiting { .. } => Some("for its next attempt to join".to_owned()),
            Life::Connecting | Life::Retreating | Life::Committing(_) => Some("for the record".to_owned()),
            Life::Asking(ask) | Life::Leaving(ask) => {
                Some(format!("for the consent of {}", names(&mut ask.waits_for.iter().copied())))
            }
            Life::Joined | Life::WantsOut { .. } => match self.view.mode {
                Mode::Stable => None,
                Mode::InFlux => changing.or_else(|| self.consented_text()),
                Mode::Safe => Some(self.safe_text()),
            },
            Life::Isolated => Some("for an operator: its join has failed".to_owned()),
            Life::Down | Life::Gone => None,
        }
    }

    fn consented_text(&self) -> Option<String> {
        let slot = self.consented.as_ref()?.slot;
        Some(format!("for the last word of {}", self.name_of(slot)))
    }

    /// Why nothing is granted.
    fn safe_text(&self) -> String {
        if let Some(stranger) = self.stranger() {
            return stranger;
        }
        let suspended = |slot: &Slot| self.view.states[slot.index()] == MemberState::Suspended;
        let suspended: Vec<String> =
            Slot::all().filter(suspended).map(|slot| self.unreached_text(slot)).collect();
        if !suspended.is_empty() {
            return format!("for {}", suspended.join("; "));
        }
        let peers: Vec<Slot> = self.view.peers().collect();
        let blind = peers.iter().find_map(|peer| {
            let theirs = self.their_reach[peer.index()]?;
            let unseen = peers.iter().find(|slot| *slot != peer && !theirs[slot.index()])?;
            Some(format!("for {}, which does not reach {}", self.name_of(*peer), self.name_of(*unseen)))
        });
        blind.unwrap_or_else(|| "for the record".to_owned())
    }
}
