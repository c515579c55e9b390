//! The core of a member: takes what happens, gives what is to be done.

mod ageing;
mod commands;
mod operations;
mod outlook;
mod peers;
mod strangers;
mod time;
mod transitions;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use strangers::Claim;

use super::interface::{Command, CommandRefused, Effect, Input, RecordOutcome, Stopped, Timing};
use super::message::{LEVEL, LEVEL_OF_PROMISES, LEVEL_OLDEST, Message, Shares, Transition};
use super::record::{Change, ChangeRefused, Ident, Record};
use super::{MemberState, Mode};
use crate::name::{MEMBERS_MAX, Slot, SystemName};
use crate::service::{Output, Service, View};

const SLOTS: usize = MEMBERS_MAX as usize;
/// Messages of services that a joining member keeps until it has taken their senders' shares over.
const EARLY_MAX: usize = 65_536;

/// Where this member is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Life {
    Down,
    /// Looks whether it may begin, from `retry_at_ms` on.
    Waiting {
        retry_at_ms: u64,
    },
    /// Is in the record as joining; needs a link to every joined member.
    Connecting,
    /// Steps back from joining; the record is being changed.
    Retreating,
    Asking(Ask),
    /// All have consented; the record is being changed.
    Committing(Ask),
    Joined,
    Isolated,
    /// Waits for its turn to leave.
    WantsOut {
        retry_at_ms: u64,
    },
    Leaving(Ask),
    Gone,
}

/// A request to the other members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ask {
    waits_for: BTreeSet<Slot>,
    shares: BTreeMap<Slot, Shares>,
    deadline_ms: u64,
}

/// Another member's request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    slot: Slot,
    transition: Transition,
    incarnation: u64,
    level: u16,
    shares: Shares,
}

/// Another member's transition to which this one has consented.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Consented {
    slot: Slot,
    incarnation: u64,
    transition: Transition,
    shares: Shares,
}

/// What this member has seen of another's heartbeat in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Watch {
    incarnation: u64,
    heartbeat: u64,
    moved_at_ms: u64,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    slot: Slot,
    system: SystemName,
    timing: Timing,
    services: Vec<Box<dyn Service>>,
    life: Life,
    /// Of the protocol: the one this member speaks, and that of the oldest member.
    level: u16,
    members_level: u16,
    /// The record may hold a promise of this life to stop itself in time.
    has_promised: bool,
    /// Whom it does not reach and has to, as its operators know.
    told_unreached: [bool; SLOTS],
    /// Attempts to join that came to nothing, when the next one may begin, and by when the one under way must succeed.
    join_attempts: u32,
    begin_from_ms: u64,
    join_deadline_ms: u64,
    /// Who joins or leaves by the record, and since when.
    changing: Option<(Ident, MemberState, u64)>,
    handled_at_ms: u64,
    /// By how much its clock has been set back.
    set_back_ms: u64,
    incarnation: u64,
    record: Option<Record>,
    watch: [Watch; SLOTS],
    links: [bool; SLOTS],
    /// Life in which each peer has said over its link that it is a member.
    heard: [Option<u64>; SLOTS],
    /// Life of the peer whose share has been taken over since its link came up.
    synced: [Option<u64>; SLOTS],
    /// Whom each peer says to reach.
    their_reach: [Option<[bool; SLOTS]>; SLOTS],
    consented: Option<Consented>,
    /// A request whose sender the record has not shown yet.
    asked: Option<Asked>,
    /// Lives that other members claim to be in.
    claims: [Claim; SLOTS],
    early: Vec<(Slot, String, Vec<u8>)>,
    view: View,
    /// The operation under way, and when it began.
    under_way: Option<(Option<Change>, u64)>,
    waiting: VecDeque<Option<Change>>,
    heartbeat_at_ms: u64,
    /// When services are told next that time has passed.
    beat_at_ms: u64,
    written_at_ms: u64,
    command: Option<(u64, Command)>,
    /// Of the input under way; empty in between.
    effects: Vec<Effect>,
}

impl Member {
    /// The member `system` in `slot`, not started.
    pub fn new(slot: Slot, system: SystemName, timing: Timing, services: Vec<Box<dyn Service>>) -> Self {
        debug_assert!(timing.fence_after_ms < timing.down_after_ms);
        let (states, reached) = ([MemberState::Unknown; SLOTS], [false; SLOTS]);
        Self {
            slot,
            system,
            timing,
            services,
            life: Life::Down,
            level: LEVEL,
            members_level: LEVEL,
            has_promised: false,
            told_unreached: reached,
            join_attempts: 0,
            begin_from_ms: 0,
            join_deadline_ms: 0,
            changing: None,
            handled_at_ms: 0,
            set_back_ms: 0,
            incarnation: 0,
            record: None,
            watch: [Watch::default(); SLOTS],
            links: [false; SLOTS],
            heard: [None; SLOTS],
            synced: [None; SLOTS],
            their_reach: [None; SLOTS],
            consented: None,
            asked: None,
            claims: [Claim::Known; SLOTS],
            early: Vec::new(),
            view: View { me: slot, mode: Mode::Safe, states, reached },
            under_way: None,
            waiting: VecDeque::new(),
            heartbeat_at_ms: 0,
            beat_at_ms: 0,
            written_at_ms: 0,
            command: None,
            effects: Vec::new(),
        }
    }

    /// The same member, speaking the protocol of another level, as one of an older release does.
    pub fn speaking(self, level: u16) -> Self {
        Self { level, members_level: level, ..self }
    }

    /// Level of the oldest member of the cluster, as this one knows it.
    pub fn members_level(&self) -> u16 {
        self.members_level
    }

    /// The cluster as this member sees it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Its services, in the order given.
    pub fn services(&self) -> &[Box<dyn Service>] {
        &self.services
    }

    /// The record as last read.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// When to be called with [`Input::Tick`] at the latest.
    pub fn timeout_ms(&self) -> Option<u64> {
        let at_ms = match self.life {
            Life::Down | Life::Gone => return None,
            Life::Waiting { retry_at_ms } => retry_at_ms,
            Life::WantsOut { retry_at_ms } => retry_at_ms.min(self.heartbeat_at_ms),
            _ => self.heartbeat_at_ms,
        };
        Some(at_ms.saturating_sub(self.set_back_ms))
    }

    /// The last moment at which this member's guests may run and it may speak for the cluster, if that has a limit as yet.
    ///
    /// Others may declare it down some time after that, whether or not it is ever called again. So whoever drives it sees to
    /// this by means that work though the driver itself hangs: it takes the moment down before it carries an effect out.
    pub fn fence_at_ms(&self) -> Option<u64> {
        let is_bound = self.is_live() && (self.has_promised || self.timeouts());
        let is_bound = is_bound && !cfg!(feature = "planted-no-fence");
        let at_ms = self.written_at_ms + self.timing.fence_after_ms;
        is_bound.then(|| at_ms.saturating_sub(self.set_back_ms))
    }

    /// Takes what happened; `now_ms` is any clock that goes forward and counts the time the system sleeps, too. If it is set
    /// back all the same, nobody knows how much time has passed, and the member counts more than it has looked away for.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        let now_ms = self.forward(now_ms);
        // Before anything else: may this member still act?
        if self.life == Life::Gone || self.fence_if_late(now_ms) {
            return std::mem::take(&mut self.effects);
        }
        self.mind_the_gap(now_ms);
        match input {
            Input::Start => self.start(now_ms),
            Input::Tick => self.tick(now_ms),
            Input::Record(outcome) => self.record_done(now_ms, outcome),
            Input::Link(slot, up) => self.link(now_ms, slot, up),
            Input::Message(from, message) => self.message(now_ms, from, message),
            Input::Command(number, command) => self.command(now_ms, number, command),
            Input::Request { service, number, body } => self.request(&service, number, &body),
            Input::Withdraw { service, number } => self.withdraw(&service, number),
            Input::Unclaimed { service, request, answer } => self.unclaimed(&service, &request, &answer),
            Input::Abend => self.abend(),
        }
        self.reconcile(now_ms);
        self.next_operation(now_ms);
        std::mem::take(&mut self.effects)
    }

    /// This life of the member.
    pub fn ident(&self) -> Ident {
        Ident { slot: self.slot, incarnation: self.incarnation }
    }

    /// It is in the record as more than down.
    fn is_live(&self) -> bool {
        !matches!(self.life, Life::Down | Life::Waiting { .. } | Life::Gone)
    }

    /// It is a full member, though it may want to leave.
    fn is_member(&self) -> bool {
        match self.life {
            Life::Joined => true,
            Life::WantsOut { .. } => {
                self.record.is_some_and(|record| record.entry(self.slot).state == MemberState::Joined)
            }
            _ => false,
        }
    }

    fn timeouts(&self) -> bool {
        self.record.is_some_and(|record| record.timeouts)
    }

    fn fence_if_late(&mut self, now_ms: u64) -> bool {
        let silent_ms = now_ms.saturating_sub(self.written_at_ms);
        let late = self.fence_at_ms().is_some() && silent_ms > self.timing.fence_after_ms;
        if late {
            self.stop(Stopped::Fenced { silent_ms });
        }
        late
    }

    /// Stops without leaving. The record says so at once, and not before the guests have ended: others act on what it says.
    fn abend(&mut self) {
        let is_live = self.is_live();
        self.stop(Stopped::Abend);
        if is_live {
            self.effects.push(Effect::Record(Some(Change::Abend(self.ident()))));
        }
    }

    /// The guests end before anybody hears of anything else that follows.
    fn stop(&mut self, why: Stopped) {
        if self.life != Life::Gone {
            self.life = Life::Gone;
            // What a service has granted in the same moment is not to be had any more.
            self.effects.retain(|effect| !matches!(effect, Effect::Answer(..)));
            let text = format!("SSI system {} stops: {why}", self.system);
            let stop = Effect::Stop(why);
            if cfg!(feature = "planted-fence-behind-console") {
                self.effects.extend([Effect::Console(text), stop]);
            } else {
                self.effects.insert(0, stop);
                self.effects.push(Effect::Console(text));
            }
        }
    }
}
