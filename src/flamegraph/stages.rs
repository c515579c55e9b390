//! Which stage of the move the process is in, from the spans of the engine.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};

use super::sampler::STAGE;

/// Names of the stages so far; a stage is known by its place in it, from one.
static NAMES: Mutex<Vec<Stage>> = Mutex::new(Vec::new());

struct Stage {
    /// Its span, while that is open.
    span: Option<Id>,
    name: &'static str,
    number: Option<u64>,
    kind: Option<String>,
}

/// The name of stage `number`, and its place in time.
pub(super) fn name_of(number: u32) -> String {
    let stages = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(stage) = (number as usize).checked_sub(1).and_then(|index| stages.get(index)) else {
        return "unknown".to_owned();
    };
    let mut text = stage.name.to_owned();
    if let Some(number) = stage.number {
        let _ = write!(text, " {number}");
    }
    if let Some(kind) = &stage.kind {
        let is_stopped = matches!(kind.as_str(), "penultimate" | "final");
        let _ = write!(text, " {kind}{}", if is_stopped { ", guest stopped" } else { "" });
    }
    text
}

/// Follows the spans of target `lgr`: the one opened last and not yet closed is the stage.
pub(crate) struct Stages;

impl Stages {
    /// The spans it wants to know of; all others stay as cheap as without it.
    pub(crate) fn spans() -> Targets {
        Targets::new().with_target("lgr", LevelFilter::INFO)
    }

    fn change(act: impl FnOnce(&mut Vec<Stage>)) {
        let mut stages = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut stages);
        let current = stages.iter().rposition(|stage| stage.span.is_some());
        STAGE.store(current.map_or(0, |index| index as u32 + 1), Ordering::Relaxed);
    }
}

impl<S: Subscriber> Layer<S> for Stages {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let name = attributes.metadata().name();
        let mut stage = Stage { span: Some(id.clone()), name, number: None, kind: None };
        attributes.record(&mut stage);
        Self::change(|stages| stages.push(stage));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        Self::change(|stages| {
            let stage = stages.iter_mut().rfind(|stage| stage.span.as_ref() == Some(id));
            stage.into_iter().for_each(|stage| values.record(stage));
        });
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        Self::change(|stages| {
            let stage = stages.iter_mut().rfind(|stage| stage.span.as_ref() == Some(&id));
            stage.into_iter().for_each(|stage| stage.span = None);
        });
    }
}

impl Visit for Stage {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "number" {
            self.number = Some(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "kind" {
            self.kind = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
