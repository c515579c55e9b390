//! After the move: the guest goes on a while where it is, then its memory is compared.
//!
//! The source keeps the guest's memory as it was at the switch and describes it in batches. The
//! destination compares: a page its guest has not written since must be the same to the last byte, one it
//! has written must be a right successor. None of this happens during the blackout.

use std::time::{Duration, Instant};

use isfc::{Link, LinkEvent};

use super::halves::fill_experience;
use super::{Cancel, LOOK_EVERY};
use crate::event::{Event, Observer};
use crate::guest::{Guest, GuestError, Phase};
use crate::message::Message;
use crate::report::{Report, Verification};

/// Batches on their way at once.
const WINDOW: u64 = 8;
/// Longest wait for the other side's next step, beyond what the guest was to run.
const PATIENCE: Duration = Duration::from_secs(60);

/// What both sides need to talk after the move.
#[derive(Clone, Copy)]
pub(super) struct Exchange<'a> {
    pub(super) link: &'a Link,
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
}

impl Exchange<'_> {
    fn note(&self, text: String) {
        self.observer.event(Event::Note { text });
    }

    fn send(&self, message: &Message) -> Result<(), GuestError> {
        self.link.send(message.socket(), &message.encode()).map_err(GuestError::new)
    }

    /// The next message of the peer.
    fn hear(&self, patience: Duration) -> Result<Message, GuestError> {
        let started = Instant::now();
        while started.elapsed() < patience {
            if self.cancel.is_requested() {
                return Err(GuestError("cancelled by the operator".to_owned()));
            }
            match self.link.recv(LOOK_EVERY) {
                Ok(LinkEvent::Message(_, body)) => return Message::decode(&body).map_err(GuestError::new),
                Ok(LinkEvent::LinkDown(why)) => return Err(GuestError(format!("the link is down: {why}"))),
                Ok(LinkEvent::DeviceDown(device, why)) => {
                    self.note(format!("device {device} is down: {why}"));
                }
                // The end of the link may have been heard, and acted upon, before this began.
                Err(_) if self.link.devices_up() == 0 => {
                    return Err(GuestError("the link is down".to_owned()));
                }
                Ok(LinkEvent::DeviceUp(_) | LinkEvent::Notice(_)) | Err(_) => {}
            }
        }
        Err(GuestError(format!("the peer said nothing for {patience:?}")))
    }
}

/// Lets the guest run for `run_after`, or until a cancel.
pub(super) fn keep_running(exchange: &Exchange<'_>, run_after: Duration) {
    let started = Instant::now();
    while let Some(left) = run_after.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        if exchange.cancel.is_requested() {
            return;
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

/// At the source: describes the memory as it was at the switch, and takes the destination's half of the
/// report into `report`.
pub(super) fn offer_manifest(
    exchange: &Exchange<'_>,
    guest: &mut dyn Guest,
    report: &mut Report,
    verify: bool,
    run_after: Duration,
) {
    let sent = if verify { send_manifest(exchange, guest, run_after) } else { Ok(()) };
    let half = sent.and_then(|()| hear_report(exchange, run_after));
    match half {
        Ok(half) => match Report::merge(report.clone(), half) {
            Ok(merged) => *report = merged,
            Err(error) => exchange.note(error.to_string()),
        },
        Err(error) => exchange.note(format!("the destination's half of the report is missing: {error}")),
    }
}

fn send_manifest(
    exchange: &Exchange<'_>,
    guest: &mut dyn Guest,
    run_after: Duration,
) -> Result<(), GuestError> {
    loop {
        match exchange.hear(run_after + PATIENCE)? {
            Message::ReadyToVerify => break,
            Message::Failed(why) => return Err(GuestError(why)),
            _ => {}
        }
    }
    let total_pages = guest.storage().touched().map_or(0, |touched| touched.pages().get());
    let Some(verifier) = guest.verifier() else { return exchange.send(&Message::ManifestEnd(0)) };
    let (mut sent, mut taken) = (0, 0);
    while let Some(batch) = verifier.next_batch()? {
        exchange.send(&Message::Manifest(sent, batch))?;
        sent += 1;
        while sent - taken >= WINDOW {
            if let Message::ManifestTaken(number) = exchange.hear(PATIENCE)? {
                taken = taken.max(number + 1);
            }
        }
        let done_pages = (taken * crate::workload::BATCH_PAGES).min(total_pages);
        exchange.observer.event(Event::Verifying { done_pages, total_pages });
    }
    exchange.send(&Message::ManifestEnd(sent))
}

fn hear_report(exchange: &Exchange<'_>, run_after: Duration) -> Result<Report, GuestError> {
    loop {
        match exchange.hear(run_after + PATIENCE)? {
            Message::Report(json) => {
                let text = String::from_utf8(json).map_err(GuestError::new)?;
                return Report::from_json(&text).map_err(GuestError::new);
            }
            Message::Failed(why) => return Err(GuestError(why)),
            _ => {}
        }
    }
}

/// At the destination: compares the stopped guest's memory with the source's description, or, if the
/// source is gone, each page with its own checksum.
pub(super) fn check_manifest(exchange: &Exchange<'_>, guest: &mut dyn Guest) -> Option<Verification> {
    let verifier = guest.verifier()?;
    let mut found = Verification::default();
    let compared = exchange.send(&Message::ReadyToVerify).and_then(|()| {
        let mut expected = 0;
        loop {
            match exchange.hear(PATIENCE)? {
                Message::Manifest(number, batch) if number == expected => {
                    verifier.check_batch(&batch, &mut found)?;
                    exchange.send(&Message::ManifestTaken(number))?;
                    expected += 1;
                }
                Message::ManifestEnd(batches) if batches == expected => {
                    return verifier.check_rest(&mut found);
                }
                Message::Manifest(..) | Message::ManifestEnd(_) => {
                    return Err(GuestError("batches of the manifest are missing".to_owned()));
                }
                _ => {}
            }
        }
    });
    if let Err(error) = compared {
        exchange
            .note(format!("cannot compare with the source's memory ({error}): each page is checked alone"));
        found = Verification::default();
        if let Err(error) = verifier.check_alone(&mut found) {
            found.add_fault(error.to_string());
        }
    }
    Some(found)
}

/// At the source, when the guest stayed: lets it run on, then checks every page against its own record.
pub(super) fn check_own(
    exchange: &Exchange<'_>,
    guest: &mut dyn Guest,
    report: &mut Report,
    verify: bool,
    run_after: Duration,
) {
    guest.enter_phase(Phase::After);
    keep_running(exchange, run_after);
    fill_experience(report, guest);
    if !verify {
        return;
    }
    if let Err(error) = guest.quiesce() {
        exchange.note(format!("the guest cannot be stopped to be checked: {error}"));
        return;
    }
    if let Some(verifier) = guest.verifier() {
        let mut found = Verification::default();
        if let Err(error) = verifier.check_alone(&mut found) {
            found.add_fault(error.to_string());
        }
        report.verification = Some(found);
    }
    if let Err(error) = guest.resume() {
        exchange.note(format!("the guest cannot be resumed after the check: {error}"));
    }
}
