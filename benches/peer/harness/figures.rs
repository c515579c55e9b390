//! What is measured of a migration, on both sides in the same way, beside the metrics of every lgr benchmark.

use std::collections::BTreeMap;

use lgr::results::metrics::{
    ACHIEVED, BLACKOUT, CPU, PASSES, TRANSFER, TRANSFER_RATE, WIRE_RATE, known, of_report,
};
use lgr::results::{Better, Metric, Unit};
use lgr_engine::report::{Report, RunsOn};

use super::qemu::{Migration, Outcome};
use super::scenario::Load;

/// The time that is compared. QEMU's `total-time`, which begins with connecting. lgr's total, which begins with the wish;
/// where memory is made ready beforehand, which QEMU's clock does not see, the part from the first pass on.
pub(crate) const MOVE: &str = "move_ms";
/// From the wish until the guest runs at the destination: lgr's total; for QEMU from the start of the destination's command
/// line, so that memory which it makes ready first is in it.
pub(crate) const FROM_WISH: &str = "from_wish_ms";
/// The guest's memory, touched or not, over the time that is compared.
pub(crate) const RATE: &str = "rate_bytes_per_s";
/// Memory the guest dirtied per second while it was moved.
pub(crate) const DIRTIED: &str = "dirtied_bytes_per_s";
/// Share of the moves that ended without being cancelled from outside.
pub(crate) const ENDED: &str = "ended_by_itself_ratio";
/// QEMU's own `downtime`.
pub(crate) const DOWNTIME: &str = "downtime_ms";
/// From QEMU's event that the source stopped to its event that the destination resumed.
pub(crate) const STOP_TO_RESUME: &str = "stop_to_resume_ms";
/// How long a migration was given that did not converge.
pub(crate) const CANCELLED: &str = "cancelled_after_ms";
/// What it still had to send.
pub(crate) const REMAINING: &str = "remaining_bytes";
/// Share of the variance of the time that a straight line over touched memory explains.
pub(crate) const LINEAR: &str = "linear_fit_ratio";
/// Slope in doubly logarithmic paper: 1 is linear growth, 2 quadratic.
pub(crate) const GROWTH: &str = "growth_exponent_ratio";

const GIB: f64 = (1_u64 << 30) as f64;

/// Every metric that a sample may hold.
pub(crate) fn explained() -> BTreeMap<String, Metric> {
    let rows = [
        (MOVE, "time of the move, as compared", Unit::Ms, Better::Lower),
        (FROM_WISH, "from the wish until the guest runs there", Unit::Ms, Better::Lower),
        (RATE, "guest memory over the time of the move", Unit::BytesPerS, Better::Higher),
        (DIRTIED, "what the guest dirtied while it was moved", Unit::BytesPerS, Better::Neither),
        (ENDED, "moves that ended without being cancelled", Unit::Ratio, Better::Higher),
        (DOWNTIME, "QEMU's own downtime", Unit::Ms, Better::Lower),
        (STOP_TO_RESUME, "QEMU's guest stopped, by its events", Unit::Ms, Better::Lower),
        (CANCELLED, "cancelled, as it did not converge", Unit::Ms, Better::Neither),
        (REMAINING, "left to send when it was cancelled", Unit::Bytes, Better::Neither),
        (LINEAR, "R² of a straight line over touched memory", Unit::Ratio, Better::Higher),
        (GROWTH, "exponent of growth with touched memory", Unit::Ratio, Better::Lower),
    ];
    let own = rows
        .map(|(name, what, unit, better)| (name.to_owned(), Metric { what: what.to_owned(), unit, better }));
    known().into_iter().chain(own).collect()
}

/// The figures of one relocation by lgr.
pub(crate) fn of_lgr(report: &Report, load: &Load) -> BTreeMap<String, f64> {
    let mut figures = of_report(report);
    let own = [
        (MOVE, if load.prefaulted { report.transfer_ms } else { report.total_ms }),
        (FROM_WISH, report.total_ms),
        // The report's own rates are over the whole move, in part of which the guest stands; its share is not.
        (DIRTIED, figures.get(ACHIEVED).map(|share| share * load.dirty_bytes_per_s)),
        (ENDED, Some(f64::from(u8::from(report.runs_on != RunsOn::Unknown)))),
    ];
    figures.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    if let Some(move_ms) = figures.get(MOVE) {
        figures.insert(RATE.to_owned(), report.guest_memory_bytes as f64 * 1e3 / move_ms);
    }
    figures
}

/// The figures of one migration by QEMU.
pub(crate) fn of_qemu(outcome: &Outcome, load: &Load) -> BTreeMap<String, f64> {
    let figures = match outcome {
        Outcome::Moved(migration) => of_migration(migration, load),
        Outcome::NotConverged { after_s, passes, remaining_bytes } => {
            vec![(ENDED, 0.0), (CANCELLED, after_s * 1e3), (PASSES, *passes), (REMAINING, *remaining_bytes)]
        }
    };
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_migration(migration: &Migration, load: &Load) -> Vec<(&'static str, f64)> {
    let total_s = migration.total_ms / 1e3;
    let mut figures = vec![
        (MOVE, migration.total_ms),
        (FROM_WISH, migration.from_wish_ms),
        (TRANSFER, migration.total_ms),
        (RATE, load.memory_bytes as f64 / total_s),
        (BLACKOUT, blackout_ms(migration)),
        (DOWNTIME, migration.downtime_ms),
        (STOP_TO_RESUME, migration.stop_to_resume_ms),
        (PASSES, migration.passes),
        (WIRE_RATE, migration.wire_bytes / total_s),
        (ENDED, 1.0),
    ];
    if load.touched_bytes > 0 {
        let touched = load.touched_bytes as f64;
        figures.push((TRANSFER_RATE, touched / total_s));
        figures.push((CPU, migration.cpu_s.iter().sum::<f64>() * GIB / touched));
    }
    if load.dirty_bytes_per_s > 0.0 {
        figures.push((DIRTIED, migration.dirtied_bytes_per_s));
        figures.push((ACHIEVED, migration.dirtied_bytes_per_s / load.dirty_bytes_per_s));
    }
    figures
}

/// The shorter of QEMU's two measures of the stop: the doubt is QEMU's.
pub(crate) fn blackout_ms(migration: &Migration) -> f64 {
    migration.downtime_ms.min(migration.stop_to_resume_ms)
}
