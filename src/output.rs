//! What is left when a relocation is over: a table, a JSON file, or a last JSON line.

use std::path::Path;

use anyhow::Context;
use isfc::islink::{DeviceTable, IslinkDevice};
use isfc::{DeviceCounters, LatencyPercentiles, Link};
use lgr_engine::event::{Event, Observer};
use lgr_engine::report::{QueueReport, Report, Side, table};

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

/// The device queues of each side, as `QUERY ISLINK` tells them.
pub(crate) fn islink(report: &Report) -> String {
    let mut text = String::new();
    for (side, node, peer) in [
        (Side::Source, report.source, report.destination),
        (Side::Destination, report.destination, report.source),
    ] {
        let devices: Vec<IslinkDevice> =
            report.queues.iter().filter(|queue| queue.side == side).map(islink_device).collect();
        if !devices.is_empty() {
            let medium = &report.medium;
            text += &format!(
                "\nNode: {node}  Link to: {peer}  Type: FCTC over {medium}\n{}",
                DeviceTable(&devices)
            );
        }
    }
    text
}

fn islink_device(queue: &QueueReport) -> IslinkDevice {
    let (transfers_tx, transfers_rx) = match queue.side {
        Side::Source => (queue.transfers, 0),
        Side::Destination => (0, queue.transfers),
    };
    let counters = DeviceCounters {
        device: queue.device as u8,
        tx_frames: queue.tx_frames,
        tx_bytes: queue.tx_bytes,
        rx_frames: queue.rx_frames,
        rx_bytes: queue.rx_bytes,
        transfers_tx,
        transfers_rx,
        stalls: queue.stalls,
        retries: queue.retries,
        ssch: queue.ssch,
        unit_checks: queue.unit_checks,
        collisions: queue.collisions,
        resends: queue.resends,
        depth_max: queue.depth_max,
        latency: queue.latency.map(|latency| LatencyPercentiles {
            count: latency.count,
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
            max_us: latency.max_us,
        }),
        state: queue.state.clone(),
        ..DeviceCounters::default()
    };
    IslinkDevice { writes: transfers_tx > 0, depth: 0, counters }
}

/// Refuses a file that could not be written at the end, before a guest has been moved for its report. A file that was not
/// there is not there afterwards: a run that fails leaves no empty one.
pub(crate) fn check_writable(json: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = json else { return Ok(()) };
    let mut options = std::fs::OpenOptions::new();
    let tried = match options.append(true).create_new(true).open(path) {
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            options.create_new(false).create(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    };
    tried.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file in one go.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The event that says how a link came up.
pub(crate) fn connected(link: &Link) -> Event {
    Event::Connected {
        peer: link.peer().to_owned(),
        queues: link.devices(),
        medium: link.medium().to_string(),
        engine: link.engine().0.as_str().to_owned(),
        tls: link
            .tls()
            .map(|session| format!("{} {} with {}", session.version, session.suite, session.peer.member())),
    }
}
