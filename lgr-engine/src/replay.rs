//! What would a relocation of this guest do? A recorded guest, a modelled link, and the source that the real engine runs.
//!
//! ```text
//!   trace ──▶ guest that writes what it wrote then ─┐
//!   rate, fixed cost ──▶ link ──────────────────────┼─▶ Source (the engine's own core) ─▶ Report
//!   limits, any PassPolicy ─────────────────────────┘          in virtual time
//! ```
//!
//! The decisions are not modelled: they are [`Source`]'s, with its passes, limits and deadlines. What is modelled is how
//! long things take, and that is little:
//!
//! - a pass takes its bytes over [`Model::rate_bytes_per_s`], and a third of [`Model::fixed_cost`] for its barrier;
//! - stopping the guest takes a third, the barrier of the penultimate pass a third, the commit a third: so a stop with
//!   nothing to send takes `fixed_cost`, as the engine's own estimate (three barriers) has it;
//! - collecting written pages takes no time: what it cost the guest is in the trace already.
//!
//! What a pass sends is the union of what was written since the pass before it was collected. A sample of the trace counts
//! as written at its end, so a prediction is as fine as the trace's interval. When the trace ends and the relocation does
//! not, the guest does the same again from the begin of the trace.
//!
//! ```
//! use std::num::NonZeroU64;
//! use std::time::Duration;
//! use guest_mem::{PageCount, Run, Runs};
//! use lgr_engine::policy::{FixedPasses, Limits};
//! use lgr_engine::replay::{Model, replay};
//! use lgr_engine::trace::{Header, Sample, Trace};
//!
//! // 1024 pages touched, and every 10 ms the same 8 are written.
//! let every = Duration::from_millis(10);
//! let written = Runs::from_run(Run::new(0, 8));
//! let samples = (1..=100).map(|n| Sample { at: every * n, written: written.clone() }).collect();
//! let touched = Runs::from_run(Run::new(0, 1024));
//! let trace = Trace::new(Header::new(PageCount(1024), every), touched, samples)?;
//!
//! // 4 pages in a millisecond: the first pass takes 256 ms, the second 2 ms.
//! let model = Model { rate_bytes_per_s: NonZeroU64::new(16_384_000).unwrap(), fixed_cost: Duration::ZERO };
//! let report = replay(&trace, &model, Limits::default(), Box::new(FixedPasses(2)));
//! let pages: Vec<u64> = report.passes.iter().map(|pass| pass.pages).collect();
//! assert_eq!(pages, [1024, 8, 0, 0]);
//! assert_eq!(report.total_ms, Some(258.0));
//! # Ok::<(), lgr_engine::trace::TraceError>(())
//! ```

mod guest;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use guest_mem::{PAGE_SIZE, Runs};

use self::guest::TracedGuest;
use crate::message::{Message, Offer, PassTotals};
use crate::owner::MemberName;
use crate::policy::{Limits, PassPolicy};
use crate::report::{EngineKind, FinishCode, LimitsGiven, PassReport, Report};
use crate::source::{Effect, Input, Outcome, PassDone, PassSent, Source};
use crate::trace::Trace;

/// Most passes of a replay: a rule that never ends is ended.
pub const REPLAY_PASSES_MAX: u32 = 10_000;

/// The link and the members, as far as a replay knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Guest memory that the link carries per second, in bytes, zero pages counted in full.
    pub rate_bytes_per_s: NonZeroU64,
    /// What stopping costs besides the pages. The engine itself never reckons with more than 20 ms of it, nor with less
    /// than 0.5 ms.
    pub fixed_cost: Duration,
}

impl Model {
    /// Pages that are over after so much time.
    fn pages_in(&self, time: Duration) -> u64 {
        let bytes = time.as_nanos().saturating_mul(u128::from(self.rate_bytes_per_s.get())) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX) / PAGE_SIZE as u64
    }

    fn transfer_time(&self, pages: u64) -> Duration {
        let ns =
            u128::from(pages) * PAGE_SIZE as u128 * 1_000_000_000 / u128::from(self.rate_bytes_per_s.get());
        // Longer than 584 years is as good as for ever.
        Duration::from_nanos(ns.try_into().unwrap_or(u64::MAX))
    }
}

/// Relocates the recorded guest in virtual time. A pure function: the same arguments give the same report.
///
/// The report is one of the source alone. Its fields mean what they do in a real one; `engine` is `modelled`, `medium` is
/// `trace`, each side's costs and queues are unknown, and pages are sent as they are, so that `wire_bytes` is `bytes`.
pub fn replay(trace: &Trace, model: &Model, limits: Limits, policy: Box<dyn PassPolicy>) -> Report {
    let policy_name = policy.rule();
    let core = Source::new(offer_of(trace), limits, policy, PAGE_SIZE as u64);
    let mut world = World {
        guest: TracedGuest::new(trace),
        model: *model,
        core,
        now: Duration::ZERO,
        inputs: VecDeque::from([(Duration::ZERO, Input::Start)]),
        pending: Runs::new(),
        passes_sent: Vec::new(),
    };
    let outcome = world.until_finished();
    world.report(trace, &outcome, &limits, policy_name)
}

/// Names in a report of a relocation that did not happen.
fn member(text: &str) -> MemberName {
    MemberName::new(text).expect("a valid name")
}

fn offer_of(trace: &Trace) -> Offer {
    Offer {
        guest: trace.header().guest,
        source: member("RECORDED"),
        storage_len_bytes: trace.header().pages.bytes(),
        touched_len_bytes: trace.touched().bytes(),
        page_size_bytes: PAGE_SIZE as u32,
        backing: 1,
        verify: false,
        answers: false,
        run_after_ms: 0,
        owner_epoch: 1,
        owner_nonce: 1,
        stretches: Vec::new(),
    }
}

fn accepted() -> Message {
    Message::Accepted { member: member("REPLAYED"), answers: false }
}

/// Everything around the core: the guest, the link, the destination and the time.
struct World<'a> {
    guest: TracedGuest<'a>,
    model: Model,
    core: Source,
    now: Duration,
    /// What the core will hear, in order of time.
    inputs: VecDeque<(Duration, Input)>,
    pending: Runs,
    /// Epoch, begin and pages of each pass.
    passes_sent: Vec<(u32, Duration, u64)>,
}

impl World<'_> {
    fn until_finished(&mut self) -> Outcome {
        loop {
            let input = self.next_input();
            for effect in self.core.handle(self.now, input) {
                match effect {
                    Effect::Finish(outcome) => return *outcome,
                    effect => self.perform(effect),
                }
            }
            if self.passes_sent.len() >= REPLAY_PASSES_MAX as usize {
                let why = format!("the stop rule has not ended after {REPLAY_PASSES_MAX} passes");
                self.inputs.push_front((self.now, Input::Cancel(FinishCode::Cancelled, why)));
            }
        }
    }

    /// The next thing to happen; a deadline that comes first is one.
    fn next_input(&mut self) -> Input {
        let timeout = self.core.poll_timeout();
        let next = self.inputs.front().map(|(at, _)| *at);
        let (at, input) = match (timeout, next) {
            (Some(timeout), Some(next)) if timeout <= next => (timeout, Input::Tick),
            (Some(timeout), None) => (timeout, Input::Tick),
            // The core waits only for what was promised to it, or for a deadline.
            _ => self.inputs.pop_front().expect("the source waits for something"),
        };
        self.now = at.max(self.now);
        input
    }

    /// Tells the core `after` from now; what was promised earlier for a later time comes later.
    fn promise(&mut self, after: Duration, input: Input) {
        let at = self.now.saturating_add(after);
        let place = self.inputs.partition_point(|(other, _)| *other <= at);
        self.inputs.insert(place, (at, input));
    }

    fn exchange(&self) -> Duration {
        self.model.fixed_cost / 3
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(Message::Offer(_)) => {
                self.promise(Duration::ZERO, Input::Message(accepted()));
            }
            Effect::Send(Message::PassEnd(end)) => {
                let exchange = self.exchange();
                let answer = match end.commit {
                    true => Message::Resumed {
                        owner_epoch: 2,
                        commit_ns: exchange.as_nanos() as u64,
                        resume_ns: 0,
                    },
                    false => Message::PassOk(end.epoch, end.totals),
                };
                self.promise(exchange, Input::Message(answer));
            }
            Effect::BeginPass { number, epoch, .. } => {
                if number == 1 {
                    self.guest.begin(self.now);
                    self.pending = self.guest.touched().clone();
                }
                let pages = std::mem::take(&mut self.pending).pages().get();
                self.passes_sent.push((epoch, self.now, pages));
                let totals = PassTotals { transfers: pages, pages, digest: 0 };
                self.promise(self.model.transfer_time(pages), Input::PassSent(PassSent { epoch, totals }));
            }
            Effect::Harvest => {
                self.pending = self.pending.union(&self.guest.written_until(self.now));
                let pages = self.pending.pages().get();
                self.promise(Duration::ZERO, Input::Harvested { pages });
            }
            Effect::Quiesce => {
                self.guest.stop(self.now + self.exchange());
                self.promise(self.exchange(), Input::Stopped);
            }
            Effect::TryRecord(number) => self.promise(Duration::ZERO, Input::RecordTried(number, Ok(()))),
            Effect::SendState => self.promise(Duration::ZERO, Input::StateSent),
            Effect::Withdraw => self.promise(Duration::ZERO, Input::Withdrawn),
            // No pass is ever damaged here, and after these the core asks for nothing more.
            Effect::Send(_)
            | Effect::Predicted(_)
            | Effect::RepeatPass { .. }
            | Effect::Resume
            | Effect::Release
            | Effect::Finish(_) => {}
        }
    }

    fn report(&self, trace: &Trace, outcome: &Outcome, limits: &Limits, policy: String) -> Report {
        let header = trace.header();
        let names = (member("RECORDED"), member("REPLAYED"));
        let mut report = Report::of_outcome(header.guest, names.0, names.1, outcome);
        report.limits = LimitsGiven::new(limits, None);
        report.guest_memory_bytes = header.pages.bytes();
        report.bytes_touched = Some(trace.touched().bytes());
        report.policy = policy;
        report.passes = outcome.passes.iter().map(|done| self.pass_report(done)).collect();
        let sent: u64 = report.passes.iter().map(|pass| pass.bytes).sum();
        (report.bytes_logical, report.bytes_wire) = (Some(sent), Some(sent));
        report.medium = "trace".to_owned();
        report.granule = header.granule_bytes.into();
        report.tracker = header.tracker.map_or("none".to_owned(), |tracker| tracker.to_string());
        report.engine = EngineKind::Modelled;
        report.derive_fields();
        report
    }

    fn pass_report(&self, done: &PassDone) -> PassReport {
        let sent = self.passes_sent.iter().find(|(epoch, ..)| *epoch == done.epoch);
        let began = sent.map(|(_, began, _)| *began);
        let first = self.passes_sent.first().map(|(_, began, _)| *began);
        let pages = match sent {
            Some((.., all)) if done.cut_short => self.model.pages_in(done.duration).min(*all),
            _ => done.pages,
        };
        let bytes = pages * PAGE_SIZE as u64;
        PassReport {
            number: done.number,
            kind: done.kind,
            pages,
            zero_pages: None,
            bytes,
            wire_bytes: bytes,
            ms: done.duration.as_secs_f64() * 1e3,
            dirty_pages_after: done.dirty_pages_after,
            cut_short: done.cut_short,
            predicted_quiesce_ms: done.predicted_quiesce_ms,
            dirty_rate_bytes_per_s: done.dirty_rate_bytes_per_s(),
            repeated: done.repeated,
            began_ms: began.zip(first).map(|(began, first)| (began - first).as_secs_f64() * 1e3),
        }
    }
}
