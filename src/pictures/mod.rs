//! Pictures of relocations and of results, as SVG.
//!
//! Each function takes measured data and gives a [`Picture`], 760 units wide. It carries its own style with light
//! and dark colours, needs no font of its own and no script. Colours are told apart by shape or place, too, and every
//! number that matters is written beside its mark.
//!
//! | Picture | Function |
//! |---|---|
//! | memory and pages of each pass | [`passes()`] |
//! | passes of several runs | [`convergence()`] |
//! | what each queue carried over time | [`queues()`] |
//! | blackouts as a histogram | [`histogram()`] |
//! | the stop in its parts | [`quiesce()`] |
//! | samples, medians and intervals | [`intervals()`] |
//! | ratios beside their limits | [`limits()`] |
//!
//! They are drawn with the `svg` crate and not with a plotting crate: the style sheet, which makes one file good on
//! light and dark pages, needs classes in place of colours, and labels must not overlap without a font to measure.

mod canvas;
mod histogram;
mod intervals;
mod limits;
mod passes;
mod queues;
mod quiesce;
mod scale;
#[cfg(test)]
mod tests;

pub use canvas::Picture;
pub(crate) use canvas::style_sheet;
pub use histogram::histogram;
pub(crate) use intervals::asked;
pub use intervals::{Row, intervals};
pub use limits::limits;
pub use passes::{convergence, passes};
pub use queues::queues;
pub use quiesce::quiesce;

use lgr_engine::report::PassReport;

use crate::results::metrics::BLACKOUT;
use crate::results::{PictureKind, RunShape, ScenarioResult, Unit};

/// All kinds, in the order of the index.
pub const KINDS: [PictureKind; 6] = [
    PictureKind::Samples,
    PictureKind::Limits,
    PictureKind::Passes,
    PictureKind::Queues,
    PictureKind::Blackout,
    PictureKind::Quiesce,
];

/// The name of the file of a scenario's picture.
pub fn file_name(scenario: &str, kind: PictureKind) -> String {
    format!("{scenario}-{}.svg", kind.name())
}

/// The pictures that a result asks for and has the data of.
pub fn of_result(result: &ScenarioResult) -> Vec<(PictureKind, Picture)> {
    KINDS
        .into_iter()
        .filter(|kind| result.pictures.contains(kind))
        .filter_map(|kind| Some((kind, of_kind(result, kind)?)))
        .collect()
}

fn of_kind(result: &ScenarioResult, kind: PictureKind) -> Option<Picture> {
    let title = &result.scenario;
    let shapes = || -> Vec<(&str, &RunShape)> {
        let shape = |contestant| {
            let contestant: &crate::results::Contestant = contestant;
            Some((contestant.name.as_str(), contestant.middle_run.as_ref()?))
        };
        result.contestants.iter().filter_map(shape).collect()
    };
    match kind {
        PictureKind::Samples => {
            let metric = result.metrics.get(&result.main_metric)?;
            let rows = rows_of(result, &result.main_metric);
            intervals(
                title,
                &format!("{}: every run (dots), their median (bar), its interval (line)", metric.what),
                metric,
                &rows,
                None,
            )
        }
        PictureKind::Limits => limits(title, &result.comparisons, &result.metrics),
        PictureKind::Passes => {
            let runs: Vec<(&str, &[PassReport])> =
                shapes().into_iter().map(|(name, shape)| (name, shape.passes.as_slice())).collect();
            match runs.as_slice() {
                [(name, run)] => passes(&format!("{title}: {name}"), run),
                runs => convergence(title, runs),
            }
        }
        PictureKind::Queues => {
            let (name, shape) = shapes().into_iter().max_by_key(|(_, shape)| shape.timeline.at_ms.len())?;
            queues(&format!("{title}: {name}"), &shape.timeline, &shape.passes)
        }
        PictureKind::Blackout => {
            let rows = rows_of(result, BLACKOUT);
            histogram(title, "guest did not run, as it saw itself: one dot per run", Unit::Ms, &rows)
        }
        PictureKind::Quiesce => {
            let rows: Vec<_> = shapes()
                .into_iter()
                .filter_map(|(name, shape)| Some((name.to_owned(), shape.quiesce.clone()?)))
                .collect();
            quiesce(title, &rows)
        }
    }
}

fn rows_of(result: &ScenarioResult, metric: &str) -> Vec<Row> {
    result
        .contestants
        .iter()
        .map(|contestant| Row { name: contestant.name.clone(), values: contestant.values(metric) })
        .filter(|row| !row.values.is_empty())
        .collect()
}
