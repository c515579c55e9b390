//! `lgr cpfmtxa`: makes a volume, changes what it says of itself, or shows that.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use ssi::VolumeLabel;
use ssi::dasd::{Access, Allocation, Extent, Label, Model, Owner, Volume, format, label, reformat, relabel};

use crate::progress::print;

/// Options of `lgr cpfmtxa`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The volume's file
    file: PathBuf,

    /// Format it as this model of the 3390 (3390-1, -2, -3, -9, -27, -54) or with so many cylinders; without it, the volume
    /// keeps what is on it, and nothing at all changes without one of the next three
    #[arg(long, value_name = "MODEL", requires = "label")]
    model: Option<Model>,

    /// Its label
    #[arg(long, value_name = "VOLID")]
    label: Option<VolumeLabel>,

    /// What its cylinders are for, such as SPOL:20-99 (PERM PARM SPOL PAGE TDSK DRCT); others are PERM
    #[arg(long, value_delimiter = ',', value_name = "EXTENTS")]
    allocate: Vec<Extent>,

    /// Whose it is [default of a new volume: NOSSI.NOSYS]
    #[arg(long, value_name = "CLUSTER.MEMBER")]
    owner: Option<Owner>,

    /// Replace a file that is there
    #[arg(long, requires = "model")]
    force: bool,

    /// JSON in place of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    file: String,
    label: VolumeLabel,
    cylinders: u32,
    owner: String,
    allocation: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let volume = match (args.model, args.label) {
        (Some(Model(geometry)), Some(label)) => {
            let owner = args.owner.unwrap_or_default();
            let allocation = Allocation { owner, extents: args.allocate.clone() };
            let make = if args.force { reformat } else { format };
            make(&args.file, geometry, &Label { label, allocation })?
        }
        _ => changed(args)?,
    };
    let Label { label, allocation } = label(&volume)?;
    let extents: Vec<String> = allocation.extents.iter().map(ToString::to_string).collect();
    if args.json {
        let (file, cylinders) = (args.file.display().to_string(), volume.geometry().cylinders);
        let output =
            Output { file, label, cylinders, owner: allocation.owner.to_string(), allocation: extents };
        print(&format!("{}\n", serde_json::to_string_pretty(&output)?));
    } else {
        print(&format!(
            "{}: volume {label}, {}, owner {}{}\n",
            args.file.display(),
            volume.geometry(),
            allocation.owner,
            if extents.is_empty() { String::new() } else { format!(", {}", extents.join(" ")) }
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The volume that is there, with the new label, allocation and owner.
fn changed(args: &Args) -> anyhow::Result<Volume> {
    let changes = args.label.is_some() || args.owner.is_some() || !args.allocate.is_empty();
    let volume = Volume::open(&args.file, if changes { Access::Write } else { Access::Read })?;
    if changes {
        let Label { label, allocation } = label(&volume)?;
        let Allocation { owner, mut extents } = allocation;
        if !args.allocate.is_empty() {
            extents.clone_from(&args.allocate);
        }
        let allocation = Allocation { owner: args.owner.unwrap_or(owner), extents };
        relabel(&volume, &Label { label: args.label.unwrap_or(label), allocation })?;
    }
    Ok(volume)
}
