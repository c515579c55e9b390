//! One member by itself; the other member of its cluster is only what the test says of it.

#![allow(clippy::unwrap_used)]

use ssi::member::{
    Change, Command, Effect, Ident, Input, LEVEL, LEVEL_OLDEST, Member, MemberState, Message, Mode, Record,
    RecordOutcome, Timing, Transition, WhyDown,
};
use ssi::service::{Output, Service, View};
use ssi::{ClusterName, Slot, SystemName};

/// Knows at which level it is to speak.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Probe {
    level: u16,
}

impl Service for Probe {
    fn name(&self) -> &'static str {
        "Probe"
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn state(&self) -> Vec<u8> {
        Vec::new()
    }

    fn check_join(&self, _: Slot, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn adopt(&mut self, _: Slot, _: &[u8]) {}

    fn member_changed(&mut self, _: &View, _: &mut Vec<Output>) {}

    fn prepare_for_stable(&mut self, _: &View, _: &mut Vec<Output>) {}

    fn level_changed(&mut self, level: u16) {
        self.level = level;
    }

    fn message(&mut self, _: &View, _: Slot, _: &[u8], _: &mut Vec<Output>) {}

    fn request(&mut self, _: &View, _: u64, _: &[u8], _: &mut Vec<Output>) {}
}

/// A member in slot 1, and the record; the member in slot 2 is only what the test says it is.
struct Cluster {
    now_ms: u64,
    member: Member,
    record: Record,
    sent: Vec<Message>,
    told: Vec<String>,
    has_stopped: bool,
}

fn slot(number: u8) -> Slot {
    Slot::new(number).unwrap()
}

fn system(name: &str) -> SystemName {
    SystemName::new(name).unwrap()
}

impl Cluster {
    /// The member has joined, alone.
    fn new() -> Self {
        let mut cluster = Self::before();
        cluster.input(Input::Start);
        cluster.run(2_000);
        assert_eq!(cluster.member.view().states[0], MemberState::Joined);
        cluster
    }

    /// The member has not started.
    fn before() -> Self {
        let name = ClusterName::new("DEMOSSI").unwrap();
        let record = Record::new(name, [Some(system("MEMBERA")), Some(system("MEMBERB")), None, None]);
        let services: Vec<Box<dyn Service>> = vec![Box::new(Probe { level: LEVEL })];
        let member = Member::new(slot(1), system("MEMBERA"), Timing::default(), services);
        Self { now_ms: 1, member, record, sent: Vec::new(), told: Vec::new(), has_stopped: false }
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.member.handle(self.now_ms, input) {
                match effect {
                    Effect::Record(change) => {
                        let refused = change.and_then(|change| self.record.apply(&change).err());
                        let outcome = match refused {
                            None => RecordOutcome::Done(self.record),
                            Some(why) => RecordOutcome::Refused(why, self.record),
                        };
                        inputs.push(Input::Record(outcome));
                    }
                    Effect::Send(_, message) => self.sent.push(message),
                    Effect::Console(text) => self.told.push(text),
                    Effect::Stop(_) => self.has_stopped = true,
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self, for_ms: u64) {
        let until_ms = self.now_ms + for_ms;
        while self.now_ms < until_ms {
            self.now_ms += 50;
            self.input(Input::Tick);
        }
    }

    fn begin_join(&mut self, level: u16) -> Ident {
        self.record.apply(&Change::BeginJoin { slot: slot(2), system: system("MEMBERB"), level }).unwrap();
        Ident { slot: slot(2), incarnation: self.record.entry(slot(2)).incarnation }
    }

    /// The link to the other member is up, and it has said that it has joined.
    fn meet(&mut self, ident: Ident) {
        self.input(Input::Link(slot(2), true));
        let (state, mode, reached) = (MemberState::Joined, Mode::Stable, [true; 4]);
        let Ident { incarnation, .. } = ident;
        self.input(Input::Message(slot(2), Message::Heartbeat { incarnation, state, mode, reached }));
    }

    /// The other member lives all the while.
    fn run_beside(&mut self, ident: Ident, for_ms: u64, mut look: impl FnMut(&Self)) {
        for _ in 0..for_ms / 500 {
            let _ = self.record.apply(&Change::Heartbeat { ident, promises: true });
            self.run(500);
            look(self);
        }
    }

    /// Level of the member, and of its service.
    fn levels(&self) -> (u16, u16) {
        let probe: &Probe = self.member.services()[0].as_any().downcast_ref().unwrap();
        (self.member.members_level(), probe.level)
    }
}

#[test]
fn services_speak_the_level_of_the_oldest_member_while_it_is_there() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.levels(), (LEVEL, LEVEL));
    let ident = cluster.begin_join(LEVEL_OLDEST);
    cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
    cluster.run(2_000);
    assert_eq!(cluster.levels(), (LEVEL_OLDEST, LEVEL_OLDEST));
    cluster.record.apply(&Change::BeginLeave(ident)).unwrap();
    cluster.record.apply(&Change::FinishLeave(ident)).unwrap();
    cluster.run(2_000);
    assert_eq!(cluster.levels(), (LEVEL, LEVEL));
}

#[test]
fn a_member_of_too_old_a_level_is_vetoed_and_told_why() {
    for (level, consents) in [(0, false), (LEVEL_OLDEST, true), (LEVEL, true), (LEVEL + 1, true)] {
        let mut cluster = Cluster::new();
        let Ident { incarnation, .. } = cluster.begin_join(level);
        cluster.input(Input::Link(slot(2), true));
        let shares = vec![("Probe".to_owned(), Vec::new())];
        let transition = Transition::Join;
        let request = Message::Request { transition, incarnation, level, shares };
        cluster.input(Input::Message(slot(2), request));
        let consented = cluster.sent.iter().any(|message| matches!(message, Message::Consent { .. }));
        let vetoed = cluster.sent.iter().any(|message| {
            matches!(message, Message::Veto { service, reason, .. }
                if service == "Level" && reason.contains("level 0"))
        });
        assert_eq!((consented, vetoed), (consents, !consents), "level {level}");
    }
}

#[test]
fn only_a_member_that_has_promised_to_stop_is_declared_down_without_an_operator() {
    for (promises, declared) in [(true, true), (false, false)] {
        let mut cluster = Cluster::new();
        cluster.record.apply(&Change::SetTimeouts(false)).unwrap();
        let ident = cluster.begin_join(LEVEL);
        cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
        cluster.record.apply(&Change::SetTimeouts(true)).unwrap();
        if promises {
            cluster.record.apply(&Change::Heartbeat { ident, promises }).unwrap();
        }
        cluster.run(60_000);
        let is_down = cluster.record.entry(slot(2)).state == MemberState::Down;
        assert_eq!(is_down, declared, "promises: {promises}");
    }
}

#[test]
fn a_clock_that_jumps_makes_nobody_else_look_silent() {
    let mut cluster = Cluster::new();
    // Not fenced for the jump itself.
    cluster.record.apply(&Change::SetTimeouts(false)).unwrap();
    let ident = cluster.begin_join(LEVEL);
    cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
    cluster.run(2_000);
    cluster.record.apply(&Change::SetTimeouts(true)).unwrap();
    cluster.record.apply(&Change::Heartbeat { ident, promises: true }).unwrap();
    cluster.input(Input::Tick);
    cluster.now_ms += 3_600_000;
    cluster.run(3_000);
    assert!(!cluster.has_stopped);
    assert_eq!(cluster.record.entry(slot(2)).state, MemberState::Joined);
}

#[test]
fn a_record_that_was_read_before_a_members_last_word_does_not_undo_it() {
    let mut cluster = Cluster::new();
    let ident = cluster.begin_join(LEVEL);
    cluster.input(Input::Link(slot(2), true));
    let (transition, incarnation, shares) =
        (Transition::Join, ident.incarnation, vec![("Probe".to_owned(), Vec::new())]);
    cluster
        .input(Input::Message(slot(2), Message::Request { transition, incarnation, level: LEVEL, shares }));
    // An operation on the record is under way, and its answer is late.
    cluster.now_ms += 1_000;
    let effects = cluster.member.handle(cluster.now_ms, Input::Tick);
    let change = effects.iter().find_map(|effect| match effect {
        Effect::Record(change) => Some(*change),
        _ => None,
    });
    if let Some(change) = change.expect("a heartbeat is due") {
        cluster.record.apply(&change).unwrap();
    }
    let late = RecordOutcome::Done(cluster.record);
    cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
    let joined = |cluster: &Cluster| cluster.member.view().states[1] == MemberState::Joined;
    // Only this message: what it makes the member ask of the record waits for the late answer.
    cluster.member.handle(cluster.now_ms, Input::Message(slot(2), Message::Proceed { incarnation }));
    assert!(joined(&cluster));
    cluster.member.handle(cluster.now_ms, Input::Record(late));
    assert!(joined(&cluster));
}

#[test]
fn a_member_that_has_not_joined_yet_can_leave_too() {
    // Before it is in the record: at once. Then while it waits for the consent of a member that has joined.
    for (is_linked, why) in [(false, WhyDown::Undetermined), (true, WhyDown::Left)] {
        let mut cluster = Cluster::before();
        let ident = cluster.begin_join(LEVEL);
        cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
        cluster.input(Input::Start);
        if is_linked {
            cluster.meet(ident);
        }
        cluster.run(2_000);
        let waits = cluster.record.entry(slot(1)).state == MemberState::Joining;
        assert_eq!(waits, is_linked);
        cluster.input(Input::Command(1, Command::Leave));
        cluster.run(8_000);
        let own = cluster.record.entry(slot(1));
        assert_eq!((cluster.has_stopped, own.state, own.why), (true, MemberState::Down, why));
    }
}

#[test]
fn an_order_to_leave_waits_for_the_step_of_joining_that_is_being_made() {
    // The answer to the change that begins the join is late, or that to the one that ends it.
    for ends in [false, true] {
        let mut cluster = Cluster::before();
        cluster.input(Input::Start);
        let is_it = |change: &Change| match change {
            Change::BeginJoin { .. } => !ends,
            Change::FinishJoin(_) => ends,
            _ => false,
        };
        let mut inputs = vec![Input::Tick];
        let late = loop {
            let Some(input) = inputs.pop() else {
                cluster.now_ms += 50;
                inputs.push(Input::Tick);
                continue;
            };
            let effects = cluster.member.handle(cluster.now_ms, input);
            let Some(change) = effects.iter().find_map(|effect| match effect {
                Effect::Record(change) => Some(*change),
                _ => None,
            }) else {
                continue;
            };
            if let Some(change) = change {
                cluster.record.apply(&change).unwrap();
            }
            let outcome = Input::Record(RecordOutcome::Done(cluster.record));
            if change.is_some_and(|change| is_it(&change)) {
                break outcome;
            }
            inputs.push(outcome);
        };
        cluster.input(Input::Command(1, Command::Leave));
        assert!(!cluster.has_stopped);
        cluster.input(late);
        cluster.run(2_000);
        let own = cluster.record.entry(slot(1));
        assert_eq!((cluster.has_stopped, own.state, own.why), (true, MemberState::Down, WhyDown::Left));
    }
}

#[test]
fn a_member_of_another_record_makes_this_one_safe_until_it_is_gone() {
    let mut cluster = Cluster::new();
    let heartbeat = |incarnation| {
        let (state, mode, reached) = (MemberState::Joined, Mode::Stable, [true; 4]);
        Input::Message(slot(2), Message::Heartbeat { incarnation, state, mode, reached })
    };
    cluster.input(Input::Link(slot(2), true));
    // An operation that began before it was heard says nothing of it.
    cluster.now_ms += 1_000;
    cluster.member.handle(cluster.now_ms, Input::Tick);
    let earlier = RecordOutcome::Done(cluster.record);
    cluster.member.handle(cluster.now_ms, heartbeat(1));
    let effects = cluster.member.handle(cluster.now_ms, Input::Record(earlier));
    assert_eq!(cluster.member.view().mode, Mode::Stable);
    assert!(effects.contains(&Effect::Record(None)), "{effects:?}");
    // Nor does one that shows this life.
    let mut known = cluster.record;
    known.apply(&Change::BeginJoin { slot: slot(2), system: system("MEMBERB"), level: LEVEL }).unwrap();
    let mut other = cluster.member.clone();
    other.handle(cluster.now_ms, Input::Record(RecordOutcome::Done(known)));
    assert_ne!(other.view().mode, Mode::Safe);
    cluster.input(Input::Record(RecordOutcome::Done(cluster.record)));
    assert_eq!(cluster.member.view().mode, Mode::Safe);
    cluster.run(5_000);
    assert_eq!((cluster.member.view().mode, cluster.has_stopped), (Mode::Safe, false));
    cluster.input(Input::Link(slot(2), false));
    assert_eq!(cluster.member.view().mode, Mode::Stable);
}

#[test]
fn a_member_that_does_not_reach_another_waits_where_it_is_in_nobodys_way_and_says_whom_it_does_not_reach() {
    let mut cluster = Cluster::before();
    let ident = cluster.begin_join(LEVEL);
    cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
    cluster.input(Input::Start);
    let outside = |cluster: &Cluster| assert_eq!(cluster.record.entry(slot(1)).state, MemberState::Down);
    cluster.run_beside(ident, 60_000, outside);
    // A link alone is not enough.
    cluster.input(Input::Link(slot(2), true));
    cluster.run_beside(ident, 60_000, outside);
    let waits: Vec<&String> = cluster.told.iter().filter(|line| line.contains("does not reach")).collect();
    assert_eq!(waits, ["SSI system MEMBERA does not reach MEMBERB: no link is up"]);
    assert!(cluster.member.waits_for().unwrap().contains("MEMBERB: it has said nothing over its link"));
    cluster.meet(ident);
    cluster.run_beside(ident, 1_000, |_| ());
    assert_eq!(cluster.record.entry(slot(1)).state, MemberState::Joining);
}

#[test]
fn a_member_that_has_no_consent_in_time_steps_back_and_the_pauses_grow() {
    let mut cluster = Cluster::before();
    let ident = cluster.begin_join(LEVEL);
    cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
    cluster.input(Input::Start);
    cluster.meet(ident);
    // Lengths of the stretches in which it joins, and in which it waits outside.
    let mut stretches: Vec<(MemberState, u64)> = Vec::new();
    cluster.run_beside(ident, 120_000, |cluster| {
        let state = cluster.record.entry(slot(1)).state;
        match stretches.last_mut() {
            Some((last, for_ms)) if *last == state => *for_ms += 500,
            _ => stretches.push((state, 500)),
        }
    });
    let of = |wanted: MemberState| -> Vec<u64> {
        stretches[1..stretches.len() - 1]
            .iter()
            .filter(|(state, _)| *state == wanted)
            .map(|(_, ms)| *ms)
            .collect()
    };
    let (joins, pauses) = (of(MemberState::Joining), of(MemberState::Down));
    assert!(joins.len() >= 4 && joins.iter().all(|for_ms| *for_ms <= 6_500), "{stretches:?}");
    assert!(pauses.is_sorted() && pauses[0] >= 4_500 && *pauses.last().unwrap() >= 19_000, "{stretches:?}");
    assert!(
        cluster.told.iter().any(|line| line.contains("for the consent of MEMBERB")),
        "{:?}",
        cluster.told
    );
    assert!(!cluster.has_stopped);
}

#[test]
fn who_joins_or_leaves_without_end_is_expelled_though_its_heartbeat_moves() {
    for leaves in [false, true] {
        let mut cluster = Cluster::new();
        let ident = cluster.begin_join(LEVEL);
        cluster.meet(ident);
        if leaves {
            cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
            cluster.run(1_000);
            cluster.record.apply(&Change::BeginLeave(ident)).unwrap();
        }
        let mut in_flux_ms = 0;
        cluster.run_beside(ident, 30_000, |cluster| {
            in_flux_ms += 500 * u64::from(cluster.member.view().mode == Mode::InFlux);
        });
        assert!((10_000..20_000).contains(&in_flux_ms), "{in_flux_ms}");
        assert_eq!(cluster.member.view().mode, Mode::Stable);
        // What one that leaves holds is free only when it is down, so it is not that yet.
        let state = if leaves { MemberState::Isolated } else { MemberState::Down };
        assert_eq!(cluster.record.entry(slot(2)).state, state);
        assert_eq!(cluster.member.view().states[1], state);
    }
}

#[test]
fn an_operator_declares_one_down_that_joins_and_lives() {
    let mut cluster = Cluster::new();
    let ident = cluster.begin_join(LEVEL);
    cluster.meet(ident);
    cluster.run_beside(ident, 2_000, |_| ());
    assert_eq!(cluster.member.view().mode, Mode::InFlux);
    cluster.input(Input::Command(1, Command::SetDown(slot(2))));
    cluster.run(500);
    assert_eq!(cluster.record.entry(slot(2)).state, MemberState::Down);
    assert_eq!(cluster.member.view().mode, Mode::Stable);
    assert!(cluster.record.apply(&Change::FinishJoin(ident)).is_err());
}

#[test]
fn of_members_that_have_all_died_the_first_that_starts_declares_those_down_that_had_promised() {
    let mut cluster = Cluster::before();
    let ident = cluster.begin_join(LEVEL);
    cluster.record.apply(&Change::FinishJoin(ident)).unwrap();
    cluster.record.apply(&Change::Heartbeat { ident, promises: true }).unwrap();
    cluster.input(Input::Start);
    cluster.run(8_000);
    assert_eq!(cluster.record.entry(slot(2)).state, MemberState::Joined);
    cluster.run(5_000);
    assert_eq!(cluster.record.entry(slot(2)).why, WhyDown::Declared);
    assert_eq!(cluster.member.view().mode, Mode::Stable);
}

#[test]
fn a_clock_that_is_set_back_again_and_again_does_not_keep_a_member_alive() {
    let mut cluster = Cluster::new();
    cluster.run(100_000);
    // The volume is gone from here on.
    cluster.member.handle(cluster.now_ms, Input::Tick);
    for _ in 0..10 {
        cluster.now_ms -= 5_000;
        for effect in cluster.member.handle(cluster.now_ms, Input::Tick) {
            cluster.has_stopped |= matches!(effect, Effect::Stop(_));
        }
    }
    assert!(cluster.has_stopped);
    // One whose volume is there goes on.
    let mut cluster = Cluster::new();
    cluster.run(100_000);
    for _ in 0..10 {
        cluster.now_ms -= 5_000;
        cluster.run(2_000);
    }
    assert_eq!((cluster.has_stopped, cluster.member.view().mode), (false, Mode::Stable));
    let timeout_ms = cluster.member.timeout_ms().unwrap();
    assert!(
        (cluster.now_ms..cluster.now_ms + 1_100).contains(&timeout_ms),
        "{timeout_ms} at {}",
        cluster.now_ms
    );
}

#[test]
fn counts_that_reach_their_end_stop_nobody_who_runs() {
    let mut cluster = Cluster::before();
    for entry in &mut cluster.record.entries[..2] {
        (entry.incarnation, entry.heartbeat) = (u64::MAX - 1, u64::MAX - 3);
    }
    cluster.input(Input::Start);
    cluster.run(20_000);
    assert_eq!((cluster.member.ident().incarnation, cluster.member.view().mode), (u64::MAX, Mode::Stable));
    assert!(cluster.record.entry(slot(1)).heartbeat < 100);
    cluster.record.apply(&Change::Abend(cluster.member.ident())).unwrap();
    let again = Change::BeginJoin { slot: slot(1), system: system("MEMBERA"), level: LEVEL };
    assert!(cluster.record.apply(&again).is_err());
}

#[test]
fn of_two_processes_in_one_slot_the_second_waits_and_takes_the_place_only_of_one_that_is_silent() {
    let mut cluster = Cluster::new();
    let services: Vec<Box<dyn Service>> = vec![Box::new(Probe { level: LEVEL })];
    let mut twin = Member::new(slot(1), system("MEMBERA"), Timing::default(), services);
    std::mem::swap(&mut cluster.member, &mut twin);
    cluster.input(Input::Start);
    // Both run: the second is in nobody's way.
    for _ in 0..60_000 / 50 {
        cluster.run(50);
        std::mem::swap(&mut cluster.member, &mut twin);
        cluster.input(Input::Tick);
        std::mem::swap(&mut cluster.member, &mut twin);
    }
    assert_eq!((cluster.member.ident().incarnation, cluster.has_stopped), (0, false));
    assert_eq!((twin.ident().incarnation, twin.view().mode), (1, Mode::Stable));
    // The first sleeps, and the second takes its place; when the first wakes it stops before it does anything else.
    cluster.run(15_000);
    assert_eq!((cluster.member.ident().incarnation, cluster.member.view().mode), (2, Mode::Stable));
    let effects = twin.handle(cluster.now_ms, Input::Tick);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Stop(_))), "{effects:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Record(_))), "{effects:?}");
}
