//! What people and fate do to the cluster.

use super::{Event, SLOTS, Simulation, Violation, Written};
use crate::member::{Command, Input, MemberState};
use crate::name::{Slot, UserId, VolumeLabel};
use crate::service::{LogonAnswer, LogonRequest, UserKind};

/// Users that are logged on and off.
const USERS: u64 = 4;
/// Between two jumps of a member's clock, in ms.
const JUMPS_APART_MS: u64 = 15_000;

fn user(number: u64) -> UserId {
    UserId::new(&format!("LINUX{number:02}")).expect("this is a user id")
}

impl Simulation {
    pub(super) fn trouble(&mut self) -> Result<(), Violation> {
        if self.now_ms >= self.trouble_until_ms {
            return self.heal();
        }
        let delay = 1 + self.dice.roll(1_500);
        self.after(delay, Event::Trouble);
        let slot = Slot::new(1 + self.dice.roll(SLOTS as u64) as u8).expect("1 to 4");
        match self.dice.roll(25) {
            0 => self.die(slot),
            20 => return self.abend(slot),
            21 => self.jump(slot),
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
                return self.input(slot, Input::Command(0, command));
            }
            1 if self.lives(slot) && !self.node(slot).paused => {
                let (boot, sleep) = (self.node(slot).boot, self.dice.roll(20_000));
                self.node(slot).paused = true;
                self.note(|| format!("{slot}: falls asleep for {sleep} ms"));
                self.after(sleep, Event::Resume(slot, boot));
            }
            2 | 3 => {
                let other = Slot::new(1 + self.dice.roll(SLOTS as u64) as u8).expect("1 to 4");
                self.note(|| format!("cable between {slot} and {other}"));
                self.network.toggle(slot, other);
            }
            4 => return self.shutdown(slot),
            5 => {
                let other = Slot::new(1 + self.dice.roll(SLOTS as u64) as u8).expect("1 to 4");
                // The operator has made sure that it is stopped, or that it will stop itself: or else the mistake is his.
                let stops = !self.lives(other) || self.record.entry(other).has_promised;
                if stops && !self.node(slot).paused && !self.node(slot).blocked {
                    return self.input(slot, Input::Command(0, Command::SetDown(other)));
                }
            }
            6 | 7 => {
                let at = self.dice.roll(4_000);
                self.after(at, Event::Boot(slot));
            }
            8..12 => return self.log_off(slot),
            _ => {
                // Often several at once, and often for one user.
                let (one, number) = (self.dice.once_in(2), self.dice.roll(USERS));
                for _ in 0..=self.dice.roll(3) {
                    let slot = Slot::new(1 + self.dice.roll(SLOTS as u64) as u8).expect("1 to 4");
                    let number = if one { number } else { self.dice.roll(USERS) };
                    self.log_on(slot, user(number))?;
                }
            }
        }
        Ok(())
    }

    /// Trouble is over: cables are in, sleepers awake, configurations mended, and whoever is dead is started.
    fn heal(&mut self) -> Result<(), Violation> {
        self.network.heal();
        for slot in Slot::all() {
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

    /// By a little, or by more than any member may be silent. A clock that runs twice as fast for long is no clock.
    fn jump(&mut self, slot: Slot) {
        let jump_ms = if self.dice.once_in(2) { self.dice.roll(1_500) } else { self.dice.roll(60_000) };
        let (now_ms, joined) = (self.now_ms, self.record.entry(slot).state == MemberState::Joined);
        let node = self.node(slot);
        if now_ms > node.jumped_at_ms + JUMPS_APART_MS {
            node.jumped_at_ms = now_ms;
            node.ahead_ms += jump_ms;
            let lives = node.member.is_some();
            self.tally.jumps += u64::from(lives && joined);
            self.note(|| format!("{slot}: its clock jumps by {jump_ms} ms"));
        }
    }

    fn is_isolated(&self, slot: Slot) -> bool {
        let member = self.nodes[slot.index()].member.as_ref();
        member.is_some_and(|member| member.view().states[slot.index()] == MemberState::Isolated)
    }

    fn shutdown(&mut self, slot: Slot) -> Result<(), Violation> {
        let guests: Vec<UserId> = self.node(slot).guests.iter().copied().collect();
        for user in guests {
            self.end_guest(slot, user)?;
        }
        self.input(slot, Input::Command(0, Command::Leave))
    }

    fn log_on(&mut self, slot: Slot, user: UserId) -> Result<(), Violation> {
        let usable = self
            .node(slot)
            .member
            .as_ref()
            .is_some_and(|member| member.view().states[slot.index()] == MemberState::Joined);
        if !usable || self.node(slot).paused {
            return Ok(());
        }
        self.requests += 1;
        let number = self.requests;
        self.node(slot).requests.insert(number, user);
        self.ask(slot, number, &LogonRequest::On(user, UserKind::Single))
    }

    fn log_off(&mut self, slot: Slot) -> Result<(), Violation> {
        let Some(user) = self.node(slot).guests.first().copied() else { return Ok(()) };
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
        let Some(user) = self.node(slot).requests.remove(&number) else { return Ok(()) };
        match postcard::from_bytes(body).expect("an answer can be read") {
            LogonAnswer::Granted => {
                self.tally.granted += 1;
                self.check_grant(slot, user)?;
                self.node(slot).guests.insert(user);
            }
            LogonAnswer::Refused(_) => self.tally.refused += 1,
        }
        Ok(())
    }
}
