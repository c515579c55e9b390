//! What is left when a relocation is over: a table, a JSON file, or a last JSON line.

use std::path::Path;

use anyhow::Context;
use isfc::{Engine, Link};
use lgr_engine::event::{Event, Observer};
use lgr_engine::report::{Report, table};

use crate::options::ProgressArg;
use crate::progress::print;

/// Writes the file if one is asked for, and shows the report as `progress` wants it.
pub(crate) fn deliver(
    report: &Report,
    json: Option<&Path>,
    progress: ProgressArg,
    observer: &dyn Observer,
) -> anyhow::Result<()> {
    observer.event(Event::Finished { report: Box::new(report.clone()) });
    if let Some(path) = json {
        write(path, &report.to_json_pretty())?;
    }
    if progress != ProgressArg::Json {
        print(&table::render(report));
    }
    Ok(())
}

/// Refuses a file that could not be written at the end, before a guest has been moved for its report.
pub(crate) fn check_writable(json: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = json else { return Ok(()) };
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file in one go.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The event that says how a link came up.
pub(crate) fn connected(link: &Link) -> Event {
    let (engine, _) = link.engine();
    let engine = match engine {
        Engine::IoUring => "io_uring",
        Engine::Blocking => "blocking",
    };
    Event::Connected {
        peer: link.peer().to_owned(),
        queues: link.devices(),
        medium: link.medium().to_string(),
        engine: engine.to_owned(),
        tls: link
            .tls()
            .map(|session| format!("{} {} with {}", session.version, session.suite, session.peer.member())),
    }
}
