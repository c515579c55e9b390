//! `lgr receive ADDR`: waits for a guest, takes it, runs it, checks it.

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use isfc::tls::Tls;
use isfc::{Address, Link, Listener};
use lgr_engine::driver::{Cancel, DestinationOptions, receive};
use lgr_engine::event::{Event, Observer};
use lgr_engine::owner::{MemberName, OwnerVolume};
use lgr_engine::report::{Report, RunsOn, Side};
use lgr_engine::workload::WorkloadFactory;

use crate::options::{MemberArgs, member_name, named, seconds};
use crate::refusals::Refusals;
use crate::{flamegraph, output, progress, signals, trace};

/// Options of `lgr receive`.
#[derive(Args, Debug)]
pub(crate) struct ReceiveArgs {
    /// Where to listen: tcp:HOST:PORT, unix:PATH or shm:PATH
    #[arg(value_parser = named::<Address>)]
    address: Address,

    /// Name of this member, up to 8 characters
    #[arg(long, default_value = "MEMBERB", value_parser = member_name, value_name = "NAME")]
    member: MemberName,

    /// Make all memory ready before the first pass, and not ahead of the pages as they arrive
    #[arg(long)]
    prefault: bool,

    /// Give up if nobody calls for so long [default: wait for ever]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    wait: Option<f64>,

    /// Draw where this member spent its processor time, pass by pass, to this file: SVG, or lines if it ends in .folded
    #[arg(long, value_name = "FILE")]
    flamegraph: Option<std::path::PathBuf>,

    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,

    #[command(flatten)]
    common: MemberArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &ReceiveArgs) -> anyhow::Result<ExitCode> {
    signals::follow_parent(args.common.supervised)?;
    output::check_writable(args.json.as_deref())?;
    output::check_writable(args.flamegraph.as_deref())?;
    trace::start(None, args.flamegraph.is_some())?;
    let tls = args.common.security.protection(&args.address, args.member)?;
    let cancel = signals::cancel_on_ctrl_c()?;
    let observer = progress::observer(args.common.progress);
    let report = serve(args, tls, &cancel, &*observer)?;
    output::deliver(&report, args.json.as_deref(), args.common.progress, &*observer)?;
    Ok(exit_code(&report))
}

fn serve(
    args: &ReceiveArgs,
    tls: Option<Tls>,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> anyhow::Result<Report> {
    let volume = OwnerVolume::open(args.common.volume.dir()?)?;
    let mut listener = Listener::bind(&args.address)?;
    if let Some(tls) = tls {
        listener = listener.with_tls(tls)?;
    }
    observer.event(Event::Listening { address: listener.address().to_string() });
    let patience = args.wait.map(Duration::from_secs_f64);
    let refusals = RefCell::new(Refusals::default());
    let note = |text: String| observer.event(Event::Note { text });
    let refused = |text: String| refusals.borrow_mut().hear(&text, Instant::now()).into_iter().for_each(note);
    let accepted = listener.accept(patience, &|| cancel.is_requested(), &refused);
    refusals.borrow_mut().rest().into_iter().for_each(note);
    let endpoints = accepted?.rejoin_through(listener);
    let link = Link::start(endpoints, args.common.link_options(args.member))?;
    observer.event(output::connected(&link));
    let mut factory = WorkloadFactory::new(args.prefault);
    let options = DestinationOptions { member: args.member, faults: args.common.fault.clone() };
    let profile = flamegraph::start(args.flamegraph.as_deref(), Side::Destination)?;
    let report = receive(&mut factory, &link, &volume, &options, observer, cancel);
    flamegraph::finish(profile);
    Ok(report)
}

/// 0 if the guest came and is whole.
fn exit_code(report: &Report) -> ExitCode {
    let came = report.runs_on == RunsOn::Destination;
    ExitCode::from(u8::from(!(came && report.verified != Some(false))))
}
