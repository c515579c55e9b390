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

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Output, Service, View};
use crate::member::{MemberState, Mode};
use crate::name::{Slot, UserId};

/// Name of the service.
pub const LOGON: &str = "Logon";

/// How a user may be logged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserKind {
    /// On one member at a time (`USER`).
    Single,
    /// Once on each member (`IDENTITY`).
    Multi,
}

/// What may be asked of the service on its own member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogonRequest {
    /// LOGON, XAUTOLOG.
    On(UserId, UserKind),
    /// LOGOFF, FORCE. Always possible.
    Off(UserId),
}

impl LogonRequest {
    /// As the service takes it.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogonAnswer {
    /// Done.
    Granted,
    /// Not done.
    Refused(LogonRefusal),
}

impl LogonAnswer {
    /// As the service gives it.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

/// Why a user is not logged on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LogonRefusal {
    /// The user is logged on there, or is just being.
    #[error("already logged on at slot {0}")]
    LoggedOn(Slot),
    /// Some member cannot be reached, so nobody can tell.
    #[error("the cluster is in SAFE mode")]
    Safe,
    /// It is not logged on here.
    #[error("not logged on")]
    NotLoggedOn,
    /// Too many wait already.
    #[error("too many requests wait")]
    TooMany,
}

/// Requests that may wait for a stable cluster.
const HELD_MAX: usize = 4096;

/// Planted: a yes to another's attempt stops no attempt of this member's own.
const FORGETS_ITS_YES: bool = cfg!(feature = "planted-forgotten-yes");

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum PeerMessage {
    /// May I log this user on? The number is that of the attempt, for the answer.
    Ask(UserId, u64),
    Yes(UserId, u64),
    /// The user is there.
    No(UserId, u64, Slot),
    /// Not now: ask again when the cluster is stable.
    Later(UserId, u64),
    /// The user is on here now: of several that have asked, this one was granted.
    Have(UserId),
    /// I do not hold the user (any more).
    Free(UserId),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    number: u64,
    request: u64,
    asked: BTreeSet<Slot>,
    waits_for: BTreeSet<Slot>,
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
    held: Vec<(u64, UserId, UserKind)>,
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

    fn log_on(&mut self, view: &View, request: u64, (user, kind): (UserId, UserKind), out: &mut Vec<Output>) {
        let holder = if self.mine.contains_key(&user) || self.attempts.contains_key(&user) {
            Some(view.me)
        } else {
            self.others.get(&user).filter(|_| kind == UserKind::Single).and_then(Claims::first)
        };
        if let Some(holder) = holder {
            return answer(request, LogonAnswer::Refused(LogonRefusal::LoggedOn(holder)), out);
        }
        match view.mode {
            Mode::Safe => answer(request, LogonAnswer::Refused(LogonRefusal::Safe), out),
            Mode::InFlux if self.held.len() >= HELD_MAX => {
                answer(request, LogonAnswer::Refused(LogonRefusal::TooMany), out);
            }
            Mode::InFlux => self.held.push((request, user, kind)),
            Mode::Stable if kind == UserKind::Multi => {
                self.mine.insert(user, kind);
                answer(request, LogonAnswer::Granted, out);
            }
            Mode::Stable => {
                let asked: BTreeSet<Slot> = view.peers().collect();
                self.attempts_made += 1;
                let number = self.attempts_made;
                asked.iter().for_each(|to| send(*to, PeerMessage::Ask(user, number), out));
                self.attempts.insert(user, Attempt { number, request, waits_for: asked.clone(), asked });
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
    fn give_up(&mut self, view: &View, user: UserId, out: &mut Vec<Output>) -> Option<u64> {
        let attempt = self.attempts.remove(&user)?;
        let told = attempt.asked.iter().filter(|slot| view.reached[slot.index()]);
        told.for_each(|to| send(*to, PeerMessage::Free(user), out));
        Some(attempt.request)
    }

    fn asked(&mut self, view: &View, from: Slot, (user, number): (UserId, u64), out: &mut Vec<Output>) {
        let reply = if view.mode != Mode::Stable {
            PeerMessage::Later(user, number)
        } else if self.mine.contains_key(&user) || (self.attempts.contains_key(&user) && view.me < from) {
            PeerMessage::No(user, number, view.me)
        } else {
            if !FORGETS_ITS_YES && let Some(request) = self.give_up(view, user, out) {
                answer(request, LogonAnswer::Refused(LogonRefusal::LoggedOn(from)), out);
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
            if let Some(request) = self.give_up(view, user, out) {
                self.held.push((request, user, UserKind::Single));
            }
        }
        if view.mode == Mode::Safe {
            for (request, ..) in self.held.drain(..) {
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
        match users.iter().find(|user| self.mine.get(user) == Some(&UserKind::Single)) {
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
        for (request, user, kind) in std::mem::take(&mut self.held) {
            self.log_on(view, request, (user, kind), out);
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
                if let Some(request) = self.give_up(view, user, out) {
                    answer(request, LogonAnswer::Refused(LogonRefusal::LoggedOn(holder)), out);
                }
            }
            PeerMessage::Later(user, number) if self.is_current(user, number) => {
                if let Some(request) = self.give_up(view, user, out) {
                    self.held.push((request, user, UserKind::Single));
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
            Ok(LogonRequest::On(user, kind)) => self.log_on(view, request, (user, kind), out),
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

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("these types have no maps or lengths unknown")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err("bytes are left over".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::MEMBERS_MAX;

    /// Two members, of which this is the first.
    fn view(mode: Mode) -> View {
        let me = Slot::new(1).unwrap();
        let mut states = [MemberState::Down; MEMBERS_MAX as usize];
        states[..2].fill(MemberState::Joined);
        View { me, mode, states, reached: [false, true, false, false] }
    }

    fn ask(logon: &mut Logon, mode: Mode, request: &LogonRequest) -> Vec<LogonAnswer> {
        let mut out = Vec::new();
        logon.request(&view(mode), 1, &request.encode(), &mut out);
        answers(&out)
    }

    fn answers(out: &[Output]) -> Vec<LogonAnswer> {
        let answer = |output: &Output| match output {
            Output::Answer { body, .. } => Some(LogonAnswer::decode(body).unwrap()),
            Output::Send { .. } => None,
        };
        out.iter().filter_map(answer).collect()
    }

    #[test]
    fn users_of_both_kinds_wait_while_the_cluster_changes_and_are_refused_while_it_is_safe() {
        let user = UserId::new("SOMEBODY").unwrap();
        for kind in [UserKind::Single, UserKind::Multi] {
            let mut logon = Logon::new();
            let on = LogonRequest::On(user, kind);
            let safe = || LogonAnswer::Refused(LogonRefusal::Safe);
            assert_eq!(ask(&mut logon, Mode::Safe, &on), [safe()]);
            assert_eq!(ask(&mut logon, Mode::InFlux, &on), []);
            assert_eq!(logon.here().count(), 0);
            let mut out = Vec::new();
            logon.member_changed(&view(Mode::Safe), &mut out);
            assert_eq!(answers(&out), [safe()]);
        }
        let mut logon = Logon::new();
        ask(&mut logon, Mode::InFlux, &LogonRequest::On(user, UserKind::Multi));
        let mut out = Vec::new();
        logon.prepare_for_stable(&view(Mode::Stable), &mut out);
        assert_eq!(answers(&out), [LogonAnswer::Granted]);
    }

    #[test]
    fn a_user_whose_kind_changes_while_it_is_on_is_still_free_for_all_once_it_is_off() {
        let user = UserId::new("SOMEBODY").unwrap();
        let mut logon = Logon { mine: [(user, UserKind::Single)].into(), ..Logon::default() };
        let again = ask(&mut logon, Mode::Stable, &LogonRequest::On(user, UserKind::Multi));
        assert_eq!(again, [LogonAnswer::Refused(LogonRefusal::LoggedOn(view(Mode::Stable).me))]);
        let mut out = Vec::new();
        logon.request(&view(Mode::Stable), 2, &LogonRequest::Off(user).encode(), &mut out);
        let free = encode(&PeerMessage::Free(user));
        assert!(out.contains(&Output::Send { to: Slot::new(2).unwrap(), body: free }), "{out:?}");
    }
}
