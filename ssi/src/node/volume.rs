//! The thread that carries out operations on the record, one after the other.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};

use super::inbox::Handle;
use crate::member::{Change, Input, RecordOutcome};
use crate::name::VolumeLabel;
use crate::pdr::Stamps;

/// How long a member that has stopped waits for the record to take its last word.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Where the record is: reads it, and if there is a change makes it, in one atomic operation.
pub trait RecordStore: Send {
    /// Carries an operation out. It may take long; it must not take for ever.
    fn operate(&mut self, change: Option<Change>) -> RecordOutcome;

    /// The volume where the last operation found it.
    fn volume(&self) -> Option<VolumeLabel>;

    /// When members last wrote, as the last operation found it.
    fn stamps(&self) -> Option<Stamps>;
}

enum Work {
    Operate(Option<Change>),
    /// The last change, and whom to tell when it is done.
    Last(Change, Sender<()>),
}

/// The thread.
#[derive(Debug)]
pub(super) struct RecordThread {
    work: Sender<Work>,
    _thread: JoinHandle<()>,
}

impl RecordThread {
    pub(super) fn start(mut store: Box<dyn RecordStore>, handle: Handle) -> std::io::Result<Self> {
        let (work, orders) = bounded(4);
        let thread = std::thread::Builder::new().name("ssi-record".into()).spawn(move || {
            for order in orders {
                match order {
                    // What was asked for before the end, and has not begun, nobody wants any more.
                    Work::Operate(_) if handle.is_silent() => {}
                    Work::Operate(change) => {
                        let outcome = store.operate(change);
                        let (stamps, volume) = (store.stamps().unwrap_or_default(), store.volume());
                        let mut snapshot = handle.lock();
                        (snapshot.stamps, snapshot.record_volume) = (stamps, volume);
                        drop(snapshot);
                        // A member that has stopped may still have a last word.
                        let _ = handle.bring(Input::Record(outcome));
                    }
                    Work::Last(change, done) => {
                        store.operate(Some(change));
                        let _ = done.send(());
                    }
                }
            }
        })?;
        Ok(Self { work, _thread: thread })
    }

    /// The core wants one operation at a time, so there is room.
    pub(super) fn operate(&self, change: Option<Change>) {
        let _ = self.work.try_send(Work::Operate(change));
    }

    /// The last change, if the record takes it in time.
    pub(super) fn last_word(&self, change: Change) {
        let deadline = Instant::now() + LAST_PATIENCE;
        let (done, ended) = bounded(1);
        if self.work.send_deadline(Work::Last(change, done), deadline).is_ok() {
            let _ = ended.recv_deadline(deadline);
        }
    }
}
