//! What a cluster is at one moment: members, what they asked of the record, what flies between them, and what may
//! still go wrong.

use std::collections::VecDeque;
use std::sync::Arc;

use ssi::config::Comparison;
use ssi::member::{Change, Command, Effect, Input, Member, MemberState, Message, Mode, Record};
use ssi::member::{RecordOutcome, Stopped, Timing};
use ssi::service::{Configuration, Logon, LogonAnswer, LogonRequest, Service, UserKind};
use ssi::{ClusterName, Slot, SystemName, UserId};

/// It is always now; what was before grows older instead, see [`Member::age`].
pub const NOW_MS: u64 = 1_000;

/// How many things may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Steps of the clock, of 1 ms each.
    pub steps: u8,
    /// Cuts of a link, kills, sleeps, and operations on the record that fail.
    pub faults: u8,
    /// Logons of the one user, and logoffs.
    pub logons: u8,
    pub logoffs: u8,
    /// Starts of members, beyond those of the beginning.
    pub boots: u8,
    /// What operators say.
    pub commands: u8,
}

/// An operation on the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Asked(Option<Change>),
    Answered(RecordOutcome),
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub member: Option<Member>,
    pub operation: Option<Operation>,
    pub asleep: bool,
    /// The volume does not answer it.
    pub stalled: bool,
    /// The user's guest runs here.
    pub guest: bool,
    /// Logons that wait for their answer.
    pub waiting: u8,
}

/// What flies over a link: first of all that it is up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flying {
    Up,
    Message(Message),
}

/// One end of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct End {
    /// It believes that the link is up, or will when it takes what flies.
    pub heard: bool,
    /// To this end.
    pub flying: VecDeque<Flying>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link {
    pub up: bool,
    /// Of the lower slot, and of the higher.
    pub ends: [End; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub nodes: Vec<Arc<Node>>,
    /// By pair, see [`State::link`].
    pub links: Vec<Arc<Link>>,
    pub record: Record,
    /// The clock waits for everything under way, but for members that sleep or that the volume does not answer.
    pub is_prompt: bool,
    /// Changes of members that are gone, which the volume may still carry out.
    pub orphans: Vec<Change>,
    pub budget: Budget,
    /// What a grant or a join broke.
    pub broken: Option<&'static str>,
    /// What has happened, for those who want to know that it can.
    pub granted: bool,
    pub fenced: bool,
    /// The configuration of this member, by number, does not fit that of the others.
    pub odd: Option<usize>,
}

pub fn slot(index: usize) -> Slot {
    Slot::new(index as u8 + 1).unwrap()
}

fn system(index: usize) -> SystemName {
    SystemName::new(["MEMBERA", "MEMBERB", "MEMBERC", "MEMBERD"][index]).unwrap()
}

/// The shortest times in the right order: a member that has missed two heartbeats stops, and is declared down one step
/// after that.
const TIMING: Timing = Timing {
    heartbeat_every_ms: 1,
    fence_after_ms: 1,
    down_after_ms: 2,
    consent_patience_ms: 2,
    transition_ms_max: 4,
    retry_ms: 1,
};

impl State {
    /// Nobody has started.
    pub fn new(members: usize, is_prompt: bool, budget: Budget) -> Self {
        let cluster = ClusterName::new("DEMOSSI").unwrap();
        let systems = std::array::from_fn(|index| (index < members).then(|| system(index)));
        Self {
            nodes: vec![Arc::default(); members],
            links: vec![Arc::default(); members * (members - 1) / 2],
            record: Record::new(cluster, systems),
            is_prompt,
            orphans: Vec::new(),
            budget,
            broken: None,
            granted: false,
            fenced: false,
            odd: None,
        }
    }

    /// The link between two members, and which of its ends is that of `at`.
    pub fn link(&self, at: usize, other: usize) -> (usize, usize) {
        let (low, high) = (at.min(other), at.max(other));
        (high * (high - 1) / 2 + low, usize::from(at == high))
    }

    pub fn node(&mut self, index: usize) -> &mut Node {
        Arc::make_mut(&mut self.nodes[index])
    }

    pub fn link_mut(&mut self, number: usize) -> &mut Link {
        Arc::make_mut(&mut self.links[number])
    }

    pub fn is_awake(&self, index: usize) -> bool {
        self.nodes[index].member.is_some() && !self.nodes[index].asleep
    }

    pub fn boot(&mut self, index: usize) {
        let volume = if self.odd == Some(index) { "VMCOM2" } else { "VMCOM1" };
        let same = [("CP_OWNED slot 10".to_owned(), volume.to_owned())].into();
        let comparison = Comparison { same, ..Comparison::default() };
        let services: Vec<Box<dyn Service>> =
            vec![Box::new(Logon::new()), Box::new(Configuration::new(system(index), comparison))];
        let mut member = Member::new(slot(index), system(index), TIMING, services);
        member.age(NOW_MS, 0);
        *self.node(index) = Node { member: Some(member), ..Node::default() };
        self.input(index, Input::Start);
    }

    /// The process is gone, and the guest with it; what it has asked of the record may still be done.
    pub fn die(&mut self, index: usize) {
        let node = std::mem::take(self.node(index));
        if let Some(Operation::Asked(Some(change))) = node.operation {
            self.orphans.push(change);
        }
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            let (number, end) = self.link(index, other);
            let link = self.link_mut(number);
            link.up = false;
            link.ends[end] = End::default();
        }
    }

    pub fn input(&mut self, index: usize, input: Input) {
        let Some(member) = &mut self.node(index).member else { return };
        let effects = member.handle(NOW_MS, input);
        let ends = effects.iter().any(|effect| matches!(effect, Effect::Stop(_)));
        for effect in effects {
            match effect {
                // Its last word on itself, behind what it has asked for before.
                Effect::Record(Some(change)) if ends => self.orphans.push(change),
                Effect::Record(change) => self.node(index).operation = Some(Operation::Asked(change)),
                Effect::Send(to, message) => self.send(index, to.index(), message),
                Effect::Answer(_, body) => self.answered(index, &body),
                Effect::Stop(why) => {
                    self.fenced |= !matches!(why, Stopped::Left | Stopped::Abend);
                    self.node(index).guest = false;
                }
                _ => {}
            }
        }
        if ends {
            self.die(index);
        }
        if let Some(member) = &mut self.node(index).member {
            member.age(NOW_MS, 0);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let (number, end) = self.link(to, from);
        if self.links[number].up {
            self.link_mut(number).ends[end].flying.push_back(Flying::Message(message));
        }
    }

    fn answered(&mut self, index: usize, body: &[u8]) {
        if self.nodes[index].waiting == 0 {
            return; // of a logoff
        }
        self.node(index).waiting -= 1;
        if postcard::from_bytes::<LogonAnswer>(body).unwrap() != LogonAnswer::Granted {
            return;
        }
        let mode = self.nodes[index].member.as_ref().map(|member| member.view().mode);
        if mode != Some(Mode::Stable) {
            self.broken = Some("granted by a member that is not stable");
        } else if self.record.entry(slot(index)).state != MemberState::Joined {
            self.broken = Some("granted by a member that is not joined");
        }
        self.granted = true;
        self.node(index).guest = true;
    }

    pub fn ask(&mut self, index: usize, request: &LogonRequest) {
        let body = postcard::to_allocvec(request).unwrap();
        self.input(index, Input::Request { service: "Logon".to_owned(), number: 0, body });
    }

    pub fn log_on(&mut self, index: usize) {
        self.node(index).waiting += 1;
        self.ask(index, &LogonRequest::On(user(), UserKind::Single));
    }

    pub fn log_off(&mut self, index: usize) {
        self.node(index).guest = false;
        let waiting = std::mem::take(&mut self.node(index).waiting);
        self.ask(index, &LogonRequest::Off(user()));
        self.node(index).waiting = waiting;
    }

    pub fn command(&mut self, index: usize, command: Command) {
        self.input(index, Input::Command(0, command));
    }

    /// Everything that was grows one step older.
    pub fn step_clock(&mut self) {
        for index in 0..self.nodes.len() {
            if let Some(member) = &mut self.node(index).member {
                member.age(NOW_MS, 1);
            }
        }
    }
}

fn user() -> UserId {
    UserId::new("LINUX01").unwrap()
}
