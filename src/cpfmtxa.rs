//! `lgr cpfmtxa`: makes a volume, or says what one is.

use std::path::PathBuf;
use std::process::ExitCode;

use ssi::VolumeLabel;
use ssi::dasd::{Access, Allocation, Extent, Label, Model, Owner, Volume, format, label};

use crate::progress::print;

/// Options of `lgr cpfmtxa`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The volume's file
    file: PathBuf,

    /// Format it as this model of the 3390 (3390-1, -2, -3, -9, -27, -54) or with so many cylinders; without it, show the volume
    #[arg(long, value_name = "MODEL", requires = "label")]
    model: Option<Model>,

    /// Its label
    #[arg(long, value_name = "VOLID", requires = "model")]
    label: Option<VolumeLabel>,

    /// What its cylinders are for, such as SPOL:20-99 (PERM PARM SPOL PAGE TDSK DRCT); others are PERM
    #[arg(long, value_delimiter = ',', value_name = "EXTENTS", requires = "model")]
    allocate: Vec<Extent>,

    /// Whose it is
    #[arg(long, default_value = "NOSSI.NOSYS", value_name = "CLUSTER.MEMBER")]
    owner: Owner,

    /// Replace a file that is there
    #[arg(long, requires = "model")]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let volume = match (args.model, args.label) {
        (Some(Model(geometry)), Some(label)) => {
            if args.force && args.file.is_file() {
                std::fs::remove_file(&args.file)?;
            }
            let allocation = Allocation { owner: args.owner, extents: args.allocate.clone() };
            format(&args.file, geometry, &Label { label, allocation })?
        }
        _ => Volume::open(&args.file, Access::Read)?,
    };
    let Label { label, allocation } = label(&volume)?;
    let extents: Vec<String> = allocation.extents.iter().map(ToString::to_string).collect();
    print(&format!(
        "{}: volume {label}, {}, owner {}{}\n",
        args.file.display(),
        volume.geometry(),
        allocation.owner,
        if extents.is_empty() { String::new() } else { format!(", {}", extents.join(" ")) }
    ));
    Ok(ExitCode::SUCCESS)
}
