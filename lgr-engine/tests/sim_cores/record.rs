//! The owner record as the two cores see it: one register on a volume that may be out of reach, and each side's desk for it.

use std::time::Duration;

use lgr_engine::owner::MemberName;

/// What is the matter with the record, from when on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RecordTrouble {
    Fine,
    /// Locked, read-only, renamed, hung: nobody can change it for so long.
    Blocked(Duration),
    /// The first write gives an error, half of the time after it was made; and then it is blocked.
    Doubtful(Duration),
}

/// How long a desk that only tries waits.
pub(crate) const TRY_PATIENCE: Duration = Duration::from_secs(2);

/// A side's pending change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) pending: bool,
    /// Something may have been written: it cannot be called off unseen.
    pub(crate) doubtful: bool,
    pub(crate) called_off: bool,
}

/// What became of a change.
pub(crate) enum Changed {
    Made,
    Lost(MemberName),
    CalledOff,
}

pub(crate) struct Record {
    pub(crate) epoch: u64,
    pub(crate) owner: MemberName,
    pub(crate) blocked_until: Duration,
    doubtful: Option<(Duration, bool)>,
    pub(crate) changes: [Change; 2],
    pub(crate) names: [MemberName; 2],
}

impl Record {
    pub(crate) fn new(epoch: u64, names: [MemberName; 2]) -> Self {
        let (owner, changes) = (names[0], Default::default());
        Self { epoch, owner, blocked_until: Duration::ZERO, doubtful: None, changes, names }
    }

    pub(crate) fn strike(&mut self, now: Duration, trouble: RecordTrouble, written: bool) {
        match trouble {
            RecordTrouble::Fine => {}
            RecordTrouble::Blocked(time) => self.blocked_until = now + time,
            RecordTrouble::Doubtful(time) => self.doubtful = Some((time, written)),
        }
    }

    /// When and how a try that begins now is answered.
    pub(crate) fn try_it(&self, now: Duration) -> (Duration, Result<(), String>) {
        if self.blocked_until > now + TRY_PATIENCE {
            return (now + TRY_PATIENCE, Err("locked".to_owned()));
        }
        (self.blocked_until.max(now), Ok(()))
    }

    /// A change somebody waits for can be attempted at this time.
    pub(crate) fn due(&self, alive: [bool; 2]) -> Option<Duration> {
        let waits = (0..2).any(|side| alive[side] && self.changes[side].pending);
        waits.then_some(self.blocked_until)
    }

    /// Calls a change off; true if that is certain at once.
    pub(crate) fn call_off(&mut self, side: usize) -> bool {
        let change = &mut self.changes[side];
        change.called_off = true;
        if !change.doubtful {
            change.pending = false;
        }
        !change.pending
    }

    /// An attempt of `side` with the record in reach; `None` if it is to be tried again.
    pub(crate) fn attempt(&mut self, now: Duration, side: usize, expected: u64) -> Option<Changed> {
        let change = &mut self.changes[side];
        assert!(change.pending && self.blocked_until <= now);
        let changed = if self.epoch == expected + 1 && self.owner == self.names[side] {
            Changed::Made
        } else if self.epoch != expected {
            Changed::Lost(self.owner)
        } else if change.called_off {
            Changed::CalledOff
        } else if let Some((time, written)) = self.doubtful.take() {
            change.doubtful = true;
            self.blocked_until = now + time;
            if written {
                (self.epoch, self.owner) = (expected + 1, self.names[side]);
            }
            return None;
        } else {
            (self.epoch, self.owner) = (expected + 1, self.names[side]);
            Changed::Made
        };
        change.pending = false;
        Some(changed)
    }
}
