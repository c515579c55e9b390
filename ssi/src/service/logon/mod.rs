//! Who is logged on where: a single-configuration user on one member at a time, a multiconfiguration user once per member.
//!
//! A member that wants to log a single-configuration user on asks every other member. Each that says yes remembers the
//! asker as the holder, so a later attempt anywhere runs into it.
//!
//! **Two attempts at once.** Let members 1 and 3 log the same user on. One of two things happens first: member 1 answers
//! member 3's question, and then it knows the holder and refuses its own attempt; or it begins its own attempt, and then
//! it answers no, because of two attempts that know of each other the one of the lower slot wins. So exactly one is
//! granted. A third member says yes to both if the one of the lower slot asks last, and remembers both: the winner may still
//! give up for another reason, and a grant is told to all.
//!
//! **Whose kind counts.** What kind a user is stands in the directory, which may change while the user is on, and not at the
//! same moment on all members. So the service goes by who is on, whatever the directory says: a user that is on anywhere as
//! a single-configuration user is logged on nowhere else, of whichever kind the request is; and one that is on anywhere as a
//! multiconfiguration user is not logged on as a single-configuration user. It needs no question: the member that logs a
//! single-configuration user on has had every other member's yes, and each remembers that and refuses its own multi-
//! configuration logons by it; and each that has an instance on says no.
//!
//! **How long a request waits.** It is held while the cluster is In-Flux, and asks while it is Stable. Neither lasts for ever,
//! but others can make it long, so each request counts the beats it has waited and is refused at [`WAIT_BEATS_MAX`].

mod wire;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

pub use wire::{LogonAnswer, LogonRefusal, LogonRequest, UserKind};
use wire::{PeerMessage, decode, encode};

use super::{Output, Service, View};
use crate::member::{MemberState, Mode};
use crate::name::{Slot, UserId};

/// Name of the service.
pub const LOGON: &str = "Logon";

/// Requests that may wait for a stable cluster.
const HELD_MAX: usize = 4096;
/// Heartbeats that a request waits at most. Longer than one member may join or leave for.
pub const WAIT_BEATS_MAX: u32 = 30;

/// Planted: how a user is on elsewhere is taken from the directory of the member where it is to be logged on.
const TRUSTS_ITS_DIRECTORY: bool = cfg!(feature = "planted-trusted-kind");

/// Planted: a yes to another's attempt stops no attempt of this member's own.
const FORGETS_ITS_YES: bool = cfg!(feature = "planted-forgotten-yes");

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    number: u64,
    request: u64,
    waited_beats: u32,
    asked: BTreeSet<Slot>,
    waits_for: BTreeSet<Slot>,
}

/// A request that waits for a stable cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    request: u64,
    user: UserId,
    kind: UserKind,
    waited_beats: u32,
}

/// Who has a user, or wants it and has had this member's yes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Claims {
    holder: Option<Slot>,
    asked: BTreeSet<Slot>,
}

impl Claims {
    /// In whose way another attempt would be.
    fn first(&self) -> Option<Slot> {
        self.holder.or_else(|| self.asked.first().copied())
    }

    fn forget(&mut self, slot: Slot) {
        self.holder.take_if(|holder| *holder == slot);
        self.asked.remove(&slot);
    }
}

/// The service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Logon {
    /// Users that are on here.
    mine: BTreeMap<UserId, UserKind>,
    /// Single-configuration users that other members have, or have asked for.
    others: BTreeMap<UserId, Claims>,
    attempts: BTreeMap<UserId, Attempt>,
    attempts_made: u64,
    held: Vec<Held>,
}

impl Logon {
    /// Nobody is logged on.
    pub fn new() -> Self {
        Self::default()
    }

    /// The users that are on at this member.
    pub fn here(&self) -> impl Iterator<Item = (UserId, UserKind)> + '_ {
        self.mine.iter().map(|(user, kind)| (*user, *kind))
    }

    /// The single-configuration users that are on at other members.
    pub fn elsewhere(&self) -> impl Iterator<Item = (UserId, Slot)> + '_ {
        self.others.iter().filter_map(|(user, claims)| Some((*user, claims.first()?)))
    }

    /// A user's guest is gone or has come by itself (it ended, or was relocated out).
    fn log_off(&mut self, view: &View, user: UserId, out: &mut Vec<Output>) -> Result<(), LogonRefusal> {
        let kind = self.mine.remove(&user).ok_or(LogonRefusal::NotLoggedOn)?;
        if kind == UserKind::Single {
            view.listeners().for_each(|to| send(to, PeerMessage::Free(user), out));
        }
        Ok(())
    }

    fn log_on(&mut self, view: &View, held: Held, out: &mut Vec<Output>) {
        let Held { request, user, kind, waited_beats } = held;
        let holder = if self.mine.contains_key(&user) || self.attempts.contains_key(&user) {
            Some(view.me)
        } else {
            let minds = kind == UserKind::Single || !TRUSTS_ITS_DIRECTORY;
            self.others.get(&user).filter(|_| minds).and_then(Claims::first)
        };
        if let Some(holder) = holder {
            return answer(request, LogonAnswer::Refused(LogonRefusal::LoggedOn(holder)), out);
        }
        match view.mode {
            Mode::Safe => answer(request, LogonAnswer::Refused(LogonRefusal::Safe), out),
            Mode::InFlux if self.held.len() >= HELD_MAX => {
                answer(request, LogonAnswer::Refused(LogonRefusal::TooMany), out);
            }
            Mode::InFlux => self.held.push(held),
            Mode::Stable if kind == UserKind::Multi => {
                self.mine.insert(user, kind);
                answer(request, LogonAnswer::Granted, out);
            }
            Mode::Stable => {
                let asked: BTreeSet<Slot> = view.peers().collect();
                self.attempts_made = self.attempts_made.wrapping_add(1);
                let number = self.attempts_made;
                asked.iter().for_each(|to| send(*to, PeerMessage::Ask(user, number), out));
                self.attempts
                    .insert(user, Attempt { number, request, waited_beats, waits_for: asked.clone(), asked });
                self.grant_if_due(view, user, out);
            }
        }
    }

    fn grant_if_due(&mut self, view: &View, user: UserId, out: &mut Vec<Output>) {
        let due = self.attempts.get(&user).is_some_and(|attempt| attempt.waits_for.is_empty());
        if due
            && view.mode == Mode::Stable
            && let Some(attempt) = self.attempts.remove(&user)
        {
            self.mine.insert(user, UserKind::Single);
            view.listeners().for_each(|to| send(to, PeerMessage::Have(user), out));
            answer(attempt.request, LogonAnswer::Granted, out);
        }
    }

    /// Ends an attempt; those who said yes are told to forget it.
    fn give_up(&mut self, view: &View, user: UserId, out: &mut Vec<Output>) -> Option<Held> {
        let attempt = self.attempts.remove(&user)?;
        let told = attempt.asked.iter().filter(|slot| view.reached[slot.index()]);
        told.for_each(|to| send(*to, PeerMessage::Free(user), out));
        let Attempt { request, waited_beats, .. } = attempt;
        Some(Held { request, user, kind: UserKind::Single, waited_beats })
    }

    fn asked(&mut self, view: &View, from: Slot, (user, number): (UserId, u64), out: &mut Vec<Output>) {
        let reply = if view.mode != Mode::Stable {
            PeerMessage::Later(user, number)
        } else if self.mine.contains_key(&user) || (self.attempts.contains_key(&user) && view.me < from) {
            PeerMessage::No(user, number, view.me)
        } else {
            if !FORGETS_ITS_YES && let Some(held) = self.give_up(view, user, out) {
                answer(held.request, LogonAnswer::Refused(LogonRefusal::LoggedOn(from)), out);
            }
            let claims = self.others.entry(user).or_default();
            match claims.holder.filter(|holder| *holder != from).or(claims.asked.first().copied()) {
                Some(other) if claims.holder == Some(other) || other < from => {
                    PeerMessage::No(user, number, other)
                }
                _ => {
                    if !FORGETS_ITS_YES {
                        claims.asked.insert(from);
                    }
                    PeerMessage::Yes(user, number)
                }
            }
        };
        send(from, reply, out);
    }

    /// Nothing that `slot` has or wants is in anybody's way any more.
    fn forget(&mut self, slot: Slot) {
        self.others.values_mut().for_each(|claims| claims.forget(slot));
        self.others.retain(|_, claims| claims.first().is_some());
    }

    fn is_current(&self, user: UserId, number: u64) -> bool {
        self.attempts.get(&user).is_some_and(|attempt| attempt.number == number)
    }

    /// Attempts that cannot go on now wait, or are refused.
    fn suspend_attempts(&mut self, view: &View, out: &mut Vec<Output>) {
        let users: Vec<UserId> = self.attempts.keys().copied().collect();
        for user in users {
            if let Some(held) = self.give_up(view, user, out) {
                self.held.push(held);
            }
        }
        if view.mode == Mode::Safe {
            for Held { request, .. } in self.held.drain(..) {
                answer(request, LogonAnswer::Refused(LogonRefusal::Safe), out);
            }
        }
    }
}

impl Service for Logon {
    fn name(&self) -> &'static str {
        LOGON
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn state(&self) -> Vec<u8> {
        let users: Vec<UserId> =
            self.here().filter(|(_, kind)| *kind == UserKind::Single).map(|(user, _)| user).collect();
        encode(&users)
    }

    fn check_join(&self, slot: Slot, state: &[u8]) -> Result<(), String> {
        let users: Vec<UserId> = decode(state)?;
        match users.iter().find(|user| self.mine.contains_key(user)) {
            Some(user) => Err(format!("{user} is logged on here and at slot {slot}")),
            None => Ok(()),
        }
    }

    fn adopt(&mut self, slot: Slot, state: &[u8]) {
        self.forget(slot);
        for user in decode::<Vec<UserId>>(state).unwrap_or_default() {
            self.others.entry(user).or_default().holder = Some(slot);
        }
    }

    fn member_changed(&mut self, view: &View, out: &mut Vec<Output>) {
        let down = |slot: &Slot| view.states[slot.index()] == MemberState::Down;
        Slot::all().filter(down).for_each(|slot| self.forget(slot));
        if view.mode != Mode::Stable {
            self.suspend_attempts(view, out);
        }
    }

    fn prepare_for_stable(&mut self, view: &View, out: &mut Vec<Output>) {
        for held in std::mem::take(&mut self.held) {
            self.log_on(view, held, out);
        }
    }

    fn beat(&mut self, view: &View, out: &mut Vec<Output>) {
        let waited = |beats: &mut u32| {
            *beats += 1;
            *beats > WAIT_BEATS_MAX
        };
        let late: Vec<UserId> = self
            .attempts
            .iter_mut()
            .filter_map(|(user, attempt)| waited(&mut attempt.waited_beats).then_some(*user))
            .collect();
        let mut late: Vec<Held> = late.into_iter().filter_map(|user| self.give_up(view, user, out)).collect();
        late.extend(self.held.extract_if(.., |held| waited(&mut held.waited_beats)));
        for Held { request, .. } in late {
            answer(request, LogonAnswer::Refused(LogonRefusal::Waited(WAIT_BEATS_MAX)), out);
        }
    }

    fn withdraw(&mut self, view: &View, request: u64, out: &mut Vec<Output>) {
        self.held.retain(|held| held.request != request);
        let of_it = self.attempts.iter().find(|(_, attempt)| attempt.request == request);
        if let Some(user) = of_it.map(|(user, _)| *user) {
            self.give_up(view, user, out);
        }
    }

    fn unclaimed(&mut self, view: &View, request: &[u8], answer: &[u8], out: &mut Vec<Output>) {
        if let Ok(LogonRequest::On(user, _)) = decode(request)
            && LogonAnswer::decode(answer) == Ok(LogonAnswer::Granted)
        {
            // It is off already if somebody forced it meanwhile.
            let _ = self.log_off(view, user, out);
        }
    }

    fn message(&mut self, view: &View, from: Slot, body: &[u8], out: &mut Vec<Output>) {
        let Ok(message) = decode::<PeerMessage>(body) else { return };
        match message {
            PeerMessage::Ask(user, number) => self.asked(view, from, (user, number), out),
            PeerMessage::Yes(user, number) if self.is_current(user, number) => {
                if let Some(attempt) = self.attempts.get_mut(&user) {
                    attempt.waits_for.remove(&from);
                    self.grant_if_due(view, user, out);
                }
            }
            PeerMessage::No(user, number, holder) if self.is_current(user, number) => {
                if let Some(held) = self.give_up(view, user, out) {
                    answer(held.request, LogonAnswer::Refused(LogonRefusal::LoggedOn(holder)), out);
                }
            }
            PeerMessage::Later(user, number) if self.is_current(user, number) => {
                if let Some(held) = self.give_up(view, user, out) {
                    self.held.push(held);
                }
            }
            // The answer to an attempt that was given up.
            PeerMessage::Yes(..) | PeerMessage::No(..) | PeerMessage::Later(..) => {}
            PeerMessage::Have(user) => {
                let claims = self.others.entry(user).or_default();
                claims.forget(from);
                claims.holder = Some(from);
            }
            PeerMessage::Free(user) => {
                if let Entry::Occupied(mut claims) = self.others.entry(user) {
                    claims.get_mut().forget(from);
                    if claims.get().first().is_none() {
                        claims.remove();
                    }
                }
            }
        }
    }

    fn request(&mut self, view: &View, request: u64, body: &[u8], out: &mut Vec<Output>) {
        match decode::<LogonRequest>(body) {
            Ok(LogonRequest::On(user, kind)) => {
                self.log_on(view, Held { request, user, kind, waited_beats: 0 }, out);
            }
            Ok(LogonRequest::Off(user)) => {
                let done = self.log_off(view, user, out);
                answer(request, done.map_or_else(LogonAnswer::Refused, |()| LogonAnswer::Granted), out);
            }
            Err(_) => answer(request, LogonAnswer::Refused(LogonRefusal::NotLoggedOn), out),
        }
    }
}

fn send(to: Slot, message: PeerMessage, out: &mut Vec<Output>) {
    out.push(Output::Send { to, body: encode(&message) });
}

fn answer(request: u64, answer: LogonAnswer, out: &mut Vec<Output>) {
    out.push(Output::Answer { request, body: encode(&answer) });
}

#[cfg(test)]
mod tests;
