//! Where things are in a cluster's directory.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::name::{SystemName, VolumeLabel};

/// Makes a directory that only its owner can look into, if it is not there: sockets and logs are in some.
///
/// # Errors
/// What the file system says.
pub fn make_private(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The directory of a cluster: everything its members share, and a place for each.
///
/// ```text
/// DIR/
///   system.config        SYSTEM CONFIG, one for all members
///   user.direct          USER DIRECT, the source
///   volumes/VMCOM1.dasd  volumes, by label
///   objects/MEMBERA.directory
///   pki/MEMBERA/         certificates, if links leave the machine
///   run/MEMBERA.cp       sockets and locks of what runs
///   log/MEMBERA.log      what the operators were told
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDir(PathBuf);

impl ClusterDir {
    /// The cluster in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// SYSTEM CONFIG.
    pub fn config(&self) -> PathBuf {
        self.0.join("system.config")
    }

    /// USER DIRECT.
    pub fn source_directory(&self) -> PathBuf {
        self.0.join("user.direct")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// The volume of this label.
    pub fn volume(&self, label: VolumeLabel) -> PathBuf {
        self.volumes().join(format!("{label}.dasd"))
    }

    /// All object directories.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// A member's object directory.
    pub fn object(&self, member: SystemName) -> PathBuf {
        self.objects().join(format!("{member}.directory"))
    }

    /// All certificates.
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// What runs.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// Members that run or have run here, by their locks.
    pub fn locked(&self) -> Vec<SystemName> {
        let entries = std::fs::read_dir(self.run()).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| {
            entry.file_name().to_str()?.strip_suffix(".lock").and_then(|name| SystemName::new(name).ok())
        };
        let mut members: Vec<_> = entries.filter_map(name).collect();
        members.sort();
        members
    }

    /// A member's control socket.
    pub fn control_socket(&self, member: SystemName) -> PathBuf {
        self.run().join(format!("{member}.cp"))
    }

    /// The file that a running member has locked; its process number is in it.
    pub fn lock(&self, member: SystemName) -> PathBuf {
        self.run().join(format!("{member}.lock"))
    }

    /// All logs.
    pub fn logs(&self) -> PathBuf {
        self.0.join("log")
    }

    /// What a member's operators were told.
    pub fn log(&self, member: SystemName) -> PathBuf {
        self.logs().join(format!("{member}.log"))
    }
}
