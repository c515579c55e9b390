//! How the source hands the guest over, and how it takes it back.
//!
//! **The core problem.** From the commit mark on, the destination may own the guest, and the guest stands still. Whoever
//! lets it run must know that the other never will. Two things can say so: the other member, and the owner record. Neither
//! may be guessed for, and either may be out of reach: the link may be gone, the record may be locked by a backup, its
//! volume read-only, renamed, or hung. What is done about each:
//!
//! - **The guest is not stopped for a record that cannot be written.** Both sides try it for writing when the guest is
//!   offered (a record of another user, a read-only volume: refused) and again between the last pass and the stop. A
//!   record that is locked then costs another pass, and after [`TRIES_MAX`] of them the move; the guest has run all the
//!   while.
//! - **While the link lives, every unwinding is by messages.** The commit is asked for within what is left of MAXQUIESCE.
//!   A destination that has not changed the record by then, by its own clock, never will: it *abstains*, and says so. The
//!   source asks for the same with *withdraw*, at its limit, at a cancel. So a record that is locked after the stop, for
//!   however long, ends in a guest that goes on here within the limit.
//! - **The record is asked as well, and alone when the link died.** A withdrawal is a change of the record by the source. Of
//!   it and the destination's exactly one finds the epoch that both expect. A destination that hangs or died with its
//!   machine does not answer, and the record, which nobody then holds, does.
//! - **Nobody holds the record's lock from the stop to the commit.** That would shut out a third who locks it in between, and
//!   would bind the source to the destination's life: a machine that stalls, or dies on NFS, keeps its locks for up to a
//!   lease (90 s), and the record with them. The third is the lesser evil: it costs the move, by messages, and not the limit.
//! - **A process never ends with the only copy of a guest that could run.** Without an answer from either the guest stays
//!   stopped here, and the record is tried until it answers. That needs two faults at once, link and record, both after the
//!   record was tried for writing. It is the one way to be stopped beyond MAXQUIESCE; the driver tells it while it lasts,
//!   and only an operator who insists ([`Input::GiveUp`](super::Input::GiveUp)) ends it.
//!
//! | after the commit mark | link lives | link is gone |
//! |---|---|---|
//! | record answers | first of the two changes wins | first of the two changes wins |
//! | record locked, read-only, renamed, hung | the destination abstains in time; the guest goes on here | both wait for the record; the guest stands still |
//! | a write gave an error | the destination reads until it knows, then answers | both wait for the record |
//!
//! A destination without these answers (see [`crate::message`]) is as one whose link is gone: the record decides.

use std::time::Duration;

use super::{Effect, Message, Source, State};
use crate::owner::MemberName;
use crate::report::{Finish, FinishCode, PassKind, RunsOn};

/// So often the record is tried before the stop; then the move is given up, with the guest running.
pub const TRIES_MAX: u32 = 3;
/// An answer that takes longer is none.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// An answer that took longer came too late to stop on it: the guest has written meanwhile.
const ANSWER_SLOW: Duration = Duration::from_millis(100);

/// What became of trying the record.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    number: u64,
    at: Duration,
    here: Option<Result<(), String>>,
    there: Option<Result<(), String>>,
    /// How often it could not be written, or only slowly.
    failed: u32,
}

impl Source {
    /// Tries the record here, before anything is offered.
    pub(super) fn ask_here(&mut self) {
        self.asked.number += 1;
        self.asked.at = self.now;
        self.asked.here = None;
        self.effects.push(Effect::TryRecord(self.asked.number));
    }

    /// Tries it on both sides, before the guest is stopped.
    pub(super) fn ask_both(&mut self) {
        self.state = State::Asking;
        self.asked.there = None;
        self.ask_here();
        match self.destination {
            Some((_, true)) => self.effects.push(Effect::Send(Message::TryRecord(self.asked.number))),
            _ => self.asked.there = Some(Ok(())),
        }
    }

    pub(super) fn asking_deadline(&self) -> Option<Duration> {
        matches!(self.state, State::Checking | State::Asking).then(|| self.asked.at + ANSWER_PATIENCE)
    }

    pub(super) fn on_no_answer(&mut self) {
        let silent = |side: &str| Err(format!("{side} it does not answer for {ANSWER_PATIENCE:?}"));
        self.asked.here.get_or_insert_with(|| silent("here"));
        self.asked.there.get_or_insert_with(|| silent("at the destination"));
        self.judge_tries();
    }

    pub(super) fn on_tried_here(&mut self, number: u64, tried: Result<(), String>) {
        if number == self.asked.number && matches!(self.state, State::Checking | State::Asking) {
            self.asked.here = Some(tried);
            self.judge_tries();
        }
    }

    pub(super) fn on_tried_there(&mut self, number: u64, tried: Result<(), String>) {
        if number == self.asked.number {
            self.asked.there = Some(tried.map_err(|why| format!("at the destination: {why}")));
            self.judge_tries();
        }
    }

    fn judge_tries(&mut self) {
        if self.state == State::Checking {
            return match self.asked.here.take() {
                Some(Ok(())) => {
                    self.state = State::Offering;
                    self.effects.push(Effect::Send(Message::Offer(self.offer.clone())));
                }
                Some(Err(why)) => {
                    let text = format!("the owner record cannot be written: {why}");
                    self.stop_moving(Finish::new(FinishCode::NotEligible, text));
                }
                None => {}
            };
        }
        let (Some(here), Some(there)) = (&self.asked.here, &self.asked.there) else { return };
        // Not worth a pass that the limits do not give.
        let free = !self.limits.immediate && !self.history.is_last_pass() && self.asked.failed == 0;
        let slow = free && self.now.saturating_sub(self.asked.at) > ANSWER_SLOW;
        match here.clone().and(there.clone()) {
            Ok(()) if !slow => self.stop_guest(),
            Err(why) if self.asked.failed + 1 >= TRIES_MAX => {
                let text = format!("the owner record cannot be written, so the guest was not stopped: {why}");
                self.stop_moving(Finish::new(FinishCode::InternalError, text));
            }
            Ok(()) | Err(_) => {
                self.asked.failed += 1;
                self.reason = None;
                self.begin_pass(self.pass.number + 1, PassKind::Intermediate);
            }
        }
    }

    fn stop_guest(&mut self) {
        self.stopped_at = Some(self.now);
        self.mark = self.now;
        self.state = State::Stopping;
        self.effects.push(Effect::Quiesce);
    }

    pub(super) fn on_accepted(&mut self, member: MemberName, answers: bool) {
        self.destination = Some((member, answers && self.offer.answers));
        if member == self.offer.source {
            let text = format!("both members are called {member}: give one of them another name (--member)");
            self.stop_moving(Finish::new(FinishCode::NotEligible, text));
            return;
        }
        self.accepted = Some(self.now);
        self.begin_pass(1, PassKind::First);
    }

    /// What is left of MAXQUIESCE when the commit is asked for; 0 for no limit.
    pub(super) fn commit_within_ms(&self) -> u32 {
        let left = self.quiesce_deadline().map(|at| at.saturating_sub(self.now));
        left.map_or(0, |left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1))
    }

    /// Takes the guest back, from the destination by a message and from the record by changing it: the first answer counts.
    pub(super) fn withdraw(&mut self, finish: Finish) {
        self.ending = Some(finish);
        self.state = State::Withdrawing;
        if let Some((_, true)) = self.destination {
            self.effects.push(Effect::Send(Message::Withdraw));
        }
        self.effects.push(Effect::Withdraw);
    }

    /// The destination runs the guest, or found the record changed.
    pub(super) fn on_committed(&mut self, message: &Message) {
        match (self.state, message) {
            (_, Message::Resumed { commit_ns, resume_ns, .. }) => {
                self.parts.commit = *commit_ns as f64 / 1e6;
                self.parts.resume = *resume_ns as f64 / 1e6;
                self.end_there(None);
            }
            // The destination does not run it and will not: only the record can say who does.
            (State::Committing, _) => self.withdraw(Finish::new(
                FinishCode::InternalError,
                "the destination found the owner record changed",
            )),
            _ => {}
        }
    }

    /// The destination has not taken the guest and never will.
    pub(super) fn on_abstained(&mut self, why: &str) {
        let finish = match self.ending.take() {
            Some(Finish { code, reason, .. }) => {
                Finish::new(code, format!("{reason}; the destination: {why}"))
            }
            None if self.quiesce_limit_near() => {
                Finish::new(FinishCode::MaxQuiesceExceeded, format!("MAXQUIESCE: the destination: {why}"))
            }
            None => Finish::new(FinishCode::InternalError, format!("the destination gave up: {why}")),
        };
        self.ending = Some(finish);
        self.end_here();
    }

    /// The destination's clock for the commit runs out a moment before ours.
    fn quiesce_limit_near(&self) -> bool {
        let (Some(at), Some(limit)) = (self.quiesce_deadline(), self.limits.max_quiesce) else {
            return false;
        };
        self.now + limit / 20 >= at
    }

    pub(super) fn on_withdraw_lost(&mut self, owner: MemberName) {
        if self.destination.is_some_and(|(destination, _)| destination == owner) {
            return self.end_there(Some(owner));
        }
        let text =
            format!("the guest was taken over: its owner record names {owner} now; it stays stopped here");
        self.ending = None;
        self.finish(Finish::new(FinishCode::GuestEnded, text), RunsOn::Unknown);
    }

    /// The operator insists, and nobody could say who owns the guest.
    pub(super) fn give_up(&mut self) {
        let why = self.ending.take().map_or_else(String::new, |finish| format!(" ({})", finish.reason));
        let text = format!(
            "given up by the operator while neither the destination nor the owner record could say who has the guest{why}; see lgr owner"
        );
        self.finish(Finish::new(FinishCode::Halted, text), RunsOn::Unknown);
    }

    /// The destination has the guest. `owner` is who the record names, if it had to be asked.
    pub(super) fn end_there(&mut self, owner: Option<MemberName>) {
        let trouble = self.ending.take();
        let reason = match (owner, trouble) {
            (Some(owner), Some(trouble)) => {
                format!("{owner} owns the guest by its record, although {}", trouble.reason)
            }
            (None, Some(trouble)) => format!("relocated, although {}", trouble.reason),
            (_, None) => match &self.reason {
                Some(reason) => format!("relocated; stopped because {reason}"),
                None => "relocated".to_owned(),
            },
        };
        // The commit exchange holds the final pass, the change of the record and the resumption.
        let exchange = self.lap_ms();
        self.parts.final_pass = (exchange - self.parts.commit - self.parts.resume).max(0.0);
        self.effects.push(Effect::Release);
        self.record_pass(0);
        let finish = Finish::new(FinishCode::Completed, reason).with_policy_reason(self.reason.clone());
        self.finish(finish, RunsOn::Destination);
    }
}
