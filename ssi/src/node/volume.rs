//! The thread that carries out operations on the record, one after the other.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use super::inbox::Handle;
use crate::member::{Change, Input, Member, RecordOutcome};
use crate::name::VolumeLabel;
use crate::pdr::Stamps;

/// How long an abend waits for the record.
const ABEND_PATIENCE: Duration = Duration::from_secs(2);

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
                    Work::Operate(change) => {
                        let outcome = store.operate(change);
                        let mut snapshot = handle.lock();
                        snapshot.stamps = store.stamps().unwrap_or_default();
                        snapshot.record_volume = store.volume();
                        drop(snapshot);
                        if !handle.bring(Input::Record(outcome)) {
                            return;
                        }
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

    /// Marks the member down, if the record answers in time.
    pub(super) fn abend(&self, member: &Member) {
        let (done, ended) = bounded(1);
        if self.work.send_timeout(Work::Last(Change::Abend(member.ident()), done), ABEND_PATIENCE).is_ok() {
            let _ = ended.recv_timeout(ABEND_PATIENCE);
        }
    }
}
