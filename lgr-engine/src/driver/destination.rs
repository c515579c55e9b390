//! Drives the destination: room for the guest, arrivals, the owner record, the guest's first step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_mem::{Run as PageRun, Runs};
use isfc::{Link, LinkEvent};

use super::device_notes::DeviceNotes;
use super::halves::{UsageMark, check_peer, fill_experience, fill_half};
use super::record::{RecordDesk, Word, taken_over};
use super::source::region_of;
use super::verify::{Exchange, check_manifest, keep_running};
use super::{Asked, Cancel, Heard, LOOK_EVERY, warning};
use crate::arrivals::{Arrivals, NOTICE_ARRIVALS};
use crate::calm::calmly;
use crate::destination::{Destination, Effect, Input};
use crate::event::{Event, Observer};
use crate::fault::{Fault, Faults, Step};
use crate::guest::{Guest, GuestFactory, Phase};
use crate::message::{Message, Offer};
use crate::owner::{CasOutcome, GuestName, MemberName, OwnerVolume, Running};
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
    // The seat is kept until the guest that was received has been stopped.
    let Run { core, guest, running: _running, .. } = run;
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
        match taken_over(volume, offer.guest, offer.owner_nonce, options.member) {
            Ok(None) => {}
            Ok(Some(text)) => {
                report.finish = Finish::new(FinishCode::GuestEnded, text);
                report.runs_on = RunsOn::Unknown;
            }
            Err(why) => observer
                .event(Event::Note { text: format!("the owner record cannot be read once more: {why}") }),
        }
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
    clock: Instant,
    desk: Option<RecordDesk>,
    running: Option<Running>,
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
            clock: Instant::now(),
            desk: None,
            running: None,
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
        let mut heard = Heard::default();
        loop {
            while let Some(input) = inputs.pop_front() {
                for effect in self.core.handle(self.clock.elapsed(), input) {
                    if let Effect::Finish(finish, runs_on) = effect {
                        cancel.set_holds_guest(false);
                        return (finish, runs_on);
                    }
                    if matches!(effect, Effect::TakeOwnership { .. }) {
                        cancel.set_holds_guest(true);
                    }
                    inputs.extend(self.perform(effect));
                }
            }
            inputs.extend(match heard.next(cancel) {
                Some(Asked::Cancel) => {
                    let why = "cancelled by the operator of the destination".to_owned();
                    Some(Input::Cancel(FinishCode::Cancelled, why))
                }
                Some(Asked::Warning) => {
                    self.warn();
                    None
                }
                Some(Asked::GiveUp) => Some(Input::GiveUp),
                None => self.hear_record().or_else(|| self.wait()),
            });
            if self.core.poll_timeout().is_some_and(|at| at <= self.clock.elapsed()) {
                inputs.push_back(Input::Tick);
            }
        }
    }

    fn warn(&self) {
        if let Some(offer) = self.core.offer() {
            self.observer.event(Event::Note { text: warning(offer.guest) });
        }
    }

    fn wait(&mut self) -> Option<Input> {
        if let Some(why) = self.arrivals.as_ref().and_then(|arrivals| arrivals.trouble()) {
            return Some(Input::Failed(why));
        }
        let until = self.core.poll_timeout().map(|at| at.saturating_sub(self.clock.elapsed()));
        match self.link.recv(until.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)) {
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
            // The record's notice only wakes this side to hear it.
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
                let guest = self.guest.as_mut()?;
                let loaded = calmly("loading the guest's state", || guest.load_state(&state));
                self.strike(Step::State);
                Some(match loaded {
                    Ok(Ok(())) => Input::StateLoaded,
                    Ok(Err(error)) => Input::Failed(format!("the guest's state cannot be loaded: {error}")),
                    Err(why) => Input::Failed(why),
                })
            }
            Effect::TryRecord(number) => {
                self.desk.as_ref()?.try_it(number);
                None
            }
            // The record's desk was opened with the epoch of the offer.
            Effect::TakeOwnership { .. } => {
                self.name_pass();
                self.stage = tracing::info_span!(target: "lgr", "commit");
                self.strike(Step::Commit);
                self.desk.as_ref()?.change(self.member);
                None
            }
            Effect::Abandon => {
                let desk = self.desk.as_ref()?;
                desk.call_off().then(|| Input::Abandoned(desk.waits_for()))
            }
            Effect::Resume => {
                let started = Instant::now();
                let guest = self.guest.as_mut()?;
                // Over with the first pass, and long ago: what runs may be tracked.
                self.arrivals.iter().for_each(|arrivals| arrivals.join_ahead());
                guest.enter_phase(Phase::After);
                let resumed = calmly("resuming the guest", || guest.resume());
                self.stage = tracing::Span::none();
                if resumed.is_ok() {
                    self.observer.event(Event::Running { side: Side::Destination });
                }
                self.strike(Step::Resumed);
                let resume_ns = started.elapsed().as_nanos() as u64;
                Some(match resumed {
                    Ok(Ok(())) => Input::Resumed { resume_ns },
                    Ok(Err(error)) => Input::Failed(error.to_string()),
                    Err(why) => Input::Failed(why),
                })
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
        if offer.source == self.member {
            let name = self.member;
            return Err(format!("both members are called {name}: give one of them another name (--member)"));
        }
        self.check_record(offer)?;
        self.running = Some(self.volume.join(offer.guest, self.member).map_err(|error| error.to_string())?);
        let observer = self.observer;
        let progress = |done_bytes: u64, total_bytes: u64| {
            let what = "making memory ready".to_owned();
            observer.event(Event::Preparing { side: Side::Destination, what, done_bytes, total_bytes });
        };
        let made = calmly("making a skeleton guest", || self.factory.skeleton(offer, &progress))?;
        let guest = made.map_err(|error| error.to_string())?;
        let (here, there) = (guest.storage().len_bytes(), offer.storage_len_bytes);
        if here < there {
            return Err(format!(
                "the guest made here has {here} bytes of storage, the one on offer has {there}"
            ));
        }
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

    /// Both members must look at the same record, and this one must be able to change it.
    fn check_record(&mut self, offer: &Offer) -> Result<(), String> {
        let record = self.volume.read(offer.guest).map_err(|error| {
            format!("{error} (both members need the same volume: give both --volume with a shared directory)")
        })?;
        let seen = (offer.owner_epoch, offer.owner_nonce);
        if (record.epoch, record.nonce) != seen {
            return Err(format!(
                "the owner record of {} in {} is not the one the source has: give both members the same --volume",
                offer.guest,
                self.volume.dir().display()
            ));
        }
        let tried = self.volume.try_for_writing(offer.guest, seen);
        tried.map_err(|error| format!("the owner record cannot be written here: {error}"))?;
        self.desk = Some(RecordDesk::open(self.volume, offer.guest, seen, self.link.notifier()));
        Ok(())
    }

    fn hear_record(&mut self) -> Option<Input> {
        Some(match self.desk.as_mut()?.hear()? {
            Word::Tried(number, tried) => Input::RecordTried(number, tried),
            Word::Changed(CasOutcome::Updated(record), took) => {
                self.strike(Step::Committed);
                Input::Taken { owner_epoch: record.epoch, commit_ns: took.as_nanos() as u64 }
            }
            Word::Changed(CasOutcome::Lost(record), _) => Input::NotTaken { owner: record.owner },
            Word::CalledOff(waited_for) => Input::Abandoned(waited_for),
            Word::Waits(what) => {
                let guest = self.core.offer()?.guest;
                let text = format!("waits for the owner record of {guest}: {what}");
                self.observer.event(Event::Note { text });
                return None;
            }
            Word::Gone => Input::Failed("the thread that speaks with the owner record is gone".to_owned()),
        })
    }
}
