//! A guest that is moved from QEMU to QEMU, as often as one likes: each destination is the next source, so memory is
//! filled once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::machine::{Backing, Machine, MachineSpec};
use super::setting::{Carrier, Memory, Setting};
use crate::harness::cpu;
use crate::harness::guest::Parameters;

/// A guest that waits for its next move, stopped.
#[derive(Debug)]
pub(crate) struct Guest {
    program: PathBuf,
    parameters: Parameters,
    disk: Vec<u8>,
    machine: Machine,
    memory: Memory,
}

/// What one migration was like.
#[derive(Clone, Debug)]
pub(crate) struct Migration {
    /// QEMU's `total-time`.
    pub(crate) total_ms: f64,
    /// From the start of the destination's command line until its guest ran, without the time the source's ran on before.
    pub(crate) from_wish_ms: f64,
    /// QEMU's `downtime`.
    pub(crate) downtime_ms: f64,
    /// From the source's STOP event to the destination's RESUME event, by one clock.
    pub(crate) stop_to_resume_ms: f64,
    /// QEMU's `ram.transferred`.
    pub(crate) wire_bytes: f64,
    /// QEMU's `ram.dirty-sync-count`: passes.
    pub(crate) passes: f64,
    /// Processor time of both processes, from before the command until the guest ran again.
    pub(crate) cpu_s: [f64; 2],
    /// Memory the guest dirtied per second until it was stopped.
    pub(crate) dirtied_bytes_per_s: f64,
}

/// How a migration ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Moved(Migration),
    /// Cancelled after so many seconds and passes, with so much still to send.
    NotConverged {
        after_s: f64,
        passes: f64,
        remaining_bytes: f64,
    },
}

impl Guest {
    /// Boots it, waits until its memory is filled, and stops it. `content` is a file that is its memory.
    pub(crate) fn boot(
        program: PathBuf,
        parameters: Parameters,
        setting: &Setting,
        content: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let disk = parameters.disk();
        let mut machine = Machine::start(&MachineSpec {
            program: &program,
            memory_bytes: parameters.memory_bytes,
            backing: content.map_or(Backing::Own(setting.memory), Backing::File),
            prealloc: false,
            disk: &disk,
            incoming: false,
        })?;
        machine.wait_until_filled()?;
        machine.set_running(false)?;
        Ok(Self { program, parameters, disk, machine, memory: setting.memory })
    }

    /// What is behind its memory now.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// Memory the guest dirties per second while nobody moves it.
    pub(crate) fn quiet_dirtied_bytes_per_s(&mut self, time: Duration) -> anyhow::Result<f64> {
        self.machine.set_running(true)?;
        // The first ticks after a stop forgive a debt that is none.
        std::thread::sleep(Duration::from_millis(100));
        let (began, before) = (Instant::now(), self.machine.status()?.bytes_written());
        std::thread::sleep(time);
        let bytes = self.machine.status()?.bytes_written() - before;
        let seconds = began.elapsed().as_secs_f64();
        self.machine.set_running(false)?;
        Ok(bytes as f64 / seconds)
    }

    /// Moves it to a new QEMU. The guest runs for `run_before` first.
    ///
    /// # Errors
    /// QEMU refused, failed, or a process ended. The guest may be gone then.
    pub(crate) fn migrate(
        &mut self,
        setting: &Setting,
        run_before: Duration,
        limit: Duration,
    ) -> anyhow::Result<Outcome> {
        let wished = Instant::now();
        let mut destination = Machine::start(&MachineSpec {
            program: &self.program,
            memory_bytes: self.parameters.memory_bytes,
            backing: Backing::Own(setting.memory),
            prealloc: setting.prealloc,
            disk: &self.disk,
            incoming: true,
        })?;
        let address = listen(&mut destination, setting)?;
        prepare(&mut self.machine, setting)?;
        let until_listening = wished.elapsed();
        self.machine.set_running(true)?;
        std::thread::sleep(run_before);
        let mut outcome = self.run(&mut destination, &address, limit)?;
        if let Outcome::Moved(migration) = &mut outcome {
            migration.from_wish_ms += until_listening.as_secs_f64() * 1e3;
            self.machine = destination;
            self.memory = setting.memory;
        }
        self.machine.set_running(false)?;
        Ok(outcome)
    }

    fn run(&mut self, destination: &mut Machine, address: &str, limit: Duration) -> anyhow::Result<Outcome> {
        let source = &mut self.machine;
        let cpu_before = [cpu::seconds(source.id())?, cpu::seconds(destination.id())?];
        let written_before = source.status()?.bytes_written();
        // Of the time when it was a destination itself, and of our own stopping it.
        source.qmp.forget_events();
        let began = Instant::now();
        source.qmp.execute("migrate", json!({ "uri": address }))?;
        let mut stopped_at_ms = None;
        let done = loop {
            let left = limit.saturating_sub(began.elapsed());
            let event =
                source.qmp.event(left, |event| matches!(event.name.as_str(), "STOP" | "MIGRATION"))?;
            let Some(event) = event else { break false };
            match (event.name.as_str(), event.data["status"].as_str()) {
                ("STOP", _) => stopped_at_ms = Some(event.at_ms()),
                (_, Some("completed")) => break true,
                (_, Some("failed")) => bail!("QEMU's migration failed: {}", why(source)),
                _ => {}
            }
        };
        if !done {
            return give_up(source, began.elapsed());
        }
        let resumed = destination.qmp.event(Duration::from_secs(60), |event| event.name == "RESUME")?;
        let resumed = resumed.context("QEMU's destination did not resume the guest")?;
        let until_resumed = began.elapsed();
        let cpu_after = [cpu::seconds(source.id())?, cpu::seconds(destination.id())?];
        let written = source.status()?.bytes_written() - written_before;
        let facts = source.qmp.execute("query-migrate", json!({}))?;
        let number = |value: &Value| value.as_f64().context("QEMU does not tell all it should");
        let (total_ms, downtime_ms) = (number(&facts["total-time"])?, number(&facts["downtime"])?);
        let stopped_at_ms = stopped_at_ms.context("QEMU did not tell when it stopped the guest")?;
        Ok(Outcome::Moved(Migration {
            total_ms,
            from_wish_ms: until_resumed.as_secs_f64() * 1e3,
            downtime_ms,
            stop_to_resume_ms: resumed.at_ms() - stopped_at_ms,
            wire_bytes: number(&facts["ram"]["transferred"])?,
            passes: number(&facts["ram"]["dirty-sync-count"])?,
            cpu_s: [cpu_after[0] - cpu_before[0], cpu_after[1] - cpu_before[1]],
            dirtied_bytes_per_s: written as f64 * 1e3 / (total_ms - downtime_ms).max(1.0),
        }))
    }
}

/// Gives the setting to one side.
fn prepare(machine: &mut Machine, setting: &Setting) -> anyhow::Result<()> {
    let known = machine.qmp.execute("query-migrate-parameters", json!({}))?;
    machine.qmp.execute("migrate-set-capabilities", setting.capabilities())?;
    machine.qmp.execute("migrate-set-parameters", setting.parameters(&known))?;
    Ok(())
}

/// Has the destination listen, and gives where.
fn listen(destination: &mut Machine, setting: &Setting) -> anyhow::Result<String> {
    prepare(destination, setting)?;
    let address = match setting.carrier {
        Carrier::Tcp => "tcp:127.0.0.1:0".to_owned(),
        Carrier::Unix => format!("unix:{}", destination.dir().join("migration").display()),
    };
    destination.qmp.execute("migrate-incoming", json!({ "uri": address }))?;
    if setting.carrier == Carrier::Unix {
        return Ok(address);
    }
    let facts = destination.qmp.execute("query-migrate", json!({}))?;
    let port = facts["socket-address"][0]["port"].as_str().context("QEMU does not tell its port")?;
    Ok(format!("tcp:127.0.0.1:{port}"))
}

fn why(machine: &mut Machine) -> String {
    let facts = machine.qmp.execute("query-migrate", json!({})).unwrap_or_default();
    facts["error-desc"].as_str().unwrap_or("it does not say why").to_owned()
}

fn give_up(source: &mut Machine, after: Duration) -> anyhow::Result<Outcome> {
    let facts = source.qmp.execute("query-migrate", json!({}))?;
    source.qmp.execute("migrate_cancel", json!({}))?;
    let over = |status: &Value| matches!(status.as_str(), Some("cancelled" | "completed" | "failed"));
    let ended = source.qmp.event(Duration::from_secs(60), |event| over(&event.data["status"]))?;
    let ended = ended.context("QEMU does not cancel its migration")?;
    // In the moment it was asked to, it may have come to its end after all.
    anyhow::ensure!(ended.data["status"] == "cancelled", "QEMU's migration ended while it was cancelled");
    Ok(Outcome::NotConverged {
        after_s: after.as_secs_f64(),
        passes: facts["ram"]["dirty-sync-count"].as_f64().unwrap_or(f64::NAN),
        remaining_bytes: facts["ram"]["remaining"].as_f64().unwrap_or(f64::NAN),
    })
}
