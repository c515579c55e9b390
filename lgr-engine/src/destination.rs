//! The destination's side of a relocation, without I/O: what to do next, given what just happened.
//!
//! **When it may run the guest.** Only after *it* has changed the owner record, which it tries only when
//! the source has asked for the commit, every page of every pass has been counted and the guest's
//! state is loaded. If the record had been changed before, the source has withdrawn, and what is here
//! is thrown away. If nobody can tell whether the change was made, it reads again until it knows;
//! meanwhile the guest does not run here.
//!
//! **When it lets go.** The source says how long the commit may take. When that time is over, or the
//! source asks for it, the change is called off ([`Effect::Abandon`]): either it has been made, or it
//! never will be, and the source is told which, so that its guest goes on. With the link gone there is
//! nobody to tell, and what is here may be all there is: then it tries until the record answers.
//! [`crate::source::hand_over`] tells the whole of it.
//!
//! ```text
//!  Waiting ─▶ Preparing ─▶ Receiving ⇄ Counting(pass) ─▶ Taking ─┬▶ Running ─▶ Done
//!                  └─────────────┴───────────┴───────────────────┴▶ Done (guest not here)
//! ```

use std::time::Duration;

use crate::message::{Message, Offer, PassEnd, PassTotals};
use crate::owner::MemberName;
use crate::report::{Finish, FinishCode, RunsOn};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The source said something.
    Message(Message),
    /// Room, owner record and skeleton guest are there.
    Prepared,
    /// The guest cannot be taken, because….
    NotPrepared(String),
    /// Everything of the epoch that was awaited has arrived.
    PassArrived {
        /// Epoch of its transfers.
        epoch: u32,
        /// What was counted here.
        totals: PassTotals,
        /// Transfers whose payload did not hash to the sender's digest.
        damaged: u64,
    },
    /// The guest's state is in the skeleton.
    StateLoaded,
    /// The owner record names us now.
    Taken {
        /// Its epoch.
        owner_epoch: u64,
        /// Time it took to change it, in nanoseconds.
        commit_ns: u64,
    },
    /// The owner record had been changed before; this is who it names.
    NotTaken {
        /// Who owns the guest.
        owner: MemberName,
    },
    /// The change was called off before it was made, and will not be made; this is what it had waited for, or nothing.
    Abandoned(Option<String>),
    /// The owner record was tried for writing, and can be written or cannot, because….
    RecordTried(u64, Result<(), String>),
    /// The guest runs.
    Resumed {
        /// Time it took to start it, in nanoseconds.
        resume_ns: u64,
    },
    /// Something here failed that the move cannot do without.
    Failed(String),
    /// The link is gone.
    LinkDown(String),
    /// Somebody here wants the move to end.
    Cancel(FinishCode, String),
    /// The operator insists on an end, whatever becomes of the guest.
    GiveUp,
    /// Time has passed; see [`Destination::poll_timeout`].
    Tick,
}

/// What the destination's driver is to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this to the source.
    Send(Message),
    /// Make room for the guest, find its owner record, build a skeleton guest; answer
    /// [`Input::Prepared`] or [`Input::NotPrepared`].
    Prepare(Box<Offer>),
    /// Answer [`Input::PassArrived`] once so many transfers of the epoch have arrived.
    Await {
        /// Epoch of its transfers.
        epoch: u32,
        /// How many.
        transfers: u64,
    },
    /// Put this into the skeleton guest; answer [`Input::StateLoaded`] or [`Input::Failed`].
    LoadState(Vec<u8>),
    /// Try the owner record for writing, without changing it; answer [`Input::RecordTried`] with the number.
    TryRecord(u64),
    /// Change the owner record to us, expecting this epoch; answer [`Input::Taken`] or
    /// [`Input::NotTaken`]. Try until the record answers, and if it is not certain read the record until it is.
    TakeOwnership {
        /// Epoch the record must still have.
        expected_epoch: u64,
    },
    /// Call the change off; answer [`Input::Abandoned`], or as it was made.
    Abandon,
    /// Start the guest; answer [`Input::Resumed`].
    Resume,
    /// Throw the skeleton away.
    Discard,
    /// The relocation is over (the guest may be checked after).
    Finish(Finish, RunsOn),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Preparing,
    Receiving,
    Taking,
    Starting,
    Done,
}

/// The destination of one relocation.
#[derive(Debug)]
pub struct Destination {
    member: MemberName,
    state: State,
    offer: Option<Offer>,
    awaited: Option<PassEnd>,
    last_pass: Option<PassEnd>,
    last_epoch: u32,
    state_loaded: bool,
    owner_epoch: u64,
    commit_ns: u64,
    now: Duration,
    linked: bool,
    /// When the change of the record is called off, while the source can be told.
    commit_by: Option<Duration>,
    /// Why it has been called off.
    abandoning: Option<Finish>,
    effects: Vec<Effect>,
}

impl Destination {
    /// Member `member`, waiting for an offer.
    pub fn new(member: MemberName) -> Self {
        Self {
            member,
            state: State::Waiting,
            offer: None,
            awaited: None,
            last_pass: None,
            last_epoch: 0,
            state_loaded: false,
            owner_epoch: 0,
            commit_ns: 0,
            now: Duration::ZERO,
            linked: true,
            commit_by: None,
            abandoning: None,
            effects: Vec::new(),
        }
    }

    /// The guest on offer, once there is one.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// The last pass that arrived whole.
    pub fn last_pass(&self) -> Option<&PassEnd> {
        self.last_pass.as_ref()
    }

    /// When [`Input::Tick`] is next due, on the clock of [`Self::handle`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        let waits = self.state == State::Taking && self.linked && self.abandoning.is_none();
        self.commit_by.filter(|_| waits)
    }

    /// Takes what happened at `now` (any clock that only goes forward, the same for all calls) and gives out what is to be
    /// done about it.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        self.now = now.max(self.now);
        match (self.state, input) {
            (State::Done, _) => {}
            (_, Input::Message(message)) => self.on_message(message),
            (State::Preparing, Input::Prepared) => {
                self.state = State::Receiving;
                let answers = self.offer.as_ref().is_some_and(|offer| offer.answers);
                self.effects.push(Effect::Send(Message::Accepted { member: self.member, answers }));
            }
            (State::Receiving, Input::RecordTried(number, tried)) => {
                let answer = match tried {
                    Ok(()) => Message::RecordReady(number),
                    Err(why) => Message::RecordNotReady(number, why),
                };
                self.effects.push(Effect::Send(answer));
            }
            (State::Preparing, Input::NotPrepared(why)) => {
                self.effects.push(Effect::Send(Message::Refused(why.clone())));
                self.end(Finish::new(FinishCode::NotEligible, why));
            }
            (State::Receiving, Input::PassArrived { epoch, totals, damaged }) => {
                self.on_arrived(epoch, totals, damaged);
            }
            (State::Receiving, Input::StateLoaded) => self.state_loaded = true,
            (State::Taking, Input::Taken { owner_epoch, commit_ns }) => {
                self.owner_epoch = owner_epoch;
                self.commit_ns = commit_ns;
                self.state = State::Starting;
                self.effects.push(Effect::Resume);
            }
            (State::Taking, Input::NotTaken { owner }) => {
                self.effects.push(Effect::Send(Message::NotOwner));
                let text = format!("the source withdrew: {owner} owns the guest");
                self.end(Finish::new(FinishCode::Cancelled, text));
            }
            (State::Taking, Input::Abandoned(waited_for)) => self.on_abandoned(waited_for),
            (State::Taking, Input::Tick) if self.poll_timeout().is_some_and(|at| at <= self.now) => {
                let text = "the owner record could not be changed within MAXQUIESCE";
                self.abandon(Finish::new(FinishCode::MaxQuiesceExceeded, text));
            }
            (State::Taking, Input::GiveUp) => self.give_guest_up(),
            // Whoever can be told is told. With the link gone, what is here may be all there is.
            (State::Taking, Input::Cancel(code, why)) if self.linked => self.abandon(Finish::new(code, why)),
            (State::Taking, Input::LinkDown(_)) => self.linked = false,
            (State::Starting, Input::Resumed { resume_ns }) => self.on_resumed(resume_ns),
            // From here on the record decides, not the link or the operator.
            (State::Taking | State::Starting, Input::LinkDown(_) | Input::Cancel(..) | Input::GiveUp) => {}
            (State::Starting, Input::Failed(why)) => {
                let text = format!("this member owns the guest but cannot start it: {why}");
                self.state = State::Done;
                let finish = Finish::new(FinishCode::InternalError, text);
                self.effects.push(Effect::Finish(finish, RunsOn::Nobody));
            }
            (State::Taking, Input::Failed(why)) => {
                let text = format!("the owner record cannot be read: {why}");
                self.state = State::Done;
                let finish = Finish::new(FinishCode::InternalError, text);
                self.effects.push(Effect::Finish(finish, RunsOn::Unknown));
            }
            (_, Input::LinkDown(why)) => {
                self.end(Finish::new(FinishCode::ConnectionLost, format!("the link is down: {why}")));
            }
            (_, Input::Cancel(code, why)) => self.give_up(code, why),
            (_, Input::GiveUp) => self.give_up(FinishCode::Cancelled, "given up by the operator".to_owned()),
            (_, Input::Failed(why)) => self.give_up(FinishCode::InternalError, why),
            // A late answer to something that is no longer waited for.
            _ => {}
        }
        std::mem::take(&mut self.effects)
    }

    fn on_message(&mut self, message: Message) {
        match (self.state, message) {
            (State::Waiting, Message::Offer(offer)) => {
                self.offer = Some(offer.clone());
                self.state = State::Preparing;
                self.effects.push(Effect::Prepare(Box::new(offer)));
            }
            (State::Receiving, Message::PassEnd(end)) => self.on_pass_end(end),
            (State::Receiving, Message::State(state)) => self.effects.push(Effect::LoadState(state)),
            (State::Receiving, Message::TryRecord(number)) => self.effects.push(Effect::TryRecord(number)),
            // Asked before everything had arrived.
            (State::Receiving, Message::Withdraw) => self.on_abandoned(None),
            (State::Taking, Message::Withdraw) => {
                self.abandon(Finish::new(FinishCode::Cancelled, "the source withdrew"));
            }
            (State::Taking | State::Starting, _) => {}
            (_, Message::Cancel(code, why)) => {
                self.end(Finish::new(code, format!("the source cancelled: {why}")));
            }
            (state, other) => {
                let text = format!("the source said {:#04x} while {state:?}", other.encode()[0]);
                self.give_up(FinishCode::InternalError, text);
            }
        }
    }

    fn on_pass_end(&mut self, end: PassEnd) {
        // Said again for an epoch that is closed already: a device died late at the source.
        if end.epoch <= self.last_epoch {
            return;
        }
        if end.commit_within_ms > 0 {
            self.commit_by = Some(self.now + Duration::from_millis(end.commit_within_ms.into()));
        }
        let again = self.awaited.is_some_and(|awaited| awaited.epoch == end.epoch);
        self.awaited = Some(end);
        if !again {
            self.effects.push(Effect::Await { epoch: end.epoch, transfers: end.totals.transfers });
        }
    }

    fn on_arrived(&mut self, epoch: u32, totals: PassTotals, damaged: u64) {
        let Some(end) = self.awaited.filter(|awaited| awaited.epoch == epoch) else { return };
        self.awaited = None;
        self.last_pass = Some(end);
        self.last_epoch = epoch;
        if totals != end.totals || damaged > 0 {
            self.effects.push(Effect::Send(Message::PassBad { epoch, totals, damaged }));
            return;
        }
        if !end.commit {
            self.effects.push(Effect::Send(Message::PassOk(epoch, totals)));
            return;
        }
        match &self.offer {
            Some(offer) if self.state_loaded => {
                self.state = State::Taking;
                self.effects.push(Effect::TakeOwnership { expected_epoch: offer.owner_epoch });
            }
            _ => self.give_up(FinishCode::InternalError, "commit before the guest's state".to_owned()),
        }
    }

    fn abandon(&mut self, finish: Finish) {
        if self.abandoning.is_none() {
            self.abandoning = Some(finish);
            self.effects.push(Effect::Abandon);
        }
    }

    fn on_abandoned(&mut self, waited_for: Option<String>) {
        let withdrew = || Finish::new(FinishCode::Cancelled, "the source withdrew");
        let mut finish = self.abandoning.take().unwrap_or_else(withdrew);
        if let Some(what) = waited_for {
            finish.reason = format!("{}: {what}", finish.reason);
        }
        self.effects.push(Effect::Send(Message::Abstained(finish.reason.clone())));
        self.end(finish);
    }

    /// The operator insists. What was called off in time is the source's; else only the record can say.
    fn give_guest_up(&mut self) {
        self.effects.push(Effect::Abandon);
        self.state = State::Done;
        let text = "given up by the operator while the owner record could not be changed; see lgr owner";
        self.effects.push(Effect::Finish(Finish::new(FinishCode::Halted, text), RunsOn::Unknown));
    }

    fn on_resumed(&mut self, resume_ns: u64) {
        let (owner_epoch, commit_ns) = (self.owner_epoch, self.commit_ns);
        self.effects.push(Effect::Send(Message::Resumed { owner_epoch, commit_ns, resume_ns }));
        self.state = State::Done;
        let finish = Finish::new(FinishCode::Completed, "relocated");
        self.effects.push(Effect::Finish(finish, RunsOn::Destination));
    }

    fn give_up(&mut self, code: FinishCode, why: String) {
        self.effects.push(Effect::Send(Message::Failed(why.clone())));
        self.end(Finish::new(code, why));
    }

    fn end(&mut self, finish: Finish) {
        self.state = State::Done;
        // No offer yet: nothing is known of any guest.
        let runs_on = if self.offer.is_some() { RunsOn::Source } else { RunsOn::Unknown };
        self.effects.push(Effect::Discard);
        self.effects.push(Effect::Finish(finish, runs_on));
    }
}
