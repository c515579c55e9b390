//! Drives the destination: room for the guest, arrivals, the owner record, the guest's first step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_mem::{Run as PageRun, Runs};
use isfc::{Link, LinkEvent};

use super::device_notes::DeviceNotes;
use super::halves::{UsageMark, check_peer, fill_experience, fill_half};
use super::source::region_of;
use super::verify::{Exchange, check_manifest, keep_running};
use super::{Cancel, LOOK_EVERY, take_record};
use crate::arrivals::{Arrivals, NOTICE_ARRIVALS};
use crate::destination::{Destination, Effect, Input};
use crate::event::{Event, Observer};
use crate::fault::{Fault, Faults, Step};
use crate::guest::{Guest, GuestFactory, Phase};
use crate::message::{Message, Offer};
use crate::owner::{CasOutcome, GuestName, MemberName, OwnerVolume};
use crate::report::{Finish, FinishCode, PassKind, Report, RunsOn, Side};

/// How this member takes guests.
#[derive(Clone, Debug)]
pub struct DestinationOptions {
    /// This member.
    pub member: MemberName,
    /// Faults on purpose.
    pub faults: Vec<Fault>,
}

/// Takes one guest over `link` and reports what happened. When this returns, the guest (if it came) has
/// run for as long as the source asked, has been checked and is stopped.
pub fn receive(
    factory: &mut dyn GuestFactory,
    link: &Link,
    volume: &OwnerVolume,
    options: &DestinationOptions,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Report {
    let mut run = Run::new(factory, link, volume, options, observer);
    let (finish, runs_on) = run.until_finished(cancel);
    run.faults.missed().chain(run.device_notes.rest()).for_each(|text| observer.event(Event::Note { text }));
    let cpu_s = run.usage.elapsed_s();
    let Run { core, guest, .. } = run;
    let offer = core.offer().cloned();
    let nobody = GuestName::new("UNKNOWN").expect("a valid name");
    let unknown = MemberName::new("UNKNOWN").expect("a valid name");
    let guest_name = offer.as_ref().map_or(nobody, |offer| offer.guest);
    let source = offer.as_ref().map_or(unknown, |offer| offer.source);
    let mut report = Report::new(Side::Destination, guest_name, source, options.member, finish);
    report.runs_on = runs_on;
    fill_half(&mut report, Side::Destination, link, cpu_s);
    if let (RunsOn::Destination, Some(mut guest), Some(offer)) = (runs_on, guest, offer) {
        report.guest_memory_bytes = offer.storage_len_bytes;
        let exchange = Exchange { link, observer, cancel };
        after_the_move(&exchange, &mut *guest, &offer, &mut report);
    }
    report.derive_fields();
    let message = Message::Report(report.to_json_pretty().into_bytes());
    if link.send(message.socket(), &message.encode()).is_ok() {
        // The source may be gone; then there is nobody to tell.
        let _ = link.flush(Duration::from_secs(5));
    }
    report
}

fn after_the_move(exchange: &Exchange<'_>, guest: &mut dyn Guest, offer: &Offer, report: &mut Report) {
    keep_running(exchange, Duration::from_millis(offer.run_after_ms));
    fill_experience(report, guest);
    if let Err(error) = guest.quiesce() {
        report.verification = Some(Default::default());
        if let Some(verification) = &mut report.verification {
            verification.add_fault(format!("the guest cannot be stopped to be checked: {error}"));
        }
        return;
    }
    if offer.verify {
        report.verification = check_manifest(exchange, guest);
    }
}

struct Run<'a> {
    factory: &'a mut dyn GuestFactory,
    link: &'a Link,
    volume: &'a OwnerVolume,
    observer: &'a dyn Observer,
    faults: Faults,
    member: MemberName,
    core: Destination,
    guest: Option<Box<dyn Guest>>,
    arrivals: Option<Arc<Arrivals>>,
    awaited_epoch: u32,
    device_notes: DeviceNotes,
    /// Set anew when the destination is ready: making memory ready is not moving it.
    usage: UsageMark,
    /// The stage of the move, closed when it is over, for whoever follows the spans. Of a pass only its end is told to this
    /// side: the next begins where one ends.
    stage: tracing::Span,
}

/// A pass whose kind its end will tell.
fn pass_span(number: u32) -> tracing::Span {
    tracing::info_span!(target: "lgr", "pass", number, kind = tracing::field::Empty)
}

impl<'a> Run<'a> {
    fn new(
        factory: &'a mut dyn GuestFactory,
        link: &'a Link,
        volume: &'a OwnerVolume,
        options: &DestinationOptions,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            factory,
            link,
            volume,
            observer,
            faults: Faults::of(Side::Destination, &options.faults),
            member: options.member,
            core: Destination::new(options.member),
            guest: None,
            arrivals: None,
            awaited_epoch: 0,
            device_notes: DeviceNotes::new(Instant::now()),
            usage: UsageMark::now(),
            stage: tracing::Span::none(),
        }
    }

    fn until_finished(&mut self, cancel: &Cancel) -> (Finish, RunsOn) {
        let mut inputs = VecDeque::new();
        let mut cancelled = false;
        loop {
            while let Some(input) = inputs.pop_front() {
                for effect in self.core.handle(input) {
                    if let Effect::Finish(finish, runs_on) = effect {
                        return (finish, runs_on);
                    }
                    inputs.extend(self.perform(effect));
                }
            }
            if cancel.is_requested() && !cancelled {
                cancelled = true;
                let why = "cancelled by the operator of the destination".to_owned();
                inputs.push_back(Input::Cancel(FinishCode::Cancelled, why));
                continue;
            }
            inputs.extend(self.wait());
        }
    }

    fn wait(&mut self) -> Option<Input> {
        if let Some(why) = self.arrivals.as_ref().and_then(|arrivals| arrivals.trouble()) {
            return Some(Input::Failed(why));
        }
        match self.link.recv(LOOK_EVERY) {
            Ok(LinkEvent::Message(_, body)) => match Message::decode(&body) {
                Ok(Message::Dictionary(dictionary)) => self.learn(&dictionary),
                Ok(message) => Some(Input::Message(message)),
                Err(error) => Some(Input::Failed(format!("the source sent nonsense: {error}"))),
            },
            Ok(LinkEvent::Notice(NOTICE_ARRIVALS)) => self.look_for_arrivals(),
            Ok(LinkEvent::DeviceDown(device, why)) => {
                let text = self.device_notes.down(device, &why, Instant::now());
                text.into_iter().for_each(|text| self.observer.event(Event::Note { text }));
                None
            }
            Ok(LinkEvent::DeviceUp(device)) => {
                let text = self.device_notes.up(device, Instant::now());
                text.into_iter().for_each(|text| self.observer.event(Event::Note { text }));
                None
            }
            Ok(LinkEvent::LinkDown(why)) => Some(Input::LinkDown(why.to_string())),
            Ok(LinkEvent::Notice(_)) | Err(_) => None,
        }
    }

    /// Takes the dictionary of packed pages, which the sequence of the move has nothing to do with.
    fn learn(&mut self, dictionary: &[u8]) -> Option<Input> {
        let arrivals = self.arrivals.as_ref().ok_or_else(|| "a dictionary before the guest".to_owned());
        match arrivals.and_then(|arrivals| arrivals.learn(dictionary)) {
            Ok(()) => self.send(&Message::DictionaryTaken),
            Err(why) => Some(Input::Failed(format!("the source sent nonsense: {why}"))),
        }
    }

    fn look_for_arrivals(&self) -> Option<Input> {
        let epoch = self.awaited_epoch;
        let (totals, damaged) = self.arrivals.as_ref()?.close(epoch)?;
        Some(Input::PassArrived { epoch, totals, damaged })
    }

    fn strike(&self, step: Step) {
        self.faults.strike(step, self.link);
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send(message) => self.send(&message),
            Effect::Prepare(offer) => {
                self.strike(Step::Offer);
                self.stage = tracing::info_span!(target: "lgr", "prepare");
                let prepared = self.prepare(&offer);
                self.stage = pass_span(1);
                self.usage = UsageMark::now();
                self.strike(Step::Accepted);
                Some(prepared.map_or_else(Input::NotPrepared, |()| Input::Prepared))
            }
            Effect::Await { epoch, transfers } => {
                self.awaited_epoch = epoch;
                if let Some(arrivals) = &self.arrivals {
                    arrivals.await_transfers(transfers);
                }
                None
            }
            Effect::LoadState(state) => {
                let loaded = self.guest.as_mut()?.load_state(&state);
                self.strike(Step::State);
                Some(loaded.map_or_else(
                    |error| Input::Failed(format!("the guest's state cannot be loaded: {error}")),
                    |()| Input::StateLoaded,
                ))
            }
            Effect::TakeOwnership { expected_epoch } => {
                self.name_pass();
                self.stage = tracing::info_span!(target: "lgr", "commit");
                Some(self.take_ownership(expected_epoch))
            }
            Effect::Resume => {
                let started = Instant::now();
                let guest = self.guest.as_mut()?;
                // Over with the first pass, and long ago: what runs may be tracked.
                self.arrivals.iter().for_each(|arrivals| arrivals.join_ahead());
                guest.enter_phase(Phase::After);
                let resumed = guest.resume();
                self.stage = tracing::Span::none();
                if resumed.is_ok() {
                    self.observer.event(Event::Running { side: Side::Destination });
                }
                self.strike(Step::Resumed);
                let resume_ns = started.elapsed().as_nanos() as u64;
                Some(
                    resumed.map_or_else(
                        |error| Input::Failed(error.to_string()),
                        |()| Input::Resumed { resume_ns },
                    ),
                )
            }
            Effect::Discard => {
                self.guest = None;
                None
            }
            Effect::Finish(..) => None,
        }
    }

    fn send(&mut self, message: &Message) -> Option<Input> {
        if let Message::PassOk(..) = message {
            self.strike_pass();
            self.name_pass();
            let number = self.core.last_pass().map_or(0, |end| end.pass + 1);
            self.stage = pass_span(number);
        }
        match self.link.send(message.socket(), &message.encode()) {
            Ok(()) | Err(isfc::LinkError::Down(_)) => None,
            Err(error) => Some(Input::Failed(error.to_string())),
        }
    }

    fn name_pass(&self) {
        if let Some(end) = self.core.last_pass() {
            self.stage.record("kind", end.kind.name());
        }
    }

    fn strike_pass(&self) {
        let Some(end) = self.core.last_pass() else { return };
        self.strike(match end.kind {
            PassKind::Penultimate => Step::Penultimate,
            PassKind::Final => Step::Final,
            _ => Step::Pass(end.pass),
        });
    }

    fn prepare(&mut self, offer: &Offer) -> Result<(), String> {
        check_peer(self.link, offer.source)?;
        let record = self.volume.read(offer.guest).map_err(|error| {
            format!("{error} (both members need the same volume: give both --volume with a shared directory)")
        })?;
        if (record.epoch, record.nonce) != (offer.owner_epoch, offer.owner_nonce) {
            return Err(format!(
                "the owner record of {} in {} is not the one the source has: give both members the same --volume",
                offer.guest,
                self.volume.dir().display()
            ));
        }
        let observer = self.observer;
        let progress = |done_bytes: u64, total_bytes: u64| {
            let what = "making memory ready".to_owned();
            observer.event(Event::Preparing { side: Side::Destination, what, done_bytes, total_bytes });
        };
        let guest = self.factory.skeleton(offer, &progress).map_err(|error| error.to_string())?;
        self.link.populate_shared();
        let coming = offer.stretches.iter().map(|(start, pages)| PageRun::new(*start, *pages)).collect();
        let arrivals = Arrivals::new(guest.storage().clone())
            .with_fresh_memory(&Runs::from_unsorted(coming))
            .map_err(|error| error.to_string())?;
        let arrivals = if self.link.packs() {
            arrivals.with_unpackers(self.link.devices()).map_err(|error| format!("zstd: {error}"))?
        } else {
            arrivals
        };
        let arrivals = Arc::new(arrivals);
        arrivals.set_notifier(self.link.notifier());
        self.link.register(region_of(&*guest)?).map_err(|error| error.to_string())?;
        self.link.set_sink(arrivals.clone());
        self.guest = Some(guest);
        self.arrivals = Some(arrivals);
        Ok(())
    }

    fn take_ownership(&mut self, expected_epoch: u64) -> Input {
        self.strike(Step::Commit);
        let started = Instant::now();
        let Some(offer) = self.core.offer() else {
            return Input::Failed("no guest is on offer".to_owned());
        };
        let seen = (expected_epoch, offer.owner_nonce);
        match take_record(self.volume, offer.guest, seen, self.member) {
            Ok(CasOutcome::Updated(record)) => {
                self.strike(Step::Committed);
                let commit_ns = started.elapsed().as_nanos() as u64;
                Input::Taken { owner_epoch: record.epoch, commit_ns }
            }
            Ok(CasOutcome::Lost(record)) => Input::NotTaken { owner: record.owner },
            Err(why) => Input::Failed(why),
        }
    }
}
