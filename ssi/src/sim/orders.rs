//! What operators order, and whether a refusal is true.

use super::{Simulation, Violation};
use crate::member::{Command, CommandRefused, Input, MemberState};
use crate::name::Slot;

/// A member that has died can be declared down so long after that at the latest, in ms: its heartbeat must have been watched
/// standing still, and what it had asked of the record last may have been late.
const DEAD_AFTER_MS: u64 = 15_000;
/// A member knows of what has been in the record for so long.
const KNOWN_AFTER_MS: u64 = 5_000;

/// Those of one member that have no answer yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    open: Vec<(u64, Command, u64)>,
    numbers: u64,
    has_to_leave: bool,
}

impl Simulation {
    pub(super) fn order(&mut self, slot: Slot, command: Command) -> Result<(), Violation> {
        let node = self.node(slot);
        if node.paused || node.blocked || node.member.is_none() {
            return Ok(());
        }
        let life = match command {
            Command::SetDown(slot) => self.record.entry(slot).incarnation,
            _ => 0,
        };
        let orders = &mut self.node(slot).orders;
        orders.numbers += 1;
        orders.has_to_leave |= command == Command::Leave;
        let number = orders.numbers;
        orders.open.push((number, command, life));
        self.input(slot, Input::Command(number, command))
    }

    pub(super) fn replied(
        &mut self,
        slot: Slot,
        number: u64,
        outcome: Result<(), CommandRefused>,
    ) -> Result<(), Violation> {
        let open = &mut self.node(slot).orders.open;
        let Some(at) = open.iter().position(|(of, ..)| *of == number) else {
            return Err(self.violation(format!("slot {slot} answers an order twice: {outcome:?}")));
        };
        let (_, command, life) = open.remove(at);
        match outcome {
            Ok(()) => {
                self.tally.orders += 1;
                self.check_done(slot, command, life)
            }
            Err(why) => {
                self.tally.orders_refused += 1;
                self.check_refusal(slot, command, why)
            }
        }
    }

    fn check_done(&self, slot: Slot, command: Command, life: u64) -> Result<(), Violation> {
        let Command::SetDown(other) = command else { return Ok(()) };
        let entry = self.record.entry(other);
        if entry.incarnation == life && entry.state != MemberState::Down {
            let state = entry.state;
            return Err(
                self.violation(format!("slot {slot} says that slot {other} is down, and it is {state}"))
            );
        }
        Ok(())
    }

    /// What the refusal says is so, or has been so lately.
    fn check_refusal(&self, slot: Slot, command: Command, why: CommandRefused) -> Result<(), Violation> {
        let node = &self.nodes[slot.index()];
        let steady_ms = self.now_ms - node.steady_since_ms;
        let of_another = !matches!(command, Command::SetDown(other) if other == slot);
        let is_true = match why {
            CommandRefused::Busy => !node.orders.open.is_empty(),
            CommandRefused::Alive(other) => {
                let died_at_ms = self.nodes[other.index()].died_at_ms;
                self.lives(other)
                    || self.now_ms - died_at_ms < DEAD_AFTER_MS
                    || steady_ms < DEAD_AFTER_MS
                    // Who cannot read the record has not seen it stand still.
                    || self.now_ms < node.cut_off_until_ms.saturating_add(DEAD_AFTER_MS)
                    || self.now_ms < self.heartbeats_until_ms[other.index()] + DEAD_AFTER_MS
            }
            CommandRefused::Here(state) => {
                state != MemberState::Joined || !of_another || node.orders.has_to_leave
            }
            CommandRefused::There(other, MemberState::Down) => {
                let entry = self.record.entry(other);
                let joined_ms = self.now_ms - self.joined_at_ms[other.index()];
                entry.state != MemberState::Joined
                    || joined_ms < KNOWN_AFTER_MS
                    || steady_ms < KNOWN_AFTER_MS
                    || self.now_ms < node.cut_off_until_ms.saturating_add(KNOWN_AFTER_MS)
            }
            CommandRefused::There(..) | CommandRefused::Record(_) => true,
        };
        if is_true {
            return Ok(());
        }
        Err(self.violation(format!("slot {slot} refuses {command:?}, which is not so: {why}")))
    }
}
