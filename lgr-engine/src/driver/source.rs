//! Drives the source: harvests, passes, the guest, the owner record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_mem::{PAGE_SIZE, Runs};
use isfc::{Link, LinkEvent, Region};

use super::device_notes::DeviceNotes;
use super::halves::{UsageMark, check_peer, fill_half, fill_timeline};
use super::packing::packing_for;
use super::record::{NOTICE_RECORD, RecordDesk, Word, taken_over};
use super::verify::{Exchange, check_own, offer_manifest};
use super::{Asked, Cancel, Heard, LOOK_EVERY, warning};
use crate::calm::calmly;
use crate::codec::Compress;
use crate::codec::packing::Packing;
use crate::event::{Event, Observer};
use crate::fault::{Fault, Faults, Step};
use crate::feed::{Feed, GUEST_STORAGE, Pass};
use crate::guest::{Guest, Phase};
use crate::limit::RateLimit;
use crate::message::{Message, Offer, stretches_of};
use crate::owner::{CasOutcome, MemberName, OwnerRecord, OwnerVolume, Running};
use crate::policy::{DefaultPolicy, Limits, PassPolicy};
use crate::report::{Finish, FinishCode, PassKind, Report, RunsOn, Side};
use crate::source::{Effect, Input, Outcome, PassSent, Prediction, Source};

mod report;

/// How a guest is to be moved.
pub struct SourceOptions {
    /// This member.
    pub member: MemberName,
    /// MAXTOTAL, MAXQUIESCE, IMMEDIATE, most passes.
    pub limits: Limits,
    /// The stop rule.
    pub policy: Box<dyn PassPolicy>,
    /// Limit for all queues together.
    pub rate_limit: RateLimit,
    /// Hash live memory on its way too (through a private copy), not only memory that stands still.
    pub hash_live: bool,
    /// When pages are packed.
    pub compress: Compress,
    /// Compare the memory after the move.
    pub verify: bool,
    /// How long the guest runs after the move (wherever it is) before it is compared.
    pub run_after: Duration,
    /// What forming the link has taken, if it was formed for this move: a part of the whole, and of MAXTOTAL.
    pub link_formed_in: Duration,
    /// The lock of the process that runs the guest, let go of when it runs elsewhere.
    pub running: Option<Arc<Running>>,
    /// Faults on purpose.
    pub faults: Vec<Fault>,
}

impl SourceOptions {
    /// The defaults for `member`.
    pub fn new(member: MemberName) -> Self {
        Self {
            member,
            limits: Limits::default(),
            policy: Box::new(DefaultPolicy::default()),
            rate_limit: RateLimit::unlimited(),
            hash_live: false,
            compress: Compress::Auto,
            verify: true,
            run_after: Duration::from_millis(500),
            link_formed_in: Duration::ZERO,
            running: None,
            faults: Vec::new(),
        }
    }
}

impl std::fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceOptions").field("member", &self.member).finish_non_exhaustive()
    }
}

/// Moves `guest`, which runs here by `record`, to the member at the other end of `link`, and reports
/// what happened. The guest runs on exactly one side when this returns, and if that is this one, it
/// still runs.
pub fn relocate(
    guest: &mut dyn Guest,
    link: &Link,
    volume: &OwnerVolume,
    record: &OwnerRecord,
    options: SourceOptions,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Report {
    let rate_limit = options.rate_limit.bytes_per_s().map(u64::from);
    let policy = options.policy.rule();
    let mut run = Run::new(guest, link, volume, record, options, observer);
    let outcome = run.until_finished(cancel);
    run.faults.missed().chain(run.device_notes.rest()).for_each(|text| run.note(text));
    let resent_bytes: u64 = run.passes.iter().map(|sent| sent.pass.resent_bytes()).sum();
    if resent_bytes > 0 {
        run.note(format!("{} of memory had to be sent again", crate::report::table::size(resent_bytes)));
    }
    let cpu_s = run.cpu_s();
    let mut report = run.report(&outcome, &policy, rate_limit);
    fill_half(&mut report, Side::Source, link, cpu_s);
    if let Some(first) = run.passes.first() {
        fill_timeline(&mut report, link, first.began);
    }
    let (run_after, verify) = (run.run_after, run.verify);
    let exchange = Exchange { link, observer, cancel };
    match outcome.runs_on {
        RunsOn::Destination => offer_manifest(&exchange, guest, &mut report, verify, run_after),
        RunsOn::Source => check_own(&exchange, guest, &mut report, verify, run_after),
        RunsOn::Nobody | RunsOn::Unknown => {}
    }
    confirm_owner(guest, volume, record, &mut report, observer);
    report.derive_fields();
    report
}

/// A guest that was taken over meanwhile is not ours to speak of, and does not run on here.
fn confirm_owner(
    guest: &mut dyn Guest,
    volume: &OwnerVolume,
    record: &OwnerRecord,
    report: &mut Report,
    observer: &dyn Observer,
) {
    let owner = match report.runs_on {
        RunsOn::Source => report.source,
        RunsOn::Destination => report.destination,
        RunsOn::Nobody | RunsOn::Unknown => return,
    };
    match taken_over(volume, record.guest, record.nonce, owner) {
        Ok(None) => {}
        Ok(Some(text)) => {
            if report.runs_on == RunsOn::Source
                && let Err(error) = guest.quiesce()
            {
                observer.event(Event::Note { text: format!("the guest cannot be stopped: {error}") });
            }
            report.finish = Finish::new(FinishCode::GuestEnded, text);
            report.runs_on = RunsOn::Unknown;
        }
        Err(why) => {
            observer.event(Event::Note { text: format!("the owner record cannot be read once more: {why}") })
        }
    }
}

/// A pass that was sent, or is being sent.
struct Sent {
    epoch: u32,
    pass: Arc<Pass>,
    began: Instant,
}

/// The pass that is under way.
struct Current {
    number: u32,
    kind: PassKind,
    pass: Arc<Pass>,
    began: Instant,
    /// Closed when the pass is over.
    _span: tracing::Span,
}

/// A stage of the move outside the passes, for whoever follows the spans: `--trace` and `--flamegraph` of the command do.
macro_rules! stage {
    ($name:literal) => {
        tracing::info_span!(target: "lgr", $name)
    };
}

struct Run<'a> {
    guest: &'a mut dyn Guest,
    link: &'a Link,
    record: &'a OwnerRecord,
    observer: &'a dyn Observer,
    member: MemberName,
    limits: Limits,
    run_after: Duration,
    verify: bool,
    faults: Faults,
    core: Source,
    desk: RecordDesk,
    running: Option<Arc<Running>>,
    clock: Instant,
    feed: Arc<Feed>,
    compress: Compress,
    /// Why nothing is packed, if so.
    why_not_packed: Option<String>,
    /// Made, and not told yet.
    dictionary: Option<Vec<u8>>,
    current: Option<Current>,
    passes: Vec<Sent>,
    pending: Runs,
    touched_bytes: u64,
    /// The guest has been stopped, for this move.
    stopped: bool,
    destination: MemberName,
    last_progress: Instant,
    device_notes: DeviceNotes,
    /// From the offer to the first pass.
    preparing: Option<tracing::Span>,
    /// Set anew with the first pass: to wait for the destination is not to move the guest.
    usage: UsageMark,
    /// What it took to begin to record writes.
    tracking_cpu_s: f64,
}

impl<'a> Run<'a> {
    fn new(
        guest: &'a mut dyn Guest,
        link: &'a Link,
        volume: &'a OwnerVolume,
        record: &'a OwnerRecord,
        options: SourceOptions,
        observer: &'a dyn Observer,
    ) -> Self {
        // The wish: what is found out of the guest before the offer is a part of the move.
        let now = Instant::now();
        let storage = guest.storage().clone();
        let touched = storage.touched().unwrap_or_default();
        // A guest that cannot be compared is not offered for comparison: nobody would wait for it.
        let verify = options.verify && guest.verifier().is_some();
        let offer = Offer {
            guest: record.guest,
            source: options.member,
            storage_len_bytes: storage.len_bytes(),
            touched_len_bytes: touched.bytes(),
            page_size_bytes: PAGE_SIZE as u32,
            backing: crate::workload::backing_number(storage.backing()),
            verify,
            answers: true,
            run_after_ms: options.run_after.as_millis() as u64,
            owner_epoch: record.epoch,
            owner_nonce: record.nonce,
            stretches: stretches_of(&touched),
        };
        let limit = options.rate_limit.bytes_per_s().map(u64::from);
        let packing = packing_for(options.compress, link, &storage, &touched, limit);
        let why_not_packed = packing.as_ref().err().cloned();
        let feed = Feed::new(storage, options.rate_limit, options.hash_live).with_packing(packing.ok());
        let core = Source::new(offer, options.limits, options.policy, PAGE_SIZE as u64)
            .with_link_formed_in(options.link_formed_in);
        Self {
            guest,
            link,
            record,
            observer,
            member: options.member,
            limits: options.limits,
            run_after: options.run_after,
            verify,
            faults: Faults::of(Side::Source, &options.faults),
            core,
            desk: RecordDesk::open(volume, record.guest, (record.epoch, record.nonce), link.notifier()),
            running: options.running,
            clock: now,
            feed: Arc::new(feed),
            compress: options.compress,
            why_not_packed,
            dictionary: None,
            current: None,
            passes: Vec::new(),
            pending: Runs::new(),
            touched_bytes: touched.bytes(),
            stopped: false,
            destination: options.member,
            last_progress: now,
            device_notes: DeviceNotes::new(now),
            preparing: Some(stage!("prepare")),
            usage: UsageMark::now(),
            tracking_cpu_s: 0.0,
        }
    }

    /// Processor seconds that the move has taken here.
    fn cpu_s(&self) -> f64 {
        self.usage.elapsed_s() + self.tracking_cpu_s
    }

    fn connect(&mut self) -> Result<(), String> {
        let region = region_of(self.guest)?;
        self.link.register(region).map_err(|error| error.to_string())?;
        self.feed.set_notifier(self.link.notifier());
        self.link.set_source(self.feed.clone());
        Ok(())
    }

    fn until_finished(&mut self, cancel: &Cancel) -> Outcome {
        let mut inputs = VecDeque::from([Input::Start]);
        if let Err(why) = self.connect() {
            inputs.push_back(Input::Failed(why));
        }
        let mut heard = Heard::default();
        loop {
            while let Some(input) = inputs.pop_front() {
                for effect in self.core.handle(self.clock.elapsed(), input) {
                    if let Effect::Finish(outcome) = effect {
                        self.feed.end();
                        self.desk.call_off();
                        self.guest.tracker().stop();
                        cancel.set_holds_guest(false);
                        return *outcome;
                    }
                    // From the commit mark on, only an answer may let the guest run.
                    if matches!(&effect, Effect::Send(Message::PassEnd(end)) if end.commit) {
                        cancel.set_holds_guest(true);
                    }
                    inputs.extend(self.perform(effect));
                }
            }
            inputs.extend(match heard.next(cancel) {
                Some(Asked::Cancel) => {
                    Some(Input::Cancel(FinishCode::Cancelled, "cancelled by the operator".into()))
                }
                Some(Asked::Warning) => {
                    self.note(warning(self.record.guest));
                    None
                }
                Some(Asked::GiveUp) => Some(Input::GiveUp),
                None => self.hear_record().or_else(|| self.wait()),
            });
            // A busy link must not keep a deadline from being seen.
            if self.core.poll_timeout().is_some_and(|at| at <= self.clock.elapsed()) {
                inputs.push_back(Input::Tick);
            }
        }
    }

    /// Waits for the link or the next deadline.
    fn wait(&mut self) -> Option<Input> {
        let until = self.core.poll_timeout().map(|at| at.saturating_sub(self.clock.elapsed()));
        let patience = until.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        self.show_progress();
        if let Some(failed) = self.tell_dictionary() {
            return Some(failed);
        }
        match self.link.recv(patience) {
            Ok(LinkEvent::Message(_, body)) => match Message::decode(&body) {
                Ok(Message::Accepted { member: destination, answers }) => {
                    if let Err(why) = check_peer(self.link, destination) {
                        return Some(Input::Failed(why));
                    }
                    self.destination = destination;
                    self.strike(Step::Accepted);
                    Some(Input::Message(Message::Accepted { member: destination, answers }))
                }
                Ok(Message::DictionaryTaken) => {
                    self.feed.packing().into_iter().for_each(Packing::dictionary_taken);
                    None
                }
                Ok(message) => Some(Input::Message(message)),
                Err(error) => Some(Input::Failed(format!("the destination sent nonsense: {error}"))),
            },
            Ok(LinkEvent::Notice(NOTICE_RECORD)) => None,
            Ok(LinkEvent::Notice(epoch)) => self.pass_sent(epoch),
            Ok(LinkEvent::DeviceDown(device, why)) => {
                let text = self.device_notes.down(device, &why, Instant::now());
                text.into_iter().for_each(|text| self.note(text));
                // What it carried waits to be sent again by the others.
                self.link.kick(usize::MAX);
                None
            }
            Ok(LinkEvent::DeviceUp(device)) => {
                let text = self.device_notes.up(device, Instant::now());
                text.into_iter().for_each(|text| self.note(text));
                None
            }
            Ok(LinkEvent::LinkDown(why)) => Some(Input::LinkDown(why.to_string())),
            Err(_) => None,
        }
    }

    /// Makes the dictionary when pages begin to be packed, if need be while the destination makes ready, and tells it once
    /// there is somebody to take it; never while the guest is stopped.
    fn tell_dictionary(&mut self) -> Option<Input> {
        let packing = self.feed.packing().filter(|_| self.link.takes_dictionaries() && !self.stopped)?;
        let runs = self.current.as_ref().map_or(&self.pending, |current| current.pass.runs());
        if let Some(message) = packing.make_dictionary(self.guest.storage(), runs) {
            self.dictionary = Some(message);
        }
        self.current.as_ref()?;
        let dictionary = self.dictionary.take()?;
        self.feed.count_message(dictionary.len() as u64);
        self.send(&Message::Dictionary(dictionary))
    }

    fn pass_sent(&self, epoch: u64) -> Option<Input> {
        let sent = self.passes.last().filter(|sent| u64::from(sent.epoch) == epoch)?;
        Some(Input::PassSent(PassSent { epoch: sent.epoch, totals: sent.pass.totals() }))
    }

    fn show_progress(&mut self) {
        if self.last_progress.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.last_progress = Instant::now();
        if let Some(current) = &self.current {
            self.observer.event(Event::PassProgress {
                number: current.number,
                done_bytes: current.pass.sent_bytes(),
                total_bytes: current.pass.runs().bytes(),
            });
        }
    }

    fn strike(&self, step: Step) {
        self.faults.strike(step, self.link);
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send(message) => self.send(&message),
            Effect::BeginPass { number, kind, epoch } => self.begin_pass(number, kind, epoch),
            Effect::RepeatPass { epoch } => {
                let Current { number, kind, pass, .. } = self.current.take()?;
                let again = pass.again(epoch, self.link.devices());
                self.start_pass(number, kind, epoch, again);
                None
            }
            Effect::Harvest => self.harvest(),
            Effect::Predicted(Prediction { pass: number, left_bytes, quiesce_ms, limit_ms }) => {
                self.observer.event(Event::Predicted { number, left_bytes, quiesce_ms, limit_ms });
                None
            }
            Effect::Quiesce => {
                let _stage = stage!("stop");
                let stopped = calmly("stopping the guest", || self.guest.quiesce());
                self.stopped = true;
                self.observer.event(Event::Quiesced);
                self.strike(Step::Quiesce);
                Some(match stopped {
                    Ok(Ok(())) => Input::Stopped,
                    Ok(Err(error)) => Input::Failed(error.to_string()),
                    Err(why) => Input::Failed(why),
                })
            }
            Effect::SendState => match calmly("saving the guest's state", || self.guest.save_state()) {
                Ok(Ok(state)) => {
                    let failed = self.send(&Message::State(state));
                    self.strike(Step::State);
                    failed.or(Some(Input::StateSent))
                }
                Ok(Err(error)) => Some(Input::Failed(format!("the guest's state cannot be saved: {error}"))),
                Err(why) => Some(Input::Failed(why)),
            },
            Effect::Resume => {
                match calmly("resuming the guest", || self.guest.resume()) {
                    Ok(Ok(())) => self.observer.event(Event::Running { side: Side::Source }),
                    Ok(Err(error)) => self.note(format!("the guest cannot be resumed: {error}")),
                    Err(why) => self.note(why),
                }
                None
            }
            Effect::TryRecord(number) => {
                self.desk.try_it(number);
                None
            }
            Effect::Withdraw => {
                self.desk.change(self.member);
                None
            }
            Effect::Release => {
                self.running.take().iter().for_each(|running| running.leave());
                self.finish_pass();
                self.observer.event(Event::Running { side: Side::Destination });
                None
            }
            Effect::Finish(_) => None,
        }
    }

    fn note(&self, text: String) {
        self.observer.event(Event::Note { text });
    }

    /// Begins to record writes and lists the touched pages. Both take some 10 ms per GiB, which the destination needs
    /// to make ready anyway.
    fn track(&mut self) -> Result<(), String> {
        // Recording starts before the pages are listed: one that is touched in between is in both.
        let usage = UsageMark::now();
        calmly("tracking writes", || self.guest.tracker().start())?
            .map_err(|error| format!("writes cannot be tracked: {error}"))?;
        self.pending = self.guest.storage().touched().map_err(|error| error.to_string())?;
        self.tracking_cpu_s = usage.elapsed_s();
        Ok(())
    }

    fn send(&mut self, message: &Message) -> Option<Input> {
        let sent = self.link.send(message.socket(), &message.encode());
        match message {
            Message::Offer(_) => {
                self.strike(Step::Offer);
                if let Err(why) = self.track() {
                    return Some(Input::Failed(why));
                }
            }
            Message::PassEnd(end) if end.commit => self.strike(Step::Commit),
            _ => {}
        }
        // A link that went down says so itself; anything else is a defect worth naming.
        match sent {
            Ok(()) | Err(isfc::LinkError::Down(_)) => None,
            Err(error) => Some(Input::Failed(error.to_string())),
        }
    }

    fn begin_pass(&mut self, number: u32, kind: PassKind, epoch: u32) -> Option<Input> {
        self.finish_pass();
        if kind == PassKind::First {
            self.usage = UsageMark::now();
            self.guest.enter_phase(Phase::During);
            // What was written while the destination made ready goes with the first pass and not once more with the
            // second; what was touched for the first time since then was written, too.
            match self.collect() {
                Ok(written) => self.pending = self.pending.union(&written),
                Err(why) => return Some(Input::Failed(why)),
            }
            self.touched_bytes = self.pending.bytes();
        }
        let runs = std::mem::take(&mut self.pending);
        let stable = matches!(kind, PassKind::Penultimate | PassKind::Final);
        let pass = Pass::new(epoch, runs, stable, self.link.devices());
        self.strike(match kind {
            PassKind::Penultimate => Step::Penultimate,
            PassKind::Final => Step::Final,
            _ => Step::Pass(number),
        });
        self.start_pass(number, kind, epoch, pass);
        None
    }

    fn start_pass(&mut self, number: u32, kind: PassKind, epoch: u32, pass: Pass) {
        self.preparing = None;
        let pass = Arc::new(pass);
        let pages = pass.pages();
        let began = Instant::now();
        let span = tracing::info_span!(target: "lgr", "pass", number, kind = kind.name(), pages);
        self.current = Some(Current { number, kind, pass: pass.clone(), began, _span: span });
        self.passes.push(Sent { epoch, pass: pass.clone(), began });
        self.feed.begin(pass.clone());
        self.link.kick(usize::MAX);
        self.observer.event(Event::PassStarted { number, kind, pages });
    }

    fn finish_pass(&mut self) {
        if let Some(Current { number, kind, pass, began, .. }) = self.current.take() {
            let ms = ms(began.elapsed());
            self.observer.event(Event::PassDone { number, kind, pages: pass.pages(), ms });
        }
    }

    fn harvest(&mut self) -> Option<Input> {
        // The penultimate pass is still under way when what was written before the stop is looked for.
        if self.current.as_ref().is_some_and(|current| current.kind != PassKind::Penultimate) {
            self.finish_pass();
        }
        let _stage = stage!("harvest");
        let found = match self.collect() {
            Ok(found) => found,
            Err(why) => return Some(Input::Failed(why)),
        };
        self.pending = if self.pending.is_empty() { found } else { self.pending.union(&found) };
        Some(Input::Harvested { pages: self.pending.pages().get() })
    }

    /// The pages written since the last time. The only place where a tracker's word comes in, and it may be anybody's: a
    /// page outside of storage would be read from there by a device.
    fn collect(&mut self) -> Result<Runs, String> {
        let storage_pages = self.guest.storage().pages();
        let mut found = Runs::new();
        let harvested = calmly("collecting changed pages", || match self.stopped {
            true => self.guest.tracker().harvest_last(&mut found),
            false => self.guest.tracker().harvest(&mut found),
        });
        harvested?
            .and_then(|_| guest_mem::check_inside(&found, storage_pages))
            .map_err(|error| format!("changed pages cannot be collected: {error}"))?;
        Ok(found)
    }

    fn hear_record(&mut self) -> Option<Input> {
        Some(match self.desk.hear()? {
            Word::Tried(number, tried) => Input::RecordTried(number, tried),
            Word::Changed(CasOutcome::Updated(_), _) => Input::Withdrawn,
            Word::Changed(CasOutcome::Lost(record), _) => Input::WithdrawLost { owner: record.owner },
            Word::Waits(what) => {
                self.note(format!("waits for the owner record of {}: {what}", self.record.guest));
                return None;
            }
            Word::CalledOff(_) => return None,
            Word::Gone => Input::Failed("the thread that speaks with the owner record is gone".to_owned()),
        })
    }
}

pub(super) fn region_of(guest: &dyn Guest) -> Result<Region, String> {
    let storage = guest.storage().clone();
    let base = std::ptr::NonNull::new(storage.as_ptr()).ok_or("guest storage at address zero")?;
    let len_bytes = storage.len_bytes();
    let file = storage.fd().try_clone_to_owned().map_err(|error| format!("guest storage: {error}"))?;
    // SAFETY: the storage is mapped for as long as the Arc lives, and guest memory is only ever accessed
    // by raw pointer.
    let region = unsafe { Region::new(GUEST_STORAGE, base, len_bytes, storage) };
    Ok(region.backed_by(Arc::new(file)))
}

pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
