//! Members whose lives the record does not know: they use another record.
//!
//! A life begins in the record before anybody hears of it. So a life that a record does not know that was read after it was
//! heard of is in another record of the same cluster: somebody made a second one, or wrote another volume into the
//! configuration. Two records cannot keep two members of one mind. Whoever joins does not join then, and whoever has joined
//! grants nothing until the other one is gone.

use super::*;

/// What is known of a life that another member claims to be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// The record knows it.
    #[default]
    Known,
    /// It is newer than the record that was read last.
    Heard(u64),
    /// An operation on the record has begun since it was heard of.
    Checked(u64),
    /// The record does not know it.
    Stranger(u64),
}

impl Member {
    /// A member says that it is a full one, in this life.
    pub(super) fn claimed(&mut self, from: Slot, incarnation: u64) {
        let known = self.record.is_none_or(|record| record.entry(from).incarnation >= incarnation);
        let claim = &mut self.claims[from.index()];
        if !known && *claim == Claim::Known {
            *claim = Claim::Heard(incarnation);
            self.operate(None);
        }
    }

    /// What was heard before an operation begins is in the record that it gives.
    pub(super) fn check_claims(&mut self) {
        for claim in &mut self.claims {
            if let Claim::Heard(incarnation) = *claim {
                *claim = Claim::Checked(incarnation);
            }
        }
    }

    /// The operation is over.
    pub(super) fn settle_claims(&mut self, record: &Record) {
        for slot in Slot::all() {
            let claim = &mut self.claims[slot.index()];
            let (Claim::Heard(incarnation) | Claim::Checked(incarnation) | Claim::Stranger(incarnation)) =
                *claim
            else {
                continue;
            };
            if record.entry(slot).incarnation >= incarnation {
                *claim = Claim::Known;
            } else if matches!(claim, Claim::Checked(_)) {
                *claim = Claim::Stranger(incarnation);
                let text = format!("SSI system {}", stranger_text(record, slot));
                self.effects.push(Effect::Console(text));
            }
        }
    }

    /// One that the record does not know, in words.
    pub(super) fn stranger(&self) -> Option<String> {
        let record = self.record.as_ref()?;
        let is_stranger = |slot: &Slot| matches!(self.claims[slot.index()], Claim::Stranger(_));
        Slot::all().find(is_stranger).map(|slot| stranger_text(record, slot))
    }

    /// Nobody has to be looked up in the record.
    pub(super) fn all_known(&self) -> bool {
        self.claims.iter().all(|claim| *claim == Claim::Known)
    }
}

fn stranger_text(record: &Record, slot: Slot) -> String {
    let name = record.entry(slot).system.map_or_else(|| format!("in slot {slot}"), |name| name.to_string());
    format!("{name} has joined by another persistent data record than this one's")
}
