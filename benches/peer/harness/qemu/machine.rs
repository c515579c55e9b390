//! One QEMU process with our guest in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::qmp::Qmp;
use super::setting::Memory;
use crate::harness::child::{Child, check};
use crate::harness::guest::{LOW_BYTES_MAX, STATUS_AT, Status};

/// Longest a guest may take to come up and fill its memory: 4 GiB take about 10 s under emulation.
const BOOT_WITHIN: Duration = Duration::from_secs(240);

/// Where a machine's memory comes from.
#[derive(Clone, Debug)]
pub(crate) enum Backing {
    /// Fresh memory of its own.
    Own(Memory),
    /// A file that holds the guest's content.
    File(PathBuf),
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub(crate) struct MachineSpec<'a> {
    pub(crate) program: &'a Path,
    pub(crate) memory_bytes: u64,
    pub(crate) backing: Backing,
    pub(crate) prealloc: bool,
    /// The guest's disk.
    pub(crate) disk: &'a [u8],
    /// It waits for a guest to come.
    pub(crate) incoming: bool,
}

/// A running QEMU; killed when this goes.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) qmp: Qmp,
    child: Child,
    /// Its disk, its sockets and what it says on standard error.
    dir: tempfile::TempDir,
}

impl Machine {
    /// Starts QEMU, and waits until it takes commands; memory that is to be made ready is ready then.
    pub(crate) fn start(spec: &MachineSpec<'_>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("lgr-peer-").tempdir()?;
        fs::write(dir.path().join("disk"), spec.disk)?;
        let words = fs::File::create(dir.path().join("words"))?;
        let mut command = Command::new(spec.program);
        command.args(arguments(spec, dir.path()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        let started = Child::start(&mut command, Signal::KILL);
        let mut child = started.with_context(|| format!("{} cannot be started", spec.program.display()))?;
        let qmp = Qmp::connect(&dir.path().join("qmp"), || match child.ended()? {
            None => Ok(()),
            Some(status) => bail!("QEMU has ended ({status}): {}", last_words(dir.path())),
        })?;
        Ok(Self { qmp, child, dir })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A place for a socket.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the guest tells.
    pub(crate) fn status(&mut self) -> anyhow::Result<Status> {
        let text = self.qmp.human(&format!("xp /2gx {STATUS_AT:#x}"))?;
        let words = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix("0x"));
        let words: Vec<u64> = words.filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
        let Ok(words) = words.try_into() else { bail!("QEMU shows memory in a way not expected: {text}") };
        Ok(Status::from_words(words))
    }

    /// Waits until the guest has filled its memory.
    pub(crate) fn wait_until_filled(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.status()?.filled {
            check()?;
            let words = last_words(self.dir());
            anyhow::ensure!(started.elapsed() < BOOT_WITHIN, "the guest does not come up in QEMU: {words}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops the guest's processor, and its clock, or lets it go on.
    pub(crate) fn set_running(&mut self, running: bool) -> anyhow::Result<Value> {
        self.qmp.execute(if running { "cont" } else { "stop" }, json!({}))
    }
}

fn last_words(dir: &Path) -> String {
    fs::read_to_string(dir.join("words")).unwrap_or_default().trim().to_owned()
}

fn arguments(spec: &MachineSpec<'_>, dir: &Path) -> Vec<String> {
    let size = spec.memory_bytes;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let backend = match &spec.backing {
        Backing::Own(Memory::Anonymous) => format!("memory-backend-ram,id=mem,size={size}"),
        Backing::Own(Memory::Memfd) => format!("memory-backend-memfd,id=mem,size={size},share=on"),
        Backing::File(path) => {
            format!("memory-backend-file,id=mem,size={size},share=on,mem-path={}", path.display())
        }
    };
    let ready = if spec.prealloc {
        format!(",prealloc=on,prealloc-threads={threads}")
    } else {
        // Guests larger than this machine's memory are allowed: they touch little of it.
        ",reserve=off".to_owned()
    };
    let machine = format!("pc,memory-backend=mem,max-ram-below-4g={LOW_BYTES_MAX},usb=off");
    let disk = format!("file={},format=raw,if=ide", dir.join("disk").display());
    let qmp = format!("unix:{},server=on,wait=off", dir.join("qmp").display());
    let size_mib = format!("{}M", size >> 20);
    let mut words = vec!["-nodefaults", "-no-user-config", "-display", "none", "-machine", &machine];
    words.extend(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", &size_mib]);
    let backend = backend + &ready;
    words.extend(["-object", &backend, "-drive", &disk, "-qmp", &qmp]);
    if spec.incoming {
        words.extend(["-incoming", "defer"]);
    }
    words.into_iter().map(str::to_owned).collect()
}
