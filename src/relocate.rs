//! `lgr relocate`: moves a guest to a member started for it, or with `--to` to one that waits.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use guest_mem::{MemoryAvailable, MemoryNeed, Storage, StorageOptions, check_fits};
use isfc::ficon::{Layout, Pacer};
use isfc::tls::Tls;
use isfc::{Address, Endpoints, Link, LinkOptions, Medium, Share};
use lgr_engine::codec::Compress;
use lgr_engine::driver::{Cancel, SourceOptions, relocate};
use lgr_engine::event::{Event, Observer};
use lgr_engine::guest::Guest;
use lgr_engine::limit::RateLimit;
use lgr_engine::owner::{MemberName, OwnerVolume};
use lgr_engine::report::{Report, RunsOn, Side};
use lgr_engine::workload::{OVERHEAD_BYTES, Workload};
use serde::Serialize;

use crate::options::{
    GuestArgs, LimitArgs, MemberArgs, ProgressArg, as_text, as_text_if_given, member_name, named, seconds,
};
use crate::progress::complain;
use crate::units::parse_rate;
use crate::{flamegraph, launcher, output, progress, signals, trace};

/// Options of `lgr relocate`.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct RelocateArgs {
    /// Move it to the member that waits there (`lgr receive`) [default: start one on this machine]
    #[arg(long, value_parser = named::<Address>, value_name = "ADDR")]
    #[serde(skip)]
    pub(crate) to: Option<Address>,

    /// What carries the queues when the member is started here: tcp, unix or shm
    #[arg(long, default_value = "tcp", value_parser = named::<Medium>, conflicts_with = "to", value_name = "MEDIUM")]
    pub(crate) medium: Medium,

    /// Device queues of the link
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=16), value_name = "N")]
    pub(crate) queues: u8,

    /// Hold the queues to the timing of FICON channels: GENERATION:CHANNELSxDEVICES, as in ficon8s:4x4 or ficon4:1x12@10 (km)
    #[arg(long, value_parser = named::<Layout>, conflicts_with = "queues", value_name = "LAYOUT")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(crate) pace: Option<Layout>,

    /// Between members started here, a link that carries so many bytes per second each way, and says nothing of it
    #[arg(long, hide = true, value_parser = parse_rate, value_name = "SIZE", conflicts_with = "to")]
    #[serde(skip)]
    pub(crate) slow_link: Option<NonZeroU64>,

    /// At a member started here, make all memory ready before the first pass, and not ahead of the pages as they arrive
    #[arg(long)]
    pub(crate) prefault: bool,

    /// Pack pages: auto (when the link is the limit), never, or zstd[:LEVEL] always, levels 1 to 9
    #[arg(long, default_value = "auto", value_parser = named::<Compress>, value_name = "WHEN")]
    #[serde(serialize_with = "as_text")]
    pub(crate) compress: Compress,

    /// Hash live memory on its way too, not only memory that stands still
    #[arg(long)]
    pub(crate) hash_live: bool,

    /// Do not compare the memory after the move
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// How long the guest runs before the move
    #[arg(long, default_value_t = 0.5, value_parser = seconds, value_name = "SECONDS")]
    pub(crate) run_before: f64,

    /// How long the guest runs after the move, before it is checked
    #[arg(long, default_value_t = 0.5, value_parser = seconds, value_name = "SECONDS")]
    pub(crate) run_after: f64,

    /// Relocate so many times, a new guest each, and sum up
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "to", value_name = "N")]
    #[serde(skip)]
    pub(crate) runs: u32,

    /// Name of this member, up to 8 characters
    #[arg(long, default_value = "MEMBERA", value_parser = member_name, value_name = "NAME")]
    pub(crate) member: MemberName,

    /// Take the guest's name over even if the owner record names another member; refused while a process runs it
    #[arg(long)]
    pub(crate) claim: bool,

    /// Show every device queue of the link at the end, too (the facts of QUERY ISLINK)
    #[arg(long, conflicts_with = "runs")]
    #[serde(skip)]
    pub(crate) islink: bool,

    /// Write a JSON line for each pass, and for each batch of channel programs of a queue, to this file
    #[arg(long, conflicts_with = "runs", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) trace: Option<PathBuf>,

    /// Draw where both members spent their processor time, pass by pass, to this file: SVG, or lines if it ends in .folded
    #[arg(long, conflicts_with = "runs", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) flamegraph: Option<PathBuf>,

    /// Write the report to this file, as JSON (an array with --runs)
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) guest: GuestArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) limits: LimitArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) common: MemberArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &RelocateArgs) -> anyhow::Result<ExitCode> {
    signals::follow_parent(args.common.supervised)?;
    // Refused before anything starts.
    args.guest.workload().check(args.guest.memory)?;
    output::check_writable(args.json.as_deref())?;
    output::check_writable(args.flamegraph.as_deref())?;
    if args.to.is_none() && args.common.volume.volume.is_some() {
        complain(
            "error: --volume needs --to: without it both members are started here, with a volume of their own",
        );
        return Ok(ExitCode::from(2));
    }
    if args.to.is_none() && args.common.security.tls.is_some() {
        complain("error: --tls needs --to: without it both members are on this machine");
        return Ok(ExitCode::from(2));
    }
    let cancel = signals::cancel_on_ctrl_c()?;
    let observer = progress::observer(args.common.progress);
    let Some(address) = &args.to else {
        return launcher::run(args, &cancel, &*observer);
    };
    let tls = args.common.security.protection(address, args.member)?;
    trace::start(args.trace.as_deref(), args.flamegraph.is_some())?;
    let report = move_to(address, tls.as_ref(), args, &cancel, &*observer)?;
    deliver(&report, args, &*observer)?;
    Ok(exit_code(&report))
}

/// Hands the report over in every form that was asked for.
pub(crate) fn deliver(report: &Report, args: &RelocateArgs, observer: &dyn Observer) -> anyhow::Result<()> {
    output::deliver(report, args.json.as_deref(), args.common.progress, observer)?;
    if args.islink && args.common.progress != ProgressArg::Json {
        progress::print(&output::islink(report));
    }
    Ok(())
}

/// Refuses a guest that does not fit, with the sum. `members` of the two sides are on this machine.
pub(crate) fn check_memory(args: &RelocateArgs, members: u64) -> anyhow::Result<()> {
    let touched = args.guest.touched_bytes();
    let need = MemoryNeed {
        source_touched_bytes: touched,
        destination_touched_bytes: touched * (members - 1),
        overhead_bytes: OVERHEAD_BYTES * members,
    };
    check_fits(&need, &MemoryAvailable::read()?)?;
    Ok(())
}

fn move_to(
    address: &Address,
    tls: Option<&Tls>,
    args: &RelocateArgs,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> anyhow::Result<Report> {
    check_memory(args, 1)?;
    let options = StorageOptions { len_bytes: args.guest.memory, backing: args.guest.backing };
    let storage = Arc::new(Storage::create(&options)?);
    let volume = OwnerVolume::open(args.common.volume.dir()?)?;
    // Held for as long as the guest may run in this process.
    let (record, running) = volume.start(args.guest.guest, args.member, args.claim)?;
    let running = Arc::new(running);
    // Called first: nobody wants to wait for a guest to be built and then hear that nobody listens.
    let queues = args.pace.map_or(args.queues, |layout| layout.devices);
    let called = Instant::now();
    let endpoints = call(address, tls, queues.into(), &storage, cancel)?;
    let pacer = args.pace.map(|layout| Arc::new(Pacer::new(layout)));
    let link = Link::start(endpoints, LinkOptions { pacer, ..args.common.link_options(args.member) })?;
    let link_formed_in = called.elapsed();
    observer.event(output::connected(&link));
    let mut guest = build(&storage, args, observer)?;
    guest.resume()?;
    observer.event(Event::Running { side: Side::Source });
    run_before(Duration::from_secs_f64(args.run_before), cancel);
    let running = Some(running.clone());
    let options = SourceOptions { link_formed_in, running, ..source_options(args) };
    let profile = flamegraph::start(args.flamegraph.as_deref(), Side::Source)?;
    let mut report = relocate(&mut guest, &link, &volume, &record, options, observer, cancel);
    flamegraph::finish(profile);
    report.options = options_given(args).context("options as JSON")?;
    Ok(report)
}

/// Calls the other member, in a thread of its own: a peer that does not answer takes seconds, and Ctrl-C must not.
fn call(
    address: &Address,
    tls: Option<&Tls>,
    queues: usize,
    storage: &Arc<Storage>,
    cancel: &Cancel,
) -> anyhow::Result<Endpoints> {
    let (answer, answered) = mpsc::channel();
    let (to, tls, storage) = (address.clone(), tls.cloned(), storage.clone());
    std::thread::Builder::new().name("lgr-call".into()).spawn(move || {
        let shares = [Share { number: 0, memfd: storage.fd() }];
        let endpoints = match tls {
            Some(tls) => isfc::connect_tls(&to, queues, &tls),
            None => isfc::connect(&to, queues, &shares),
        };
        // Nobody listens any more after a cancel.
        let _ = answer.send(endpoints);
    })?;
    loop {
        match answered.recv_timeout(Duration::from_millis(50)) {
            Ok(endpoints) => return Ok(endpoints?),
            Err(mpsc::RecvTimeoutError::Timeout) if cancel.is_requested() => {
                bail!("cancelled while calling {address}")
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("calling {address} failed"),
        }
    }
}

fn build(storage: &Arc<Storage>, args: &RelocateArgs, observer: &dyn Observer) -> anyhow::Result<Workload> {
    let (done, total_bytes) = (AtomicU64::new(0), args.guest.touched_bytes());
    let tell = |bytes: u64| {
        let done_bytes = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // A line for every 2 MiB would cost more than filling them.
        if done_bytes.is_multiple_of(64 << 20) || done_bytes == total_bytes {
            let what = "building the guest".to_owned();
            observer.event(Event::Preparing { side: Side::Source, what, done_bytes, total_bytes });
        }
    };
    Ok(Workload::build(storage.clone(), args.guest.workload(), args.guest.tracker, &tell)?)
}

fn run_before(time: Duration, cancel: &Cancel) {
    let started = std::time::Instant::now();
    while started.elapsed() < time && !cancel.is_requested() {
        std::thread::sleep((time.saturating_sub(started.elapsed())).min(Duration::from_millis(20)));
    }
}

fn source_options(args: &RelocateArgs) -> SourceOptions {
    SourceOptions {
        limits: args.limits.stop.limits(),
        policy: args.limits.stop.policy.build(),
        rate_limit: args.limits.rate_limit.map_or_else(RateLimit::unlimited, RateLimit::new),
        hash_live: args.hash_live,
        compress: args.compress,
        verify: !args.no_verify,
        run_after: Duration::from_secs_f64(args.run_after),
        faults: args.common.fault.clone(),
        ..SourceOptions::new(args.member)
    }
}

fn options_given(
    args: &RelocateArgs,
) -> serde_json::Result<std::collections::BTreeMap<String, serde_json::Value>> {
    serde_json::from_value(serde_json::to_value(args)?)
}

/// 0 if the guest was moved and is whole.
pub(crate) fn exit_code(report: &Report) -> ExitCode {
    let moved = report.runs_on == RunsOn::Destination && report.died_with.is_none();
    ExitCode::from(u8::from(!(moved && is_whole(report))))
}

/// The guest was compared and is whole, or was not to be compared.
pub(crate) fn is_whole(report: &Report) -> bool {
    let asked = report.options.get("no_verify") != Some(&serde_json::Value::Bool(true));
    report.verified.unwrap_or(!asked)
}
