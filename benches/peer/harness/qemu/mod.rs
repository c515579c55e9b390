//! QEMU, driven over its own protocol.

mod machine;
mod migration;
mod qmp;
mod setting;

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use migration::{Guest, Migration, Outcome};
pub(crate) use setting::{Carrier, Memory, Setting, ZeroPages};

/// Where QEMU is, and which.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    pub(crate) program: PathBuf,
    /// What it says of itself, such as "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)".
    pub(crate) version: String,
}

/// Asks the program what it is; `None` if there is no such program.
pub(crate) fn find(program: &Path) -> Option<Qemu> {
    let answer = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let version = text.lines().next()?.to_owned();
    answer.status.success().then(|| Qemu { program: program.to_owned(), version })
}
