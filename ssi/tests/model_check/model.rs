//! What can happen next, and what must hold.

use ssi::Slot;
use ssi::member::{MemberState, Mode};
use stateright::{Model, Property};

use super::state::{Budget, End, NOW_MS, Operation, State};

/// Bounds of a run.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: &'static str,
    pub members: usize,
    pub begins: Beginning,
    /// The last member's configuration does not fit that of the others.
    pub last_is_odd: bool,
    /// The clock waits for what is under way.
    pub is_prompt: bool,
    pub budget: Budget,
    /// Most messages under way in one direction.
    pub flying_max: usize,
    /// Most things that happen one after the other; `None`: as many as can.
    pub depth_max: Option<usize>,
}

/// From where a cluster begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nobody has started.
    Nothing,
    /// All members but the last are joined and nothing is under way.
    LastIsDown,
    /// All members are joined and nothing is under way.
    Joined,
    /// The same, and the user is on at the first member.
    On,
}

/// One thing that happens. Members are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Boot(usize),
    /// The volume does what was asked of it.
    Carry(usize),
    /// It does it and nobody hears of it.
    CarryUnsaid(usize),
    CarryFails(usize),
    CarryOrphan(usize),
    Answer(usize),
    Connect(usize, usize),
    Cut(usize, usize),
    /// The first finds out that the link to the second is down.
    Notice(usize, usize),
    /// The first takes what the second has sent.
    Deliver(usize, usize),
    Tick(usize),
    Clock,
    Kill(usize),
    Sleep(usize),
    Stall(usize),
    Unstall(usize),
    Wake(usize),
    LogOn(usize),
    LogOff(usize),
    Leave(usize),
    Abend(usize),
    SetDown(usize, usize),
}

impl Cluster {
    /// The same with less of everything.
    pub fn make_small(&mut self) {
        self.budget.faults = self.budget.faults.min(1);
        self.budget.logons = self.budget.logons.min(2);
        self.budget.logoffs = 0;
        self.depth_max = Some(self.depth_max.map_or(20, |depth| depth.min(20)));
        // A start is long, and to see its end takes all of it.
        if self.begins == Beginning::Nothing {
            (self.budget.faults, self.budget.logons, self.depth_max) = (0, 1, None);
        }
    }

    fn begin(&self) -> State {
        if self.begins == Beginning::Nothing {
            return self.odd(State::new(self.members, self.is_prompt, self.budget));
        }
        // Along the path on which nothing goes wrong, however long it takes.
        let budget = Budget { steps: u8::MAX, faults: 0, logons: 0, logoffs: 0, boots: 0, commands: 0 };
        let mut state = State::new(self.members, true, budget);
        let started = self.members - usize::from(self.begins == Beginning::LastIsDown);
        for index in 0..started {
            state.boot(index);
            while !state.is_joined(index) || !state.is_quiet() {
                state.act_first();
            }
        }
        if self.begins == Beginning::On {
            state.log_on(0);
            while !state.is_quiet() {
                state.act_first();
            }
        }
        self.odd(State { is_prompt: self.is_prompt, budget: self.budget, ..state })
    }

    fn odd(&self, state: State) -> State {
        State { odd: self.last_is_odd.then(|| self.members - 1), ..state }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.actions(actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.act(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("the user runs once at most", |_, state: &State| state.running() <= 1),
            Property::always("whoever has stopped runs nothing", |_, state: &State| {
                state.stopped_running() == 0
            }),
            Property::always("one joins or leaves at a time", |_, state: &State| state.changing() <= 1),
            Property::always(
                "only a joined member of a stable cluster grants, and only one that fits joins",
                |_, state: &State| state.broken.is_none(),
            ),
            // Without these the ones above may hold because nothing ever happens.
            Property::sometimes("the user is logged on", |_, state: &State| state.granted),
        ];
        properties.push(if self.last_is_odd {
            Property::sometimes("one is isolated", |_, state: &State| {
                state.record.in_state(MemberState::Isolated).count() > 0
            })
        } else {
            Property::sometimes("all are joined and stable", |_, state: &State| {
                (0..state.nodes.len()).all(|index| state.is_joined(index))
            })
        });
        if self.budget.steps >= 3 && self.budget.faults > 0 {
            properties.push(Property::sometimes("one is declared down", |_, state: &State| {
                Slot::all().any(|slot| state.record.entry(slot).why == ssi::member::WhyDown::Declared)
            }));
            properties.push(Property::sometimes("one stops itself", |_, state: &State| state.fenced));
        }
        properties
    }

    fn within_boundary(&self, state: &State) -> bool {
        let ends = state.links.iter().flat_map(|link| &link.ends);
        ends.clone().all(|end| end.flying.len() <= self.flying_max)
    }
}

impl State {
    fn running(&self) -> usize {
        // Nothing runs on a member that sleeps, and when it wakes it looks at the time first.
        self.nodes.iter().filter(|node| node.guest && !node.asleep).count()
    }

    /// Guests of lives that are down by their own word: that comes after their end.
    fn stopped_running(&self) -> usize {
        let has_stopped = |node: &&std::sync::Arc<super::state::Node>| {
            node.member.as_ref().is_some_and(|member| {
                let (ident, entry) = (member.ident(), self.record.entry(member.ident().slot));
                (entry.incarnation, entry.state) == (ident.incarnation, MemberState::Down)
                    && entry.why == ssi::member::WhyDown::Stopped
            })
        };
        self.nodes.iter().filter(|node| node.guest && !node.asleep).filter(has_stopped).count()
    }

    fn changing(&self) -> usize {
        let states = Slot::all().map(|slot| self.record.entry(slot).state);
        states.filter(|state| matches!(state, MemberState::Joining | MemberState::Leaving)).count()
    }

    fn is_joined(&self, index: usize) -> bool {
        self.nodes[index].member.as_ref().is_some_and(|member| {
            let view = member.view();
            view.mode == Mode::Stable && view.states[index] == MemberState::Joined
        })
    }

    fn act_first(&mut self) {
        let mut actions = Vec::new();
        self.actions(&mut actions);
        self.act(*actions.first().expect("a cluster without faults goes on"));
    }

    fn is_quiet(&self) -> bool {
        self.nodes.iter().all(|node| node.operation.is_none())
            && self.links.iter().flat_map(|link| &link.ends).all(|end| end.flying.is_empty())
    }

    /// Something is under way that a prompt clock waits for.
    fn is_under_way(&self) -> bool {
        let flies = |end: &End| end.heard && !end.flying.is_empty();
        let operates = |index: &usize| {
            let node = &self.nodes[*index];
            match node.operation {
                Some(Operation::Asked(_)) => !node.stalled,
                Some(Operation::Answered(_)) => !node.stalled && !node.asleep,
                None => false,
            }
        };
        self.links.iter().any(|link| link.up && link.ends.iter().any(flies))
            || (0..self.nodes.len()).any(|index| operates(&index))
    }

    pub fn is_due(&self, index: usize) -> bool {
        let timeout = self.nodes[index].member.as_ref().and_then(|member| member.timeout_ms());
        self.is_awake(index) && timeout.is_some_and(|at_ms| at_ms <= NOW_MS)
    }

    fn actions(&self, actions: &mut Vec<Action>) {
        for index in 0..self.nodes.len() {
            self.actions_at(index, actions);
            for other in (0..self.nodes.len()).filter(|other| *other != index) {
                self.actions_between(index, other, actions);
            }
        }
        actions.extend((0..self.orphans.len()).map(Action::CarryOrphan));
        let due = (0..self.nodes.len()).any(|index| self.is_due(index));
        // Who is awake looks at the clock in time.
        if self.budget.steps > 0 && !due && !(self.is_prompt && self.is_under_way()) {
            actions.push(Action::Clock);
        }
    }

    fn actions_at(&self, index: usize, actions: &mut Vec<Action>) {
        let (node, budget) = (&self.nodes[index], &self.budget);
        if self.is_due(index) {
            actions.push(Action::Tick(index));
        }
        match &node.operation {
            Some(_) if node.stalled => actions.push(Action::Unstall(index)),
            Some(Operation::Asked(_)) => {
                actions.push(Action::Carry(index));
                if budget.faults > 0 {
                    actions.extend([Action::CarryUnsaid(index), Action::CarryFails(index)]);
                }
            }
            Some(Operation::Answered(_)) if !node.asleep => actions.push(Action::Answer(index)),
            _ => {}
        }
        if self.is_prompt && node.operation.is_some() && !node.stalled && budget.faults > 0 {
            actions.push(Action::Stall(index));
        }
        if node.asleep {
            actions.push(Action::Wake(index));
        }
        match &node.member {
            None if budget.boots > 0 => actions.push(Action::Boot(index)),
            Some(_) if budget.faults > 0 => {
                actions.push(Action::Kill(index));
                if !node.asleep {
                    actions.push(Action::Sleep(index));
                }
            }
            _ => {}
        }
        let view = node.member.as_ref().filter(|_| !node.asleep).map(|member| member.view());
        if view.is_some_and(|view| view.states[index] == MemberState::Joined) {
            if budget.logons > 0 && !node.guest {
                actions.push(Action::LogOn(index));
            }
            if node.guest && budget.logoffs > 0 {
                actions.push(Action::LogOff(index));
            }
            if !node.guest && budget.commands > 0 {
                actions.push(Action::Leave(index));
            }
            if node.guest && budget.commands > 0 {
                actions.push(Action::Abend(index));
            }
        }
    }

    fn actions_between(&self, index: usize, other: usize, actions: &mut Vec<Action>) {
        let (number, end) = self.link(index, other);
        let link = &self.links[number];
        let End { heard, flying } = &link.ends[end];
        if *heard && self.is_awake(index) {
            if !flying.is_empty() {
                actions.push(Action::Deliver(index, other));
            }
            if !link.up {
                actions.push(Action::Notice(index, other));
            }
        }
        let sleeps = self.nodes[index].asleep || self.nodes[other].asleep;
        if index < other {
            if link.up && (sleeps || self.budget.faults > 0) {
                actions.push(Action::Cut(index, other));
            }
            let forgotten = link.ends.iter().all(|end| !end.heard);
            if !link.up && forgotten && self.is_awake(index) && self.is_awake(other) {
                actions.push(Action::Connect(index, other));
            }
        }
        let view = self.nodes[index].member.as_ref().map(|member| member.view());
        if self.budget.commands > 0
            && self.is_awake(index)
            && self.nodes[other].member.is_none()
            && view.is_some_and(|view| {
                view.states[index] == MemberState::Joined && view.states[other] != MemberState::Down
            })
        {
            actions.push(Action::SetDown(index, other));
        }
    }
}
