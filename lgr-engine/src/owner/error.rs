//! Errors of owner records.

use std::io;
use std::path::PathBuf;

use super::name::{GuestName, MemberName};
use super::running::Runner;

/// Why an owner record could not be read or changed. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The volume is missing or is not a directory. Give a directory that all members share.
    #[error("the shared volume {} cannot be used: {source}", path.display())]
    NoVolume {
        /// The directory as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The guest has no owner record. Make one with [`super::OwnerVolume::create`].
    #[error("no owner record {}", path.display())]
    NotFound {
        /// The file that is missing.
        path: PathBuf,
    },
    /// Another member owns the guest already. Stop it there, or replace the record on purpose.
    #[error("{}: guest {guest} is owned by member {owner}: relocate it from there; if that is this member, say so (--member {owner}); if it runs nowhere, claim it (--claim); lgr owner {guest} tells", path.display())]
    OwnedByOther {
        /// The file.
        path: PathBuf,
        /// The guest.
        guest: GuestName,
        /// Who owns it.
        owner: MemberName,
    },
    /// The path is a directory, pipe or device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is cut short or has grown. Replace the record once it is known who runs the guest.
    #[error("{} is {found_bytes} bytes long, an owner record has {expected_bytes}", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length; reading stops soon after the expected length.
        found_bytes: usize,
        /// The length of every owner record.
        expected_bytes: usize,
    },
    /// The file is something else. It is never overwritten.
    #[error("{} is not an owner record (its first 8 bytes are not LGROWNER)", path.display())]
    BadMagic {
        /// The file.
        path: PathBuf,
    },
    /// The file was made by another version of this program. It is never overwritten.
    #[error("{} has format version {found}, this program knows version {known}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version this program reads.
        known: u32,
    },
    /// The header's checksum is wrong. Replace the record once it is known who runs the guest.
    #[error("{}: the header is damaged", path.display())]
    DamagedHeader {
        /// The file.
        path: PathBuf,
    },
    /// The file was copied or renamed: it belongs to another guest. It is never overwritten.
    #[error("{} is the owner record of guest {found}, not of {expected}", path.display())]
    OtherGuest {
        /// The file.
        path: PathBuf,
        /// The guest named in the file.
        found: GuestName,
        /// The guest that was asked for.
        expected: GuestName,
    },
    /// Both slots are damaged. Replace the record once it is known who runs the guest.
    #[error("{}: both slots are damaged, nobody can be read as owner", path.display())]
    NoValidSlot {
        /// The file.
        path: PathBuf,
    },
    /// Another process held the lock for the whole wait. Try again; nothing was changed.
    #[error("{} stayed locked by {holder} for {waited_ms} ms", path.display())]
    LockTimeout {
        /// The file.
        path: PathBuf,
        /// Who held it at the end, as far as the system says.
        holder: String,
        /// How long the call waited, in milliseconds.
        waited_ms: u64,
    },
    /// The file system has no locks or refused one. Use a volume with working `fcntl` locks.
    #[error("{} cannot be locked: {source}", path.display())]
    LockRefused {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The epoch is at its largest number; only a damaged or forged file gets there.
    #[error("{}: the epoch cannot be raised any further", path.display())]
    EpochExhausted {
        /// The file.
        path: PathBuf,
    },
    /// Writing gave an error, so the change may or may not be there. Read the record before acting.
    #[error("{}: the change may or may not be on the volume: {source}", path.display())]
    Uncertain {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The record is another than the one expected. Nothing was written.
    #[error("{} has changed: guest {guest} belongs to member {owner} by it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The guest.
        guest: GuestName,
        /// Who owns it.
        owner: MemberName,
    },
    /// The update was called off by the caller before anything was written.
    #[error("{}: the update was called off", path.display())]
    CalledOff {
        /// The file.
        path: PathBuf,
    },
    /// A process runs the guest, or is about to. Stop it there, or have that member relocate it.
    #[error("guest {guest} runs or arrives at {runner}: end it there or relocate it from there; {} is locked for as long as it runs", path.display())]
    Runs {
        /// The file that is locked.
        path: PathBuf,
        /// The guest.
        guest: GuestName,
        /// Who runs it.
        runner: Runner,
    },
    /// The file appeared and vanished again and again while a record was to be made.
    #[error("{} keeps appearing and vanishing", path.display())]
    Unstable {
        /// The file.
        path: PathBuf,
    },
    /// Any other failure of the file system; nothing was changed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
