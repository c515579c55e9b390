//! The destination's side of a relocation, without I/O: what to do next, given what just happened.
//!
//! **When it may run the guest.** Only after *it* has changed the owner record, which it tries only when
//! the source has asked for the commit, every page of every pass has been counted and the guest's
//! state is loaded. If the record had been changed before, the source has withdrawn, and what is here
//! is thrown away. If nobody can tell whether the change was made, it reads again until it knows;
//! meanwhile the guest does not run here.
//!
//! ```text
//!  Waiting ─▶ Preparing ─▶ Receiving ⇄ Counting(pass) ─▶ Taking ─┬▶ Running ─▶ Done
//!                  └─────────────┴───────────┴───────────────────┴▶ Done (guest not here)
//! ```

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
    /// Change the owner record to us, expecting this epoch; answer [`Input::Taken`] or
    /// [`Input::NotTaken`], and if it is not certain read the record until it is.
    TakeOwnership {
        /// Epoch the record must still have.
        expected_epoch: u64,
    },
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

    /// Takes what happened and gives out what is to be done about it.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        match (self.state, input) {
            (State::Done, _) => {}
            (_, Input::Message(message)) => self.on_message(message),
            (State::Preparing, Input::Prepared) => {
                self.state = State::Receiving;
                self.effects.push(Effect::Send(Message::Accepted(self.member)));
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
            (State::Starting, Input::Resumed { resume_ns }) => self.on_resumed(resume_ns),
            // From here on the record decides, not the link or the operator.
            (State::Taking | State::Starting, Input::LinkDown(_) | Input::Cancel(..)) => {}
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
