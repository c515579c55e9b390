//! What the total of a move begins with, for every way in which it ends.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lgr_engine::message::{Message, Offer};
use lgr_engine::owner::{GuestName, MemberName};
use lgr_engine::policy::{DefaultPolicy, Limits};
use lgr_engine::report::{FinishCode, table};
use lgr_engine::source::{Effect, Input, Outcome, Source};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A source whose link took 300 ms to form; it may take a second in all.
fn source() -> Source {
    let limits = Limits { max_total: Some(ms(1000)), ..Limits::default() };
    let offer = Offer {
        guest: GuestName::new("LINUX1").unwrap(),
        source: MemberName::new("HERE").unwrap(),
        storage_len_bytes: 1 << 20,
        touched_len_bytes: 1 << 20,
        page_size_bytes: 4096,
        backing: 1,
        verify: false,
        answers: true,
        run_after_ms: 0,
        owner_epoch: 1,
        owner_nonce: 1,
        stretches: Vec::new(),
    };
    Source::new(offer, limits, Box::new(DefaultPolicy::default()), 4096).with_link_formed_in(ms(300))
}

fn outcome(effects: Vec<Effect>) -> Outcome {
    let found = effects.into_iter().find_map(|effect| match effect {
        Effect::Finish(outcome) => Some(*outcome),
        _ => None,
    });
    found.unwrap()
}

/// It begins, and its record can be written.
fn begin(source: &mut Source, at: Duration) {
    let asked = source.handle(at, Input::Start);
    let [Effect::TryRecord(number)] = asked[..] else { panic!("{asked:?}") };
    source.handle(at, Input::RecordTried(number, Ok(())));
}

fn accepted() -> Input {
    Input::Message(Message::Accepted { member: MemberName::new("THERE").unwrap(), answers: true })
}

/// Link, ready and the rest are all of it.
fn assert_adds_up(outcome: &Outcome, total: Duration) {
    assert_eq!(outcome.total, total);
    assert_eq!(outcome.link + outcome.prepare + outcome.transfer, total);
}

#[test]
fn maxtotal_counts_what_is_shown_as_the_total() {
    let mut source = source();
    begin(&mut source, ms(5));
    assert_eq!(source.poll_timeout(), Some(ms(700)), "forming the link has taken its part");
    source.handle(ms(400), accepted());
    assert!(source.handle(ms(699), Input::Tick).is_empty());
    let outcome = outcome(source.handle(ms(708), Input::Tick));
    assert_eq!(outcome.finish.code, FinishCode::MaxTotalExceeded);
    assert_adds_up(&outcome, ms(1008));
    assert_eq!((outcome.prepare, outcome.transfer), (ms(400), ms(308)));
    assert_eq!(outcome.finish.reason, format!("MAXTOTAL: {} have passed", table::time(1008.0)));
}

#[test]
fn a_move_that_ends_before_the_destination_is_ready_has_taken_time_too() {
    let mut timed_out = source();
    begin(&mut timed_out, ms(0));
    assert_adds_up(&outcome(timed_out.handle(ms(700), Input::Tick)), ms(1000));
    let mut refused = source();
    begin(&mut refused, ms(0));
    let refusal = Input::Message(Message::Refused("no room".to_owned()));
    assert_adds_up(&outcome(refused.handle(ms(20), refusal)), ms(320));
    let mut cut = source();
    begin(&mut cut, ms(0));
    cut.handle(ms(10), accepted());
    assert_adds_up(&outcome(cut.handle(ms(50), Input::LinkDown("cut".to_owned()))), ms(350));
}
