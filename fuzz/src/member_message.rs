//! What one member says to another, and to its services.

use ssi::member::{Input, Member, Message, Record, RecordOutcome, Timing};
use ssi::service::{Configuration, Logon, Service};
use ssi::{ClusterName, Slot, SystemName};

/// A message that is taken is written and read the same; a member that hears it lives on.
pub fn run(bytes: &[u8]) {
    let mut member = joined();
    let mut now_ms = 10_000;
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first() {
        let (body, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        now_ms += 1;
        // By itself, and as the body of a service's message.
        let of_service = Message::Service { service: "Logon".to_owned(), body: body.to_vec() };
        for message in Message::decode(body).into_iter().chain([of_service]) {
            assert_eq!(Message::decode(&message.encode()), Ok(message.clone()));
            member.handle(now_ms, Input::Message(slot(2), message));
        }
        let record = member.record().copied();
        if let Some(record) = record {
            member.handle(now_ms, Input::Record(RecordOutcome::Done(record)));
        }
    }
    assert!(member.handle(now_ms, Input::Tick).len() < 1_000_000);
}

fn slot(number: u8) -> Slot {
    Slot::new(number).unwrap()
}

/// A member that is alone in its cluster, with a link to another that runs.
fn joined() -> Member {
    let name = |text: &str| SystemName::new(text).unwrap();
    let cluster = ClusterName::new("DEMOSSI").unwrap();
    let mut record = Record::new(cluster, [Some(name("MEMBERA")), Some(name("MEMBERB")), None, None]);
    let services: Vec<Box<dyn Service>> =
        vec![Box::new(Configuration::new(name("MEMBERA"), Default::default())), Box::new(Logon::new())];
    let mut member = Member::new(slot(1), name("MEMBERA"), Timing::default(), services);
    let mut effects = member.handle(1_000, Input::Start);
    for now_ms in (1_000..9_000).step_by(100) {
        let mut next = Vec::new();
        for effect in effects.drain(..) {
            if let ssi::member::Effect::Record(change) = effect {
                if let Some(change) = change {
                    record.apply(&change).unwrap();
                }
                next.extend(member.handle(now_ms, Input::Record(RecordOutcome::Done(record))));
            }
        }
        next.extend(member.handle(now_ms, Input::Tick));
        effects = next;
    }
    member.handle(9_000, Input::Link(slot(2), true));
    member
}
