//! `lgr cluster create`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use lgr_engine::driver::Cancel;
use ssi::cluster::{Holds, Plan};
use ssi::dasd::{Geometry, format};
use ssi::directory::UserDirect;
use ssi::node::{ClusterDir, make_private};
use ssi::pdr;
use ssi::source::{Limits, Source};
use ssi::{ClusterName, SystemName};

use crate::directxa;
use crate::progress::print;
use crate::signals;

/// Users of a new cluster that have a password.
const PASSWORDS: usize = 2;

/// Options of `lgr cluster create`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Directory to make; it must not be there, or be empty
    dir: PathBuf,

    /// Name of the cluster
    #[arg(long, default_value = "DEMOSSI", value_name = "NAME")]
    name: ClusterName,

    /// Its members, by slot
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "MEMBERA,MEMBERB,MEMBERC,MEMBERD",
        value_name = "NAMES"
    )]
    members: Vec<SystemName>,

    /// Devices of each link between two members
    #[arg(long, default_value_t = 2, value_name = "COUNT")]
    devices: u8,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(args.name, args.members.clone(), args.devices)?;
    let cancel = signals::cancel_on_ctrl_c()?;
    let was_there = args.dir.is_dir();
    make_empty(&args.dir)?;
    let dir = ClusterDir::new(&args.dir);
    if let Err(error) = fill(&dir, &plan, &cancel) {
        clear(&dir, was_there);
        return Err(error);
    }
    let shown = args.dir.display();
    print(&format!(
        "{shown}: cluster {}, members {}\n\
         {shown}/system.config, {shown}/user.direct: to be read and edited\n\
         next: lgr cluster up {shown}\n",
        plan.name(),
        plan.members().iter().map(SystemName::as_str).collect::<Vec<_>>().join(" ")
    ));
    Ok(ExitCode::SUCCESS)
}

fn make_empty(dir: &Path) -> anyhow::Result<()> {
    make_private(dir).with_context(|| dir.display().to_string())?;
    let mut entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    if entries.next().is_some() {
        bail!("{} is not empty", dir.display());
    }
    Ok(())
}

/// What there is of a cluster that could not be made, so that the next attempt finds nothing.
fn clear(dir: &ClusterDir, keep_dir: bool) {
    for path in [dir.volumes(), dir.objects(), dir.run(), dir.logs()] {
        let _ = std::fs::remove_dir_all(path);
    }
    for path in [dir.config(), dir.source_directory()] {
        let _ = std::fs::remove_file(path);
    }
    if !keep_dir {
        let _ = std::fs::remove_dir(dir.path());
    }
}

fn fill(dir: &ClusterDir, plan: &Plan, cancel: &Cancel) -> anyhow::Result<()> {
    for path in [dir.volumes(), dir.objects(), dir.run(), dir.logs()] {
        make_private(&path).with_context(|| path.display().to_string())?;
    }
    for volume in plan.volumes() {
        anyhow::ensure!(!cancel.is_requested(), "interrupted; nothing was made");
        let geometry = Geometry { cylinders: volume.cylinders };
        format(&dir.volume(volume.label), geometry, &plan.label(&volume))?;
        if volume.holds == Holds::Common {
            pdr::create(&dir.volume(volume.label), &plan.record(), false)?;
        }
    }
    write(&dir.config(), &plan.system_config())?;
    let mut passwords = Vec::new();
    for _ in 0..PASSWORDS {
        passwords.push(password()?);
    }
    let text = plan.user_direct(|| passwords.pop().unwrap_or_else(|| "NOLOG".to_owned()));
    write(&dir.source_directory(), &text)?;
    let source = Source::read(&dir.source_directory(), Limits::DIRECTORY)?;
    let (directory, diagnostics) = UserDirect::parse(&source);
    crate::diagnostics::show(&source, &diagnostics);
    anyhow::ensure!(!diagnostics.has_errors(), "the directory of a new cluster has errors");
    directxa::replace(dir, &directory, plan.members())?;
    Ok(())
}

/// Eight letters and digits that nobody guesses.
fn password() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    anyhow::ensure!(count == bytes.len(), "the kernel gave too few random bytes");
    // 32 of them, so that each is as likely as the others; none that looks like another.
    let letter = |byte: &u8| char::from(b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789"[usize::from(byte % 32)]);
    Ok(bytes.iter().map(letter).collect())
}

/// There are passwords in it: for its owner only.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.create_new(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}
