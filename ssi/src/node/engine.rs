//! The member's own thread: it alone touches the core, and carries out what the core wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::clock::now_ms;
use super::console::Console;
use super::fence::{End, Fence};
use super::inbox::{Event, Handle, Request};
use super::mesh::Mesh;
use super::volume::RecordThread;
use crate::member::{CommandRefused, Effect, Input, Member, Message, Stopped};
use crate::service::Logon;

/// What the core wants done, by whom.
pub(super) struct Engine {
    pub(super) member: Member,
    pub(super) events: Receiver<Event>,
    pub(super) handle: Handle,
    pub(super) record: RecordThread,
    pub(super) mesh: Arc<Mesh>,
    pub(super) console: Arc<Console>,
    fence: Arc<Fence>,
    commands: BTreeMap<u64, Sender<Result<(), CommandRefused>>>,
    requests: BTreeMap<u64, Request>,
    numbers: u64,
}

impl Engine {
    pub(super) fn new(
        member: Member,
        events: Receiver<Event>,
        handle: Handle,
        record: RecordThread,
        mesh: Arc<Mesh>,
        console: Arc<Console>,
    ) -> Self {
        let (commands, requests) = (BTreeMap::new(), BTreeMap::new());
        let fence = handle.fence().clone();
        Self { member, events, handle, record, mesh, console, fence, commands, requests, numbers: 0 }
    }

    /// Runs the member until it stops.
    pub(super) fn run(mut self) -> Stopped {
        let mut stopped = self.feed(Input::Start);
        while stopped.is_none() {
            let fence_at_ms = self.member.fence_at_ms().map(|at_ms| at_ms + 1);
            let at_ms = self.member.timeout_ms().into_iter().chain(fence_at_ms).min();
            let wait_ms = at_ms.map_or(1_000, |at_ms| at_ms.saturating_sub(now_ms()));
            stopped = match self.events.recv_timeout(Duration::from_millis(wait_ms)) {
                Ok(event) => self.event(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.feed(Input::Tick),
            };
        }
        stopped.unwrap_or(Stopped::Left)
    }

    fn event(&mut self, event: Event) -> Option<Stopped> {
        match event {
            Event::Input(input) => {
                match &input {
                    Input::Link(slot, _) => self.mesh.core_hears(*slot),
                    Input::Message(from, Message::Heartbeat { .. }) => {
                        self.handle.lock().received_heartbeats[from.index()] = Some(SystemTime::now());
                    }
                    _ => {}
                }
                self.feed(input)
            }
            Event::Command(command, answer) => {
                self.numbers += 1;
                self.commands.insert(self.numbers, answer);
                self.feed(Input::Command(self.numbers, command))
            }
            Event::Request(request) => {
                self.numbers += 1;
                let (service, body) = (request.service.to_owned(), request.body.clone());
                self.requests.insert(self.numbers, request);
                self.feed(Input::Request { service, number: self.numbers, body })
            }
            Event::Withdrawn(ticket) => {
                let of_it = self.requests.iter().find(|(_, request)| request.ticket.is(&ticket));
                let number = of_it.map(|(number, _)| *number)?;
                let service = self.requests.remove(&number)?.service.to_owned();
                self.feed(Input::Withdraw { service, number })
            }
            Event::Abend => self.feed(Input::Abend),
        }
    }

    /// The deadline is taken down before anything is done that could keep this thread from its next look at the time; if the
    /// member stops, its guests end before anything else is done at all.
    fn feed(&mut self, input: Input) -> Option<Stopped> {
        let looked_at_ms = now_ms();
        let effects = self.member.handle(looked_at_ms, input);
        // One that stops has no deadline any more; the one before holds until its guests have ended.
        if !effects.iter().any(|effect| matches!(effect, Effect::Stop(_))) {
            self.fence.take_down(looked_at_ms, self.member.fence_at_ms());
        }
        let (mut stopped, mut unclaimed) = (None, Vec::new());
        let mut last_change = None;
        for effect in effects {
            match effect {
                Effect::Stop(why) => {
                    self.fence.end(End::of(&why));
                    self.handle.lock().stopped = Some(why.clone());
                    self.requests.clear();
                    stopped = Some(why);
                }
                Effect::Record(change) if stopped.is_some() => last_change = change,
                Effect::Answer(number, body) => unclaimed.extend(self.answer(number, body)),
                other => self.perform(other),
            }
        }
        self.publish();
        if stopped.is_some() {
            self.commands.clear();
        }
        if let Some(change) = last_change {
            self.record.last_word(change);
        }
        for input in unclaimed {
            stopped = stopped.or_else(|| self.feed(input));
        }
        stopped
    }

    /// Nothing in here waits for anybody but another thread that does as little.
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Record(change) => self.record.operate(change),
            Effect::Send(to, message) => self.mesh.send(to, &message),
            Effect::Console(text) => self.console.tell(&text),
            Effect::Reply(number, outcome) => {
                if let Some(answer) = self.commands.remove(&number) {
                    let _ = answer.send(outcome);
                }
            }
            Effect::Changed(_) | Effect::Answer(..) | Effect::Stop(_) => {}
        }
    }

    /// Gives an answer to whoever waits for it; if nobody does, the core hears of that.
    fn answer(&mut self, number: u64, answer: Vec<u8>) -> Option<Input> {
        let request = self.requests.remove(&number)?;
        if request.ticket.answer() {
            let _ = request.answer.send(answer);
            return None;
        }
        let service = request.service.to_owned();
        Some(Input::Unclaimed { service, request: request.body, answer })
    }

    fn publish(&self) {
        let view = self.member.view();
        let mut snapshot = self.handle.lock();
        (snapshot.mode, snapshot.states) = (view.mode, view.states);
        snapshot.waits_for = self.member.waits_for();
        if let Some(record) = self.member.record() {
            snapshot.record = Some(*record);
        }
        let logon =
            self.member.services().iter().find_map(|service| service.as_any().downcast_ref::<Logon>());
        if let Some(logon) = logon {
            snapshot.users = logon.here().collect();
            snapshot.users_elsewhere = logon.elsewhere().collect();
        }
    }
}
