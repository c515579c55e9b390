//! One side's half of the report: what the link, the guest and the process can tell.

use std::time::Instant;

use isfc::{Engine, Link};

use crate::guest::Guest;
use crate::owner::MemberName;
use crate::report::{
    EngineKind, Environment, Fallback, LinkTls, PerSide, ProcessUsage, QueueLatency, QueueReport, Report,
    Side, TimelineReport,
};

/// Processor time used before the relocation began, so that only its own is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsageMark(f64);

impl UsageMark {
    pub(super) fn now() -> Self {
        Self(ProcessUsage::probe().cpu_s)
    }

    /// Processor seconds since.
    pub(super) fn elapsed_s(self) -> f64 {
        ProcessUsage::probe().cpu_s - self.0
    }
}

/// Fills in what only this side knows of its process, machine and queues.
pub(super) fn fill_half(report: &mut Report, side: Side, link: &Link, cpu_s: f64) {
    let usage = ProcessUsage::probe();
    report.cpu_s = PerSide::of(side, cpu_s);
    if let Some(peak) = usage.memory_peak_bytes {
        report.memory_peak_bytes = PerSide::of(side, peak);
    }
    report.environment = PerSide::of(side, Environment::probe());
    report.medium = link.medium().to_string();
    report.tls = link.tls().map(|session| LinkTls {
        version: session.version.clone(),
        suite: session.suite.clone(),
        peer: PerSide::of(side, session.peer.member().to_owned()),
    });
    let (engine, fallback) = link.engine();
    report.engine = match engine {
        Engine::IoUring => EngineKind::IoUring,
        Engine::Blocking => EngineKind::Blocking,
    };
    if let Some(reason) = fallback {
        report.fallbacks.push(Fallback {
            side,
            wanted: "io_uring".to_owned(),
            used: "blocking".to_owned(),
            reason: reason.to_owned(),
        });
    }
    for device in link.counters() {
        report.queues.push(QueueReport {
            side,
            device: u32::from(device.device),
            tx_frames: device.tx_frames,
            tx_bytes: device.tx_bytes,
            rx_frames: device.rx_frames,
            rx_bytes: device.rx_bytes,
            stalls: device.stalls,
            retries: device.retries,
            transfers: match side {
                Side::Source => device.transfers_tx,
                Side::Destination => device.transfers_rx,
            },
            ssch: device.ssch,
            unit_checks: device.unit_checks,
            collisions: device.collisions,
            resends: device.resends,
            depth_max: device.depth_max,
            latency: device.latency.map(|latency| QueueLatency {
                count: latency.count,
                p50_us: latency.p50_us,
                p99_us: latency.p99_us,
                max_us: latency.max_us,
            }),
            state: device.state,
        });
    }
}

/// Fills in what the devices sent over time, from the first pass on.
pub(super) fn fill_timeline(report: &mut Report, link: &Link, began: Instant) {
    let mut timeline = TimelineReport::default();
    for pair in link.timeline().windows(2).filter(|pair| pair[1].at >= began) {
        timeline.at_ms.push((pair[1].at - began).as_millis() as u64);
        let devices = || pair[1].devices.iter().zip(&pair[0].devices);
        timeline.tx_bytes.push(devices().map(|(now, before)| now.tx_bytes - before.tx_bytes).collect());
        timeline.depth.push(devices().map(|(now, _)| now.depth).collect());
    }
    report.timeline = timeline;
}

/// Refuses a peer that calls itself otherwise than its certificate says; without certificates there is nothing to say.
pub(super) fn check_peer(link: &Link, name: MemberName) -> Result<(), String> {
    match link.tls() {
        Some(session) if session.peer.member() != name.as_str() => {
            let certified = session.peer.member();
            Err(format!("the peer speaks as {name}, and its certificate is that of {certified}"))
        }
        _ => Ok(()),
    }
}

/// Fills in the guest's own account.
pub(super) fn fill_experience(report: &mut Report, guest: &dyn Guest) {
    let felt = guest.experience();
    report.blackout_ms = felt.blackout_ms;
    report.ticks = felt.ticks;
    report.intended_write_bytes_per_s = felt.intended_write_bytes_per_s;
    report.achieved_write_bytes_per_s = felt.achieved_write_bytes_per_s;
}
