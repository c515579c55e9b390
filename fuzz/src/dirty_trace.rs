//! A file that says it is a dirty trace.

use std::num::NonZeroU64;
use std::time::Duration;

use lgr_engine::policy::{FixedPasses, Limits};
use lgr_engine::replay::{Model, replay};
use lgr_engine::trace::Trace;

const HEADER_LEN_BYTES: usize = 512;
const BLOCK_LEN_BYTES: usize = 32;
const HEADER_SUM: usize = 504;
const BLOCK_SUM: usize = 24;

pub fn run(bytes: &[u8]) {
    try_all(bytes);
    // Once more with what a trace begins with, and with checksums that let its blocks through.
    let mut file = bytes.to_vec();
    if file.len() < HEADER_LEN_BYTES {
        return;
    }
    file[..20].copy_from_slice(b"LGRTRACE\x01\0\0\0\0\x02\0\0\0\x10\0\0");
    put_sum(&mut file[..HEADER_LEN_BYTES], HEADER_SUM);
    let mut at = HEADER_LEN_BYTES;
    while let Some(runs) = file.get(at + 4..at + 8).and_then(|runs| runs.try_into().ok()) {
        let len = BLOCK_LEN_BYTES + 8 * u32::from_le_bytes(runs) as usize;
        let Some(block) = file.get_mut(at..at + len) else { break };
        put_sum(block, BLOCK_SUM);
        at += len;
    }
    try_all(&file);
}

fn put_sum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = crc32c::crc32c(bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

fn try_all(bytes: &[u8]) {
    let Ok(trace) = Trace::read(bytes) else { return };
    let mut again = Vec::new();
    trace.write(&mut again).unwrap();
    assert_eq!(Trace::read(&again[..]).unwrap(), trace);
    let model =
        Model { rate_bytes_per_s: NonZeroU64::new(1 << 20).unwrap(), fixed_cost: Duration::from_millis(3) };
    let report = replay(&trace, &model, Limits::default(), Box::new(FixedPasses(3)));
    let pages = trace.header().pages.get();
    assert!(report.passes.iter().all(|pass| pass.pages <= pages));
    assert_eq!(report.bytes_logical, Some(report.passes.iter().map(|pass| pass.bytes).sum()));
}
