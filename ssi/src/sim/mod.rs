//! A whole cluster in one thread, in virtual time, from a seed: the very cores that real members run, and everything that
//! can happen to them.
//!
//! Members are started, stopped, killed and put to sleep, abend, and have clocks that jump; links are cut and heal; the record
//! answers late, or not, or makes a change and does not say so, or cannot be reached for a while, or is moved; operators turn
//! cross-system timeouts on and off, declare members down that are not, and write configurations that do not fit; members of
//! the previous level join; users log on everywhere at once. After every event the invariants are looked at. What happens to
//! single frames and devices is below this, in the simulator of `isfc`.
//! In the end everything heals, and the cluster must come to rest: all members joined, the mode stable, every request
//! answered, and all of one mind about who is where.

mod check;
mod network;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};

pub use check::Violation;
use network::Network;

use crate::config::Comparison;
use crate::member::{
    Change, ChangeRefused, Effect, Input, LEVEL, LEVEL_OLDEST, Member, Mode, Record, RecordOutcome, Timing,
};
use crate::name::{ClusterName, MEMBERS_MAX, Slot, SystemName, UserId};
use crate::service::{Configuration, Logon, Service};

const SLOTS: usize = MEMBERS_MAX as usize;
/// How long the trouble lasts at most, in ms.
const TROUBLE_MS: u64 = 120_000;
/// How long the cluster may take to come to rest, in ms.
const REST_MS: u64 = 120_000;

/// splitmix64
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// Something that will happen. Those of a member's earlier boot no longer do.
#[derive(Clone, Debug)]
enum Event {
    Tick(Slot, u64),
    /// The volume carries an operation out, whether or not its member still lives.
    Carry(Slot, u64, Option<Change>, Written),
    Answer(Slot, u64, RecordOutcome),
    Network,
    Trouble,
    Resume(Slot, u64),
    Boot(Slot),
}

/// What an operator has written into a member's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
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
struct Node {
    member: Option<Member>,
    boot: u64,
    /// Its configuration.
    written: Written,
    paused: bool,
    /// What came while it slept.
    backlog: Vec<Input>,
    /// Users whose guests run here.
    guests: BTreeSet<UserId>,
    /// Its clock is ahead of true time, and has jumped last.
    ahead_ms: u64,
    jumped_at_ms: u64,
    /// It cannot reach the record until then.
    cut_off_until_ms: u64,
    /// Requests that wait for their answers.
    requests: BTreeMap<u64, UserId>,
}

/// What a run did, for those who want to know that something happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Logons granted.
    pub granted: u64,
    /// Logons refused.
    pub refused: u64,
    /// Members that stopped themselves, by any reason but leaving.
    pub fenced: u64,
    /// Joins that came to their end.
    pub joins: u64,
    /// Members that were declared down.
    pub declared: u64,
    /// Members whose configuration did not fit, and that were isolated for it.
    pub isolated: u64,
    /// Joins beside a member of another level.
    pub mixed: u64,
    /// Joined members whose clock jumped.
    pub jumps: u64,
    /// Orders of operators that were carried out: members declared down, timeouts on or off, the record moved.
    pub orders: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.granted += other.granted;
        self.refused += other.refused;
        self.fenced += other.fenced;
        self.joins += other.joins;
        self.declared += other.declared;
        self.isolated += other.isolated;
        self.mixed += other.mixed;
        self.jumps += other.jumps;
        self.orders += other.orders;
    }
}

/// The cluster.
pub struct Simulation {
    now_ms: u64,
    dice: Dice,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    nodes: Vec<Node>,
    network: Network,
    record: Record,
    /// With which configuration each joined last.
    joined_with: [Written; SLOTS],
    requests: u64,
    trouble_until_ms: u64,
    tally: Tally,
    log: Option<Vec<String>>,
}

fn system(slot: Slot) -> SystemName {
    SystemName::new(["MEMBERA", "MEMBERB", "MEMBERC", "MEMBERD"][slot.index()]).expect("these are names")
}

/// The logon service of a member.
fn logon(member: &Member) -> Option<&Logon> {
    let service: &dyn std::any::Any = member.services().first()?.as_any();
    service.downcast_ref()
}

impl Simulation {
    /// Runs the cluster of a seed to its end.
    ///
    /// # Errors
    /// Which invariant broke, and when.
    pub fn run(seed: u64) -> Result<Tally, Violation> {
        Self::new(seed).play()
    }

    /// The same, and every event and effect as a line.
    pub fn run_logged(seed: u64) -> (Result<Tally, Violation>, Vec<String>) {
        let mut simulation = Self::new(seed);
        simulation.log = Some(Vec::new());
        let outcome = simulation.play();
        (outcome, simulation.log.unwrap_or_default())
    }

    fn new(seed: u64) -> Self {
        let cluster = ClusterName::new("DEMOSSI").expect("this is a name");
        let mut dice = Dice(seed);
        let mut record =
            Record::new(cluster, std::array::from_fn(|index| Slot::new(index as u8 + 1).map(system)));
        record.timeouts = !dice.once_in(4);
        let node = || Node {
            member: None,
            boot: 0,
            written: Written::Right,
            paused: false,
            backlog: Vec::new(),
            guests: BTreeSet::new(),
            ahead_ms: 0,
            jumped_at_ms: 0,
            cut_off_until_ms: 0,
            requests: BTreeMap::new(),
        };
        let trouble_until_ms = dice.roll(TROUBLE_MS);
        let mut simulation = Self {
            now_ms: 0,
            dice,
            events: BTreeMap::new(),
            sequence: 0,
            nodes: (0..SLOTS).map(|_| node()).collect(),
            network: Network::default(),
            record,
            joined_with: [Written::Right; SLOTS],
            requests: 0,
            trouble_until_ms,
            tally: Tally::default(),
            log: None,
        };
        for slot in Slot::all() {
            let at = simulation.dice.roll(3_000);
            simulation.after(at, Event::Boot(slot));
        }
        simulation.after(500, Event::Trouble);
        simulation.after(5, Event::Network);
        simulation
    }

    fn play(&mut self) -> Result<Tally, Violation> {
        let rest_by_ms = self.trouble_until_ms + REST_MS;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now_ms = at;
            self.tally.events += 1;
            self.event(event)?;
            self.check()?;
            if self.now_ms > self.trouble_until_ms && self.is_at_rest() {
                return Ok(self.tally);
            }
            if self.now_ms > rest_by_ms {
                return Err(self.unrest());
            }
        }
        Err(self.unrest())
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_ms + delay_ms, self.sequence), event);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let now_ms = self.now_ms;
        if let Some(log) = &mut self.log {
            log.push(format!("{now_ms:>7} {}", text()));
        }
    }

    fn node(&mut self, slot: Slot) -> &mut Node {
        &mut self.nodes[slot.index()]
    }

    fn lives(&self, slot: Slot) -> bool {
        self.nodes[slot.index()].member.is_some()
    }

    fn event(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick(slot, boot) if boot == self.node(slot).boot => self.input(slot, Input::Tick),
            Event::Answer(slot, boot, outcome) if boot == self.node(slot).boot => {
                self.input(slot, Input::Record(outcome))
            }
            Event::Carry(slot, boot, change, written) => self.carry(slot, boot, change, written),
            Event::Network => self.network_step(),
            Event::Trouble => self.trouble(),
            Event::Resume(slot, boot) if boot == self.node(slot).boot => self.resume(slot),
            Event::Boot(slot) => self.boot(slot),
            Event::Tick(..) | Event::Answer(..) | Event::Resume(..) => Ok(()),
        }
    }

    // Processes.

    fn boot(&mut self, slot: Slot) -> Result<(), Violation> {
        if self.lives(slot) {
            return Ok(());
        }
        self.note(|| format!("{slot}: boots"));
        let slip = self.now_ms < self.trouble_until_ms && self.dice.once_in(12);
        let written = if slip { Written::Wrong } else { Written::Right };
        let old = self.dice.once_in(8);
        let services: Vec<Box<dyn Service>> = vec![Box::new(Logon::new()), Box::new(written.service(slot))];
        let node = &mut self.nodes[slot.index()];
        node.written = written;
        node.boot += 1;
        node.paused = false;
        let level = if old { LEVEL_OLDEST } else { LEVEL };
        node.member = Some(Member::new(slot, system(slot), Timing::default(), services).speaking(level));
        self.input(slot, Input::Start)
    }

    /// The process is gone, and its guests with it.
    fn die(&mut self, slot: Slot) {
        let node = self.node(slot);
        node.member = None;
        node.boot += 1;
        node.paused = false;
        node.backlog.clear();
        node.guests.clear();
        node.requests.clear();
        self.note(|| format!("{slot}: is dead"));
    }

    fn resume(&mut self, slot: Slot) -> Result<(), Violation> {
        let node = self.node(slot);
        if !std::mem::take(&mut node.paused) {
            return Ok(());
        }
        let backlog = std::mem::take(&mut node.backlog);
        self.note(|| format!("{slot}: wakes up"));
        for input in backlog.into_iter().chain([Input::Tick]) {
            if self.lives(slot) {
                self.input(slot, input)?;
            }
        }
        Ok(())
    }

    fn input(&mut self, slot: Slot, input: Input) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        if !matches!(input, Input::Tick) {
            self.note(|| format!("{slot}: <- {input:?}"));
        }
        let node = &mut self.nodes[slot.index()];
        let Some(member) = &mut node.member else { return Ok(()) };
        if node.paused {
            node.backlog.push(input);
            return Ok(());
        }
        let effects = member.handle(now_ms + node.ahead_ms, input);
        let timeout = member.timeout_ms().map(|at| at.saturating_sub(node.ahead_ms));
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
        for effect in effects {
            self.effect(slot, boot, effect)?;
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
            Effect::Send(to, message) => self.network.send(slot, to, message, self.now_ms, &mut self.dice),
            Effect::Answer(number, body) => self.answered(slot, number, &body)?,
            Effect::Stop(why) => {
                if why != crate::member::Stopped::Left {
                    self.tally.fenced += 1;
                }
                self.die(slot);
            }
            Effect::Reply(_, Ok(())) => self.tally.orders += 1,
            Effect::Console(_) | Effect::Changed(_) | Effect::Reply(..) => {}
        }
        Ok(())
    }

    // The record.

    fn carry(
        &mut self,
        slot: Slot,
        boot: u64,
        change: Option<Change>,
        written: Written,
    ) -> Result<(), Violation> {
        let troubled = self.now_ms < self.trouble_until_ms;
        let lost = troubled && self.dice.once_in(60);
        let cut_off = troubled && self.now_ms < self.node(slot).cut_off_until_ms;
        if cut_off || (lost && self.dice.once_in(2)) {
            let outcome = RecordOutcome::Failed("no answer, nothing done".to_owned());
            self.after(5, Event::Answer(slot, boot, outcome));
            return Ok(());
        }
        let refused = match change {
            Some(Change::MoveTo(label)) if self.dice.once_in(3) => Some(ChangeRefused::Volume(label)),
            _ => change.and_then(|change| self.record.apply(&change).err()),
        };
        match change {
            Some(Change::FinishJoin(_)) if refused.is_none() => {
                self.tally.joins += 1;
                self.joined_with[slot.index()] = written;
                self.tally.mixed += u64::from(self.is_mixed());
                self.check_fit(slot)?;
            }
            Some(Change::FailJoin(_)) if refused.is_none() => self.tally.isolated += 1,
            Some(Change::DeclareDown { .. }) if refused.is_none() => self.tally.declared += 1,
            _ => {}
        }
        let outcome = match refused {
            _ if lost => RecordOutcome::Failed("no answer, though it was done".to_owned()),
            None => RecordOutcome::Done(self.record),
            Some(why) => RecordOutcome::Refused(why, self.record),
        };
        let delay = 1 + self.dice.roll(10);
        self.after(delay, Event::Answer(slot, boot, outcome));
        Ok(())
    }

    // The network.

    fn network_step(&mut self) -> Result<(), Violation> {
        let lives: [Option<u64>; SLOTS] = std::array::from_fn(|index| {
            let node = &self.nodes[index];
            node.member.as_ref().map(|_| node.boot)
        });
        let paused: [bool; SLOTS] = std::array::from_fn(|index| self.nodes[index].paused);
        let arrivals = self.network.step(self.now_ms, &lives, &paused, &mut self.dice);
        for (slot, input) in arrivals {
            self.input(slot, input)?;
        }
        self.after(5, Event::Network);
        Ok(())
    }

    /// Everybody is in, and nothing is under way.
    fn is_at_rest(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.requests.is_empty()
                && node.member.as_ref().is_some_and(|member| member.view().mode == Mode::Stable)
        }) && self.network.is_quiet()
            && self.is_of_one_mind()
            && self.is_of_one_level()
    }
}
