//! One report from what both sides know.

use super::{EngineKind, LinkTls, PerSide, QueueReport, Report, RunsOn, Side, Ticks};

/// Why two halves do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the reports of the two sides differ in {field}: {source_has} at the source, {destination_has} at the destination"
)]
pub struct MergeError {
    /// The field.
    pub field: &'static str,
    /// What the source says.
    pub source_has: String,
    /// What the destination says.
    pub destination_has: String,
}

impl<T> PerSide<T> {
    /// The source's own value from one half, the destination's own value from the other.
    fn merge(source_half: Self, destination_half: Self) -> Self {
        Self {
            source: source_half.source.or(destination_half.source),
            destination: destination_half.destination.or(source_half.destination),
        }
    }
}

impl LinkTls {
    /// Both sides speak the same; each knows its own peer.
    fn merge(source_half: Option<Self>, destination_half: Option<Self>) -> Option<Self> {
        match (source_half, destination_half) {
            (Some(ours), Some(theirs)) => Some(Self { peer: PerSide::merge(ours.peer, theirs.peer), ..ours }),
            (ours, theirs) => ours.or(theirs),
        }
    }
}

impl Ticks {
    /// The source saw the guest before the move, the destination after it.
    fn merge(source_half: Self, destination_half: Self) -> Self {
        Self {
            before: source_half.before.or(destination_half.before),
            during: destination_half.during.or(source_half.during),
            after: destination_half.after.or(source_half.after),
        }
    }
}

impl Report {
    /// One report from both sides' halves.
    ///
    /// The source led the move, so its word counts for options, passes, times and the end; the
    /// destination ran the guest last, so its word counts for verification, blackout and the ticks
    /// after. What one side does not know is taken from the other.
    ///
    /// # Errors
    /// The halves are of different schema versions, guests or members.
    pub fn merge(source_half: Self, destination_half: Self) -> Result<Self, MergeError> {
        let (ours, theirs) = (source_half, destination_half);
        same("schema_version", &ours.schema_version, &theirs.schema_version)?;
        same("guest", &ours.guest, &theirs.guest)?;
        same("source", &ours.source, &theirs.source)?;
        same("destination", &ours.destination, &theirs.destination)?;
        let mut sides_known = [ours.sides_known, theirs.sides_known].concat();
        sides_known.sort();
        sides_known.dedup();
        let mut options = theirs.options;
        options.extend(ours.options);
        let mut queues: Vec<QueueReport> = [ours.queues, theirs.queues].concat();
        queues.sort_by_key(|queue| (queue.side, queue.device));
        queues.dedup_by_key(|queue| (queue.side, queue.device));
        let mut fallbacks = ours.fallbacks;
        for fallback in theirs.fallbacks {
            if !fallbacks.contains(&fallback) {
                fallbacks.push(fallback);
            }
        }
        let blocking = [ours.engine, theirs.engine].contains(&EngineKind::Blocking);
        let mut report = Self {
            sides_known,
            options,
            queues,
            engine: if blocking { EngineKind::Blocking } else { EngineKind::IoUring },
            fallbacks,
            verified: theirs.verified.or(ours.verified),
            verification: theirs.verification.or(ours.verification),
            runs_on: if ours.runs_on == RunsOn::Unknown { theirs.runs_on } else { ours.runs_on },
            died_with: ours.died_with.or(theirs.died_with),
            total_ms: ours.total_ms.or(theirs.total_ms),
            link_ms: ours.link_ms.or(theirs.link_ms),
            prepare_ms: ours.prepare_ms.or(theirs.prepare_ms),
            transfer_ms: ours.transfer_ms.or(theirs.transfer_ms),
            quiesce_ms: ours.quiesce_ms.or(theirs.quiesce_ms),
            quiesce: ours.quiesce.or(theirs.quiesce),
            blackout_ms: theirs.blackout_ms.or(ours.blackout_ms),
            ticks: Ticks::merge(ours.ticks, theirs.ticks),
            guest_memory_bytes: ours.guest_memory_bytes.max(theirs.guest_memory_bytes),
            bytes_touched: ours.bytes_touched.or(theirs.bytes_touched),
            bytes_logical: ours.bytes_logical.or(theirs.bytes_logical),
            bytes_wire: ours.bytes_wire.or(theirs.bytes_wire),
            throughput_bytes_per_s: ours.throughput_bytes_per_s.or(theirs.throughput_bytes_per_s),
            intended_write_bytes_per_s: ours.intended_write_bytes_per_s.or(theirs.intended_write_bytes_per_s),
            achieved_write_bytes_per_s: ours.achieved_write_bytes_per_s.or(theirs.achieved_write_bytes_per_s),
            cpu_s: PerSide::merge(ours.cpu_s, theirs.cpu_s),
            memory_peak_bytes: PerSide::merge(ours.memory_peak_bytes, theirs.memory_peak_bytes),
            passes: if ours.passes.is_empty() { theirs.passes } else { ours.passes },
            tls: LinkTls::merge(ours.tls, theirs.tls),
            codec: ours.codec.or(theirs.codec),
            environment: PerSide::merge(ours.environment, theirs.environment),
            ..ours
        };
        report.derive_fields();
        Ok(report)
    }

    /// Whether this report has what `side` knows.
    pub fn knows(&self, side: Side) -> bool {
        self.sides_known.contains(&side)
    }
}

fn same<T: PartialEq + ToString>(field: &'static str, ours: &T, theirs: &T) -> Result<(), MergeError> {
    if ours == theirs {
        return Ok(());
    }
    Err(MergeError { field, source_has: ours.to_string(), destination_has: theirs.to_string() })
}
