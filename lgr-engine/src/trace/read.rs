//! Reads a trace, and believes none of it before it is checked.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use guest_mem::Runs;

use super::layout::{
    BLOCK_LEN_BYTES, Block, BlockKind, HEADER_LEN_BYTES, MAGIC, RUN_LEN_BYTES, decode_block, decode_header,
    decode_runs,
};
use super::{BLOCKS_MAX, RUNS_MAX, Sample, Trace, TraceError};

/// Bytes from outside, and how far we are in them.
struct Bytes<R> {
    input: R,
    offset_bytes: u64,
}

impl<R: Read> Bytes<R> {
    /// Fills `buffer`; gives how much of it there was.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TraceError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset_bytes = self.offset_bytes + filled as u64;
                    return Err(TraceError::Io { offset_bytes, source });
                }
            }
        }
        self.offset_bytes += filled as u64;
        Ok(filled)
    }

    fn exact(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), TraceError> {
        match self.fill(buffer)? == buffer.len() {
            true => Ok(()),
            false => Err(TraceError::CutOff { offset_bytes: self.offset_bytes, what }),
        }
    }
}

impl Trace {
    /// Reads a trace to its end. Give it a buffered reader.
    ///
    /// # Errors
    /// Anything but a whole trace of this version, with the offset at which that shows. Never takes more memory than
    /// 16 bytes for each run that was there.
    pub fn read(input: impl Read) -> Result<Self, TraceError> {
        let mut bytes = Bytes { input, offset_bytes: 0 };
        let mut raw = [0; HEADER_LEN_BYTES];
        let there = bytes.fill(&mut raw)?;
        if there < MAGIC.len() || raw[..MAGIC.len()] != MAGIC {
            return Err(TraceError::Foreign);
        }
        if there < raw.len() {
            return Err(TraceError::CutOff {
                offset_bytes: bytes.offset_bytes,
                what: "the rest of the header",
            });
        }
        let header = decode_header(&raw)?;
        let mut content = Content::default();
        let mut buffer = Vec::new();
        loop {
            let offset_bytes = bytes.offset_bytes;
            let damaged = |what| TraceError::Damaged { offset_bytes, what };
            let mut raw = [0; BLOCK_LEN_BYTES];
            bytes.exact(&mut raw, "the end of the trace")?;
            let block = decode_block(&raw).map_err(damaged)?;
            buffer.resize(block.runs as usize * RUN_LEN_BYTES, 0);
            bytes.exact(&mut buffer, "a part of a block")?;
            let runs = decode_runs(&block, &raw, &buffer, header.pages).map_err(damaged)?;
            if content.take(&block, runs).map_err(damaged)? {
                break;
            }
        }
        let offset_bytes = bytes.offset_bytes;
        if bytes.fill(&mut [0])? > 0 {
            return Err(TraceError::Damaged { offset_bytes, what: "the trace ended, and more follows" });
        }
        Ok(Self { header, touched: content.touched, samples: content.samples })
    }
}

/// What the blocks so far came to.
#[derive(Default)]
struct Content {
    touched: Runs,
    samples: Vec<Sample>,
    blocks: u64,
    runs: u64,
    time: Duration,
}

impl Content {
    /// Takes the next block; true if it is the last.
    fn take(&mut self, block: &Block, runs: Runs) -> Result<bool, &'static str> {
        if block.number != self.blocks {
            return Err("a block is missing, or comes twice");
        }
        self.blocks += 1;
        self.runs += u64::from(block.runs);
        if self.blocks > BLOCKS_MAX || self.runs > RUNS_MAX {
            return Err("more blocks or runs than a trace may have");
        }
        match block.kind {
            BlockKind::Touched if self.samples.is_empty() && block.time.is_zero() => {
                join(&mut self.touched, runs)?;
            }
            BlockKind::Written if block.time >= self.time && !block.time.is_zero() => {
                match self.samples.last_mut() {
                    Some(last) if last.at == block.time => join(&mut last.written, runs)?,
                    _ => self.samples.push(Sample { at: block.time, written: runs }),
                }
            }
            BlockKind::End if block.time == self.time && block.runs == 0 => return Ok(true),
            _ => return Err("a block out of order"),
        }
        self.time = block.time;
        Ok(false)
    }
}

/// A set too long for one block goes on in the next, behind what was there.
fn join(set: &mut Runs, more: Runs) -> Result<(), &'static str> {
    let (end, start) =
        (set.as_slice().last().map(|run| run.end()), more.as_slice().first().map(|run| run.start));
    if end.zip(start).is_some_and(|(end, start)| start <= end) {
        return Err("a set goes on in a block that does not follow");
    }
    more.iter().for_each(|run| set.push(*run));
    Ok(())
}
