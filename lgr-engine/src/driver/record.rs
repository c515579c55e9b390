//! Speaks with the owner record in a thread of its own: a volume may hang, and neither the guest nor the peer may wait for it.
//!
//! The thread is left alone at the end. One that a hung volume holds goes on hanging and keeps nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use isfc::Notifier;

use crate::owner::{CasOutcome, GuestName, MemberName, OwnerError, OwnerRecord, OwnerVolume};

/// The link's notice that the record has said something.
pub(super) const NOTICE_RECORD: u64 = 1 << 41;
/// A lock is waited for in steps of this length, so that who has it is told and a call-off is seen.
const LOCK_STEP: Duration = Duration::from_millis(100);
/// How long a record that is only tried may be locked.
const TRY_PATIENCE: Duration = Duration::from_secs(2);
/// Pause before the next attempt on a record that gives errors.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the same trouble is told again.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What the record said.
#[derive(Debug)]
pub(super) enum Word {
    /// It was tried for writing.
    Tried(u64, Result<(), String>),
    /// It was changed, or had been.
    Changed(CasOutcome, Duration),
    /// It was not changed and will not be; what was waited for.
    CalledOff(Option<String>),
    /// It is being waited for.
    Waits(String),
    /// The thread is gone, and with it what the record would have said.
    Gone,
}

enum Order {
    Try(u64),
    Change(MemberName),
}

/// The epoch and nonce that a change expects.
pub(super) type Seen = (u64, u128);

/// Whether a change may still be written. Whoever calls it off in time knows that it never will be, even if the thread that
/// was to make it hangs.
#[derive(Debug, Default)]
struct Permit(AtomicU8);

const OPEN: u8 = 0;
const WRITING: u8 = 1;
const CALLED_OFF: u8 = 2;
/// Called off while a write of unknown outcome was under way: the thread looks what became of it first.
const DOUBTED: u8 = 3;

impl Permit {
    /// Asked with the record locked, read, and as it was before.
    fn may_write(&self) -> bool {
        match self.0.compare_exchange(OPEN, WRITING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(WRITING) => true,
            // A write that gave an error was not made, by what the record says.
            Err(_) => false,
        }
    }

    /// True if nothing has been written and nothing will be.
    fn call_off(&self) -> bool {
        let swap = |from, to| self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        swap(OPEN, CALLED_OFF) || (!swap(WRITING, DOUBTED) && self.0.load(Ordering::Acquire) == CALLED_OFF)
    }

    fn is_called_off(&self) -> bool {
        self.0.load(Ordering::Acquire) == CALLED_OFF
    }
}

/// The record of one guest, as one move sees it.
pub(super) struct RecordDesk {
    orders: Sender<Order>,
    words: Receiver<Word>,
    permit: Arc<Permit>,
    gone: bool,
    waits_for: Option<String>,
}

impl RecordDesk {
    /// Begins to serve the record of `guest`, which is expected to be as `seen`.
    pub(super) fn open(volume: &OwnerVolume, guest: GuestName, seen: Seen, notifier: Notifier) -> Self {
        let (orders, inbox) = channel();
        let (outbox, words) = channel();
        let permit = Arc::new(Permit::default());
        let volume = volume.clone().with_lock_wait(LOCK_STEP);
        let serve = Serve { volume, guest, seen, outbox, notifier, permit: permit.clone() };
        // Without a thread the orders find nobody, which is told as `Gone`.
        let _ = std::thread::Builder::new().name("lgr-record".into()).spawn(move || {
            for order in inbox {
                serve.follow(&order);
            }
        });
        Self { orders, words, permit, gone: false, waits_for: None }
    }

    /// Tries it for writing; answered by [`Word::Tried`].
    pub(super) fn try_it(&self, number: u64) {
        let _ = self.orders.send(Order::Try(number));
    }

    /// Changes it to `to`; answered by [`Word::Changed`] or [`Word::CalledOff`], after as long as it takes.
    pub(super) fn change(&self, to: MemberName) {
        let _ = self.orders.send(Order::Change(to));
    }

    /// Calls a change off. True if it was not made and never will be; else its answer comes.
    pub(super) fn call_off(&self) -> bool {
        self.permit.call_off()
    }

    /// What is being waited for, if anything.
    pub(super) fn waits_for(&self) -> Option<String> {
        self.waits_for.clone()
    }

    /// The next word, if there is one.
    pub(super) fn hear(&mut self) -> Option<Word> {
        match self.words.try_recv() {
            Ok(Word::Waits(text)) => {
                self.waits_for = Some(text.clone());
                Some(Word::Waits(text))
            }
            Ok(word) => Some(word),
            Err(TryRecvError::Disconnected) if !self.gone => {
                self.gone = true;
                Some(Word::Gone)
            }
            Err(_) => None,
        }
    }
}

impl Drop for RecordDesk {
    fn drop(&mut self) {
        // A change that nobody waits for any more must not be made later.
        self.permit.call_off();
    }
}

struct Serve {
    volume: OwnerVolume,
    guest: GuestName,
    seen: Seen,
    outbox: Sender<Word>,
    notifier: Notifier,
    permit: Arc<Permit>,
}

impl Serve {
    fn say(&self, word: Word) {
        let _ = self.outbox.send(word);
        self.notifier.notify(NOTICE_RECORD);
    }

    fn follow(&self, order: &Order) {
        match order {
            Order::Try(number) => {
                let volume = self.volume.clone().with_lock_wait(TRY_PATIENCE);
                let tried = volume.try_for_writing(self.guest, self.seen);
                self.say(Word::Tried(*number, tried.map_err(|error| error.to_string())));
            }
            Order::Change(to) => {
                let word = self.change(*to);
                self.say(word);
            }
        }
    }

    fn change(&self, to: MemberName) -> Word {
        let began = Instant::now();
        let mut told: Option<(String, Instant)> = None;
        loop {
            let still = || self.permit.may_write();
            let error = match self.volume.compare_and_update_if(self.guest, self.seen, to, &still) {
                // An attempt of ours that seemed to fail may have been written after all.
                Ok(CasOutcome::Lost(record)) if self.is_ours(&record, to) => {
                    return Word::Changed(CasOutcome::Updated(record), began.elapsed());
                }
                Ok(outcome) => return Word::Changed(outcome, began.elapsed()),
                Err(OwnerError::CalledOff { .. }) => return Word::CalledOff(told.map(|(text, _)| text)),
                Err(error) => text_of(&error),
            };
            if self.permit.is_called_off() {
                return Word::CalledOff(Some(error));
            }
            if told.as_ref().is_none_or(|(text, at)| *text != error || at.elapsed() > TELL_EVERY) {
                told = Some((error.clone(), Instant::now()));
                self.say(Word::Waits(error));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn is_ours(&self, record: &OwnerRecord, to: MemberName) -> bool {
        let (epoch, nonce) = self.seen;
        record.owner == to && record.nonce == nonce && record.epoch == epoch + 1
    }
}

/// Reads the record once more before anything is said of who has the guest: why that is not `owner`, if it is not.
///
/// # Errors
/// In words, if it cannot be read.
pub(super) fn taken_over(
    volume: &OwnerVolume,
    guest: GuestName,
    nonce: u128,
    owner: MemberName,
) -> Result<Option<String>, String> {
    let record = volume.read(guest).map_err(|error| error.to_string())?;
    let other = record.owner != owner || record.nonce != nonce;
    let OwnerRecord { owner, epoch, .. } = record;
    Ok(other.then(|| format!("{guest} was taken over: its owner record names {owner} now (change {epoch})")))
}

/// In words; of a lock only who has it, since how long each step was says nothing.
fn text_of(error: &OwnerError) -> String {
    match error {
        OwnerError::LockTimeout { path, holder, .. } => format!("{} is locked by {holder}", path.display()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_called_off_is_never_written_and_one_under_way_is_looked_at() {
        let permit = Permit::default();
        assert!(permit.call_off() && permit.call_off() && !permit.may_write());
        let permit = Permit::default();
        assert!(permit.may_write() && permit.may_write(), "a write that gave an error is made again");
        assert!(!permit.call_off() && !permit.call_off(), "nobody knows yet");
        assert!(!permit.may_write(), "but it is not made again once it is known not to be there");
    }
}
