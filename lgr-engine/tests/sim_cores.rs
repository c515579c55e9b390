//! Source and destination cores against each other, with a seed: whatever dies or is cut at whatever
//! step, the owner record, the guests that run and the reports agree.
//!
//! `LGR_SIM_SEED=n` replays one seed; `LGR_SIM_SEEDS=n` runs so many from `LGR_SIM_FIRST`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::VecDeque;
use std::time::Duration;

use lgr_engine::destination::{self, Destination};
use lgr_engine::message::{Message, Offer, PassTotals};
use lgr_engine::owner::{GuestName, MemberName};
use lgr_engine::policy::{DefaultPolicy, Limits};
use lgr_engine::report::{FinishCode, PassKind, RunsOn};
use lgr_engine::source::{self, Outcome, PassSent, Source};

/// xorshift: small, and the seed is the whole state.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    KillSource,
    KillDestination,
    CutLink,
    CancelSource,
    CancelDestination,
    Stall,
    DamagePass,
}

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

/// Both members, the wire between them, and the record they share.
struct World {
    dice: Dice,
    now: Duration,
    trouble: (u64, Trouble),
    step: u64,
    source: Option<Source>,
    destination: Option<Destination>,
    to_source: VecDeque<source::Input>,
    to_destination: VecDeque<destination::Input>,
    linked: bool,
    record: (u64, MemberName),
    running: [bool; 2],
    /// How often the guest's memory has been written to.
    written: u64,
    /// How much of that the last harvest has found.
    collected: u64,
    /// What the pass under way carries, and what has arrived with it.
    carried: u64,
    arrived: u64,
    sent_pass: Option<PassTotals>,
    damage: bool,
    stopped_at: Option<Duration>,
    longest_stop: Duration,
    outcome: Option<Outcome>,
    destination_end: Option<RunsOn>,
}

const MAX_QUIESCE: Duration = Duration::from_millis(200);

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let offer = Offer {
            guest: GuestName::new("LINUX1").unwrap(),
            source: name("A"),
            storage_len_bytes: 1 << 30,
            touched_len_bytes: 1 << 29,
            page_size_bytes: 4096,
            backing: 1,
            verify: true,
            run_after_ms: 0,
            owner_epoch: 7,
            owner_nonce: 1,
            stretches: vec![],
        };
        let limits = Limits { max_quiesce: Some(MAX_QUIESCE), ..Limits::default() };
        let source = Source::new(Message::Offer(offer), limits, Box::new(DefaultPolicy::default()), 4096);
        let troubles = [
            Trouble::None,
            Trouble::KillSource,
            Trouble::KillDestination,
            Trouble::CutLink,
            Trouble::CancelSource,
            Trouble::CancelDestination,
            Trouble::Stall,
            Trouble::DamagePass,
        ];
        let trouble = (dice.roll(60), troubles[dice.roll(troubles.len() as u64) as usize]);
        Self {
            dice,
            now: Duration::ZERO,
            trouble,
            step: 0,
            source: Some(source),
            destination: Some(Destination::new(name("B"))),
            to_source: VecDeque::from([source::Input::Start]),
            to_destination: VecDeque::new(),
            linked: true,
            record: (7, name("A")),
            running: [true, false],
            written: 0,
            collected: 0,
            carried: 0,
            arrived: 0,
            sent_pass: None,
            damage: false,
            stopped_at: None,
            longest_stop: Duration::ZERO,
            outcome: None,
            destination_end: None,
        }
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.linked) {
            // What is on its way is lost; both sides find out.
            self.to_source.retain(|input| !matches!(input, source::Input::Message(_)));
            self.to_destination.retain(|input| !matches!(input, destination::Input::Message(_)));
            self.to_source.push_back(source::Input::LinkDown("cut".into()));
            self.to_destination.push_back(destination::Input::LinkDown("cut".into()));
        }
    }

    fn make_trouble(&mut self) {
        if self.step != self.trouble.0 {
            return;
        }
        match self.trouble.1 {
            Trouble::None => {}
            Trouble::KillSource => {
                self.source = None;
                self.running[0] = false;
                self.cut();
            }
            Trouble::KillDestination => {
                self.destination = None;
                self.running[1] = false;
                self.cut();
            }
            Trouble::CutLink => self.cut(),
            Trouble::CancelSource => {
                self.to_source.push_back(source::Input::Cancel(FinishCode::Cancelled, "operator".into()));
            }
            Trouble::CancelDestination => {
                let input = destination::Input::Cancel(FinishCode::Cancelled, "operator".into());
                self.to_destination.push_back(input);
            }
            Trouble::Stall => self.now += Duration::from_secs(1),
            Trouble::DamagePass => self.damage = true,
        }
    }

    /// One step: something that can happen next does.
    fn turn(&mut self) -> bool {
        self.make_trouble();
        self.step += 1;
        self.now += Duration::from_micros(100 + self.dice.roll(900));
        self.check_invariants();
        let to_source = self.source.is_some() && !self.to_source.is_empty();
        let to_destination = self.destination.is_some() && !self.to_destination.is_empty();
        if to_source && (!to_destination || self.dice.roll(2) == 0) {
            let input = self.to_source.pop_front().unwrap();
            self.step_source(input);
        } else if to_destination {
            let input = self.to_destination.pop_front().unwrap();
            self.step_destination(input);
        } else if let Some(at) = self.source.as_ref().and_then(Source::poll_timeout) {
            // Nothing happens any more but time.
            self.now = self.now.max(at);
            self.step_source(source::Input::Tick);
        } else {
            return false;
        }
        true
    }

    fn step_source(&mut self, input: source::Input) {
        let Some(core) = &mut self.source else { return };
        let due = core.poll_timeout().is_some_and(|at| at <= self.now);
        let mut effects = core.handle(self.now, input);
        if due {
            effects.extend(core.handle(self.now, source::Input::Tick));
        }
        for effect in effects {
            self.perform_source(effect);
        }
    }

    fn perform_source(&mut self, effect: source::Effect) {
        use source::{Effect, Input};
        match effect {
            Effect::Send(message) if self.linked => {
                self.to_destination.push_back(destination::Input::Message(message));
            }
            Effect::Send(_) => {}
            Effect::BeginPass { epoch, kind, .. } => {
                // The first pass collects for itself. Others carry what was found; what was written since is not in them.
                if kind == PassKind::First {
                    self.collected = self.written;
                }
                self.carried = self.collected;
                self.send_pass(epoch);
            }
            Effect::RepeatPass { epoch } => self.send_pass(epoch),
            Effect::Predicted(_) => {}
            Effect::Harvest => {
                if self.running[0] {
                    self.written += 1 + self.dice.roll(3000);
                }
                self.collected = self.written;
                let pages = if self.running[0] { self.dice.roll(3000) } else { self.dice.roll(5) };
                self.to_source.push_back(Input::Harvested { pages });
            }
            Effect::Quiesce => {
                // It goes on until it stands still.
                self.written += self.dice.roll(2);
                self.running[0] = false;
                self.stopped_at = Some(self.now);
                self.to_source.push_back(Input::Stopped);
            }
            Effect::SendState => {
                self.perform_source(Effect::Send(Message::State(vec![1])));
                // To save a state may be to write it to memory first.
                self.written += self.dice.roll(2);
                self.to_source.push_back(Input::StateSent);
            }
            Effect::Resume => {
                if let Some(at) = self.stopped_at.take() {
                    self.longest_stop = self.longest_stop.max(self.now - at);
                }
                self.running[0] = true;
            }
            Effect::Withdraw if self.record.0 == 7 => {
                self.record = (8, name("A"));
                self.to_source.push_back(Input::Withdrawn);
            }
            Effect::Withdraw => self.to_source.push_back(Input::WithdrawLost { owner: self.record.1 }),
            Effect::Release => assert!(!self.running[0], "released a guest that runs"),
            Effect::Finish(outcome) => self.outcome = Some(*outcome),
        }
    }

    fn send_pass(&mut self, epoch: u32) {
        let totals = PassTotals { transfers: 1, pages: self.carried, digest: u64::from(epoch) };
        self.sent_pass = Some(totals);
        if self.linked {
            self.arrived = self.carried;
        }
        self.to_source.push_back(source::Input::PassSent(PassSent { epoch, totals }));
    }

    fn step_destination(&mut self, input: destination::Input) {
        let Some(core) = &mut self.destination else { return };
        for effect in core.handle(input) {
            self.perform_destination(effect);
        }
    }

    fn perform_destination(&mut self, effect: destination::Effect) {
        use destination::{Effect, Input};
        match effect {
            Effect::Send(message) if self.linked => self.to_source.push_back(source::Input::Message(message)),
            Effect::Send(_) => {}
            Effect::Prepare(_) => self.to_destination.push_back(Input::Prepared),
            Effect::Await { epoch, .. } => {
                let damaged = u64::from(std::mem::take(&mut self.damage));
                let totals = self.sent_pass.unwrap();
                self.to_destination.push_back(Input::PassArrived { epoch, totals, damaged });
            }
            Effect::LoadState(_) => self.to_destination.push_back(Input::StateLoaded),
            Effect::TakeOwnership { expected_epoch } if self.record.0 == expected_epoch => {
                self.record = (expected_epoch + 1, name("B"));
                let taken = Input::Taken { owner_epoch: expected_epoch + 1, commit_ns: 1 };
                self.to_destination.push_back(taken);
            }
            Effect::TakeOwnership { .. } => {
                self.to_destination.push_back(Input::NotTaken { owner: self.record.1 });
            }
            Effect::Resume => {
                assert_eq!(self.record.1, name("B"), "runs a guest it does not own");
                assert_eq!(self.arrived, self.written, "runs a guest whose pages did not all arrive");
                self.running[1] = true;
                self.to_destination.push_back(Input::Resumed { resume_ns: 1 });
            }
            Effect::Discard => assert!(!self.running[1], "threw away a guest that runs"),
            Effect::Finish(_, runs_on) => self.destination_end = Some(runs_on),
        }
    }

    fn check_invariants(&self) {
        assert!(!(self.running[0] && self.running[1]), "the guest runs twice");
        if self.running[0] {
            assert_eq!(self.record.1, name("A"), "the guest runs at the source, the record names B");
        }
    }

    fn check_end(&self) {
        let owner_alive =
            if self.record.1 == name("A") { self.source.is_some() } else { self.destination.is_some() };
        if owner_alive {
            assert!(self.running[0] || self.running[1], "the owner lives and the guest runs nowhere");
        }
        if self.source.is_some() {
            let Some(outcome) = self.outcome.as_ref() else {
                panic!(
                    "the source came to no end: {:?} {:?} {:?}",
                    self.trouble, self.source, self.destination
                );
            };
            let expected = if self.record.1 == name("A") { RunsOn::Source } else { RunsOn::Destination };
            assert_eq!(outcome.runs_on, expected);
            assert_eq!(outcome.finish.code == FinishCode::Completed, expected == RunsOn::Destination);
            assert!(!outcome.finish.reason.is_empty());
        }
        if self.trouble.1 != Trouble::Stall {
            assert!(self.longest_stop <= MAX_QUIESCE, "held for {:?}", self.longest_stop);
        }
    }
}

#[test]
fn whatever_happens_exactly_one_side_runs_the_guest() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (one, first) = (number("LGR_SIM_SEED"), number("LGR_SIM_FIRST").unwrap_or(0));
    let seeds = number("LGR_SIM_SEEDS").unwrap_or(30_000);
    let range = one.map_or(first..first + seeds, |seed| seed..seed + 1);
    let mut ends = std::collections::BTreeMap::new();
    for seed in range {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..2000 {
                if !world.turn() {
                    break;
                }
            }
            world.check_end();
            (world.trouble.1, world.outcome.as_ref().map(|outcome| outcome.finish.code.number()))
        });
        match result {
            Ok((trouble, code)) => *ends.entry(format!("{trouble:?} -> {code:?}")).or_insert(0u32) += 1,
            Err(panic) => {
                println!("replay: LGR_SIM_SEED={seed} cargo test --release -p lgr-engine --test sim_cores");
                std::panic::resume_unwind(panic);
            }
        }
    }
    for (end, count) in &ends {
        println!("{count:6} {end}");
    }
    if one.is_none() {
        println!("{seeds} seeds from {first}");
        // The seeds must reach the interesting ends, or this test shows nothing.
        for end in [
            "None -> Some(0)",
            "CutLink -> Some(0)",
            "CutLink -> Some(3)",
            "KillDestination -> Some(3)",
            "KillSource -> None",
            "CancelSource -> Some(1)",
            "Stall -> Some(5)",
            "DamagePass -> Some(0)",
        ] {
            assert!(ends.contains_key(end), "no seed led to {end}: {ends:?}");
        }
    }
}
