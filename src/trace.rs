//! What is made of the engine's spans: `--trace FILE` writes them as JSON lines, `--flamegraph` takes its stages from them.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use crate::flamegraph::Stages;

/// From now on: writes a line to `path` whenever a span of this process closes; has `stages` follow the stage of the move.
/// With neither, spans cost nothing.
pub(crate) fn start(path: Option<&Path>, stages: bool) -> anyhow::Result<()> {
    if path.is_none() && !stages {
        return Ok(());
    }
    let lines = path.map(|path| {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let lines = tracing_subscriber::fmt::layer().json().with_span_events(FmtSpan::CLOSE);
        anyhow::Ok(lines.with_writer(Mutex::new(file)).with_filter(LevelFilter::DEBUG))
    });
    let stages = stages.then(|| Stages.with_filter(Stages::spans()));
    let subscriber = tracing_subscriber::registry().with(lines.transpose()?).with(stages);
    tracing::subscriber::set_global_default(subscriber).context("spans are written already")
}
