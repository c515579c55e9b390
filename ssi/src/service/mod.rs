//! Services of the cluster: what every one of them must provide, so that members can join, leave and fail without any of
//! them granting something twice.
//!
//! A service is a core without I/O. It keeps what this member holds and what it knows others hold, answers requests, and
//! talks to the same service of the other members. [`crate::member::Member`] owns the services and calls them; a service
//! never sees a member's state machine, only the [`View`].
//!
//! | z/VM's entry point | here | when |
//! |---|---|---|
//! | worthiness check | [`Service::check_worthy`] | before this member tries to join |
//! | enablement | [`Service::enable`] | once it has joined |
//! | join check | [`Service::check_join`] | on both sides, with the other's [`Service::state`]; may veto |
//! | state change | [`Service::member_changed`] | whenever a member's state or the mode has changed |
//! | prepare-for-stable | [`Service::prepare_for_stable`] | before held requests go on |
//! | - | [`Service::beat`] | once a heartbeat: what waits for too long is refused |
//! | - | [`Service::withdraw`], [`Service::unclaimed`] | nobody waits for an answer any more; it came too late |
//! | level change | [`Service::level_changed`] | when the oldest member is of another level |

mod configuration;
mod copies;
mod logon;

pub use configuration::{CONFIGURATION, Configuration};
pub use copies::Copies;
pub use logon::{LOGON, Logon, LogonAnswer, LogonRefusal, LogonRequest, UserKind, WAIT_BEATS_MAX};

use crate::member::{MemberState, Mode};
use crate::name::{MEMBERS_MAX, Slot};

/// The cluster as a service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// This member.
    pub me: Slot,
    /// Its mode.
    pub mode: Mode,
    /// Every slot's state.
    pub states: [MemberState; MEMBERS_MAX as usize],
    /// Members that hear what this one lets go: those that are joined and linked, and one that is joining. One that has
    /// not taken this member's share yet drops it, and finds it in the share.
    pub reached: [bool; MEMBERS_MAX as usize],
}

impl View {
    /// The other members that have a say: joined and reached.
    pub fn peers(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| *slot != self.me && self.states[slot.index()] == MemberState::Joined)
    }

    /// The members that must hear of what this one lets go.
    pub fn listeners(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| *slot != self.me && self.reached[slot.index()])
    }
}

/// What a service wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell this to the same service of another member.
    Send {
        /// To whom.
        to: Slot,
        /// What; the service's own format.
        body: Vec<u8>,
    },
    /// The answer to the request of this number.
    Answer {
        /// As given with the request.
        request: u64,
        /// What; the service's own format.
        body: Vec<u8>,
    },
}

/// What a service of the cluster provides.
pub trait Service: Copies {
    /// Its name, as messages have it: `SSI function JOIN has failed for service NAME`. At most 32 characters, the same on
    /// all members; also the name of its endpoint, cut to eight.
    fn name(&self) -> &'static str;

    /// Itself, for those who know which service it is.
    fn as_any(&self) -> &dyn std::any::Any;

    /// Is this system fit to try to join?
    ///
    /// # Errors
    /// Why not.
    fn check_worthy(&self) -> Result<(), String> {
        Ok(())
    }

    /// This member has joined: the service may grant.
    fn enable(&mut self) {}

    /// What another member must know of this one's share.
    fn state(&self) -> Vec<u8>;

    /// May the member in `slot`, with this state, be in one cluster with this one? Nothing is taken over yet.
    ///
    /// # Errors
    /// The reason of the veto.
    fn check_join(&self, slot: Slot, state: &[u8]) -> Result<(), String>;

    /// The member in `slot` holds this from now on, and nothing else.
    fn adopt(&mut self, slot: Slot, state: &[u8]);

    /// The cluster is now as `view` says; what members that are down have held is free.
    fn member_changed(&mut self, view: &View, out: &mut Vec<Output>);

    /// The mode turns stable: what was held goes on.
    fn prepare_for_stable(&mut self, view: &View, out: &mut Vec<Output>);

    /// About as much time has passed as between two heartbeats. A service that holds requests counts these and answers each
    /// in the end: nobody waits without a bound.
    fn beat(&mut self, view: &View, out: &mut Vec<Output>) {
        let _ = (view, out);
    }

    /// Nobody waits for the answer to this request any more: it is forgotten.
    fn withdraw(&mut self, view: &View, request: u64, out: &mut Vec<Output>) {
        let _ = (view, request, out);
    }

    /// This request was answered when nobody waited any more: what was granted is given back.
    fn unclaimed(&mut self, view: &View, request: &[u8], answer: &[u8], out: &mut Vec<Output>) {
        let _ = (view, request, answer, out);
    }

    /// The oldest member of the cluster is of `level`.
    fn level_changed(&mut self, level: u16) {
        let _ = level;
    }

    /// Another member's service says something.
    fn message(&mut self, view: &View, from: Slot, body: &[u8], out: &mut Vec<Output>);

    /// Somebody on this member wants something.
    fn request(&mut self, view: &View, request: u64, body: &[u8], out: &mut Vec<Output>);
}
