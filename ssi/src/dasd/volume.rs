//! A volume's file.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
}

impl Volume {
    /// Opens the volume in this file.
    ///
    /// # Errors
    /// See [`DasdError`].
    pub fn open(path: &Path, access: Access) -> Result<Self, DasdError> {
        let failed = |source| DasdError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(access == Access::Write).open(path).map_err(failed)?;
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
        Ok(Self { file, path: path.to_owned(), geometry })
    }

    /// Makes the file of a volume whose tracks have never been formatted. There must be none of that name.
    pub(super) fn create(path: &Path, geometry: Geometry) -> Result<Self, DasdError> {
        let failed = |source| DasdError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let mut header = [0; HEADER_LEN_BYTES as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&u32::from(HEADS).to_le_bytes());
        header[12..16].copy_from_slice(&(TRACK_LEN_BYTES as u32).to_le_bytes());
        header[16] = 0x90;
        file.write_all_at(&header, 0).map_err(failed)?;
        file.set_len(len_bytes(geometry)).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), geometry })
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
