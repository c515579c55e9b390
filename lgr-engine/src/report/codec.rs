//! What packing did, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::Compress;
use crate::codec::packing::Summary;

/// How data pages went out, by codec. Where nothing could be packed, nothing of it was counted: all but `choice` and `why_not` is
/// `null` then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CodecReport {
    /// What was asked for: `auto`, `never` or `zstd:LEVEL`.
    pub choice: String,
    /// Why nothing could be packed, if so.
    pub why_not: Option<String>,
    /// What the link carries, in bytes per second, as far as it was found out; the rate limit if there is one.
    pub link_bytes_per_s: Option<u64>,
    /// Chunks that were looked at.
    pub chunks: Option<u64>,
    /// Those of them that went out packed.
    pub packed_chunks: Option<u64>,
    /// Memory sent as zero, in bytes.
    pub zero_bytes: Option<u64>,
    /// Memory not sent because it was what had been sent before, in bytes.
    pub kept_bytes: Option<u64>,
    /// Memory sent as it is, in bytes.
    pub raw_bytes: Option<u64>,
    /// Memory sent packed, in bytes.
    pub packed_bytes: Option<u64>,
    /// What that became, in bytes.
    pub packed_wire_bytes: Option<u64>,
    /// Bytes that packing and keeping took off the wire; zero pages are not among them.
    pub saved_bytes: Option<u64>,
    /// Processor time of packing, in seconds; part of the source's.
    pub pack_cpu_s: Option<f64>,
    /// Length of the dictionary that chunks refer to, in bytes; `null` if there was none.
    pub dictionary_bytes: Option<u64>,
    /// Every codec that was chosen, in order of time; the first 32.
    #[schemars(length(max = 32))]
    pub decisions: Vec<CodecDecision>,
}

/// A choice of the codec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CodecDecision {
    /// When, in ms since the source was ready.
    pub at_ms: f64,
    /// `raw` or `zstd:LEVEL`.
    pub codec: String,
    /// Why, with the numbers behind it.
    pub why: String,
}

impl CodecReport {
    /// Nothing could be packed.
    pub(crate) fn none(choice: Compress, why_not: String) -> Self {
        Self { choice: choice.to_string(), why_not: Some(why_not), ..Self::default() }
    }

    /// Without the zeros that older programs gave for what they had not counted.
    pub(super) fn without_made_up_zeros(self) -> Self {
        match self.why_not {
            Some(why_not) => Self { choice: self.choice, why_not: Some(why_not), ..Self::default() },
            None => self,
        }
    }

    /// What became of all chunks.
    pub(crate) fn new(choice: Compress, summary: &Summary) -> Self {
        let counts = &summary.counts;
        let decisions = summary.decisions.iter().map(|dated| CodecDecision {
            at_ms: dated.at.as_secs_f64() * 1e3,
            codec: dated.decision.codec.to_string(),
            why: dated.decision.why.clone(),
        });
        Self {
            choice: choice.to_string(),
            why_not: None,
            link_bytes_per_s: summary.link_bytes_per_s,
            chunks: Some(counts.chunks),
            packed_chunks: Some(counts.packed_chunks),
            zero_bytes: Some(counts.zero_bytes),
            kept_bytes: Some(counts.kept_bytes),
            raw_bytes: Some(counts.raw_bytes),
            packed_bytes: Some(counts.packed_bytes),
            packed_wire_bytes: Some(counts.packed_wire_bytes),
            saved_bytes: Some(
                counts.kept_bytes + counts.packed_bytes.saturating_sub(counts.packed_wire_bytes),
            ),
            pack_cpu_s: Some(counts.pack_cpu_ns as f64 / 1e9),
            dictionary_bytes: summary.dictionary_bytes,
            decisions: decisions.collect(),
        }
    }
}
