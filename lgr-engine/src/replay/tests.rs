//! Replays with known answers, and what holds for any.
#![allow(clippy::unwrap_used)]

use guest_mem::{PageCount, Run};
use proptest::prelude::*;

use super::*;
use crate::policy::{DefaultPolicy, FixedPasses, PassHistory, PolicyChoice, Reason, Threshold, Verdict};
use crate::report::{PassKind, RunsOn};
use crate::trace::{Header, Sample};

const PAGES: u64 = 1000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A page in a millisecond.
fn page_per_ms(fixed_cost: Duration) -> Model {
    Model { rate_bytes_per_s: NonZeroU64::new(4_096_000).unwrap(), fixed_cost }
}

/// A guest that writes `pages` new pages in each millisecond, over `ms` milliseconds, from page 0 on.
fn writer(pages: u64, length_ms: u64) -> Trace {
    let sample = |n: u64| {
        let written = Runs::from_run(Run::new(n * pages % PAGES, pages));
        Sample { at: ms(n + 1), written }
    };
    let touched = Runs::from_run(Run::new(0, PAGES));
    let samples = (0..length_ms).map(sample).collect();
    Trace::new(Header::new(PageCount(PAGES), ms(1)), touched, samples).unwrap()
}

/// A guest that writes one new page in every second millisecond, over two seconds.
fn half_rate_writer() -> Trace {
    let sample = |n: u64| Sample { at: ms(2 * n + 2), written: Runs::from_run(Run::new(n, 1)) };
    let touched = Runs::from_run(Run::new(0, PAGES));
    Trace::new(Header::new(PageCount(PAGES), ms(2)), touched, (0..1000).map(sample).collect()).unwrap()
}

fn kinds_and_pages(report: &Report) -> Vec<(PassKind, u64)> {
    report.passes.iter().map(|pass| (pass.kind, pass.pages)).collect()
}

#[test]
fn each_pass_sends_what_was_written_during_the_one_before() {
    use PassKind::{Final, First, Intermediate, Penultimate};
    let report = replay(
        &half_rate_writer(),
        &page_per_ms(Duration::ZERO),
        Limits::default(),
        Box::new(FixedPasses(4)),
    );
    // 1000 ms of passing write 500 pages, and so on: 500, 250, 125, and 62 (62.5 at 2 ms each).
    let expected = [(First, 1000), (Intermediate, 500), (Intermediate, 250), (Intermediate, 125)];
    assert_eq!(kinds_and_pages(&report)[..4], expected);
    assert_eq!(kinds_and_pages(&report)[4..], [(Penultimate, 62), (Final, 0)]);
    assert_eq!(report.total_ms, Some(1000.0 + 500.0 + 250.0 + 125.0 + 62.0));
    assert_eq!(report.quiesce_ms, Some(62.0));
    assert_eq!(report.bytes_logical, Some(1937 * 4096));
    assert_eq!(report.passes[2].began_ms, Some(1500.0));
    assert_eq!(report.passes[0].dirty_rate_bytes_per_s, Some(2_048_000));
    assert_eq!((report.finish.code, report.runs_on), (FinishCode::Completed, RunsOn::Destination));
}

#[test]
fn the_fixed_cost_is_what_a_stop_with_nothing_to_send_takes() {
    let idle =
        Trace::new(Header::new(PageCount(PAGES), ms(1)), Runs::from_run(Run::new(0, 10)), vec![]).unwrap();
    let report = replay(&idle, &page_per_ms(ms(9)), Limits::default(), Box::new(FixedPasses(1)));
    assert_eq!(report.quiesce_ms, Some(9.0));
    assert_eq!(report.total_ms, Some(10.0 + 3.0 + 9.0));
    let parts = report.quiesce.unwrap();
    assert_eq!((parts.stop, parts.penultimate, parts.commit, parts.other), (3.0, 3.0, 3.0, 0.0));
}

#[test]
fn a_guest_that_stops_writes_no_more() {
    // 10 ms for the first pass, 1 ms for its barrier, 1 ms until it stands still: 12 samples of one page.
    let touched = Runs::from_run(Run::new(0, 10));
    let samples =
        (0..100).map(|n| Sample { at: ms(n + 1), written: Runs::from_run(Run::new(n, 1)) }).collect();
    let trace = Trace::new(Header::new(PageCount(PAGES), ms(1)), touched, samples).unwrap();
    let report = replay(&trace, &page_per_ms(ms(3)), Limits::default(), Box::new(FixedPasses(1)));
    assert_eq!(kinds_and_pages(&report)[1..], [(PassKind::Penultimate, 11), (PassKind::Final, 1)]);
    assert_eq!(report.quiesce_ms, Some(12.0 + 3.0));
}

#[test]
fn a_trace_that_is_too_short_is_gone_through_again() {
    // Pages 0 to 9, over and over: a first pass of 1000 ms sees each of them, a second of 10 ms, too.
    let report =
        replay(&writer(1, 10), &page_per_ms(Duration::ZERO), Limits::default(), Box::new(FixedPasses(2)));
    let pages: Vec<u64> = report.passes.iter().map(|pass| pass.pages).collect();
    assert_eq!(pages, [1000, 10, 10, 0]);
    // Half a round: the pages of that half, across the seam of two rounds.
    let trace = writer(1, 10);
    let mut guest = TracedGuest::new(&trace);
    assert_eq!(guest.written_until(ms(7)), Runs::from_run(Run::new(0, 7)));
    assert_eq!(guest.written_until(ms(12)), [Run::new(7, 3), Run::new(0, 2)].into_iter().collect());
    assert_eq!(guest.written_until(ms(12)), Runs::new());
    assert_eq!(guest.written_until(ms(25)).pages(), PageCount(10));
}

#[test]
fn the_rules_differ_on_the_same_guest() {
    // A guest that converges by halves. With a threshold of 100 ms the rest after the pass of 125 (62 ms) is short enough.
    let model = page_per_ms(Duration::ZERO);
    let run = |policy: Box<dyn PassPolicy>| replay(&half_rate_writer(), &model, Limits::default(), policy);
    let threshold = run(Box::new(Threshold { limit: ms(100) }));
    assert_eq!((threshold.passes.len(), threshold.quiesce_ms), (4 + 2, Some(62.0)));
    let default = run(Box::<DefaultPolicy>::default());
    // 2 ms are aimed at, with a safety factor of 1.25 and a stop cost of 0.5 ms: 2 pages are too many, 1 is not.
    assert_eq!((default.passes.len(), default.quiesce_ms), (10 + 2, Some(1.0)));
    assert!(matches!(default.finish.policy_reason, Some(Reason::Converged { .. })));
}

#[test]
fn a_guest_faster_than_the_link_stays_where_it_is_with_the_limit_as_the_reason() {
    let limits = Limits { max_quiesce: Some(ms(50)), ..Limits::default() };
    let report = replay(&writer(2, 500), &page_per_ms(ms(3)), limits, Box::<DefaultPolicy>::default());
    assert_eq!((report.finish.code, report.runs_on), (FinishCode::MaxQuiesceExceeded, RunsOn::Source));
    assert!(matches!(report.finish.policy_reason, Some(Reason::OutOfReach { .. })), "{:?}", report.finish);
    // Passes of a second each; the pass limit would have been reached after 30.
    assert_eq!((report.passes.len(), report.quiesce_ms), (5, None));
    assert!(report.passes.iter().all(|pass| pass.predicted_quiesce_ms.is_some_and(|ms| ms > 50.0)));
}

/// Never decides.
struct Undecided;

impl PassPolicy for Undecided {
    fn name(&self) -> &'static str {
        "undecided"
    }

    fn judge(&self, _: &PassHistory) -> Verdict {
        Verdict::AnotherPass
    }
}

#[test]
fn a_rule_that_never_ends_is_ended() {
    let model = page_per_ms(Duration::ZERO);
    let report = replay(&writer(1, 10), &model, Limits::default(), Box::new(Undecided));
    assert!(matches!(report.finish.policy_reason, Some(Reason::PassLimit { passes: 30, .. })));
    assert_eq!((report.passes.len(), report.runs_on), (30 + 2, RunsOn::Destination));
    // And if that would stop it for too long, it is not stopped.
    let limits = Limits { max_quiesce: Some(ms(5)), ..Limits::default() };
    let report = replay(&writer(1, 10), &model, limits, Box::new(Undecided));
    assert_eq!((report.passes.len(), report.finish.code), (30, FinishCode::MaxQuiesceExceeded));
    let endless = Limits { max_passes: u32::MAX, ..Limits::default() };
    let report = replay(&writer(1, 10), &model, endless, Box::new(Undecided));
    assert_eq!((report.finish.code, report.runs_on), (FinishCode::Cancelled, RunsOn::Source));
    let limits = Limits { max_total: Some(ms(1234)), ..Limits::default() };
    let report = replay(&writer(1, 10), &page_per_ms(Duration::ZERO), limits, Box::new(Undecided));
    assert_eq!((report.finish.code, report.total_ms), (FinishCode::MaxTotalExceeded, Some(1234.0)));
}

/// Stops the guest whatever that costs.
struct Reckless;

impl PassPolicy for Reckless {
    fn name(&self) -> &'static str {
        "reckless"
    }

    fn judge(&self, _: &PassHistory) -> Verdict {
        Verdict::Quiesce(Reason::Other { policy: "reckless".into(), text: "now".into() })
    }
}

#[test]
fn max_quiesce_is_kept_even_if_the_rule_does_not() {
    let limits = Limits { max_quiesce: Some(ms(100)), ..Limits::default() };
    let report = replay(&writer(1, 1000), &page_per_ms(ms(3)), limits, Box::new(Reckless));
    assert_eq!((report.finish.code, report.runs_on), (FinishCode::MaxQuiesceExceeded, RunsOn::Source));
    assert_eq!(report.quiesce_ms, Some(95.0), "5 ms are kept in hand for taking the guest back");
}

prop_compose! {
    fn any_trace()(
        touched in 1u64..=PAGES,
        sets in prop::collection::vec(prop::collection::vec((0u64..PAGES - 40, 1u64..40), 0..4), 0..40),
    ) -> Trace {
        let sample = |(n, set): (usize, &Vec<(u64, u64)>)| {
            let written = set.iter().map(|&(start, pages)| Run::new(start, pages)).collect();
            Sample { at: ms(5 * (n as u64 + 1)), written }
        };
        let samples = sets.iter().enumerate().map(sample).collect();
        let touched = Runs::from_run(Run::new(0, touched));
        Trace::new(Header::new(PageCount(PAGES), ms(5)), touched, samples).unwrap()
    }
}

/// A guest that writes new pages, round and round over all of them, in stretches of its own rates (pages per 10 ms).
fn moody(stretches: &[(u64, u64)]) -> Trace {
    let (mut samples, mut next) = (Vec::new(), 0);
    for &(rate, samples_of_it) in stretches {
        for _ in 0..samples_of_it {
            let written = (next..next + rate).map(|page| Run::new(page % PAGES, 1)).collect();
            next += rate;
            samples.push(Sample { at: ms(10 * (samples.len() as u64 + 1)), written });
        }
    }
    let touched = Runs::from_run(Run::new(0, PAGES));
    Trace::new(Header::new(PageCount(PAGES), ms(10)), touched, samples).unwrap()
}

proptest! {
    /// The link carries 10 pages in 10 ms.
    #[test]
    fn a_guest_slower_than_the_link_is_never_given_up(
        stretches in prop::collection::vec((0u64..=7, 1u64..300), 1..20),
        max_quiesce_ms in 50u64..10_000,
    ) {
        let limits = Limits { max_quiesce: Some(ms(max_quiesce_ms)), ..Limits::default() };
        let report = replay(&moody(&stretches), &page_per_ms(ms(3)), limits, Box::<DefaultPolicy>::default());
        prop_assert_eq!(report.runs_on, RunsOn::Destination, "{:?}", report.finish);
    }

    /// Bursts of up to 2 s, at up to 1.4 times the link's rate, with as much quiet after each: 0.7 of it in the long run.
    #[test]
    fn a_guest_in_bursts_moves_whenever_all_passes_would_have_moved_it(
        bursts in prop::collection::vec((5u64..=14, 1u64..200), 1..8),
        max_quiesce_ms in 50u64..1000,
    ) {
        let stretches: Vec<_> = bursts.iter().flat_map(|&(rate, samples)| [(rate, samples), (0, samples)]).collect();
        let trace = moody(&stretches);
        let limits = Limits { max_quiesce: Some(ms(max_quiesce_ms)), ..Limits::default() };
        let run = |policy: DefaultPolicy| replay(&trace, &page_per_ms(ms(3)), limits, Box::new(policy));
        let patient = run(DefaultPolicy { watch_time: Duration::MAX, ..DefaultPolicy::default() });
        let report = run(DefaultPolicy::default());
        prop_assert!(patient.runs_on == RunsOn::Source || report.runs_on == RunsOn::Destination, "{:?}", report.finish);
    }

    #[test]
    fn what_one_pass_leaves_the_next_one_sends_and_the_sum_is_what_was_sent(
        trace in any_trace(),
        rate in 100_000u64..1 << 30,
        fixed_cost_us in 0u64..30_000,
        policy in prop::sample::select(vec!["default", "fixed-passes:5", "threshold:50"]),
    ) {
        let model = Model {
            rate_bytes_per_s: NonZeroU64::new(rate).unwrap(),
            fixed_cost: Duration::from_micros(fixed_cost_us),
        };
        let policy = policy.parse::<PolicyChoice>().unwrap();
        let report = replay(&trace, &model, Limits::default(), policy.build());
        prop_assert_eq!(report.passes[0].pages, trace.touched().pages().get());
        // The stop itself may add to what the last pass over the running guest left.
        for pair in report.passes.windows(2) {
            let grows = pair[1].kind == PassKind::Penultimate;
            prop_assert!(Some(pair[1].pages) == pair[0].dirty_pages_after || grows && Some(pair[1].pages) > pair[0].dirty_pages_after);
        }
        let sum: u64 = report.passes.iter().map(|pass| pass.pages * 4096).sum();
        prop_assert_eq!(report.bytes_logical, Some(sum));
        prop_assert!(report.passes.iter().all(|pass| pass.pages <= PAGES));
        if report.runs_on == RunsOn::Destination {
            prop_assert_eq!(report.passes.last().unwrap().dirty_pages_after, Some(0));
        }
    }

    #[test]
    fn max_quiesce_and_max_total_are_kept(
        trace in any_trace(),
        rate in 100_000u64..1 << 30,
        max_quiesce_ms in 5u64..400,
        max_total_ms in prop::option::of(1u64..4000),
        reckless in any::<bool>(),
    ) {
        let model = Model { rate_bytes_per_s: NonZeroU64::new(rate).unwrap(), fixed_cost: ms(3) };
        let limits = Limits { max_quiesce: Some(ms(max_quiesce_ms)), max_total: max_total_ms.map(ms), ..Limits::default() };
        let policy: Box<dyn PassPolicy> =
            if reckless { Box::new(Reckless) } else { Box::<DefaultPolicy>::default() };
        let report = replay(&trace, &model, limits, policy);
        prop_assert!(report.quiesce_ms.is_none_or(|held| held <= max_quiesce_ms as f64 + 1e-6), "{:?}", report.quiesce_ms);
        prop_assert!(max_total_ms.is_none_or(|limit| report.total_ms.unwrap() <= limit as f64 + 1e-6));
    }

    #[test]
    fn the_same_replay_gives_the_same_report(trace in any_trace(), rate in 100_000u64..1 << 30) {
        let model = Model { rate_bytes_per_s: NonZeroU64::new(rate).unwrap(), fixed_cost: ms(2) };
        let run = || replay(&trace, &model, Limits::default(), Box::<DefaultPolicy>::default());
        prop_assert_eq!(run(), run());
    }
}
