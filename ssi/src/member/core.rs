//! The core of a member: takes what happens, gives what is to be done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::{LEVEL, Message, Shares, Transition};
use super::record::{Change, ChangeRefused, Ident, Record};
use super::{MemberState, Mode};
use crate::name::{MEMBERS_MAX, Slot, SystemName};
use crate::service::{Output, Service, View};

const SLOTS: usize = MEMBERS_MAX as usize;
/// Messages of services that a joining member keeps until it has taken their senders' shares over.
const EARLY_MAX: usize = 65_536;

/// How long things take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat_every_ms: u64,
    /// A member that has not written its heartbeat for so long stops itself.
    pub fence_after_ms: u64,
    /// A member whose heartbeat others have seen stand still for so long is down. Longer than `fence_after_ms` by more than
    /// clocks drift apart in that time.
    pub down_after_ms: u64,
    /// A member that asks for consent waits so long for it.
    pub consent_patience_ms: u64,
    /// Before something is tried again.
    pub retry_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_every_ms: 1_000,
            fence_after_ms: 6_000,
            down_after_ms: 9_000,
            consent_patience_ms: 5_000,
            retry_ms: 250,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Time has passed; see [`Member::timeout_ms`].
    Tick,
    /// The operation on the record of [`Effect::Record`] is over.
    Record(RecordOutcome),
    /// The link to a member is up or down.
    Link(Slot, bool),
    /// A member says something.
    Message(Slot, Message),
    /// An operator wants something; the number comes back with the answer.
    Command(u64, Command),
    /// Somebody wants something of a service.
    Request {
        /// The service's name.
        service: String,
        /// Comes back with the answer.
        number: u64,
        /// In the service's own format.
        body: Vec<u8>,
    },
}

/// How an operation on the record went.
#[derive(Clone, Debug)]
pub enum RecordOutcome {
    /// The change was made; the record as it is now.
    Done(Record),
    /// It was not; the record as it is.
    Refused(ChangeRefused, Record),
    /// Nobody knows: the volume did not answer as it should.
    Failed(String),
}

/// What an operator may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// SHUTDOWN: leave the cluster.
    Leave,
    /// SET SSI member DOWN: the operator has made sure that it is stopped.
    SetDown(Slot),
    /// Cross-system timeouts on or off.
    SetTimeouts(bool),
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// This member is not in a state for it.
    #[error("this member is {0}")]
    Here(MemberState),
    /// The member that was named is in another state than the command needs.
    #[error("slot {0} is {1}")]
    There(Slot, MemberState),
    /// It is reached over a link, or its heartbeat moves.
    #[error("slot {0} gives signs of life")]
    Alive(Slot),
    /// The record could not be changed.
    #[error("the record: {0}")]
    Record(ChangeRefused),
    /// Another command is being carried out.
    #[error("another command is being carried out")]
    Busy,
}

/// Why a member runs no longer. Nothing of its guests may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// It has left the cluster.
    #[error("left the cluster")]
    Left,
    /// It was declared down while it ran.
    #[error("was declared down by another member")]
    DeclaredDown,
    /// It could not write its heartbeat in time, so others may have declared it down.
    #[error("could not write its heartbeat for {silent_ms} ms")]
    Fenced {
        /// How long.
        silent_ms: u64,
    },
    /// Another system of the same name runs, or took its place.
    #[error("another system of the same name is in slot {0}")]
    Twin(Slot),
    /// A service found this system unfit to join.
    #[error("service {service}: {reason}")]
    Unworthy {
        /// Which.
        service: String,
        /// Why.
        reason: String,
    },
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read the record, and if there is a change make it, in one atomic operation; answer [`Input::Record`].
    Record(Option<Change>),
    /// Say this to a member, if its link is up.
    Send(Slot, Message),
    /// Tell the operators.
    Console(String),
    /// The cluster looks different to this member now.
    Changed(View),
    /// The answer to a command.
    Reply(u64, Result<(), CommandRefused>),
    /// The answer to a request of a service.
    Answer(u64, Vec<u8>),
    /// Stop every guest, and then this member.
    Stop(Stopped),
}

/// Where this member is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    Down,
    /// Looks whether it may begin, from `retry_at_ms` on.
    Waiting {
        retry_at_ms: u64,
    },
    /// Is in the record as joining; needs a link to every joined member.
    Connecting,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ask {
    waits_for: BTreeSet<Slot>,
    shares: BTreeMap<Slot, Shares>,
    deadline_ms: u64,
}

/// Another member's transition to which this one has consented.
#[derive(Clone, Debug)]
struct Consented {
    slot: Slot,
    incarnation: u64,
    transition: Transition,
    shares: Shares,
}

/// What this member has seen of another's heartbeat in the record.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    incarnation: u64,
    heartbeat: u64,
    moved_at_ms: u64,
}

/// A member.
pub struct Member {
    slot: Slot,
    system: SystemName,
    timing: Timing,
    services: Vec<Box<dyn Service>>,
    life: Life,
    incarnation: u64,
    record: Option<Record>,
    watch: [Watch; SLOTS],
    links: [bool; SLOTS],
    /// Life of the peer whose share has been taken over since its link came up.
    synced: [Option<u64>; SLOTS],
    /// Whom each peer says to reach.
    their_reach: [Option<[bool; SLOTS]>; SLOTS],
    consented: Option<Consented>,
    /// A request whose sender the record has not shown yet.
    asked: Option<(Slot, Transition, u64, Shares)>,
    early: Vec<(Slot, String, Vec<u8>)>,
    view: View,
    /// The operation under way, and when it began.
    under_way: Option<(Option<Change>, u64)>,
    waiting: VecDeque<Option<Change>>,
    heartbeat_at_ms: u64,
    written_at_ms: u64,
    command: Option<(u64, Command)>,
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
            incarnation: 0,
            record: None,
            watch: [Watch::default(); SLOTS],
            links: [false; SLOTS],
            synced: [None; SLOTS],
            their_reach: [None; SLOTS],
            consented: None,
            asked: None,
            early: Vec::new(),
            view: View { me: slot, mode: Mode::Safe, states, reached },
            under_way: None,
            waiting: VecDeque::new(),
            heartbeat_at_ms: 0,
            written_at_ms: 0,
            command: None,
            effects: Vec::new(),
        }
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
        match self.life {
            Life::Down | Life::Gone => None,
            Life::Waiting { retry_at_ms } => Some(retry_at_ms),
            Life::WantsOut { retry_at_ms } => Some(retry_at_ms.min(self.heartbeat_at_ms)),
            _ => Some(self.heartbeat_at_ms),
        }
    }

    /// Takes what happened; `now_ms` is any clock that only goes forward and counts the time the system sleeps, too.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        // Before anything else: may this member still act?
        if self.life == Life::Gone || self.fence_if_late(now_ms) {
            return std::mem::take(&mut self.effects);
        }
        match input {
            Input::Start => self.start(now_ms),
            Input::Tick => self.tick(now_ms),
            Input::Record(outcome) => self.record_done(now_ms, outcome),
            Input::Link(slot, up) => self.link(now_ms, slot, up),
            Input::Message(from, message) => self.message(now_ms, from, message),
            Input::Command(number, command) => self.command(now_ms, number, command),
            Input::Request { service, number, body } => self.request(&service, number, &body),
        }
        self.reconcile(now_ms);
        self.next_operation(now_ms);
        std::mem::take(&mut self.effects)
    }

    fn ident(&self) -> Ident {
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
        let late = !cfg!(feature = "planted-no-fence")
            && self.is_live()
            && self.timeouts()
            && silent_ms > self.timing.fence_after_ms;
        if late {
            self.stop(Stopped::Fenced { silent_ms });
        }
        late
    }

    fn stop(&mut self, why: Stopped) {
        if self.life != Life::Gone {
            self.life = Life::Gone;
            self.effects.push(Effect::Console(format!("SSI system {} stops: {why}", self.system)));
            self.effects.push(Effect::Stop(why));
        }
    }

    // The record.

    /// Queues an operation; a plain read is not queued twice.
    fn operate(&mut self, change: Option<Change>) {
        if change.is_some() || !self.waiting.contains(&None) {
            self.waiting.push_back(change);
        }
    }

    fn next_operation(&mut self, now_ms: u64) {
        if self.under_way.is_none()
            && self.life != Life::Gone
            && let Some(change) = self.waiting.pop_front()
        {
            self.under_way = Some((change, now_ms));
            self.effects.push(Effect::Record(change));
        }
    }

    fn record_done(&mut self, now_ms: u64, outcome: RecordOutcome) {
        let Some((change, began_ms)) = self.under_way.take() else { return };
        match outcome {
            RecordOutcome::Done(record) => {
                self.take_record(now_ms, record);
                if let Some(change) = change {
                    self.change_made(now_ms, began_ms, change);
                }
            }
            RecordOutcome::Refused(why, record) => {
                self.take_record(now_ms, record);
                if let Some(change) = change {
                    self.change_refused(now_ms, change, why);
                }
            }
            RecordOutcome::Failed(why) => {
                self.effects.push(Effect::Console(format!("Persistent data record: {why}")));
                // Tried again, until this member has to stop for it.
                if change.is_some_and(|change| !matches!(change, Change::Heartbeat(_))) {
                    self.waiting.push_front(change);
                }
                self.heartbeat_at_ms = now_ms + self.timing.retry_ms;
            }
        }
    }

    fn take_record(&mut self, now_ms: u64, record: Record) {
        for slot in Slot::all() {
            let (entry, watch) = (record.entry(slot), &mut self.watch[slot.index()]);
            if (entry.incarnation, entry.heartbeat) != (watch.incarnation, watch.heartbeat)
                || self.record.is_none()
            {
                let (incarnation, heartbeat) = (entry.incarnation, entry.heartbeat);
                *watch = Watch { incarnation, heartbeat, moved_at_ms: now_ms };
            }
        }
        self.record = Some(record);
    }

    fn change_made(&mut self, now_ms: u64, began_ms: u64, change: Change) {
        let of_mine = match change {
            Change::BeginJoin { .. } => true,
            Change::FinishJoin(ident)
            | Change::FailJoin(ident)
            | Change::BeginLeave(ident)
            | Change::Heartbeat(ident) => ident == self.ident(),
            _ => false,
        };
        if of_mine {
            self.written_at_ms = began_ms;
        }
        match change {
            Change::BeginJoin { .. } => {
                self.incarnation = self.record.map_or(0, |record| record.entry(self.slot).incarnation);
                self.heartbeat_at_ms = now_ms + self.timing.heartbeat_every_ms;
                self.life = Life::Connecting;
            }
            Change::FinishJoin(_) => self.join_finished(),
            Change::FailJoin(_) => self.life = Life::Isolated,
            Change::BeginLeave(_) => self.ask_to_leave(now_ms),
            Change::FinishLeave(_) => {
                let incarnation = self.incarnation;
                self.tell_all(&Message::Proceed { incarnation });
                self.reply(Ok(()));
                self.stop(Stopped::Left);
            }
            Change::DeclareDown { ident, .. } => {
                self.console_down(ident.slot);
                if self.command.is_some_and(|(_, command)| command == Command::SetDown(ident.slot)) {
                    self.reply(Ok(()));
                }
            }
            Change::SetTimeouts(_) => self.reply(Ok(())),
            Change::Heartbeat(_) | Change::Abend(_) => {}
        }
    }

    fn change_refused(&mut self, now_ms: u64, change: Change, why: ChangeRefused) {
        let retry_at_ms = now_ms + self.timing.retry_ms;
        match change {
            Change::BeginJoin { .. } => match why {
                ChangeRefused::NotYours(slot, _) => self.stop(Stopped::Twin(slot)),
                _ => self.life = Life::Waiting { retry_at_ms },
            },
            Change::BeginLeave(_) if matches!(why, ChangeRefused::Busy(..)) => {
                self.life = Life::WantsOut { retry_at_ms };
            }
            Change::Heartbeat(_)
            | Change::FinishJoin(_)
            | Change::FailJoin(_)
            | Change::BeginLeave(_)
            | Change::FinishLeave(_) => self.stop(match why {
                ChangeRefused::Incarnation(slot, _) => Stopped::Twin(slot),
                _ => Stopped::DeclaredDown,
            }),
            Change::DeclareDown { ident, .. } => {
                if self.command.is_some_and(|(_, command)| command == Command::SetDown(ident.slot)) {
                    self.reply(Err(CommandRefused::Record(why)));
                }
            }
            Change::SetTimeouts(_) => self.reply(Err(CommandRefused::Record(why))),
            Change::Abend(_) => {}
        }
    }

    fn console_down(&mut self, slot: Slot) {
        self.effects.push(Effect::Console(format!("SSI system in slot {slot} has been declared down")));
    }

    // Joining.

    fn start(&mut self, now_ms: u64) {
        if self.life != Life::Down {
            return;
        }
        for service in &self.services {
            if let Err(reason) = service.check_worthy() {
                let service = service.name().to_owned();
                return self.stop(Stopped::Unworthy { service, reason });
            }
        }
        self.life = Life::Waiting { retry_at_ms: now_ms + self.timing.retry_ms };
        self.operate(None);
    }

    /// May this member begin to join? An earlier life of it must be over first.
    fn try_begin(&mut self, now_ms: u64) {
        self.life = Life::Waiting { retry_at_ms: now_ms + self.timing.retry_ms };
        let Some(record) = self.record else { return self.operate(None) };
        let own = record.entry(self.slot);
        if own.state != MemberState::Down {
            if self.is_silent(now_ms, self.slot) {
                let ident = Ident { slot: self.slot, incarnation: own.incarnation };
                return self.operate(Some(Change::DeclareDown { ident, heartbeat: own.heartbeat }));
            }
            return self.operate(None);
        }
        if let Some(other) = record.changing() {
            self.declare_stuck(now_ms, other);
            return self.operate(None);
        }
        self.operate(Some(Change::BeginJoin { slot: self.slot, system: self.system }));
    }

    /// The other members that are joined by the record.
    fn joined(&self) -> Vec<Slot> {
        let record = self.record.as_ref();
        let slots = record.into_iter().flat_map(|record| record.in_state(MemberState::Joined));
        slots.filter(|slot| *slot != self.slot).collect()
    }

    fn shares(&self) -> Shares {
        self.services.iter().map(|service| (service.name().to_owned(), service.state())).collect()
    }

    fn connect(&mut self, now_ms: u64) {
        let joined = self.joined();
        if joined.iter().any(|slot| !self.links[slot.index()]) {
            return;
        }
        let waits_for: BTreeSet<Slot> = joined.into_iter().collect();
        let deadline_ms = now_ms + self.timing.consent_patience_ms;
        self.request_of(&waits_for, Transition::Join);
        self.life = Life::Asking(Ask { waits_for, deadline_ms, ..Ask::default() });
        self.commit_if_all_consent();
    }

    fn request_of(&mut self, slots: &BTreeSet<Slot>, transition: Transition) {
        let shares = self.shares();
        for slot in slots {
            let (incarnation, shares) = (self.incarnation, shares.clone());
            let request = Message::Request { transition, incarnation, level: LEVEL, shares };
            self.effects.push(Effect::Send(*slot, request));
        }
    }

    fn commit_if_all_consent(&mut self) {
        let joined = self.joined();
        let Life::Asking(ask) = &mut self.life else { return };
        ask.waits_for.retain(|slot| joined.contains(slot));
        ask.shares.retain(|slot, _| joined.contains(slot));
        if !ask.waits_for.is_empty() && !cfg!(feature = "planted-early-commit") {
            return;
        }
        let ask = ask.clone();
        let veto = ask.shares.iter().find_map(|(slot, shares)| self.check(*slot, shares).err());
        if let Some((service, reason)) = veto {
            return self.fail_join(&service, &reason);
        }
        self.life = Life::Committing(ask);
        let ident = self.ident();
        self.operate(Some(Change::FinishJoin(ident)));
    }

    /// Do this member's services agree with another's?
    fn check(&self, slot: Slot, shares: &Shares) -> Result<(), (String, String)> {
        for service in &self.services {
            let name = service.name();
            let Some((_, state)) = shares.iter().find(|(theirs, _)| theirs == name) else {
                return Err((name.to_owned(), format!("slot {slot} does not have it")));
            };
            service.check_join(slot, state).map_err(|reason| (name.to_owned(), reason))?;
        }
        Ok(())
    }

    fn adopt(&mut self, slot: Slot, shares: &Shares) {
        for service in &mut self.services {
            if let Some((_, state)) = shares.iter().find(|(theirs, _)| theirs == service.name()) {
                service.adopt(slot, state);
            }
        }
    }

    fn fail_join(&mut self, service: &str, reason: &str) {
        let incarnation = self.incarnation;
        self.effects.push(Effect::Console(format!(
            "HCPPLM1663E SSI function JOIN has failed for service {service}. ({reason})"
        )));
        self.tell_all(&Message::Abort { incarnation });
        let ident = self.ident();
        self.early.clear();
        self.life = Life::Connecting;
        self.operate(Some(Change::FailJoin(ident)));
        self.life = Life::Isolated;
    }

    /// Somebody cannot be heard: the attempt is off, and begins anew when all are reached.
    fn ask_again(&mut self) {
        let incarnation = self.incarnation;
        self.tell_all(&Message::Abort { incarnation });
        self.early.clear();
        self.life = Life::Connecting;
    }

    fn join_finished(&mut self) {
        let Life::Committing(ask) = std::mem::replace(&mut self.life, Life::Joined) else { return };
        for (slot, shares) in &ask.shares {
            self.adopt(*slot, shares);
            // A link that went down meanwhile has to be synchronised again.
            if self.links[slot.index()] {
                self.synced[slot.index()] = self.record.map(|record| record.entry(*slot).incarnation);
            }
        }
        self.services.iter_mut().for_each(|service| service.enable());
        let incarnation = self.incarnation;
        self.tell_all(&Message::Proceed { incarnation });
        self.publish();
        for (from, service, body) in std::mem::take(&mut self.early) {
            self.to_service(from, &service, &body);
        }
        self.heartbeat_to_all();
    }

    // Leaving.

    fn ask_to_leave(&mut self, now_ms: u64) {
        let waits_for: BTreeSet<Slot> =
            self.joined().into_iter().filter(|slot| self.links[slot.index()]).collect();
        let deadline_ms = now_ms + self.timing.consent_patience_ms;
        self.request_of(&waits_for, Transition::Leave);
        self.life = Life::Leaving(Ask { waits_for, deadline_ms, ..Ask::default() });
        self.finish_leave_if_due(now_ms);
    }

    /// Those who do not answer will find it in the record.
    fn finish_leave_if_due(&mut self, now_ms: u64) {
        let Life::Leaving(ask) = &mut self.life else { return };
        let links = self.links;
        ask.waits_for.retain(|slot| links[slot.index()]);
        if ask.waits_for.is_empty() || now_ms >= ask.deadline_ms {
            let change = Change::FinishLeave(self.ident());
            if !self.waiting.contains(&Some(change))
                && self.under_way.is_none_or(|(under_way, _)| under_way != Some(change))
            {
                self.operate(Some(change));
            }
        }
    }

    // Time.

    fn is_silent(&self, now_ms: u64, slot: Slot) -> bool {
        now_ms.saturating_sub(self.watch[slot.index()].moved_at_ms) > self.timing.down_after_ms
    }

    fn tick(&mut self, now_ms: u64) {
        match self.life {
            Life::Waiting { retry_at_ms } if now_ms >= retry_at_ms => self.try_begin(now_ms),
            Life::WantsOut { retry_at_ms } if now_ms >= retry_at_ms => {
                self.life = Life::WantsOut { retry_at_ms: now_ms + self.timing.retry_ms };
                let ident = self.ident();
                self.operate(Some(Change::BeginLeave(ident)));
            }
            _ => {}
        }
        if self.is_live() && now_ms >= self.heartbeat_at_ms {
            self.heartbeat_at_ms = now_ms + self.timing.heartbeat_every_ms;
            let ident = self.ident();
            if !self.waiting.contains(&Some(Change::Heartbeat(ident))) {
                self.operate(Some(Change::Heartbeat(ident)));
            }
            self.heartbeat_to_all();
            self.want_shares();
            self.declare_silent(now_ms);
            self.retry_held();
        }
        match &self.life {
            Life::Asking(ask) if now_ms >= ask.deadline_ms => self.ask_again(),
            Life::Leaving(_) => self.finish_leave_if_due(now_ms),
            _ => {}
        }
    }

    fn heartbeat_to_all(&mut self) {
        let view = self.view;
        let heartbeat = Message::Heartbeat {
            incarnation: self.incarnation,
            state: view.states[self.slot.index()],
            mode: view.mode,
            reached: self.reach(),
        };
        self.tell_all(&heartbeat);
    }

    fn reach(&self) -> [bool; SLOTS] {
        std::array::from_fn(|index| self.synced[index].is_some() || index == self.slot.index())
    }

    fn tell_all(&mut self, message: &Message) {
        let me = self.slot;
        for slot in Slot::all().filter(|slot| *slot != me) {
            if self.links[slot.index()] {
                self.effects.push(Effect::Send(slot, message.clone()));
            }
        }
    }

    /// Members that cannot live any more: their heartbeat stands still for longer than they may run without.
    fn declare_silent(&mut self, now_ms: u64) {
        let Some(record) = self.record else { return };
        if !record.timeouts || !self.is_member() {
            return;
        }
        let me = self.slot;
        for slot in Slot::all().filter(|slot| *slot != me) {
            let entry = record.entry(slot);
            if entry.state != MemberState::Down && self.is_silent(now_ms, slot) {
                self.declare(slot, &record);
            }
        }
    }

    /// A member that is stuck in joining holds nothing yet and holds everybody up.
    fn declare_stuck(&mut self, now_ms: u64, slot: Slot) {
        let Some(record) = self.record else { return };
        let joining = record.entry(slot).state == MemberState::Joining;
        if (joining || record.timeouts) && self.is_silent(now_ms, slot) {
            self.declare(slot, &record);
        }
    }

    fn declare(&mut self, slot: Slot, record: &Record) {
        let entry = record.entry(slot);
        let ident = Ident { slot, incarnation: entry.incarnation };
        let change = Change::DeclareDown { ident, heartbeat: entry.heartbeat };
        if !self.waiting.contains(&Some(change)) {
            self.operate(Some(change));
        }
    }

    fn retry_held(&mut self) {
        if self.is_member() && self.view.mode == Mode::Stable {
            self.with_services(|service, view, out| service.prepare_for_stable(view, out));
        }
    }

    // Links and messages.

    fn link(&mut self, now_ms: u64, slot: Slot, up: bool) {
        if slot == self.slot {
            return;
        }
        self.links[slot.index()] = up;
        self.synced[slot.index()] = None;
        self.their_reach[slot.index()] = None;
        if up {
            self.resynchronise(slot);
        } else {
            match &self.life {
                Life::Asking(ask) if ask.waits_for.contains(&slot) || ask.shares.contains_key(&slot) => {
                    self.ask_again();
                }
                Life::Leaving(_) => self.finish_leave_if_due(now_ms),
                _ => {}
            }
            self.operate(None);
        }
    }

    /// Asks those members for their shares that are linked and not reached yet.
    fn want_shares(&mut self) {
        if self.is_member() {
            for slot in self.joined() {
                if self.links[slot.index()] && self.synced[slot.index()].is_none() {
                    self.effects.push(Effect::Send(slot, Message::ShareWanted));
                }
            }
        }
    }

    /// Gives a member that is reached again this one's share.
    fn resynchronise(&mut self, slot: Slot) {
        if self.is_member() {
            let message = Message::Resynchronise { incarnation: self.incarnation, shares: self.shares() };
            self.effects.push(Effect::Send(slot, message));
        }
    }

    fn message(&mut self, now_ms: u64, from: Slot, message: Message) {
        if from == self.slot || !self.links[from.index()] {
            return;
        }
        match message {
            Message::Heartbeat { reached, incarnation, .. } => {
                if self.is_joined_as(from, incarnation) {
                    self.their_reach[from.index()] = Some(reached);
                }
            }
            Message::Request { transition, incarnation, shares, .. } => {
                self.asked = Some((from, transition, incarnation, shares));
                self.operate(None);
            }
            Message::Consent { incarnation, shares, .. } if incarnation == self.incarnation => {
                match &mut self.life {
                    Life::Asking(ask) => {
                        if ask.waits_for.remove(&from) {
                            ask.shares.insert(from, shares);
                            self.commit_if_all_consent();
                        }
                    }
                    Life::Leaving(ask) => {
                        ask.waits_for.remove(&from);
                        self.finish_leave_if_due(now_ms);
                    }
                    _ => {}
                }
            }
            Message::Veto { incarnation, service, reason } if incarnation == self.incarnation => {
                if matches!(self.life, Life::Asking(_)) {
                    self.fail_join(&service, &reason);
                }
            }
            Message::Consent { .. } | Message::Veto { .. } => {}
            Message::Proceed { incarnation } => self.proceed(from, incarnation),
            Message::Abort { incarnation } => {
                self.asked.take_if(|(slot, _, life, _)| (*slot, *life) == (from, incarnation));
                self.consented
                    .take_if(|consented| (consented.slot, consented.incarnation) == (from, incarnation));
            }
            Message::Resynchronise { incarnation, shares } => self.resynchronised(from, incarnation, &shares),
            Message::ShareWanted => self.resynchronise(from),
            Message::Service { service, body } => self.service_message(from, service, body),
        }
    }

    fn is_joined_as(&self, slot: Slot, incarnation: u64) -> bool {
        self.record.is_some_and(|record| {
            let entry = record.entry(slot);
            entry.incarnation == incarnation
                && matches!(entry.state, MemberState::Joined | MemberState::Leaving)
        })
    }

    fn resynchronised(&mut self, from: Slot, incarnation: u64, shares: &Shares) {
        if !self.is_member() {
            return;
        }
        if !self.is_joined_as(from, incarnation) {
            // It may have joined since the record was read last; it will be asked again.
            return self.operate(None);
        }
        // Its last word on joining was lost; that it speaks as a member says the same.
        self.consented.take_if(|consented| {
            (consented.slot, consented.incarnation, consented.transition)
                == (from, incarnation, Transition::Join)
        });
        match self.check(from, shares) {
            Ok(()) => {
                self.adopt(from, shares);
                self.synced[from.index()] = Some(incarnation);
            }
            Err((service, reason)) => self
                .effects
                .push(Effect::Console(format!("SSI system in slot {from}: service {service}: {reason}"))),
        }
    }

    fn proceed(&mut self, from: Slot, incarnation: u64) {
        let of_this =
            |consented: &mut Consented| (consented.slot, consented.incarnation) == (from, incarnation);
        let Some(consented) = self.consented.take_if(of_this) else { return };
        let Some(record) = &mut self.record else { return };
        let entry = &mut record.entries[from.index()];
        match consented.transition {
            Transition::Join => {
                entry.state = MemberState::Joined;
                self.adopt(from, &consented.shares);
                self.synced[from.index()] = Some(incarnation);
            }
            Transition::Leave => {
                entry.state = MemberState::Down;
                self.synced[from.index()] = None;
            }
        }
        self.operate(None);
    }

    fn service_message(&mut self, from: Slot, service: String, body: Vec<u8>) {
        match &self.life {
            Life::Asking(_) | Life::Committing(_) if self.early.len() < EARLY_MAX => {
                self.early.push((from, service, body));
            }
            Life::Joined | Life::WantsOut { .. } if self.view.states[from.index()] == MemberState::Joined => {
                self.to_service(from, &service, &body);
            }
            _ => {}
        }
    }

    fn to_service(&mut self, from: Slot, name: &str, body: &[u8]) {
        let (view, mut out) = (self.view, Vec::new());
        if let Some(service) = self.services.iter_mut().find(|service| service.name() == name) {
            service.message(&view, from, body, &mut out);
        }
        self.outputs(name, out);
    }

    fn request(&mut self, name: &str, number: u64, body: &[u8]) {
        let (view, mut out) = (self.view, Vec::new());
        if let Some(service) = self.services.iter_mut().find(|service| service.name() == name) {
            service.request(&view, number, body, &mut out);
        }
        self.outputs(name, out);
    }

    fn outputs(&mut self, name: &str, out: Vec<Output>) {
        for output in out {
            self.effects.push(match output {
                Output::Send { to, body } => {
                    Effect::Send(to, Message::Service { service: name.to_owned(), body })
                }
                Output::Answer { request, body } => Effect::Answer(request, body),
            });
        }
    }

    fn with_services(&mut self, mut act: impl FnMut(&mut dyn Service, &View, &mut Vec<Output>)) {
        let view = self.view;
        for index in 0..self.services.len() {
            let mut out = Vec::new();
            act(&mut *self.services[index], &view, &mut out);
            let name = self.services[index].name();
            self.outputs(name, out);
        }
    }

    // Commands.

    fn command(&mut self, now_ms: u64, number: u64, command: Command) {
        if self.command.is_some() {
            return self.effects.push(Effect::Reply(number, Err(CommandRefused::Busy)));
        }
        self.command = Some((number, command));
        let here = self.view.states[self.slot.index()];
        match command {
            Command::Leave if matches!(self.life, Life::Joined | Life::Isolated) => {
                self.life = Life::WantsOut { retry_at_ms: now_ms };
                self.tick(now_ms);
            }
            Command::SetDown(slot) if self.life == Life::Joined && slot != self.slot => {
                match self.check_set_down(now_ms, slot) {
                    Ok(record) => self.declare(slot, &record),
                    Err(why) => self.reply(Err(why)),
                }
            }
            Command::SetTimeouts(timeouts) if self.life == Life::Joined => {
                self.operate(Some(Change::SetTimeouts(timeouts)));
            }
            _ => self.reply(Err(CommandRefused::Here(here))),
        }
    }

    fn check_set_down(&self, now_ms: u64, slot: Slot) -> Result<Record, CommandRefused> {
        let record = self.record.ok_or(CommandRefused::There(slot, MemberState::Unknown))?;
        if record.entry(slot).state == MemberState::Down {
            return Err(CommandRefused::There(slot, MemberState::Down));
        }
        if self.links[slot.index()] || !self.is_silent(now_ms, slot) {
            return Err(CommandRefused::Alive(slot));
        }
        Ok(record)
    }

    fn reply(&mut self, outcome: Result<(), CommandRefused>) {
        if let Some((number, _)) = self.command.take() {
            self.effects.push(Effect::Reply(number, outcome));
        }
    }

    // What follows from what is known now.

    fn reconcile(&mut self, now_ms: u64) {
        if self.life == Life::Gone {
            return;
        }
        self.answer_request();
        self.drop_settled_consent(now_ms);
        match &self.life {
            Life::Connecting => self.connect(now_ms),
            Life::Asking(_) => self.commit_if_all_consent(),
            _ => {}
        }
        self.publish();
    }

    /// A request that the record confirms is answered.
    fn answer_request(&mut self) {
        let (Some((slot, transition, incarnation, _)), Some(record)) = (&self.asked, self.record) else {
            return;
        };
        let (slot, transition, incarnation) = (*slot, *transition, *incarnation);
        let wanted = match transition {
            Transition::Join => MemberState::Joining,
            Transition::Leave => MemberState::Leaving,
        };
        let entry = record.entry(slot);
        if entry.incarnation < incarnation || (entry.incarnation == incarnation && entry.state != wanted) {
            return; // the record that is known here is older than the request; it is being read
        }
        let Some((.., shares)) = self.asked.take() else { return };
        if entry.incarnation != incarnation || !self.is_member() {
            return;
        }
        if transition == Transition::Join
            && let Err((service, reason)) = self.check(slot, &shares)
        {
            let veto = Message::Veto { incarnation, service, reason };
            return self.effects.push(Effect::Send(slot, veto));
        }
        self.consented = Some(Consented { slot, incarnation, transition, shares });
        // Held from here on; what the consent says must not grow any more.
        self.publish();
        let consent = Message::Consent { incarnation, level: LEVEL, shares: self.shares() };
        self.effects.push(Effect::Send(slot, consent));
    }

    /// The record may say how a transition ended whose last message was lost.
    fn drop_settled_consent(&mut self, now_ms: u64) {
        let (Some(consented), Some(record)) = (&self.consented, self.record) else { return };
        let (slot, entry) = (consented.slot, record.entry(consented.slot));
        let pending = entry.incarnation == consented.incarnation
            && matches!(entry.state, MemberState::Joining | MemberState::Leaving);
        let told_yet = entry.state == MemberState::Joined && self.links[slot.index()];
        if pending {
            self.declare_stuck(now_ms, slot);
        } else if !told_yet {
            self.consented = None;
        }
    }

    fn compute_view(&self) -> View {
        let mut view = View { me: self.slot, ..self.view };
        for slot in Slot::all() {
            view.states[slot.index()] = self.state_of(slot);
            let state = view.states[slot.index()];
            let joining = self
                .consented
                .as_ref()
                .is_some_and(|consented| consented.slot == slot && consented.transition == Transition::Join);
            view.reached[slot.index()] =
                self.links[slot.index()] && (state == MemberState::Joined || joining);
        }
        view.mode = self.mode(&view);
        view
    }

    fn state_of(&self, slot: Slot) -> MemberState {
        let Some(record) = &self.record else { return MemberState::Unknown };
        let entry = record.entry(slot);
        if slot == self.slot {
            return match self.life {
                Life::Down | Life::Gone | Life::Waiting { .. } => MemberState::Down,
                Life::Connecting | Life::Asking(_) | Life::Committing(_) => MemberState::Joining,
                Life::Joined => MemberState::Joined,
                Life::Isolated => MemberState::Isolated,
                Life::WantsOut { .. } => entry.state,
                Life::Leaving(_) => MemberState::Leaving,
            };
        }
        let reached = self.synced[slot.index()] == Some(entry.incarnation);
        match entry.state {
            MemberState::Joined if self.is_member() && !reached => MemberState::Suspended,
            state => state,
        }
    }

    fn mode(&self, view: &View) -> Mode {
        if !self.is_member() {
            let joins = view.states[self.slot.index()] == MemberState::Joining;
            return if joins { Mode::InFlux } else { Mode::Safe };
        }
        let unreached = view.states.contains(&MemberState::Suspended);
        let reached_by_others = view.peers().all(|peer| {
            let theirs = self.their_reach[peer.index()];
            theirs.is_none_or(|theirs| view.peers().all(|slot| slot == peer || theirs[slot.index()]))
        });
        if unreached || !reached_by_others {
            return Mode::Safe;
        }
        // One that wants to leave may be leaving already, and not know it yet.
        if self.life != Life::Joined {
            return Mode::InFlux;
        }
        let changing = self.record.and_then(|record| record.changing());
        if self.consented.is_some() || changing.is_some() { Mode::InFlux } else { Mode::Stable }
    }

    /// Tells services, peers and operators what is different now.
    fn publish(&mut self) {
        let view = self.compute_view();
        let before = std::mem::replace(&mut self.view, view);
        if before == view {
            return;
        }
        for slot in Slot::all() {
            let (from, to) = (before.states[slot.index()], view.states[slot.index()]);
            if from != to {
                let system = self.record.and_then(|record| record.entry(slot).system);
                let name = system.map_or_else(|| "--------".to_owned(), |system| system.to_string());
                let (from, to) = (from.as_str().to_uppercase(), to.as_str().to_uppercase());
                self.effects.push(Effect::Console(format!(
                    "HCPPLM1697I The state of SSI system {name} has changed from {from} to {to}"
                )));
            }
        }
        if before.mode != view.mode {
            let mode = view.mode.as_str().to_uppercase();
            self.effects.push(Effect::Console(format!("HCPPLM1698I The mode of the SSI cluster is {mode}")));
        }
        self.effects.push(Effect::Changed(view));
        self.with_services(|service, view, out| service.member_changed(view, out));
        if view.mode == Mode::Stable {
            self.with_services(|service, view, out| service.prepare_for_stable(view, out));
        }
        self.heartbeat_to_all();
    }
}
