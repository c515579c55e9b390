//! What the things that can happen do.

use std::collections::BTreeSet;

use ssi::member::{Change, Command, Input, MemberState, RecordOutcome};

use super::model::Action;
use super::state::{End, Flying, Operation, State, slot};

impl State {
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Boot(index) => {
                self.budget.boots -= 1;
                self.boot(index);
            }
            Action::Carry(index) => self.carry(index, false),
            Action::CarryUnsaid(index) => {
                self.budget.faults -= 1;
                self.carry(index, true);
            }
            Action::CarryFails(index) => {
                self.budget.faults -= 1;
                let outcome = RecordOutcome::Failed("nothing done".to_owned());
                self.node(index).operation = Some(Operation::Answered(outcome));
            }
            Action::CarryOrphan(number) => {
                let change = self.orphans.remove(number);
                let _ = self.record.apply(&change);
            }
            Action::Answer(index) => {
                if let Some(Operation::Answered(outcome)) = self.node(index).operation.take() {
                    self.input(index, Input::Record(outcome));
                }
            }
            Action::Tick(index) => self.input(index, Input::Tick),
            Action::Clock => {
                // The path to the beginning takes as long as it takes.
                if self.budget.steps < u8::MAX {
                    self.budget.steps -= 1;
                }
                self.step_clock();
                let due: Vec<usize> = (0..self.nodes.len()).filter(|index| self.is_due(*index)).collect();
                if self.is_prompt {
                    due.into_iter().for_each(|index| self.input(index, Input::Tick));
                }
            }
            Action::Kill(index) => {
                self.budget.faults -= 1;
                self.die(index);
            }
            Action::Sleep(index) => {
                self.budget.faults -= 1;
                self.node(index).asleep = true;
            }
            Action::Stall(index) => {
                self.budget.faults -= 1;
                self.node(index).stalled = true;
            }
            Action::Unstall(index) => self.node(index).stalled = false,
            Action::Wake(index) => {
                self.node(index).asleep = false;
                self.input(index, Input::Tick);
            }
            Action::LogOn(index) => {
                self.budget.logons -= 1;
                self.log_on(index);
            }
            Action::LogOff(index) => {
                self.budget.logoffs -= 1;
                self.log_off(index);
            }
            Action::Leave(index) => {
                self.budget.commands -= 1;
                self.command(index, Command::Leave);
            }
            Action::Abend(index) => {
                self.budget.commands -= 1;
                self.input(index, Input::Abend);
            }
            Action::SetDown(index, other) => {
                self.budget.commands -= 1;
                self.command(index, Command::SetDown(slot(other)));
            }
            _ => self.act_on_link(action),
        }
    }

    fn act_on_link(&mut self, action: Action) {
        match action {
            Action::Connect(index, other) => {
                let (number, _) = self.link(index, other);
                let link = self.link_mut(number);
                link.up = true;
                for end in &mut link.ends {
                    *end = End { heard: true, flying: [Flying::Up].into() };
                }
            }
            Action::Cut(index, other) => {
                if !self.nodes[index].asleep && !self.nodes[other].asleep {
                    self.budget.faults -= 1;
                }
                let (number, _) = self.link(index, other);
                self.link_mut(number).up = false;
            }
            Action::Notice(index, other) => {
                let (number, end) = self.link(index, other);
                self.link_mut(number).ends[end] = End::default();
                self.input(index, Input::Link(slot(other), false));
            }
            Action::Deliver(index, other) => {
                let (number, end) = self.link(index, other);
                match self.link_mut(number).ends[end].flying.pop_front() {
                    Some(Flying::Up) => self.input(index, Input::Link(slot(other), true)),
                    Some(Flying::Message(message)) => self.input(index, Input::Message(slot(other), message)),
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn carry(&mut self, index: usize, unsaid: bool) {
        let Some(Operation::Asked(change)) = self.nodes[index].operation.clone() else { return };
        let refused = change.and_then(|change: Change| self.record.apply(&change).err());
        let joined = self.record.in_state(MemberState::Joined).map(|slot| self.odd == Some(slot.index()));
        if joined.collect::<BTreeSet<bool>>().len() > 1 {
            self.broken = Some("joined by a member that does not fit");
        }
        let outcome = match refused {
            _ if unsaid => RecordOutcome::Failed("done, though".to_owned()),
            None => RecordOutcome::Done(self.record),
            Some(why) => RecordOutcome::Refused(why, self.record),
        };
        self.node(index).operation = Some(Operation::Answered(outcome));
    }
}
