//! `lgr record FILE`: writes the dirty trace of a workload guest while it runs, without a relocation.

use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use guest_mem::{MemoryAvailable, MemoryNeed, Storage, StorageOptions, check_fits};
use lgr_engine::guest::Guest;
use lgr_engine::trace::{RecordOptions, Recorded, record};
use lgr_engine::workload::{OVERHEAD_BYTES, Workload};

use crate::options::{GuestArgs, seconds};
use crate::progress::print;
use crate::signals;
use crate::units::size;

/// Options of `lgr record`.
#[derive(Args, Debug)]
pub(crate) struct RecordArgs {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How long
    #[arg(long, default_value_t = 10.0, value_parser = seconds, value_name = "SECONDS")]
    seconds: f64,

    /// How often written pages are collected; a replay is as fine as this
    #[arg(long, default_value_t = 0.01, value_parser = seconds, value_name = "SECONDS")]
    every: f64,

    /// How long the guest runs before
    #[arg(long, default_value_t = 0.5, value_parser = seconds, value_name = "SECONDS")]
    run_before: f64,

    #[command(flatten)]
    guest: GuestArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    args.guest.workload().check(args.guest.memory)?;
    let cancel = signals::cancel_on_ctrl_c()?;
    let need = MemoryNeed {
        source_touched_bytes: args.guest.touched_bytes(),
        destination_touched_bytes: 0,
        overhead_bytes: OVERHEAD_BYTES,
    };
    check_fits(&need, &MemoryAvailable::read()?)?;
    let shown = args.file.display();
    let file = std::fs::File::create(&args.file).with_context(|| format!("cannot write {shown}"))?;
    let options = StorageOptions { len_bytes: args.guest.memory, backing: args.guest.backing };
    let storage = Arc::new(Storage::create(&options)?);
    let mut guest = Workload::build(storage, args.guest.workload(), args.guest.tracker, &|_| {})?;
    guest.resume()?;
    std::thread::sleep(Duration::from_secs_f64(args.run_before));
    let options = RecordOptions {
        guest: args.guest.guest,
        every: Duration::from_secs_f64(args.every),
        duration: Duration::from_secs_f64(args.seconds),
        description: describe(&args.guest),
    };
    let recorded = record(&mut guest, &options, BufWriter::new(file), &cancel);
    guest.quiesce()?;
    let recorded = recorded.with_context(|| format!("recording {shown}"))?;
    print(&text(args, &recorded));
    Ok(ExitCode::from(u8::from(!recorded.whole)))
}

/// What the guest does, for whoever finds the trace.
fn describe(guest: &GuestArgs) -> String {
    let rate = size(guest.dirty_rate);
    let working_set = guest.working_set.map(|bytes| format!(" over {}", size(bytes))).unwrap_or_default();
    format!("{} {rate}/s{working_set}, {} vCPU, seed {}", guest.workload, guest.vcpus, guest.seed)
}

fn text(args: &RecordArgs, recorded: &Recorded) -> String {
    let seconds = recorded.duration.as_secs_f64();
    let written = recorded.written.bytes() as f64 / seconds.max(1e-9);
    let file_bytes = std::fs::metadata(&args.file).map_or(0, |data| data.len());
    let early = if recorded.whole { "" } else { "; ended early" };
    format!(
        "{}: {} touched, {} samples in {seconds:.2} s, {}/s of changed pages; {}{early}\n",
        args.file.display(),
        size(recorded.touched.bytes()),
        recorded.samples,
        size(written as u64),
        size(file_bytes)
    )
}
