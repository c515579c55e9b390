//! A guest's **dirty trace**: which pages it had touched, and which it wrote in each short stretch of time since.
//!
//! ```text
//!   header    pages, interval, guest, how it was recorded
//!   touched   runs            what a first pass would send
//!   written   10 ms   runs    what was written in (0, 10 ms]
//!   written   20 ms   runs    … in (10 ms, 20 ms]
//!   …
//!   end       how many blocks there were
//! ```
//!
//! [`record`] makes one of a guest that runs, without a relocation; [`crate::replay`] asks what a relocation of that guest
//! would do under any stop rule. The bytes of a file are described in `docs/trace.md`; everything is little-endian, has a
//! length limit and a checksum, and a file that was cut off or is none is refused with the offset at which that shows.
//!
//! ```
//! use std::time::Duration;
//! use guest_mem::{PageCount, Run, Runs};
//! use lgr_engine::trace::{Header, Trace, TraceWriter};
//!
//! let header = Header::new(PageCount(1024), Duration::from_millis(10));
//! let mut file = Vec::new();
//! let mut writer = TraceWriter::new(&mut file, &header)?;
//! writer.touched(&Runs::from_run(Run::new(0, 512)))?;
//! writer.written(Duration::from_millis(10), &Runs::from_run(Run::new(7, 2)))?;
//! writer.end()?;
//!
//! let trace = Trace::read(&file[..])?;
//! assert_eq!(trace.touched().pages(), PageCount(512));
//! assert_eq!(trace.samples()[0].written.pages(), PageCount(2));
//! # Ok::<(), lgr_engine::trace::TraceError>(())
//! ```

mod error;
mod layout;
mod read;
mod record;
#[cfg(test)]
mod tests;
mod write;

use std::time::Duration;

use guest_mem::{PAGE_SIZE, PageCount, Runs, STORAGE_BYTES_MAX, TrackerKind};

use crate::owner::GuestName;

pub use error::TraceError;
pub use record::{RecordError, RecordOptions, Recorded, record};
pub use write::TraceWriter;

/// Version of the file's layout this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// Most pages of a traced guest: those of the largest guest storage.
pub const PAGES_MAX: u64 = STORAGE_BYTES_MAX / PAGE_SIZE as u64;
/// Most runs in one block.
pub const BLOCK_RUNS_MAX: u32 = 1 << 16;
/// Most blocks in a trace.
pub const BLOCKS_MAX: u64 = 1 << 22;
/// Most runs in a trace: 128 MiB of file, 256 MiB of memory.
pub const RUNS_MAX: u64 = 1 << 24;
/// Longest trace: a day.
pub const DURATION_MAX: Duration = Duration::from_secs(86_400);
/// Longest description, in bytes of UTF-8.
pub const DESCRIPTION_BYTES_MAX: usize = 256;

/// What a trace is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the guest's memory.
    pub pages: PageCount,
    /// How often the written pages were collected; samples may be farther apart.
    pub every: Duration,
    /// Unit in which written memory was found, in bytes.
    pub granule_bytes: u32,
    /// How written pages were found; `None` for a trace that was made and not recorded.
    pub tracker: Option<TrackerKind>,
    /// The guest.
    pub guest: GuestName,
    /// When the recording began, in seconds since 1970; zero if it does not matter.
    pub began_unix_s: u64,
    /// What the guest did, in words; at most [`DESCRIPTION_BYTES_MAX`] bytes are kept.
    pub description: String,
}

impl Header {
    /// A trace of a guest of `pages` pages, collected `every` so often, and nothing else said of it.
    ///
    /// # Panics
    /// Never: the name it gives the guest is a valid one.
    #[must_use]
    pub fn new(pages: PageCount, every: Duration) -> Self {
        Self {
            pages,
            every,
            granule_bytes: PAGE_SIZE as u32,
            tracker: None,
            guest: GuestName::new("TRACED").expect("six capital letters are a name"),
            began_unix_s: 0,
            description: String::new(),
        }
    }
}

/// What was written since the sample before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was collected, since the trace began.
    pub at: Duration,
    /// Pages written since the sample before (or the begin).
    pub written: Runs,
}

/// A whole trace in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    header: Header,
    touched: Runs,
    samples: Vec<Sample>,
}

impl Trace {
    /// A trace from its parts, for tests and models of guests. Samples are put in order of time; what they wrote counts
    /// as touched from then on, in `touched` or not.
    ///
    /// # Errors
    /// [`TraceError::Limit`] if a page lies outside the guest, two samples have the same time or one has none, or a limit
    /// of the format is passed.
    pub fn new(header: Header, touched: Runs, mut samples: Vec<Sample>) -> Result<Self, TraceError> {
        layout::check_header(&header)?;
        samples.sort_by_key(|sample| sample.at);
        let runs: usize = samples.iter().map(|sample| sample.written.as_slice().len()).sum();
        let all = samples.iter().map(|sample| &sample.written).chain([&touched]);
        let end = all.filter_map(|runs| runs.as_slice().last()).map(|run| run.end().get()).max();
        if end.is_some_and(|end| end > header.pages.get()) {
            return Err(TraceError::Limit("a page outside the guest's memory"));
        }
        if (runs + touched.as_slice().len()) as u64 > RUNS_MAX || samples.len() as u64 > BLOCKS_MAX {
            return Err(TraceError::Limit("more runs or samples than a trace may have"));
        }
        let is_first_after_begin = samples.first().is_none_or(|sample| !sample.at.is_zero());
        if !is_first_after_begin || !samples.is_sorted_by(|a, b| a.at < b.at) {
            return Err(TraceError::Limit("a sample that is not after the one before it"));
        }
        if samples.last().is_some_and(|sample| sample.at > DURATION_MAX) {
            return Err(TraceError::Limit("longer than a day"));
        }
        Ok(Self { header, touched, samples })
    }

    /// What it is of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Pages touched before the trace began.
    #[must_use]
    pub fn touched(&self) -> &Runs {
        &self.touched
    }

    /// The samples, in order of time.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Length of the trace: the time of its last sample.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.samples.last().map_or(Duration::ZERO, |sample| sample.at)
    }
}
