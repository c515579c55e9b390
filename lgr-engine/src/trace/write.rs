//! Writes a trace as it is recorded, block by block.

use std::io::Write;
use std::time::Duration;

use guest_mem::Runs;

use super::layout::{BlockKind, encode_block, encode_header};
use super::{BLOCK_RUNS_MAX, BLOCKS_MAX, DURATION_MAX, Header, RUNS_MAX, Trace, TraceError};

/// Writes a trace: the touched pages, then samples in order of time, then the end. Without the end the file counts as
/// cut off.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: W,
    pages: u64,
    offset_bytes: u64,
    blocks: u64,
    runs: u64,
    time: Duration,
    buffer: Vec<u8>,
}

impl<W: Write> TraceWriter<W> {
    /// Begins a trace. Give it a buffered writer.
    ///
    /// # Errors
    /// A header that no trace may have, or what `out` says.
    pub fn new(out: W, header: &Header) -> Result<Self, TraceError> {
        let (pages, time) = (header.pages.get(), Duration::ZERO);
        let mut writer = Self { out, pages, offset_bytes: 0, blocks: 0, runs: 0, time, buffer: Vec::new() };
        writer.buffer.extend_from_slice(&encode_header(header)?);
        writer.put()?;
        Ok(writer)
    }

    /// The pages touched before the trace begins. Call it first.
    ///
    /// # Errors
    /// A limit of the format, or what the file says.
    pub fn touched(&mut self, runs: &Runs) -> Result<(), TraceError> {
        self.set(BlockKind::Touched, Duration::ZERO, runs)
    }

    /// The pages written since the sample before, collected at `at`.
    ///
    /// # Errors
    /// A time that is not after the last one, a limit of the format, or what the file says.
    pub fn written(&mut self, at: Duration, runs: &Runs) -> Result<(), TraceError> {
        if at <= self.time || at > DURATION_MAX {
            return Err(TraceError::Limit("a sample that is not after the one before it, or after a day"));
        }
        self.time = at;
        self.set(BlockKind::Written, at, runs)
    }

    /// Is there room for another sample of `runs` runs?
    #[must_use]
    pub fn has_room(&self, runs: usize) -> bool {
        let blocks = runs as u64 / u64::from(BLOCK_RUNS_MAX) + 2;
        self.runs + runs as u64 <= RUNS_MAX && self.blocks + blocks < BLOCKS_MAX
    }

    /// Ends the trace and gives the writer back, flushed.
    ///
    /// # Errors
    /// What the file says.
    pub fn end(mut self) -> Result<W, TraceError> {
        encode_block(BlockKind::End, self.blocks, self.time, &[], &mut self.buffer);
        self.put()?;
        self.out.flush().map_err(|source| TraceError::Io { offset_bytes: self.offset_bytes, source })?;
        Ok(self.out)
    }

    /// A set as blocks of at most [`BLOCK_RUNS_MAX`] runs of the same time; an empty one is a block, too.
    fn set(&mut self, kind: BlockKind, at: Duration, runs: &Runs) -> Result<(), TraceError> {
        if !self.has_room(runs.as_slice().len()) {
            return Err(TraceError::Limit("more runs or samples than a trace may have"));
        }
        if runs.as_slice().last().is_some_and(|run| run.end().get() > self.pages) {
            return Err(TraceError::Limit("a page outside the guest's memory"));
        }
        let mut rest = runs.as_slice();
        loop {
            let (block, later) = rest.split_at(rest.len().min(BLOCK_RUNS_MAX as usize));
            encode_block(kind, self.blocks, at, block, &mut self.buffer);
            self.blocks += 1;
            self.runs += block.len() as u64;
            self.put()?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn put(&mut self) -> Result<(), TraceError> {
        let written = self.out.write_all(&self.buffer);
        written.map_err(|source| TraceError::Io { offset_bytes: self.offset_bytes, source })?;
        self.offset_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Trace {
    /// Writes the whole trace. Give it a buffered writer.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: impl Write) -> Result<(), TraceError> {
        let mut writer = TraceWriter::new(out, &self.header)?;
        writer.touched(&self.touched)?;
        self.samples.iter().try_for_each(|sample| writer.written(sample.at, &sample.written))?;
        writer.end().map(drop)
    }
}
