//! A volume's file.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;

use super::geometry::{CYLINDERS_MAX, Geometry, HEADS, TRACK_LEN_BYTES};

pub(super) const HEADER_LEN_BYTES: u64 = 512;
const MAGIC: &[u8; 8] = b"CKD_P370";
/// A channel program takes microseconds; who waits so long for his turn waits for one that was stopped in it.
const TURN_PATIENCE: Duration = Duration::from_secs(2);

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DasdError {
    /// The file system says no.
    #[error("volume {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a volume of this kind.
    #[error("volume {}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A track that makes no sense.
    #[error("volume {}: cylinder {cylinder} head {head}: {reason}", path.display())]
    Track {
        /// The file.
        path: PathBuf,
        /// Its cylinder.
        cylinder: u32,
        /// Its head.
        head: u8,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has it, and does not go on.
    #[error("volume {}: another process has had it for {TURN_PATIENCE:?}", .0.display())]
    Busy(PathBuf),
    /// The volume belongs to somebody else.
    #[error("volume {} belongs to {found}, not to {expected}: it is not attached", path.display())]
    Ownership {
        /// The file.
        path: PathBuf,
        /// As the volume has it.
        found: String,
        /// As it was to be.
        expected: String,
    },
}

/// What is to be done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Both.
    Write,
}

/// A volume that is open.
#[derive(Debug)]
pub struct Volume {
    file: File,
    path: PathBuf,
    geometry: Geometry,
    /// A name that its file has only while it is being made.
    made_as: Option<PathBuf>,
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.forget_passing_name();
    }
}

/// A new file without a name in the directory of `path`; where the file system has no such files, with a passing one.
fn unnamed(path: &Path) -> std::io::Result<(File, Option<PathBuf>)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match openat(CWD, parent, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok((file.into(), None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => named(path).map(|(file, name)| (file, Some(name))),
        Err(error) => Err(error.into()),
    }
}

/// A new file with a passing name.
fn named(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let name = passing_name(path);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&name)?;
    Ok((file, name))
}

fn passing_name(path: &Path) -> PathBuf {
    path.with_extension(format!("formatting{}", std::process::id()))
}

impl Volume {
    /// Opens the volume in this file.
    ///
    /// # Errors
    /// See [`DasdError`].
    pub fn open(path: &Path, access: Access) -> Result<Self, DasdError> {
        let failed = |source| DasdError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        // Files do not mind; whoever opens a pipe would wait for its other end.
        options.read(true).write(access == Access::Write).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let not = |reason: String| DasdError::Format { path: path.to_owned(), reason };
        if !metadata.is_file() {
            return Err(not("not a file".to_owned()));
        }
        let mut header = [0; 32];
        if metadata.len() < HEADER_LEN_BYTES {
            return Err(not(format!("{} bytes are too few for a volume", metadata.len())));
        }
        file.read_exact_at(&mut header, 0).map_err(failed)?;
        let geometry = check_header(&header, metadata.len()).map_err(not)?;
        Ok(Self { file, path: path.to_owned(), geometry, made_as: None })
    }

    /// Makes the file of a volume whose tracks have never been formatted. It gets its name by [`Self::name`]; what never
    /// gets one is gone with its process, where the file system can do that.
    pub(super) fn create(path: &Path, geometry: Geometry) -> Result<Self, DasdError> {
        let failed = |source| DasdError::Io { path: path.to_owned(), source };
        let (file, made_as) = unnamed(path).map_err(failed)?;
        let volume = Self { file, path: path.to_owned(), geometry, made_as };
        let mut header = [0; HEADER_LEN_BYTES as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&u32::from(HEADS).to_le_bytes());
        header[12..16].copy_from_slice(&(TRACK_LEN_BYTES as u32).to_le_bytes());
        header[16] = 0x90;
        volume.file.write_all_at(&header, 0).map_err(failed)?;
        volume.file.set_len(len_bytes(geometry)).map_err(failed)?;
        Ok(volume)
    }

    /// Gives a volume that was made its name. If there is a file of that name, it is replaced, or nothing happens.
    pub(super) fn name(mut self, replaces: bool) -> Result<Self, DasdError> {
        if !replaces {
            self.link(&self.path)?;
            self.forget_passing_name();
            return Ok(self);
        }
        let passing = passing_name(&self.path);
        if self.made_as.is_none() {
            self.link(&passing)?;
            self.made_as = Some(passing.clone());
        }
        std::fs::rename(&passing, &self.path).map_err(|source| self.io(source))?;
        self.made_as = None;
        Ok(self)
    }

    /// One more name for its file.
    fn link(&self, name: &Path) -> Result<(), DasdError> {
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(|error| self.io(error.into()))
    }

    fn forget_passing_name(&mut self) {
        if let Some(name) = self.made_as.take() {
            let _ = std::fs::remove_file(name);
        }
    }

    /// How large it is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written survives the machine.
    ///
    /// # Errors
    /// [`DasdError::Io`].
    pub fn sync(&self) -> Result<(), DasdError> {
        self.file.sync_data().map_err(|source| self.io(source))
    }

    /// Waits for the turn of a channel program, and gives it back at the end.
    pub(super) fn turn(&self, writes: bool) -> Result<Turn<'_>, DasdError> {
        let begun = Instant::now();
        let mut nap = Duration::from_micros(20);
        loop {
            let outcome = if writes { self.file.try_lock() } else { self.file.try_lock_shared() };
            match outcome {
                Ok(()) => return Ok(Turn(&self.file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() > TURN_PATIENCE => {
                    return Err(DasdError::Busy(self.path.clone()));
                }
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(nap);
                    nap = (nap * 2).min(Duration::from_millis(5));
                }
                Err(TryLockError::Error(source)) => return Err(self.io(source)),
            }
        }
    }

    /// The bytes of a track.
    pub(super) fn read_track(&self, cylinder: u32, head: u8) -> Result<Vec<u8>, DasdError> {
        let at = self.offset(cylinder, head)?;
        let mut bytes = vec![0; TRACK_LEN_BYTES];
        self.file.read_exact_at(&mut bytes, at).map_err(|source| self.io(source))?;
        Ok(bytes)
    }

    /// Writes a part of a track.
    pub(super) fn write_track(
        &self,
        cylinder: u32,
        head: u8,
        at: usize,
        bytes: &[u8],
    ) -> Result<(), DasdError> {
        debug_assert!(at + bytes.len() <= TRACK_LEN_BYTES);
        let at = self.offset(cylinder, head)? + at as u64;
        self.file.write_all_at(bytes, at).map_err(|source| self.io(source))
    }

    pub(super) fn track_error(&self, cylinder: u32, head: u8, reason: String) -> DasdError {
        DasdError::Track { path: self.path.clone(), cylinder, head, reason }
    }

    fn offset(&self, cylinder: u32, head: u8) -> Result<u64, DasdError> {
        if cylinder >= self.geometry.cylinders || head >= HEADS {
            let reason = format!("there is no such track on a {}", self.geometry);
            return Err(self.track_error(cylinder, head, reason));
        }
        let track = u64::from(cylinder) * u64::from(HEADS) + u64::from(head);
        Ok(HEADER_LEN_BYTES + track * TRACK_LEN_BYTES as u64)
    }

    fn io(&self, source: std::io::Error) -> DasdError {
        DasdError::Io { path: self.path.clone(), source }
    }
}

/// The right to execute a channel program.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a File);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn len_bytes(geometry: Geometry) -> u64 {
    HEADER_LEN_BYTES + u64::from(geometry.cylinders) * u64::from(HEADS) * TRACK_LEN_BYTES as u64
}

fn check_header(header: &[u8; 32], file_len_bytes: u64) -> Result<Geometry, String> {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    match &header[..8] {
        magic if magic == MAGIC => {}
        b"CKD_C370" | b"CKD_C064" | b"CKD_S370" | b"CKD_S064" => {
            return Err("a compressed CKD image: make it an uncompressed one first".to_owned());
        }
        magic if magic.starts_with(b"FBA_") => {
            return Err("a fixed-block (SCSI) image, and this needs an ECKD volume".to_owned());
        }
        _ => return Err("not an image of a CKD volume".to_owned()),
    }
    if header[16] != 0x90 || word(8) != u32::from(HEADS) || word(12) as usize != TRACK_LEN_BYTES {
        return Err(format!(
            "not a 3390: type 33{:02X}, {} heads, {} bytes per track",
            header[16],
            word(8),
            word(12)
        ));
    }
    if header[17] > 1 || header[18..20] != [0, 0] {
        return Err("one file of several: put them together first".to_owned());
    }
    let cylinder_len_bytes = u64::from(HEADS) * TRACK_LEN_BYTES as u64;
    let (cylinders, rest) = (
        (file_len_bytes - HEADER_LEN_BYTES) / cylinder_len_bytes,
        (file_len_bytes - HEADER_LEN_BYTES) % cylinder_len_bytes,
    );
    match u32::try_from(cylinders) {
        Ok(cylinders) if rest == 0 && (1..=CYLINDERS_MAX).contains(&cylinders) => Ok(Geometry { cylinders }),
        _ => Err(format!(
            "{file_len_bytes} bytes are no whole number of cylinders from 1 to {CYLINDERS_MAX}: it is truncated or damaged"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_volume_that_is_never_finished_leaves_nothing_and_one_that_is_its_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("V.dasd");
        let names = || -> Vec<_> {
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let create = || Volume::create(&path, Geometry { cylinders: 1 }).unwrap();
        drop(create());
        assert!(names().is_empty());
        create().name(false).unwrap();
        assert_eq!(names(), ["V.dasd"]);
        create().name(false).unwrap_err();
        let (old, new) = (std::fs::metadata(&path).unwrap(), create());
        new.name(true).unwrap();
        assert_eq!(names(), ["V.dasd"]);
        assert_ne!(std::fs::metadata(&path).unwrap().ino(), old.ino());
    }

    #[test]
    fn so_does_one_on_a_file_system_that_has_no_files_without_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("V.dasd");
        let create = || {
            let (file, passing) = named(&path).unwrap();
            let geometry = Geometry { cylinders: 1 };
            Volume { file, path: path.clone(), geometry, made_as: Some(passing) }
        };
        let count = || std::fs::read_dir(dir.path()).unwrap().count();
        let volume = create();
        assert_eq!(count(), 1);
        drop(volume);
        assert_eq!(count(), 0);
        for replaces in [false, true] {
            create().name(replaces).unwrap();
            assert!(path.exists() && count() == 1);
        }
        create().name(false).unwrap_err();
        assert_eq!(count(), 1);
    }
}
