//! `lgr owner`: who runs a guest, by the record on the shared volume.

use std::process::ExitCode;

use clap::Args;
use lgr_engine::owner::{GuestName, OwnerVolume};

use crate::options::{VolumeArgs, named};
use crate::progress::print;

/// Options of `lgr owner`.
#[derive(Args, Debug)]
pub(crate) struct OwnerArgs {
    /// Name of the guest
    #[arg(value_parser = named::<GuestName>)]
    guest: GuestName,

    #[command(flatten)]
    volume: VolumeArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &OwnerArgs) -> anyhow::Result<ExitCode> {
    let volume = OwnerVolume::open(args.volume.dir()?)?;
    let record = volume.read(args.guest)?;
    let before = record.previous_owner.map_or_else(String::new, |member| format!(", before that {member}"));
    let runs = match volume.runner(args.guest)? {
        Some(runner) => format!("runs or arrives at {runner}"),
        None => "runs nowhere now".to_owned(),
    };
    print(&format!(
        "{} belongs to {} (change {}{before}); {runs}\n",
        record.guest, record.owner, record.epoch
    ));
    Ok(ExitCode::SUCCESS)
}
