//! The source's side of a relocation, without I/O: what to do next, given what just happened.
//!
//! **What can go wrong, told once.** Until the source has sent the final end-of-pass with its commit
//! mark, the destination cannot own the guest: whatever fails, the source resumes the guest (if it had
//! stopped it) and the move is over. From the commit mark on, the destination may change the owner
//! record at any moment, so the source may not resume on its own judgement: it must first **withdraw**.
//! How the two sides hand the guest over and back, and what a record that cannot be written does to
//! it, is told in [`hand_over`].
//!
//! ```text
//!  Checking ─▶ Offering ─▶ Sending(first) ─▶ Closing ─▶ Harvesting ─┬▶ Sending(intermediate) …
//!                                  ▲                                └▶ Asking ─┬▶ Stopping ─▶ Sending(penultimate)
//!                                  └──────────── the record cannot be written ─┘
//!    ─▶ Closing ─▶ Harvesting ─▶ Sending(final) ─▶ Committing ─┬▶ Done (resumed there)
//!                                                              └▶ Withdrawing ─▶ Done (here or there)
//! ```
//!
//! **The stop costs one look at memory, beside the pages.** When the guest is stopped, the pages of the last harvest wait
//! already: they are the penultimate pass. It is sent while memory is looked through for what was written between that
//! harvest and the stop, and by saving the state. That, most often a few pages, is the final pass.

use std::time::Duration;

use guest_mem::PAGE_SIZE;

use crate::message::{Message, Offer, PassEnd, PassTotals};
use crate::owner::MemberName;
use crate::policy::{Limits, PassHistory, PassPolicy, PassSummary, Reason, Verdict};
use crate::report::table::time;
use crate::report::{Finish, FinishCode, PassKind, QuiesceParts, RunsOn};

pub mod hand_over;

use hand_over::Asked;

/// A pass whose counts do not match is sent again so often, then the move is given up.
pub const REPEATS_MAX: u32 = 3;
/// Least time kept in hand for withdrawing before MAXQUIESCE runs out.
const WITHDRAW_RESERVE_MIN: Duration = Duration::from_millis(2);
/// Passes shorter than this tell no dirty rate.
const RATE_PAGES_MIN: u64 = 256;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The link is up; begin.
    Start,
    /// The destination said something.
    Message(Message),
    /// Every transfer of the running pass has been handed to a device.
    PassSent(PassSent),
    /// The changed pages were collected: so many wait to be sent.
    Harvested {
        /// Pages that wait.
        pages: u64,
    },
    /// The guest stands still.
    Stopped,
    /// Its state has been saved and handed to the link.
    StateSent,
    /// The record was changed back to us.
    Withdrawn,
    /// The record names another member: it was changed first.
    WithdrawLost {
        /// Who owns the guest.
        owner: MemberName,
    },
    /// The owner record was tried for writing here, and can be written or cannot, because….
    RecordTried(u64, Result<(), String>),
    /// The operator insists on an end, whatever becomes of the guest.
    GiveUp,
    /// The link is gone.
    LinkDown(String),
    /// Somebody wants the move to end.
    Cancel(FinishCode, String),
    /// Something here failed that the move cannot do without.
    Failed(String),
    /// Time has passed; see [`Source::poll_timeout`].
    Tick,
}

/// Counts of a pass as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassSent {
    /// Epoch of its transfers.
    pub epoch: u32,
    /// What the destination must have counted too.
    pub totals: PassTotals,
}

/// What the source's driver is to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this to the destination.
    Send(Message),
    /// Send the waiting pages as this pass; the first sends all touched ones.
    BeginPass {
        /// Pass number, from 1.
        number: u32,
        /// Its kind; penultimate and final passes read memory that stands still.
        kind: PassKind,
        /// Epoch for its transfers.
        epoch: u32,
    },
    /// Send the same pages once more, under a new epoch.
    RepeatPass {
        /// Epoch for its transfers.
        epoch: u32,
    },
    /// Collect the pages written since the last collection; answer [`Input::Harvested`]. After [`Effect::SendState`] it is
    /// the last, and the pass that is under way goes on.
    Harvest,
    /// Nothing to do, something to tell: what the passes so far say of the stop.
    Predicted(Prediction),
    /// Stop the guest; answer [`Input::Stopped`].
    Quiesce,
    /// Save the stopped guest's state and send it; answer [`Input::StateSent`]. What it writes to memory is found after.
    SendState,
    /// Let the guest go on here.
    Resume,
    /// Try the owner record for writing, without changing it; answer [`Input::RecordTried`] with the number.
    TryRecord(u64),
    /// Change the owner record to ourselves, and try again until it answers; then answer [`Input::Withdrawn`] or
    /// [`Input::WithdrawLost`].
    Withdraw,
    /// The guest runs at the destination now: keep it stopped here for ever.
    Release,
    /// It is over.
    Finish(Box<Outcome>),
}

/// How long the guest would be stopped after a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The pass, from 1.
    pub pass: u32,
    /// Guest memory that waits to be sent, in bytes.
    pub left_bytes: u64,
    /// As the stop rule reckons, in ms.
    pub quiesce_ms: f64,
    /// MAXQUIESCE in ms; `None` for NOLIMIT.
    pub limit_ms: Option<f64>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Code and reason.
    pub finish: Finish,
    /// Who runs the guest.
    pub runs_on: RunsOn,
    /// From the wish to here: [`Self::link`], [`Self::prepare`] and [`Self::transfer`]. MAXTOTAL is about this.
    pub total: Duration,
    /// Forming the link, as [`Source::with_link_formed_in`] was told.
    pub link: Duration,
    /// From the beginning of the clock until the destination was ready (or this was over).
    pub prepare: Duration,
    /// From there to here.
    pub transfer: Duration,
    /// How long the guest was held, if it was.
    pub quiesce: Option<(Duration, QuiesceParts)>,
    /// Every pass.
    pub passes: Vec<PassDone>,
}

/// A pass that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassDone {
    /// Pass number, from 1.
    pub number: u32,
    /// Its kind.
    pub kind: PassKind,
    /// Epoch of its transfers.
    pub epoch: u32,
    /// Pages it covered.
    pub pages: u64,
    /// From its first transfer until the destination confirmed it.
    pub duration: Duration,
    /// From its first transfer until the pages changed meanwhile had been found.
    pub window: Duration,
    /// Pages found changed after it; `None` if it was over before anybody looked.
    pub dirty_pages_after: Option<u64>,
    /// The destination had not confirmed it when the move ended; `pages` counts all of it, if it is known, and not what was
    /// sent.
    pub cut_short: bool,
    /// How long the guest would have been stopped then, as the stop rule reckoned; `None` if it was stopped already.
    pub predicted_quiesce_ms: Option<f64>,
    /// It had to be sent again.
    pub repeated: bool,
}

impl PassDone {
    /// How fast the guest changed memory until the pages changed since were found, in bytes per second; `None` for a pass
    /// too short to tell.
    pub fn dirty_rate_bytes_per_s(&self) -> Option<u64> {
        let seconds = self.window.as_secs_f64();
        let rate = (self.dirty_pages_after? * PAGE_SIZE as u64) as f64 / seconds.max(1e-9);
        (self.pages >= RATE_PAGES_MIN && seconds > 0.0).then_some(rate as u64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Checking,
    Offering,
    Sending,
    Closing,
    Harvesting,
    Asking,
    Stopping,
    Committing,
    Withdrawing,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Pass {
    number: u32,
    kind: PassKind,
    epoch: u32,
    /// Known once all of it has been sent.
    pages: u64,
    began: Duration,
    closed: Duration,
    /// When the destination confirmed it.
    confirmed: Option<Duration>,
    repeats: u32,
}

/// The source of one relocation.
pub struct Source {
    state: State,
    policy: Box<dyn PassPolicy>,
    limits: Limits,
    page_size_bytes: u64,
    offer: Offer,
    /// Who takes the guest, and whether it answers questions of the hand-over; known when it accepts.
    destination: Option<(MemberName, bool)>,
    asked: Asked,
    now: Duration,
    /// What the wish had taken already when this began.
    link: Duration,
    accepted: Option<Duration>,
    pass: Pass,
    next_epoch: u32,
    history: PassHistory,
    /// The shortest exchange that has closed a pass, and the shortest harvest.
    least: Option<(Duration, Duration)>,
    /// Pages of the final pass, known while the penultimate one is under way.
    final_pages: Option<u64>,
    done: Vec<PassDone>,
    reason: Option<Reason>,
    stopped_at: Option<Duration>,
    mark: Duration,
    parts: QuiesceParts,
    ending: Option<Finish>,
    effects: Vec<Effect>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("state", &self.state).field("pass", &self.pass).finish_non_exhaustive()
    }
}

impl Source {
    /// A relocation about to begin with `offer`.
    pub fn new(offer: Offer, limits: Limits, policy: Box<dyn PassPolicy>, page_size_bytes: u64) -> Self {
        let zero = Duration::ZERO;
        Self {
            state: State::Idle,
            policy,
            limits,
            page_size_bytes,
            offer,
            destination: None,
            asked: Asked::default(),
            now: zero,
            link: zero,
            accepted: None,
            pass: Pass {
                number: 0,
                kind: PassKind::First,
                epoch: 0,
                pages: 0,
                began: zero,
                closed: zero,
                confirmed: None,
                repeats: 0,
            },
            next_epoch: 1,
            history: PassHistory {
                passes: Vec::new(),
                elapsed: zero,
                limits,
                stop_cost: Duration::from_millis(1),
                pending_bytes: 0,
            },
            least: None,
            final_pages: None,
            done: Vec::new(),
            reason: None,
            stopped_at: None,
            mark: zero,
            parts: QuiesceParts::default(),
            ending: None,
            effects: Vec::new(),
        }
    }

    /// The link was formed for this move, and that took so long: it counts, for MAXTOTAL too.
    #[must_use]
    pub fn with_link_formed_in(mut self, link: Duration) -> Self {
        self.link = link;
        self
    }

    /// Time since the move was wished for.
    fn elapsed(&self) -> Duration {
        self.now + self.link
    }

    /// Takes what happened at `now` (a clock that only goes forward, the same for all calls, and was zero when the move was
    /// wished for) and gives out what is to be done about it.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        self.now = now.max(self.now);
        match (self.state, input) {
            (State::Done, _) => {}
            (State::Idle, Input::Start) => {
                self.state = State::Checking;
                self.ask_here();
            }
            (_, Input::RecordTried(number, tried)) => self.on_tried_here(number, tried),
            (_, Input::Message(message)) => self.on_message(message),
            (State::Sending | State::Closing | State::Committing, Input::PassSent(sent)) => {
                self.on_sent(&sent);
            }
            (State::Harvesting, Input::Harvested { pages }) => self.on_harvested(pages),
            (State::Sending | State::Closing, Input::Harvested { pages }) => self.on_final_harvest(pages),
            // The state first: it is small, and once the devices have pages the processors are theirs.
            (State::Stopping, Input::Stopped) => {
                self.parts.stop = self.lap_ms();
                self.effects.push(Effect::SendState);
            }
            (State::Stopping, Input::StateSent) => {
                self.parts.state = self.lap_ms();
                self.begin_pass(self.pass.number + 1, PassKind::Penultimate);
                self.effects.push(Effect::Harvest);
            }
            (State::Withdrawing, Input::Withdrawn) => self.end_here(),
            (State::Withdrawing, Input::WithdrawLost { owner }) => self.on_withdraw_lost(owner),
            (State::Withdrawing, Input::GiveUp) => self.give_up(),
            (_, Input::GiveUp) => {
                self.stop_moving(Finish::new(FinishCode::Cancelled, "given up by the operator"));
            }
            (_, Input::LinkDown(why)) => {
                self.stop_moving(Finish::new(FinishCode::ConnectionLost, format!("the link is down: {why}")));
            }
            (_, Input::Cancel(code, why)) => self.stop_moving(Finish::new(code, why)),
            (_, Input::Failed(why)) => self.stop_moving(Finish::new(FinishCode::InternalError, why)),
            (_, Input::Tick) => self.on_tick(),
            // A late answer to something that is no longer waited for.
            _ => {}
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`Input::Tick`] is next due, on the clock of [`Self::handle`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        if matches!(self.state, State::Idle | State::Withdrawing | State::Done) {
            return None;
        }
        let total = self.limits.max_total.map(|limit| limit.saturating_sub(self.link));
        [total, self.quiesce_deadline(), self.asking_deadline()].into_iter().flatten().min()
    }

    /// The guest must run again at the latest then; the reserve is for withdrawing.
    fn quiesce_deadline(&self) -> Option<Duration> {
        let (stopped_at, limit) = (self.stopped_at?, self.limits.max_quiesce?);
        let reserve = WITHDRAW_RESERVE_MIN.max(limit / 20).min(limit / 2);
        Some(stopped_at + limit - reserve)
    }

    fn on_tick(&mut self) {
        if self.quiesce_deadline().is_some_and(|at| at <= self.now) {
            let held_ms = ms(self.now.saturating_sub(self.stopped_at.unwrap_or(self.now)));
            let text = format!("MAXQUIESCE: the guest had been stopped for {held_ms:.1} ms");
            self.stop_moving(Finish::new(FinishCode::MaxQuiesceExceeded, text));
        } else if self.limits.max_total.is_some_and(|limit| limit <= self.elapsed()) {
            let text = format!("MAXTOTAL: {} have passed", time(ms(self.elapsed())));
            self.stop_moving(Finish::new(FinishCode::MaxTotalExceeded, text));
        } else if self.asking_deadline().is_some_and(|at| at <= self.now) {
            self.on_no_answer();
        }
    }

    fn on_message(&mut self, message: Message) {
        match (self.state, message) {
            (State::Offering, Message::Accepted { member, answers }) => self.on_accepted(member, answers),
            (State::Offering, Message::Refused(why)) => {
                self.stop_moving(Finish::new(
                    FinishCode::NotEligible,
                    format!("the destination refused: {why}"),
                ));
            }
            (State::Closing, Message::PassOk(epoch, _)) if epoch == self.pass.epoch => self.on_pass_ok(),
            (State::Closing | State::Committing, Message::PassBad { epoch, totals, damaged })
                if epoch == self.pass.epoch =>
            {
                self.on_pass_bad(&totals, damaged)
            }
            (State::Asking, Message::RecordReady(number)) => self.on_tried_there(number, Ok(())),
            (State::Asking, Message::RecordNotReady(number, why)) => self.on_tried_there(number, Err(why)),
            (
                State::Committing | State::Withdrawing,
                message @ (Message::Resumed { .. } | Message::NotOwner),
            ) => {
                self.on_committed(&message);
            }
            (State::Committing | State::Withdrawing, Message::Abstained(why) | Message::Failed(why)) => {
                self.on_abstained(&why);
            }
            (State::Withdrawing | State::Done, _) => {}
            (_, Message::Failed(why)) => {
                let text = format!("the destination gave up: {why}");
                self.stop_moving(Finish::new(FinishCode::InternalError, text));
            }
            (
                _,
                Message::PassOk(..)
                | Message::PassBad { .. }
                | Message::Accepted { .. }
                | Message::NotOwner
                | Message::RecordReady(_)
                | Message::RecordNotReady(..),
            ) => {}
            (state, other) => {
                let text = format!("the destination said {:#04x} while {state:?}", other.encode()[0]);
                self.stop_moving(Finish::new(FinishCode::InternalError, text));
            }
        }
    }

    fn begin_pass(&mut self, number: u32, kind: PassKind) {
        let epoch = self.take_epoch();
        let (began, closed) = (self.now, self.now);
        self.pass = Pass { number, kind, epoch, pages: 0, began, closed, confirmed: None, repeats: 0 };
        self.state = State::Sending;
        self.effects.push(Effect::BeginPass { number, kind, epoch });
    }

    fn take_epoch(&mut self) -> u32 {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        epoch
    }

    /// Also comes again while the pass is being closed: what a dying device carried was sent anew.
    fn on_sent(&mut self, sent: &PassSent) {
        if sent.epoch != self.pass.epoch {
            return;
        }
        self.pass.pages = sent.totals.pages;
        let Pass { epoch, number: pass, kind, .. } = self.pass;
        let commit = kind == PassKind::Final;
        if self.state == State::Sending {
            self.pass.closed = self.now;
            self.state = if commit { State::Committing } else { State::Closing };
        }
        let commit_within_ms = if commit { self.commit_within_ms() } else { 0 };
        let end = PassEnd { epoch, pass, kind, commit, commit_within_ms, totals: sent.totals };
        self.effects.push(Effect::Send(Message::PassEnd(end)));
    }

    fn on_pass_ok(&mut self) {
        self.pass.confirmed = Some(self.now);
        self.state = State::Harvesting;
        match self.final_pages {
            Some(pages) => self.begin_final_pass(pages),
            // Asked for already; the pass was quicker.
            None if self.pass.kind == PassKind::Penultimate => {}
            None => self.effects.push(Effect::Harvest),
        }
    }

    fn on_pass_bad(&mut self, counted: &PassTotals, damaged: u64) {
        self.pass.repeats += 1;
        if self.pass.repeats > REPEATS_MAX {
            let text = format!(
                "pass {} did not arrive right in {} attempts (the destination counted {} transfers, {} pages, {} damaged)",
                self.pass.number, self.pass.repeats, counted.transfers, counted.pages, damaged
            );
            self.stop_moving(Finish::new(FinishCode::InternalError, text));
            return;
        }
        // The destination answered the commit with this, so it has not taken the guest.
        let epoch = self.take_epoch();
        self.pass.epoch = epoch;
        self.state = State::Sending;
        self.effects.push(Effect::RepeatPass { epoch });
    }

    fn on_harvested(&mut self, pages: u64) {
        if self.pass.kind == PassKind::Penultimate {
            self.on_final_harvest(pages);
            self.begin_final_pass(pages);
            return;
        }
        self.record_pass(pages);
        self.learn_stop_cost();
        self.history.elapsed = self.elapsed();
        self.history.pending_bytes = pages * self.page_size_bytes;
        let quiesce_ms = self.policy.predicted_quiesce_ms(&self.history);
        let prediction = Prediction {
            pass: self.pass.number,
            left_bytes: self.history.pending_bytes,
            quiesce_ms,
            limit_ms: self.history.max_quiesce_ms(),
        };
        self.effects.push(Effect::Predicted(prediction));
        if let Some(done) = self.done.last_mut() {
            done.predicted_quiesce_ms = Some(quiesce_ms);
        }
        match self.verdict(quiesce_ms) {
            Verdict::AnotherPass => self.begin_pass(self.pass.number + 1, PassKind::Intermediate),
            Verdict::Quiesce(reason) => {
                self.reason = Some(reason);
                self.ask_both();
            }
            Verdict::GiveUp(reason) => self.stop_moving(Finish::given_up(reason)),
        }
    }

    /// The stop rule's, within the pass limit, which holds whatever the rule says.
    fn verdict(&self, predicted_ms: f64) -> Verdict {
        match self.policy.judge(&self.history) {
            Verdict::AnotherPass if self.history.is_last_pass() => {
                let passes = self.history.passes.len() as u32;
                self.history.quiesce_or_give_up(predicted_ms, Reason::PassLimit { passes, predicted_ms })
            }
            verdict => verdict,
        }
    }

    /// Stopping costs a few exchanges like the shortest that has closed a pass, and a harvest like the shortest that has
    /// followed one, besides the pages themselves. What took longer was waiting for pages, or for a processor.
    fn learn_stop_cost(&mut self) {
        let Some(confirmed) = self.pass.confirmed else { return };
        let barrier = confirmed.saturating_sub(self.pass.closed);
        let harvest = self.now.saturating_sub(confirmed);
        let (least_barrier, least_harvest) = self.least.get_or_insert((barrier, harvest));
        *least_barrier = barrier.min(*least_barrier);
        *least_harvest = harvest.min(*least_harvest);
        let exchanges = (*least_barrier * 3).clamp(Duration::from_micros(500), Duration::from_millis(20));
        self.history.stop_cost = exchanges + *least_harvest;
    }

    fn on_final_harvest(&mut self, pages: u64) {
        self.parts.harvest = self.lap_ms();
        self.final_pages = Some(pages);
    }

    fn begin_final_pass(&mut self, pages: u64) {
        self.parts.penultimate = self.lap_ms();
        self.record_pass(pages);
        self.begin_pass(self.pass.number + 1, PassKind::Final);
    }

    /// What was under way when the move ended belongs to its story.
    fn record_cut_pass(&mut self) {
        let Pass { number, kind, epoch, pages, began, confirmed, repeats, .. } = self.pass;
        if number == 0 || self.done.last().is_some_and(|done| done.number == number) {
            return;
        }
        let duration = confirmed.unwrap_or(self.now).saturating_sub(began);
        self.done.push(PassDone {
            number,
            kind,
            epoch,
            pages,
            duration,
            window: duration,
            dirty_pages_after: None,
            cut_short: confirmed.is_none(),
            predicted_quiesce_ms: None,
            repeated: repeats > 0,
        });
    }

    fn record_pass(&mut self, dirty_pages_after: u64) {
        let Pass { number, kind, epoch, pages, began, confirmed, repeats, .. } = self.pass;
        let duration = confirmed.unwrap_or(self.now).saturating_sub(began);
        // What was found was written since the last collection, not only while the pass was under way.
        let window = self.now.saturating_sub(began);
        self.done.push(PassDone {
            number,
            kind,
            epoch,
            pages,
            duration,
            window,
            dirty_pages_after: Some(dirty_pages_after),
            cut_short: false,
            predicted_quiesce_ms: None,
            repeated: repeats > 0,
        });
        let per_s = |pages: u64, time: Duration| {
            let bytes = (pages * self.page_size_bytes) as f64;
            (bytes / time.as_secs_f64().max(1e-6)) as u64
        };
        self.history.passes.push(PassSummary {
            number,
            pages,
            bytes: pages * self.page_size_bytes,
            duration,
            dirty_pages_after,
            dirty_rate_bytes_per_s: per_s(dirty_pages_after, window),
            link_rate_bytes_per_s: per_s(pages, duration),
        });
    }

    fn lap_ms(&mut self) -> f64 {
        let lap = self.now.saturating_sub(self.mark);
        self.mark = self.now;
        ms(lap)
    }

    /// Ends the move with the guest here, unless the destination may own it already.
    fn stop_moving(&mut self, finish: Finish) {
        match self.state {
            State::Done | State::Withdrawing => {}
            State::Committing => self.withdraw(finish),
            _ => {
                self.ending = Some(finish);
                self.end_here();
            }
        }
    }

    fn end_here(&mut self) {
        let finish = self
            .ending
            .take()
            .unwrap_or_else(|| Finish::new(FinishCode::InternalError, "withdrawn without a reason"));
        if self.stopped_at.is_some() {
            self.effects.push(Effect::Resume);
        }
        if self.state != State::Idle && finish.code != FinishCode::ConnectionLost {
            let cancel = Message::Cancel(finish.code, finish.reason.clone());
            self.effects.push(Effect::Send(cancel));
        }
        self.finish(finish, RunsOn::Source);
    }

    fn finish(&mut self, finish: Finish, runs_on: RunsOn) {
        self.state = State::Done;
        self.record_cut_pass();
        let quiesce = self.stopped_at.map(|at| (self.now.saturating_sub(at), self.parts.clone()));
        let ready = self.accepted.unwrap_or(self.now);
        let outcome = Outcome {
            finish,
            runs_on,
            total: self.elapsed(),
            link: self.link,
            prepare: ready,
            transfer: self.now.saturating_sub(ready),
            quiesce,
            passes: std::mem::take(&mut self.done),
        };
        self.effects.push(Effect::Finish(Box::new(outcome)));
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
