//! Links between every two members: in order, late, and gone without warning.

use std::collections::VecDeque;

use super::{Dice, SLOTS};
use crate::member::{Input, Message};
use crate::name::Slot;

/// A member that says nothing for so long is taken to be gone, in ms.
const SILENCE_MS: u64 = 3_000;

/// One direction of a link.
#[derive(Clone, Debug, Default)]
struct Direction {
    flying: VecDeque<(u64, Message)>,
    last_at_ms: u64,
    /// The receiver has heard that the link is up.
    heard_up: bool,
}

/// A link between two members.
#[derive(Clone, Debug, Default)]
struct Pair {
    cut: bool,
    /// This end hears nothing, since then.
    deaf: Option<(usize, u64)>,
    up: bool,
    /// Boots of the two ends when it came up.
    boots: [u64; 2],
    /// When each end notices that it is down, if it has not yet.
    notices_at_ms: [Option<u64>; 2],
    comes_up_at_ms: Option<u64>,
    sleeps_since_ms: Option<u64>,
    /// To the lower slot, and to the higher.
    directions: [Direction; 2],
}

/// All links.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    pairs: [[Pair; SLOTS]; SLOTS],
}

fn order(a: Slot, b: Slot) -> (usize, usize) {
    (a.index().min(b.index()), a.index().max(b.index()))
}

impl Network {
    pub(super) fn toggle(&mut self, a: Slot, b: Slot) {
        let (low, high) = order(a, b);
        if low != high {
            self.pairs[low][high].cut ^= true;
        }
    }

    /// `slot` hears nothing of `other` any more; does that change anything?
    pub(super) fn deafen(&mut self, slot: Slot, other: Slot, now_ms: u64) -> bool {
        let (low, high) = order(slot, other);
        let pair = &mut self.pairs[low][high];
        if low == high || pair.deaf.take().is_some() {
            return false;
        }
        pair.deaf = Some((usize::from(slot.index() == high), now_ms));
        pair.up && !pair.cut
    }

    pub(super) fn heal(&mut self) {
        self.pairs.iter_mut().flatten().for_each(|pair| (pair.cut, pair.deaf) = (false, None));
    }

    pub(super) fn send(&mut self, from: Slot, to: Slot, message: Message, now_ms: u64, dice: &mut Dice) {
        let (low, high) = order(from, to);
        let pair = &mut self.pairs[low][high];
        if !pair.up {
            return;
        }
        let direction = &mut pair.directions[usize::from(to.index() == high)];
        let delay = 1 + if dice.once_in(30) { dice.roll(400) } else { dice.roll(8) };
        direction.last_at_ms = direction.last_at_ms.max(now_ms + delay);
        direction.flying.push_back((direction.last_at_ms, message));
    }

    /// No message is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.pairs.iter().flatten().flat_map(|pair| &pair.directions).all(|direction| {
            direction.flying.iter().all(|(_, message)| matches!(message, Message::Heartbeat { .. }))
        })
    }

    /// What reaches whom now. `lives` has the boot of each member that lives.
    pub(super) fn step(
        &mut self,
        now_ms: u64,
        lives: &[Option<u64>; SLOTS],
        paused: &[bool; SLOTS],
        dice: &mut Dice,
    ) -> Vec<(Slot, Input)> {
        let mut arrivals = Vec::new();
        for low in 0..SLOTS {
            for high in low + 1..SLOTS {
                let ends = [low, high];
                self.pairs[low][high].step(now_ms, ends, lives, paused, dice, &mut arrivals);
            }
        }
        arrivals
    }
}

impl Pair {
    fn step(
        &mut self,
        now_ms: u64,
        ends: [usize; 2],
        lives: &[Option<u64>; SLOTS],
        paused: &[bool; SLOTS],
        dice: &mut Dice,
        arrivals: &mut Vec<(Slot, Input)>,
    ) {
        let slot = |index: usize| Slot::new(index as u8 + 1).expect("1 to 4");
        let boots = ends.map(|end| lives[end]);
        let sleeps = ends.iter().any(|end| paused[*end]);
        let since = *self.sleeps_since_ms.get_or_insert(now_ms);
        if !sleeps {
            self.sleeps_since_ms = None;
        }
        let deaf = self.deaf.is_some_and(|(_, since_ms)| now_ms - since_ms > SILENCE_MS);
        let silent = deaf || (sleeps && now_ms - since > SILENCE_MS);
        let same = boots == self.boots.map(Some);
        if self.up && (self.cut || silent || !same) {
            self.up = false;
            for side in 0..2 {
                // Of what was under way some may still arrive.
                let flying = &mut self.directions[side].flying;
                flying.truncate(dice.roll(flying.len() as u64 + 1) as usize);
                let patience = if dice.once_in(3) { dice.roll(SILENCE_MS) } else { dice.roll(50) };
                self.notices_at_ms[side] = Some(self.directions[side].last_at_ms.max(now_ms) + patience);
            }
        }
        for side in 0..2 {
            let alive = boots[side] == Some(self.boots[side]);
            // What an end does not hear is sent again until it does, or the link goes down: a link loses nothing while it is up.
            let hears = self.deaf.is_none_or(|(deaf, _)| deaf != side);
            let direction = &mut self.directions[side];
            while alive
                && hears
                && direction.heard_up
                && let Some((at_ms, _)) = direction.flying.front()
                && *at_ms <= now_ms
                && let Some((_, message)) = direction.flying.pop_front()
            {
                arrivals.push((slot(ends[side]), Input::Message(slot(ends[1 - side]), message)));
            }
            if self.notices_at_ms[side].is_some_and(|at_ms| at_ms <= now_ms) {
                self.notices_at_ms[side] = None;
                direction.flying.clear();
                if alive && std::mem::take(&mut direction.heard_up) {
                    arrivals.push((slot(ends[side]), Input::Link(slot(ends[1 - side]), false)));
                }
            }
        }
        let can = !self.cut && self.deaf.is_none() && !sleeps && boots.iter().all(Option::is_some);
        if self.up || !can || self.notices_at_ms.iter().any(Option::is_some) {
            self.comes_up_at_ms = None;
            return;
        }
        let at_ms = *self.comes_up_at_ms.get_or_insert_with(|| now_ms + dice.roll(800));
        if at_ms <= now_ms {
            self.comes_up_at_ms = None;
            self.up = true;
            self.boots = boots.map(Option::unwrap_or_default);
            for side in 0..2 {
                self.directions[side] = Direction { heard_up: true, ..Direction::default() };
                arrivals.push((slot(ends[side]), Input::Link(slot(ends[1 - side]), true)));
            }
        }
    }
}
