//! Records the trace of a guest that runs.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use guest_mem::{PageCount, Runs, StorageError, TrackerError};

use super::{Header, TraceError, TraceWriter};
use crate::driver::Cancel;
use crate::guest::Guest;
use crate::owner::GuestName;

/// How a trace is recorded.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The guest's name.
    pub guest: GuestName,
    /// How often written pages are collected. Each time, the guest pays a fault for each page it writes again.
    pub every: Duration,
    /// How long.
    pub duration: Duration,
    /// What the guest does, in words.
    pub description: String,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Pages touched before.
    pub touched: PageCount,
    /// Samples taken.
    pub samples: u64,
    /// Pages written, counted anew in each sample.
    pub written: PageCount,
    /// From the begin to the last sample.
    pub duration: Duration,
    /// All of the time that was asked for is in it. If not, the trace was full or the recording was cancelled.
    pub whole: bool,
}

/// Why nothing (more) could be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written pages cannot be collected.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// The touched pages cannot be found.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The trace cannot be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Records what `guest` writes while it runs, and stops tracking when done. The guest goes on running.
///
/// A cancel, or a trace that is full, ends it early; what was recorded until then is a whole trace.
///
/// # Errors
/// See [`RecordError`]; the file then has no end, and is refused as cut off.
pub fn record(
    guest: &mut dyn Guest,
    options: &RecordOptions,
    out: impl Write,
    cancel: &Cancel,
) -> Result<Recorded, RecordError> {
    let storage = guest.storage().clone();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let header = Header {
        granule_bytes: guest.tracker().granule_bytes().try_into().unwrap_or(u32::MAX),
        tracker: Some(guest.tracker().kind()),
        guest: options.guest,
        began_unix_s: now.map_or(0, |time| time.as_secs()),
        description: options.description.clone(),
        ..Header::new(storage.pages(), options.every)
    };
    let mut writer = TraceWriter::new(out, &header)?;
    // Recording starts before the touched pages are listed: a page touched in between is in both.
    guest.tracker().start()?;
    let began = Instant::now();
    let recorded = (|| {
        let touched = storage.touched()?;
        writer.touched(&touched)?;
        sample(guest, options, &mut writer, began, touched.pages(), cancel)
    })();
    guest.tracker().stop();
    let recorded = recorded?;
    writer.end()?;
    Ok(recorded)
}

fn sample(
    guest: &mut dyn Guest,
    options: &RecordOptions,
    writer: &mut TraceWriter<impl Write>,
    began: Instant,
    touched: PageCount,
    cancel: &Cancel,
) -> Result<Recorded, RecordError> {
    let mut recorded =
        Recorded { touched, samples: 0, written: PageCount::ZERO, duration: Duration::ZERO, whole: false };
    let pages = guest.storage().pages();
    let (mut runs, mut due) = (Runs::new(), Duration::ZERO);
    while recorded.duration < options.duration {
        // A harvest that came late does not move the ones after it.
        due = (due + options.every).max(began.elapsed()).min(options.duration);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        guest.tracker().harvest(&mut runs)?;
        guest_mem::check_inside(&runs, pages)?;
        let at = began.elapsed();
        if cancel.is_requested() || !writer.has_room(runs.as_slice().len()) {
            return Ok(recorded);
        }
        writer.written(at, &runs)?;
        recorded.samples += 1;
        recorded.written += runs.pages();
        recorded.duration = at;
    }
    recorded.whole = true;
    Ok(recorded)
}
