//! What people and fate do to the cluster.

use super::process::Asked;
use super::{Event, Lasting, Simulation, USERS, Violation, Written, user};
use crate::member::{Command, Input, MemberState};
use crate::name::{Slot, UserId, VolumeLabel};
use crate::service::{LogonAnswer, LogonRequest, UserKind};

/// How long what stays broken does so, in ms.
pub(super) const LASTING_MS: u64 = 100_000;

impl Simulation {
    pub(super) fn trouble(&mut self) -> Result<(), Violation> {
        self.check_bounds()?;
        if self.now_ms >= self.trouble_until_ms {
            return self.heal();
        }
        let delay = 1 + self.dice.roll(1_500);
        self.after(delay, Event::Trouble);
        let slot = self.any_slot();
        match self.dice.roll(30) {
            0 => self.die(slot),
            20 => return self.abend(slot),
            21 => return self.jump(slot),
            24 => self.block(slot),
            22 => {
                let outage = 1 + self.dice.roll(12_000);
                self.note(|| format!("{slot}: cannot reach the record for {outage} ms"));
                self.node(slot).cut_off_until_ms = self.now_ms + outage;
            }
            23 => {
                let command = match self.dice.roll(3) {
                    0 => Command::SetTimeouts(true),
                    1 => Command::SetTimeouts(false),
                    _ => Command::MoveRecord(VolumeLabel::new("VMCOM2").expect("this is a label")),
                };
                return self.order(slot, command);
            }
            25 => self.deafen(slot),
            26 | 27 => self.edit_directory(),
            28 => self.node(slot).will_linger = true,
            29 if self.dice.once_in(16) => return self.crowd(slot),
            29 => {}
            1 if self.lives(slot) && !self.node(slot).paused => {
                let (boot, sleep) = (self.node(slot).boot, self.dice.roll(20_000));
                self.node(slot).paused = true;
                self.note(|| format!("{slot}: falls asleep for {sleep} ms"));
                self.after(sleep, Event::Resume(slot, boot));
            }
            2 | 3 => {
                let other = self.any_slot();
                self.note(|| format!("cable between {slot} and {other}"));
                self.network.toggle(slot, other);
            }
            4 => return self.shutdown(slot),
            5 => {
                let other = self.any_slot();
                // The operator has made sure that it is stopped, or that it will stop itself: or else the mistake is his.
                let stops = !self.lives(other) || self.record.entry(other).has_promised;
                if stops {
                    return self.order(slot, Command::SetDown(other));
                }
            }
            6 | 7 => {
                let at = self.dice.roll(4_000);
                self.after(at, Event::Boot(slot));
            }
            8..12 => return self.log_off(slot),
            _ => {
                // Often several at once, and often for one user.
                let (one, number) = (self.dice.once_in(2), self.dice.roll(USERS as u64));
                for _ in 0..=self.dice.roll(3) {
                    let slot = self.any_slot();
                    let number = if one { number } else { self.dice.roll(USERS as u64) };
                    let kind = self.node(slot).kinds[number as usize];
                    self.log_on(slot, user(number), kind)?;
                }
            }
        }
        Ok(())
    }

    /// Trouble is over: cables are in, sleepers awake, configurations mended, and whoever is dead is started.
    fn heal(&mut self) -> Result<(), Violation> {
        if self.judge_at_ms.is_none() {
            self.network.heal();
            self.judge_at_ms = Some(self.now_ms + LASTING_MS);
            self.keep_broken();
        }
        if self.lasting != Lasting::Nothing && self.judge_at_ms.is_some_and(|at_ms| self.now_ms >= at_ms) {
            self.check_lasting()?;
            self.mend_lasting();
        }
        if let Lasting::Member(gone) = self.lasting {
            // He has seen to it that it never comes back.
            for slot in Slot::all().filter(|slot| *slot != gone) {
                self.order(slot, Command::SetDown(gone))?;
            }
        }
        for slot in Slot::all() {
            self.node(slot).will_linger = false;
            self.resume(slot)?;
            if self.lives(slot) && (self.node(slot).written == Written::Wrong || self.is_isolated(slot)) {
                self.shutdown(slot)?;
            }
            if !self.lives(slot) {
                let at = self.dice.roll(2_000);
                self.after(at, Event::Boot(slot));
            }
        }
        self.after(3_000, Event::Trouble);
        Ok(())
    }

    /// The process is gone, and says so in the record.
    fn abend(&mut self, slot: Slot) -> Result<(), Violation> {
        let node = &self.nodes[slot.index()];
        if node.paused || node.blocked { Ok(()) } else { self.input(slot, Input::Abend) }
    }

    fn is_isolated(&self, slot: Slot) -> bool {
        let member = self.nodes[slot.index()].member.as_ref();
        member.is_some_and(|member| member.view().states[slot.index()] == MemberState::Isolated)
    }

    fn shutdown(&mut self, slot: Slot) -> Result<(), Violation> {
        let guests: Vec<UserId> = self.node(slot).guests.keys().copied().collect();
        for user in guests {
            self.end_guest(slot, user)?;
        }
        self.order(slot, Command::Leave)
    }

    pub(super) fn log_on(&mut self, slot: Slot, user: UserId, kind: UserKind) -> Result<(), Violation> {
        let usable = self
            .node(slot)
            .member
            .as_ref()
            .is_some_and(|member| member.view().states[slot.index()] == MemberState::Joined);
        if !usable || self.node(slot).paused {
            return Ok(());
        }
        // 0 is for what nobody waits for.
        self.requests = self.requests.checked_add(1).unwrap_or(1);
        let (number, at_ms) = (self.requests, self.now_ms);
        self.node(slot).requests.insert(number, Asked { user, kind, at_ms });
        self.ask(slot, number, &LogonRequest::On(user, kind))
    }

    fn log_off(&mut self, slot: Slot) -> Result<(), Violation> {
        let Some(user) = self.node(slot).guests.first_key_value().map(|(user, _)| *user) else {
            return Ok(());
        };
        if self.node(slot).paused {
            return Ok(());
        }
        self.end_guest(slot, user)
    }

    fn end_guest(&mut self, slot: Slot, user: UserId) -> Result<(), Violation> {
        self.node(slot).guests.remove(&user);
        self.ask(slot, 0, &LogonRequest::Off(user))
    }

    fn ask(&mut self, slot: Slot, number: u64, request: &LogonRequest) -> Result<(), Violation> {
        let body = postcard::to_allocvec(request).expect("a request can be written");
        self.input(slot, Input::Request { service: "Logon".to_owned(), number, body })
    }

    pub(super) fn answered(&mut self, slot: Slot, number: u64, body: &[u8]) -> Result<(), Violation> {
        let Some(Asked { user, kind, .. }) = self.node(slot).requests.remove(&number) else { return Ok(()) };
        match postcard::from_bytes(body).expect("an answer can be read") {
            LogonAnswer::Granted => {
                self.tally.granted += 1;
                self.check_grant(slot, user)?;
                self.tally.multi += u64::from(kind == UserKind::Multi);
                self.node(slot).guests.insert(user, kind);
                self.check_guest(slot, user)?;
            }
            LogonAnswer::Refused(_) => self.tally.refused += 1,
        }
        Ok(())
    }
}
