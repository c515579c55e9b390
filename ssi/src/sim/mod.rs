//! A whole cluster in one thread, in virtual time, from a seed: the very cores that real members run, and everything that
//! can happen to them.
//!
//! Members are started, stopped, killed and put to sleep, abend, have engines that stand still, hang in the midst of joining or
//! leaving, and have clocks that drift, jump and are set back; links are cut, at one end or both, and heal; the record answers
//! late, or not, or makes a change and does not say so, or cannot be reached for a while, or is moved; operators turn
//! cross-system timeouts on and off, declare members down that are not, edit the directory, and write configurations that do
//! not fit; members of the previous level join; users of both kinds log on everywhere at once. After every event the
//! invariants are looked at, and now and then how long things have lasted. What happens to single frames and devices is below
//! this, in the simulator of `isfc`. When all else has healed one failure may last: then those that it does not touch must be well.
//! In the end everything heals, and the cluster must come to rest: all members joined, the mode stable, every request
//! answered, and all of one mind about who is where.

mod bounds;
mod check;
mod clock;
mod dice;
mod faults;
mod fence;
mod network;
mod orders;
mod process;
mod tally;
mod trouble;
mod volume;

use std::collections::BTreeMap;

pub use check::Violation;
use clock::Clock;
pub(crate) use dice::Dice;
use faults::Lasting;
use network::Network;
use process::{Node, Written, system};
pub use tally::Tally;

use crate::member::{Change, Input, Mode, Record, RecordOutcome};
use crate::name::{ClusterName, MEMBERS_MAX, Slot, UserId};

const SLOTS: usize = MEMBERS_MAX as usize;
/// Users that are logged on and off again and again, and that directories have as of different kinds.
const USERS: usize = 4;
/// How long the trouble lasts at most, in ms.
const TROUBLE_MS: u64 = 120_000;
/// How long the cluster may take to come to rest, in ms.
const REST_MS: u64 = 120_000;

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
    /// Since when each has been joined, and until when the heartbeat of one that hangs goes on.
    joined_at_ms: [u64; SLOTS],
    heartbeats_until_ms: [u64; SLOTS],
    /// Who joins or leaves, and since when.
    changing_since: Option<(Slot, u64)>,
    /// What stays broken, and when it is judged what holds all the same.
    lasting: Lasting,
    judge_at_ms: Option<u64>,
    clocks_jump: bool,
    requests: u64,
    trouble_until_ms: u64,
    tally: Tally,
    log: Option<Vec<String>>,
}

fn user(number: u64) -> UserId {
    UserId::new(&format!("USER{number:04}")).expect("this is a user id")
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
        let mut dice = Dice::new(seed);
        let mut record =
            Record::new(cluster, std::array::from_fn(|index| Slot::new(index as u8 + 1).map(system)));
        record.timeouts = !dice.once_in(4);
        let trouble_until_ms = dice.roll(TROUBLE_MS);
        // Clocks that jump do not run so fast or slow besides that nothing can be told from them.
        let clocks_jump = !dice.once_in(4);
        let drift_permille_max = if clocks_jump { 10 } else { 50 };
        let nodes = (0..SLOTS).map(|_| {
            let drift =
                dice.roll(2 * drift_permille_max + 1).cast_signed() - drift_permille_max.cast_signed();
            Node::new(Clock::new(drift))
        });
        let nodes = nodes.collect();
        let mut requests = 0;
        if dice.once_in(6) {
            requests = u64::MAX - dice.roll(100);
            for entry in &mut record.entries {
                entry.incarnation = u64::MAX - 100 - dice.roll(100);
                entry.heartbeat = u64::MAX - dice.roll(100);
            }
        }
        let mut simulation = Self {
            now_ms: 0,
            dice,
            events: BTreeMap::new(),
            sequence: 0,
            nodes,
            network: Network::default(),
            record,
            joined_with: [Written::Right; SLOTS],
            joined_at_ms: [0; SLOTS],
            heartbeats_until_ms: [0; SLOTS],
            changing_since: None,
            lasting: Lasting::Nothing,
            judge_at_ms: None,
            clocks_jump,
            requests,
            trouble_until_ms,
            tally: Tally::default(),
            log: None,
        };
        simulation.lasting = simulation.some_lasting();
        for slot in Slot::all() {
            let at = simulation.dice.roll(3_000);
            simulation.after(at, Event::Boot(slot));
        }
        simulation.after(500, Event::Trouble);
        simulation.after(5, Event::Network);
        simulation
    }

    fn play(&mut self) -> Result<Tally, Violation> {
        let lasting_ms = if self.lasting == Lasting::Nothing { 0 } else { trouble::LASTING_MS };
        let rest_by_ms = self.trouble_until_ms + lasting_ms + REST_MS;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now_ms = at;
            self.tally.events += 1;
            self.watch();
            self.event(event)?;
            self.check()?;
            if self.now_ms > self.trouble_until_ms && self.is_at_rest() {
                let rest_ms = self.now_ms + REST_MS - rest_by_ms;
                self.tally.longest_unrest_ms = rest_ms;
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
        self.judge_at_ms.is_some()
            && self.lasting == Lasting::Nothing
            && self.nodes.iter().all(|node| {
                node.requests.is_empty()
                    && node.member.as_ref().is_some_and(|member| member.view().mode == Mode::Stable)
            })
            && self.network.is_quiet()
            && self.is_of_one_mind()
            && self.is_of_one_level()
    }
}
