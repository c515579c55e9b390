//! Who runs a guest: one small file per guest on a volume that all members share.
//!
//! A relocation is decided by one atomic change of this file from the source's name to the
//! destination's. The destination may resume the guest only after it has read itself as owner;
//! whoever recovers from a failure reads the file to know who runs the guest. z/VM keeps its
//! cluster state the same way, in the persistent data record that members lock on a shared volume.
//!
//! The file is `<volume directory>/<GUEST>.owner`, always 1536 bytes, all numbers little-endian:
//!
//! ```text
//!      0                    512                  1024                 1536
//!      ┌────────────────────┬────────────────────┬────────────────────┐
//!      │ header             │ slot A             │ slot B             │
//!      │ written once       │ odd epochs         │ even epochs        │
//!      └────────────────────┴────────────────────┴────────────────────┘
//!
//! header  0        8         12         16       24                504        512
//!         ┌────────┬─────────┬──────────┬────────┬─────────────────┬──────────┐
//!         │ magic  │ format  │ file     │ guest  │ reserved, zero  │ checksum │
//!         │LGROWNER│ version │ length   │ name   │                 │          │
//!         │ 8 bytes│ u32 = 1 │ u32=1536 │ 8 bytes│ 480 bytes       │ u64      │
//!         └────────┴─────────┴──────────┴────────┴─────────────────┴──────────┘
//!
//! slot    0        8          16       32       40        48       504        512
//!         ┌────────┬──────────┬────────┬────────┬─────────┬────────┬──────────┐
//!         │ epoch  │ time     │ nonce  │ owner  │previous │reserved│ checksum │
//!         │ u64    │ unix ns  │ u128   │ name   │ owner   │ zero   │ u64      │
//!         │ from 1 │ u64      │        │ 8 bytes│ 8 bytes │ 456 b. │          │
//!         └────────┴──────────┴────────┴────────┴─────────┴────────┴──────────┘
//! ```
//!
//! - A *name* is upper case, padded with NUL bytes; a previous owner of eight NUL bytes means none.
//! - A *checksum* is XXH3-64 of the 504 bytes before it, seeded with the sector's offset in the file.
//! - The record is the valid slot with the higher *epoch*. Each change writes epoch + 1 into the
//!   other slot, so a torn write leaves the record before it.
//! - The *nonce* is random and made with the record. Two members who read the same nonce look at the
//!   same file, not at two directories of the same name.
//!
//! # What can go wrong, and what is left
//!
//! | Killed or failed… | The next reader finds |
//! |---|---|
//! | while a new record is made | no record: it appears whole, by a link, or not at all |
//! | before or in the write of a slot | the old record; the lock died with its holder |
//! | after the write, before it is on the disk | the new record (the old one if the host fell too, and with it the new owner's knowledge) |
//! | the write or its sync gave an error | either; [`OwnerError::Uncertain`] tells the caller to read again before it acts |
//!
//! The volume must have hard links and `fcntl` locks; local file systems and NFS have both.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

mod error;
mod layout;
mod lock;
mod name;
mod running;
#[cfg(test)]
mod tests;

pub use error::OwnerError;
use layout::LayoutFault;
use lock::{LockFault, LockKind};
pub use name::{GuestName, MemberName, NAME_LEN_BYTES_MAX, NameError};
pub use running::{Runner, Running};

/// How long a call waits for the lock of a record unless told otherwise.
pub const LOCK_WAIT_DEFAULT: Duration = Duration::from_secs(2);

/// How often [`OwnerVolume::create`] tries again when the file appears or vanishes under it.
const CREATE_ATTEMPTS_MAX: u32 = 8;

/// One state of a guest's owner record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// The guest.
    pub guest: GuestName,
    /// Counts the changes of the record, from 1. Every change raises it by one.
    pub epoch: u64,
    /// Random identity of the record, made by [`OwnerVolume::create`] and kept by
    /// [`OwnerVolume::compare_and_update`].
    pub nonce: u128,
    /// The member that may run the guest, and nobody else.
    pub owner: MemberName,
    /// The owner before the last change; none in a new record.
    pub previous_owner: Option<MemberName>,
    /// When this state was written, in nanoseconds since 1970 by the writer's clock. For people only:
    /// nothing is decided by it.
    pub time_unix_ns: u64,
}

/// How a compare-and-update ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a lost update means that someone else owns the guest"]
pub enum CasOutcome {
    /// The record was as expected and is now this.
    Updated(OwnerRecord),
    /// The record had changed before; this is what it says. Nothing was written.
    Lost(OwnerRecord),
}

/// The directory of owner records on a shared volume.
#[derive(Debug, Clone)]
pub struct OwnerVolume {
    dir: PathBuf,
    lock_wait: Duration,
}

impl OwnerVolume {
    /// Opens the volume whose directory is `dir`; the directory must exist.
    ///
    /// # Errors
    /// [`OwnerError::NoVolume`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, OwnerError> {
        let dir = dir.into();
        match fs::metadata(&dir) {
            Ok(found) if found.is_dir() => Ok(Self { dir, lock_wait: LOCK_WAIT_DEFAULT }),
            Ok(_) => {
                Err(OwnerError::NoVolume { path: dir, source: io::Error::from_raw_os_error(libc::ENOTDIR) })
            }
            Err(source) => Err(OwnerError::NoVolume { path: dir, source }),
        }
    }

    /// The same volume with another limit on waiting for a lock ([`LOCK_WAIT_DEFAULT`] otherwise).
    #[must_use]
    pub fn with_lock_wait(self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a guest's record.
    pub fn path(&self, guest: GuestName) -> PathBuf {
        self.dir.join(format!("{guest}.owner"))
    }

    /// Claims a guest for `owner`: makes its record, or, where `owner` has it already, starts it anew.
    /// Either way the record has a new nonce, so a relocation that was under way when the
    /// owner died can no longer commit.
    ///
    /// # Errors
    /// [`OwnerError::OwnedByOther`], and whatever is wrong with a file that is there.
    pub fn create(&self, guest: GuestName, owner: MemberName) -> Result<OwnerRecord, OwnerError> {
        self.claim(guest, owner, false)
    }

    /// Claims a guest for `owner` whoever has it now, and repairs a cut or damaged file. For an
    /// operator who knows that the guest runs nowhere.
    ///
    /// # Errors
    /// As [`Self::create`] without [`OwnerError::OwnedByOther`]. A file of another kind, version or
    /// guest is left alone.
    pub fn replace(&self, guest: GuestName, owner: MemberName) -> Result<OwnerRecord, OwnerError> {
        self.claim(guest, owner, true)
    }

    /// Reads a guest's record, under a shared lock so that NFS shows the newest state.
    ///
    /// # Errors
    /// [`OwnerError::NotFound`], or whatever is wrong with the file.
    pub fn read(&self, guest: GuestName) -> Result<OwnerRecord, OwnerError> {
        self.open_locked(guest, LockKind::Shared)?.read()
    }

    /// Gives the guest to `new_owner` if its record still has the expected epoch and nonce. Atomic
    /// among all processes and hosts: of all callers with the same expectation exactly one gets
    /// [`CasOutcome::Updated`]. `new_owner` may be the owner itself, to fence out older claims.
    ///
    /// # Errors
    /// [`OwnerError::Uncertain`]: read again; the change happened if epoch is one more and the nonce
    /// the same. All others: nothing was changed.
    pub fn compare_and_update(
        &self,
        guest: GuestName,
        expected_epoch: u64,
        expected_nonce: u128,
        new_owner: MemberName,
    ) -> Result<CasOutcome, OwnerError> {
        self.compare_and_update_if(guest, (expected_epoch, expected_nonce), new_owner, &|| true)
    }

    /// The same, but `still` is asked in the last moment, with the record locked and read and nothing written: if it says no,
    /// the update is not made.
    ///
    /// # Errors
    /// [`OwnerError::CalledOff`], and those of [`Self::compare_and_update`].
    pub fn compare_and_update_if(
        &self,
        guest: GuestName,
        expected: (u64, u128),
        new_owner: MemberName,
        still: &dyn Fn() -> bool,
    ) -> Result<CasOutcome, OwnerError> {
        let file = self.open_locked(guest, LockKind::Exclusive)?;
        let current = file.read()?;
        if (current.epoch, current.nonce) != expected {
            return Ok(CasOutcome::Lost(current));
        }
        // A volume that takes no writes, or lets them hang, is found out while nothing is decided yet.
        file.rewrite_unused(&current, false)?;
        if !still() {
            return Err(OwnerError::CalledOff { path: file.path });
        }
        file.write_next(&current, current.nonce, new_owner).map(CasOutcome::Updated)
    }

    /// Tries whether an update could be made now: opens, locks and reads the record as an update does, and writes the slot
    /// that is not in use once more, as it is.
    ///
    /// # Errors
    /// [`OwnerError::Changed`] if it is not the record that was expected, and whatever would keep an update from being made.
    pub fn try_for_writing(&self, guest: GuestName, expected: (u64, u128)) -> Result<(), OwnerError> {
        let file = self.open_locked(guest, LockKind::Exclusive)?;
        let current = file.read()?;
        if (current.epoch, current.nonce) != expected {
            return Err(OwnerError::Changed { path: file.path, guest, owner: current.owner });
        }
        file.rewrite_unused(&current, true)
    }

    fn claim(&self, guest: GuestName, owner: MemberName, replace: bool) -> Result<OwnerRecord, OwnerError> {
        for _ in 0..CREATE_ATTEMPTS_MAX {
            let file = match self.open_locked(guest, LockKind::Exclusive) {
                Ok(file) => file,
                Err(OwnerError::NotFound { .. }) => match self.publish(guest, owner)? {
                    Some(record) => return Ok(record),
                    None => continue,
                },
                Err(error) => return Err(error),
            };
            return match file.read() {
                Ok(current) if replace || current.owner == owner => {
                    file.write_next(&current, new_nonce()?, owner)
                }
                Ok(current) => Err(OwnerError::OwnedByOther { path: file.path, guest, owner: current.owner }),
                Err(
                    OwnerError::WrongLength { .. }
                    | OwnerError::DamagedHeader { .. }
                    | OwnerError::NoValidSlot { .. },
                ) if replace => file.rewrite(&first_record(guest, owner)?),
                Err(error) => Err(error),
            };
        }
        Err(OwnerError::Unstable { path: self.path(guest) })
    }

    /// Makes the file of a new record appear whole: written under another name, then linked. `None`
    /// when someone else made the file first. A link is the one create-if-absent that every
    /// version of NFS does atomically.
    fn publish(&self, guest: GuestName, owner: MemberName) -> Result<Option<OwnerRecord>, OwnerError> {
        let record = first_record(guest, owner)?;
        let path = self.path(guest);
        let draft = self.dir.join(format!(".{guest}.owner.{:032x}", record.nonce));
        let fault = |action, source| OwnerError::Io { action, path: path.clone(), source };
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o660).open(&draft).and_then(|file| {
                file.write_all_at(&layout::encode_file(guest, &record), 0)?;
                file.sync_all()
            });
        let linked = written.and_then(|()| fs::hard_link(&draft, &path));
        // A draft that stays behind is never read, so a failure to remove it changes nothing.
        let _ = fs::remove_file(&draft);
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(source) => return Err(fault("create", source)),
        }
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| OwnerError::Uncertain { path: path.clone(), source })?;
        Ok(Some(record))
    }

    fn open_locked(&self, guest: GuestName, kind: LockKind) -> Result<LockedRecord, OwnerError> {
        let path = self.path(guest);
        // Without O_NONBLOCK, opening a pipe of this name would wait for ever.
        let opened = OpenOptions::new()
            .read(true)
            .write(kind == LockKind::Exclusive)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OwnerError::NotFound { path });
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Err(OwnerError::NotAFile { path });
            }
            Err(source) => return Err(OwnerError::Io { action: "open", path, source }),
        };
        let is_file = |file: &File| file.metadata().map(|found| found.is_file());
        match is_file(&file) {
            Ok(true) => {}
            Ok(false) => return Err(OwnerError::NotAFile { path }),
            Err(source) => return Err(OwnerError::Io { action: "look at", path, source }),
        }
        match lock::lock(&file, kind, self.lock_wait) {
            Ok(()) => {}
            Err(LockFault::Timeout) => {
                let waited_ms = u64::try_from(self.lock_wait.as_millis()).unwrap_or(u64::MAX);
                let holder = lock::holder(&file);
                return Err(OwnerError::LockTimeout { path, holder, waited_ms });
            }
            Err(LockFault::Refused(source)) => return Err(OwnerError::LockRefused { path, source }),
        }
        // The file may have been removed while this call waited; then its lock protects nothing.
        match file.metadata() {
            Ok(found) if found.nlink() == 0 => Err(OwnerError::NotFound { path }),
            Ok(_) => Ok(LockedRecord { file, path, guest }),
            Err(source) => Err(OwnerError::Io { action: "look at", path, source }),
        }
    }
}

/// An open record with its lock held; dropping it closes the file, which ends the lock.
struct LockedRecord {
    file: File,
    path: PathBuf,
    guest: GuestName,
}

impl LockedRecord {
    fn read(&self) -> Result<OwnerRecord, OwnerError> {
        let mut bytes = Vec::with_capacity(layout::FILE_LEN_BYTES + 1);
        // One byte more than a record has tells that a file is too long, whatever its length.
        let limit = layout::FILE_LEN_BYTES as u64 + 1;
        let read = (&self.file).take(limit).read_to_end(&mut bytes);
        let path = || self.path.clone();
        read.map_err(|source| OwnerError::Io { action: "read", path: path(), source })?;
        layout::decode_file(self.guest, &bytes).map_err(|fault| match fault {
            LayoutFault::WrongLength { found_bytes } => {
                OwnerError::WrongLength { path: path(), found_bytes, expected_bytes: layout::FILE_LEN_BYTES }
            }
            LayoutFault::BadMagic => OwnerError::BadMagic { path: path() },
            LayoutFault::UnknownVersion { found } => {
                OwnerError::UnknownVersion { path: path(), found, known: layout::FORMAT_VERSION }
            }
            LayoutFault::DamagedHeader => OwnerError::DamagedHeader { path: path() },
            LayoutFault::OtherGuest { found } => {
                OwnerError::OtherGuest { path: path(), found, expected: self.guest }
            }
            LayoutFault::NoValidSlot => OwnerError::NoValidSlot { path: path() },
        })
    }

    /// Writes the state after `current` into the other slot and waits until it is on the volume.
    fn write_next(
        &self,
        current: &OwnerRecord,
        nonce: u128,
        owner: MemberName,
    ) -> Result<OwnerRecord, OwnerError> {
        let exhausted = || OwnerError::EpochExhausted { path: self.path.clone() };
        let next = OwnerRecord {
            guest: self.guest,
            epoch: current.epoch.checked_add(1).ok_or_else(exhausted)?,
            nonce,
            owner,
            previous_owner: Some(current.owner),
            time_unix_ns: now_unix_ns(),
        };
        let offset_bytes = layout::slot_offset_bytes(next.epoch);
        debug_assert_ne!(offset_bytes, layout::slot_offset_bytes(current.epoch));
        let written = self.file.write_all_at(&layout::encode_slot(&next), offset_bytes as u64);
        self.settle(written).map(|()| next)
    }

    /// Writes what the other slot than the record's holds once more. Torn, it loses nothing that is still asked for.
    fn rewrite_unused(&self, current: &OwnerRecord, sync: bool) -> Result<(), OwnerError> {
        let offset_bytes = layout::slot_offset_bytes(current.epoch.wrapping_add(1)) as u64;
        let fault = |action, source| OwnerError::Io { action, path: self.path.clone(), source };
        let mut slot = [0; layout::SECTOR_LEN_BYTES];
        self.file.read_exact_at(&mut slot, offset_bytes).map_err(|source| fault("read", source))?;
        let written = self.file.write_all_at(&slot, offset_bytes);
        let synced = written.and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        synced.map_err(|source| fault("write", source))
    }

    /// Writes the whole file anew; only for one that has no readable record to lose.
    fn rewrite(&self, record: &OwnerRecord) -> Result<OwnerRecord, OwnerError> {
        // Bytes first, length second: a death in between leaves a file that can be replaced again.
        let written = self
            .file
            .write_all_at(&layout::encode_file(self.guest, record), 0)
            .and_then(|()| self.file.set_len(layout::FILE_LEN_BYTES as u64));
        self.settle(written).map(|()| record.clone())
    }

    fn settle(&self, written: io::Result<()>) -> Result<(), OwnerError> {
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|source| OwnerError::Uncertain { path: self.path.clone(), source })
    }
}

fn first_record(guest: GuestName, owner: MemberName) -> Result<OwnerRecord, OwnerError> {
    let nonce = new_nonce()?;
    Ok(OwnerRecord { guest, epoch: 1, nonce, owner, previous_owner: None, time_unix_ns: now_unix_ns() })
}

fn new_nonce() -> Result<u128, OwnerError> {
    let path = PathBuf::from("/dev/urandom");
    let mut bytes = [0; 16];
    match File::open(&path).and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => Ok(u128::from_le_bytes(bytes)),
        Err(source) => Err(OwnerError::Io { action: "read", path, source }),
    }
}

fn now_unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
