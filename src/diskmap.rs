//! `lgr diskmap`: what is where on each volume, by the source directory.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use ssi::directory::{UserDirect, VolumeMap, maps};
use ssi::source::{Limits, Source};

use crate::cluster::ClusterArg;
use crate::diagnostics;
use crate::progress::print;

/// Options of `lgr diskmap`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The source directory [default: user.direct of the cluster]
    source: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArg,

    /// Only this volume
    #[arg(long, value_name = "VOLID")]
    volume: Option<String>,

    /// JSON in place of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    #[serde(flatten)]
    map: VolumeMap,
    /// Cylinders that nobody has, first and last.
    gaps: Vec<(u32, u32)>,
    /// Pairs that overlap, as user and device.
    overlaps: Vec<[String; 2]>,
}

/// Runs the command: 1 if minidisks overlap.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = match &args.source {
        Some(path) => path.clone(),
        None => args.cluster.open()?.source_directory(),
    };
    let source = Source::read(&path, Limits::DIRECTORY)?;
    let (directory, diagnostics) = UserDirect::parse_statements(&source);
    diagnostics::show(&source, &diagnostics);
    let wanted =
        |map: &VolumeMap| args.volume.as_ref().is_none_or(|volume| volume.eq_ignore_ascii_case(&map.volume));
    let outputs: Vec<Output> = maps(&directory).into_iter().filter(wanted).map(output).collect();
    let overlap = outputs.iter().any(|output| !output.overlaps.is_empty());
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&outputs)?));
    } else {
        print(&outputs.iter().map(table).collect::<Vec<_>>().join("\n"));
    }
    Ok(if overlap || diagnostics.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn output(map: VolumeMap) -> Output {
    let name = |disk: &ssi::directory::Placed| format!("{} {}", disk.owner, disk.vdev);
    let overlaps = map.overlaps();
    let overlaps = overlaps.iter().map(|overlap| [name(&overlap.first), name(&overlap.second)]).collect();
    Output { gaps: map.gaps(), overlaps, map }
}

fn table(output: &Output) -> String {
    let mut rows: Vec<(u32, String)> = output
        .gaps
        .iter()
        .map(|(first, last)| (*first, format!("                 {first:>6}-{last:<6} GAP\n")))
        .collect();
    for disk in &output.map.disks {
        let name = format!("{} {}", disk.owner, disk.vdev);
        let overlaps = output.overlaps.iter().filter(|pair| pair[1] == name);
        let note: String = overlaps.map(|pair| format!(" OVERLAP with {}", pair[0])).collect();
        let (first, last) =
            disk.range().split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
        rows.push((
            disk.at.first,
            format!("  {:<8} {}  {first:>6}-{last:<6}{note}\n", disk.owner, disk.vdev),
        ));
    }
    rows.sort_by_key(|(first, _)| *first);
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    format!("{}\n{rows}", output.map.volume)
}
