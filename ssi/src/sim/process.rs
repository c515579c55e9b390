//! Processes that are members: how they start, sleep and end, and what their cores want done.

use std::collections::BTreeMap;

use super::clock::Clock;
use super::orders::Orders;
use super::{Event, SLOTS, Simulation, USERS, Violation};
use crate::config::Comparison;
use crate::member::{Effect, Input, LEVEL, LEVEL_OLDEST, Member, Timing};
use crate::name::{Slot, SystemName, UserId};
use crate::service::{Configuration, Logon, Service, UserKind};

/// What an operator has written into a member's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Right,
    /// It does not fit that of a member with the right one.
    Wrong,
}

impl Written {
    fn service(self, slot: Slot) -> Configuration {
        let volume = if self == Self::Right { "M01S01" } else { "M02S01" };
        let same = [("CP_OWNED slot 10".to_owned(), volume.to_owned())].into();
        Configuration::new(system(slot), Comparison { same, ..Comparison::default() })
    }
}

/// A process that is, or was, a member.
pub(super) struct Node {
    pub(super) member: Option<Member>,
    pub(super) boot: u64,
    /// Its configuration.
    pub(super) written: Written,
    pub(super) paused: bool,
    /// Its engine stands still, and its guests do not.
    pub(super) blocked: bool,
    /// The core's deadline, as the engine has taken it down: for the watchdog, and for those who answer.
    pub(super) fence_at_ms: Option<u64>,
    /// What came while it slept or stood still.
    pub(super) backlog: Vec<Input>,
    /// Changes of the link to each other member among that: what the core sends before it hears of them belongs to a link
    /// that is no more.
    pub(super) unheard: [usize; SLOTS],
    /// Users whose guests run here, and as what.
    pub(super) guests: BTreeMap<UserId, UserKind>,
    /// What kind the first users are by its directory.
    pub(super) kinds: [UserKind; USERS],
    pub(super) clock: Clock,
    pub(super) orders: Orders,
    /// Since when nothing has kept it from watching the others: no sleep, no jump of its clock.
    pub(super) steady_since_ms: u64,
    pub(super) died_at_ms: u64,
    /// Nobody starts it.
    pub(super) is_gone: bool,
    /// Its next life stops in the midst of joining or leaving, and only its heartbeat goes on.
    pub(super) will_linger: bool,
    /// It cannot reach the record until then.
    pub(super) cut_off_until_ms: u64,
    /// Requests that wait for their answers.
    pub(super) requests: BTreeMap<u64, Asked>,
}

/// A logon that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) user: UserId,
    pub(super) kind: UserKind,
    pub(super) at_ms: u64,
}

impl Node {
    /// It has never run.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            member: None,
            boot: 0,
            written: Written::Right,
            paused: false,
            blocked: false,
            fence_at_ms: None,
            backlog: Vec::new(),
            unheard: [0; SLOTS],
            guests: BTreeMap::new(),
            kinds: [UserKind::Single; USERS],
            clock,
            orders: Orders::default(),
            steady_since_ms: 0,
            died_at_ms: 0,
            is_gone: false,
            will_linger: false,
            cut_off_until_ms: 0,
            requests: BTreeMap::new(),
        }
    }
}

pub(super) fn system(slot: Slot) -> SystemName {
    SystemName::new(["MEMBERA", "MEMBERB", "MEMBERC", "MEMBERD"][slot.index()]).expect("these are names")
}

/// The logon service of a member.
pub(super) fn logon(member: &Member) -> Option<&Logon> {
    let service: &dyn std::any::Any = member.services().first()?.as_any();
    service.downcast_ref()
}

impl Simulation {
    pub(super) fn boot(&mut self, slot: Slot) -> Result<(), Violation> {
        if self.lives(slot) || self.node(slot).is_gone {
            return Ok(());
        }
        self.note(|| format!("{slot}: boots"));
        let slip = self.now_ms < self.trouble_until_ms && self.dice.once_in(12);
        let written = if slip { Written::Wrong } else { Written::Right };
        let old = self.dice.once_in(8);
        let services: Vec<Box<dyn Service>> = vec![Box::new(Logon::new()), Box::new(written.service(slot))];
        let now_ms = self.now_ms;
        let node = &mut self.nodes[slot.index()];
        node.steady_since_ms = now_ms;
        node.written = written;
        node.boot += 1;
        (node.paused, node.blocked) = (false, false);
        let level = if old { LEVEL_OLDEST } else { LEVEL };
        node.member = Some(Member::new(slot, system(slot), Timing::default(), services).speaking(level));
        self.input(slot, Input::Start)
    }

    /// The process is gone, and its guests with it.
    pub(super) fn die(&mut self, slot: Slot) {
        let now_ms = self.now_ms;
        let node = self.node(slot);
        if node.member.is_some() {
            node.died_at_ms = now_ms;
        }
        node.orders = Orders::default();
        node.member = None;
        node.boot += 1;
        (node.paused, node.blocked, node.fence_at_ms) = (false, false, None);
        node.backlog.clear();
        node.unheard = [0; SLOTS];
        node.guests.clear();
        node.requests.clear();
        self.note(|| format!("{slot}: is dead"));
    }

    pub(super) fn resume(&mut self, slot: Slot) -> Result<(), Violation> {
        let node = self.node(slot);
        let (paused, blocked) = (std::mem::take(&mut node.paused), std::mem::take(&mut node.blocked));
        if !paused && !blocked {
            return Ok(());
        }
        let backlog = std::mem::take(&mut node.backlog);
        self.node(slot).steady_since_ms = self.now_ms;
        self.note(|| format!("{slot}: wakes up"));
        for input in backlog.into_iter().chain([Input::Tick]) {
            if self.lives(slot) {
                if let Input::Link(other, _) = input {
                    self.node(slot).unheard[other.index()] -= 1;
                }
                self.input(slot, input)?;
            }
        }
        self.check_guests_of(slot)
    }

    pub(super) fn input(&mut self, slot: Slot, input: Input) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        if !matches!(input, Input::Tick) {
            self.note(|| format!("{slot}: <- {input:?}"));
        }
        let node = &mut self.nodes[slot.index()];
        let Some(member) = &mut node.member else { return Ok(()) };
        if node.paused || node.blocked {
            if let Input::Link(other, _) = input {
                node.unheard[other.index()] += 1;
            }
            node.backlog.push(input);
            return Ok(());
        }
        let effects = member.handle(node.clock.local_ms(now_ms), input);
        let timeout = member.timeout_ms().map(|at| node.clock.true_ms(at));
        node.fence_at_ms = member.fence_at_ms();
        let boot = node.boot;
        if let Some(at) = timeout {
            // One timer too many does no harm: a tick before its time changes nothing.
            let key = (at.max(now_ms + 1), 0);
            let timers = self.events.range(..=(key.0, u64::MAX));
            let set = timers.rev().take(64).any(
                |(_, event)| matches!(event, Event::Tick(other, life) if (*other, *life) == (slot, boot)),
            );
            if !set {
                self.after(at.max(now_ms + 1) - now_ms, Event::Tick(slot, boot));
            }
        }
        self.perform(slot, boot, effects)
    }

    /// As the engine does it: at a stop the guests end where it stands, and the process with the last effect.
    fn perform(&mut self, slot: Slot, boot: u64, effects: Vec<Effect>) -> Result<(), Violation> {
        let mut stops = effects.iter().any(|effect| matches!(effect, Effect::Stop(_)));
        let ends = stops;
        for effect in effects {
            match effect {
                Effect::Stop(_) => {
                    stops = false;
                    self.node(slot).guests.clear();
                    self.effect(slot, boot, effect)?;
                }
                // What an effect sets going may be over before the next one: others act on it while the guests run.
                Effect::Record(change) if stops => {
                    let written = self.node(slot).written;
                    self.carry(slot, boot, change, written)?;
                }
                effect => self.effect(slot, boot, effect)?,
            }
        }
        if ends {
            self.die(slot);
        }
        Ok(())
    }

    fn effect(&mut self, slot: Slot, boot: u64, effect: Effect) -> Result<(), Violation> {
        self.note(|| format!("{slot}: -> {effect:?}"));
        match effect {
            Effect::Record(change) => {
                let delay = 1 + self.dice.roll(if self.dice.clone().once_in(40) { 2_000 } else { 20 });
                let written = self.node(slot).written;
                self.after(delay, Event::Carry(slot, boot, change, written));
            }
            Effect::Send(to, _) if self.node(slot).unheard[to.index()] > 0 => {}
            Effect::Send(to, message) => self.network.send(slot, to, message, self.now_ms, &mut self.dice),
            Effect::Answer(number, body) => self.answered(slot, number, &body)?,
            Effect::Stop(why) => {
                if why != crate::member::Stopped::Left {
                    self.tally.fenced += 1;
                }
            }
            Effect::Reply(number, outcome) => self.replied(slot, number, outcome)?,
            Effect::Console(_) | Effect::Changed(_) => {}
        }
        Ok(())
    }
}
