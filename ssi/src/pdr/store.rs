//! The record on its volume: reading, changing, locks and their theft.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::layout::{CONTENTS_LEN_BYTES, Contents, Stamps, get, put};
use super::ticket::{self, Key, Ticket};
use crate::dasd::{Access, Allocation, Ccw, DasdError, Extent, NewRecord, Use, Volume, attach};
use crate::member::{Change, ChangeRefused, Record, RecordOutcome};
use crate::name::{ClusterName, Slot, SystemName, VolumeLabel};
use crate::node::RecordStore;

/// A lock whose owner cannot be seen to be gone is taken when it has not changed for so long.
pub const STEAL_AFTER: Duration = Duration::from_millis(1_500);
/// Longest wait for the lock. A member that has waited so long tries again at its next heartbeat.
const LOCK_PATIENCE: Duration = Duration::from_secs(4);
/// How often, and when, it is read again if what was read makes no sense.
const READ_TRIES: u32 = 50;
const READ_AGAIN: Duration = Duration::from_millis(2);
/// Volumes that are followed to where the record is.
const HOPS_MAX: u32 = 8;
/// How often a change is tried whose lock was taken away, or whose record is on another volume.
pub(super) const TRIES_MAX: u32 = 64;
const LOCK_HEAD: u8 = 1;
const COPY_HEADS: [u8; 2] = [2, 3];
/// Name of the tool, where a system's name would be.
pub(super) const TOOL: &str = "FormSSI";
const POINTER_LEN_BYTES: usize = 64;
const POINTER_MAGIC: &[u8; 8] = b"PDRPOIN1";

/// Why the record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PdrError {
    /// The volume.
    #[error(transparent)]
    Dasd(#[from] DasdError),
    /// There is none.
    #[error("volume {} has no persistent data record (lgr formssi CREATE makes one)", .0.display())]
    Missing(PathBuf),
    /// Its place is used for something else.
    #[error("volume {}: {used} has cylinder 0: there is no room for a persistent data record", path.display())]
    NoRoom {
        /// The volume.
        path: PathBuf,
        /// What is there.
        used: Extent,
    },
    /// There is one already.
    #[error(
        "volume {} has a persistent data record of cluster {found} already (--replace overwrites it)", path.display()
    )]
    Exists {
        /// The volume.
        path: PathBuf,
        /// Whose it is.
        found: ClusterName,
    },
    /// It is another cluster's.
    #[error("the persistent data record on volume {} is that of cluster {found}, not of {expected}", path.display())]
    Cluster {
        /// The volume.
        path: PathBuf,
        /// Whose it is.
        found: ClusterName,
        /// Whose it was to be.
        expected: ClusterName,
    },
    /// It is damaged.
    #[error("the persistent data record on volume {}: {reason}", path.display())]
    Damaged {
        /// The volume.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Each volume says that it is on another, or its lock is taken away again and again.
    #[error("the persistent data record that was last on volume {} is not to be found", .0.display())]
    Lost(PathBuf),
    /// Somebody has the lock and keeps changing it.
    #[error("Persistent Data Record on volume {} is locked, possibly by {owner}", path.display())]
    Locked {
        /// The volume.
        path: PathBuf,
        /// By whom.
        owner: String,
    },
}

/// The record as it is.
#[derive(Clone, Debug)]
pub struct View {
    /// What counts.
    pub contents: Contents,
    /// Who has the lock.
    pub locked_by: Option<String>,
    /// Locks that were taken from their owners.
    pub steals: u64,
}

/// The lock record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    generation: u64,
    copy: usize,
    crc: u32,
    steals: u64,
}

impl Pointer {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; POINTER_LEN_BYTES];
        bytes[..8].copy_from_slice(POINTER_MAGIC);
        put(&mut bytes, 0x08, self.generation);
        put(&mut bytes, 0x10, ((self.copy as u64) << 32) | u64::from(self.crc));
        put(&mut bytes, 0x18, self.steals);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != POINTER_LEN_BYTES || bytes[..8] != *POINTER_MAGIC {
            return None;
        }
        let word = get(bytes, 0x10);
        let copy = usize::try_from(word >> 32).ok().filter(|copy| *copy < COPY_HEADS.len())?;
        Some(Self { generation: get(bytes, 0x08), copy, crc: word as u32, steals: get(bytes, 0x18) })
    }
}

pub(super) fn at_lock() -> [Ccw; 2] {
    [Ccw::Seek { cylinder: 0, head: LOCK_HEAD }, Ccw::SearchId(1)]
}

fn at_copy(copy: usize) -> [Ccw; 2] {
    [Ccw::Seek { cylinder: 0, head: COPY_HEADS[copy] }, Ccw::SearchId(1)]
}

/// Where the volume of a label is.
pub type Places = Box<dyn Fn(VolumeLabel) -> PathBuf + Send>;

/// The record of one cluster, for one who changes it. It follows the record to the volume where it is.
pub struct PdrStore {
    places: Places,
    /// The volume on which the record was last.
    at: VolumeLabel,
    cluster: ClusterName,
    owner: SystemName,
    /// What the last operation saw, for those who show it.
    last: Option<View>,
}

impl fmt::Debug for PdrStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PdrStore").field("at", &self.at).field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl PdrStore {
    /// The record of `cluster`, which is or once was on the volume `home`, for the system `owner`. The volume is looked at
    /// with each operation: it may come and go.
    ///
    /// # Errors
    /// See [`PdrError`].
    pub fn open(
        places: Places,
        home: VolumeLabel,
        cluster: ClusterName,
        owner: SystemName,
    ) -> Result<Self, PdrError> {
        let mut store = Self { places, at: home, cluster, owner, last: None };
        store.read()?;
        Ok(store)
    }

    /// What the last operation saw.
    pub fn last(&self) -> Option<&View> {
        self.last.as_ref()
    }

    fn path(&self) -> PathBuf {
        (self.places)(self.at)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// See [`PdrError`].
    pub fn read(&mut self) -> Result<View, PdrError> {
        for _ in 0..HOPS_MAX {
            let view = view(&self.path())?;
            self.check_cluster(view.contents.record.cluster)?;
            match self.elsewhere(&view.contents)? {
                Some(label) => self.at = label,
                None => {
                    self.last = Some(view.clone());
                    return Ok(view);
                }
            }
        }
        Err(PdrError::Lost(self.path()))
    }

    /// The volume where the record is if it is not the one with these contents.
    fn elsewhere(&self, contents: &Contents) -> Result<Option<VolumeLabel>, PdrError> {
        if let Some(origin) = contents.copied_from {
            // Whoever copied it may have died before the origin said that it is here.
            let there = view(&(self.places)(origin))?.contents;
            return Ok((there.moved_to != Some(self.at)).then_some(origin));
        }
        Ok(contents.moved_to)
    }

    /// Makes `change` of the record, or finds it refused; either way the record as it then is.
    ///
    /// # Errors
    /// See [`PdrError`]: nothing is known to have been changed then, though it may have been.
    pub fn change(&mut self, change: &Change) -> Result<RecordOutcome, PdrError> {
        for _ in 0..TRIES_MAX {
            let volume = Volume::open(&self.path(), Access::Write)?;
            let (ticket, pointer) = self.lock(&volume)?;
            let found = contents_of(&volume, self.cluster, &pointer).and_then(|contents| {
                let elsewhere = self.elsewhere(&contents)?;
                Ok((contents, elsewhere))
            });
            let (mut contents, elsewhere) = match found {
                Ok(found) => found,
                Err(error) => {
                    self.write_and_unlock(&volume, &ticket, pointer, None)?;
                    return Err(error);
                }
            };
            let before = contents.record;
            let refused = match (elsewhere, change) {
                (Some(label), _) => {
                    self.write_and_unlock(&volume, &ticket, pointer, None)?;
                    self.at = label;
                    continue;
                }
                (None, Change::MoveTo(label)) if *label != self.at => {
                    self.copy_to(*label, &contents).err().map(|_| ChangeRefused::Volume(*label))
                }
                _ => contents.record.apply(change).err(),
            };
            if let Some(why) = refused {
                self.write_and_unlock(&volume, &ticket, pointer, None)?;
                return Ok(RecordOutcome::Refused(why, before));
            }
            if let Change::MoveTo(label) = change {
                contents.moved_to = Some(*label).filter(|label| *label != self.at);
            }
            contents.generation += 1;
            contents.copied_from = None;
            stamp(&mut contents.stamps, &before, &contents.record, SystemTime::now());
            if self.write_and_unlock(&volume, &ticket, pointer, Some(&contents))? {
                volume.sync()?;
                let record = contents.record;
                self.at = contents.moved_to.unwrap_or(self.at);
                self.last = Some(View { contents, locked_by: None, steals: pointer.steals });
                return Ok(RecordOutcome::Done(record));
            }
        }
        Err(PdrError::Lost(self.path()))
    }

    /// Puts a copy of the record on another volume. It counts once this one says so.
    fn copy_to(&self, label: VolumeLabel, contents: &Contents) -> Result<(), PdrError> {
        let path = (self.places)(label);
        let (volume, found) = attach(&path, Access::Write, label, self.cluster, self.owner)?;
        check_room(&path, &found.allocation)?;
        if let Ok((key, _)) = read_lock(&volume) {
            self.check_cluster(key.cluster)?;
        }
        let copy = Contents {
            generation: contents.generation + 1,
            moved_to: None,
            copied_from: Some(self.at),
            ..contents.clone()
        };
        put_record(&volume, self.cluster, &copy)
    }

    /// Read and lock.
    fn lock(&self, volume: &Volume) -> Result<(Ticket, Pointer), PdrError> {
        let ticket = Ticket::new(self.owner.as_str());
        let begun = Instant::now();
        let mut seen: Option<(Ticket, Instant)> = None;
        let mut nap = Duration::from_micros(100);
        loop {
            let (key, mut pointer) = read_lock(volume)?;
            self.check_cluster(key.cluster)?;
            if let Some(held) = key.held {
                if !may_steal(&held, &mut seen) {
                    if begun.elapsed() > LOCK_PATIENCE {
                        return Err(PdrError::Locked { path: self.path(), owner: held.owner() });
                    }
                    std::thread::sleep(nap);
                    nap = (nap * 2).min(Duration::from_millis(20));
                    continue;
                }
                pointer.steals += 1;
            }
            // No key comes twice: while this one is there, the pointer is the one that was read with it.
            let locked = ticket::locked(self.cluster, &ticket, SystemTime::now());
            let write = Ccw::WriteKeyData(locked, pointer.to_bytes());
            if volume.execute(&chain(at_lock(), [Ccw::SearchKey(key.search), write]))?.is_whole {
                return Ok((ticket, pointer));
            }
        }
    }

    /// `false`: the lock was taken away, and nothing was changed.
    fn write_and_unlock(
        &self,
        volume: &Volume,
        ticket: &Ticket,
        pointer: Pointer,
        contents: Option<&Contents>,
    ) -> Result<bool, PdrError> {
        let unlocked = ticket::unlocked(self.cluster, ticket, SystemTime::now());
        write(volume, (ticket.search(self.cluster), unlocked), pointer, contents)
    }

    fn check_cluster(&self, found: ClusterName) -> Result<(), PdrError> {
        if found == self.cluster {
            return Ok(());
        }
        Err(PdrError::Cluster { path: self.path(), found, expected: self.cluster })
    }
}

impl RecordStore for PdrStore {
    fn operate(&mut self, change: Option<Change>) -> RecordOutcome {
        let outcome = match &change {
            Some(change) => self.change(change),
            None => self.read().map(|view| RecordOutcome::Done(view.contents.record)),
        };
        outcome.unwrap_or_else(|error| RecordOutcome::Failed(error.to_string()))
    }

    fn volume(&self) -> Option<VolumeLabel> {
        Some(self.at)
    }

    fn stamps(&self) -> Option<Stamps> {
        self.last.as_ref().map(|view| view.contents.stamps)
    }
}

/// Whether a lock may be taken: its owner is gone, or it has not changed since it was first seen long ago.
fn may_steal(held: &Ticket, seen: &mut Option<(Ticket, Instant)>) -> bool {
    match seen {
        Some((ticket, since)) if ticket == held => held.is_dead() || since.elapsed() >= STEAL_AFTER,
        _ => {
            *seen = Some((*held, Instant::now()));
            held.is_dead()
        }
    }
}

/// Writes the copy that does not count, then that it does, and another key, if the key is still the one that is searched.
pub(super) fn write(
    volume: &Volume,
    (search, key): (Vec<u8>, Vec<u8>),
    pointer: Pointer,
    contents: Option<&Contents>,
) -> Result<bool, PdrError> {
    let mut program = chain(at_lock(), [Ccw::SearchKey(search)]);
    let after = match contents {
        None => pointer,
        Some(contents) => {
            let (copy, bytes) = (1 - pointer.copy, contents.to_bytes());
            program.extend(at_copy(copy));
            let crc = crc32c::crc32c(&bytes);
            program.push(Ccw::WriteData(bytes));
            program.extend(at_lock());
            Pointer { generation: contents.generation, copy, crc, ..pointer }
        }
    };
    program.push(Ccw::WriteKeyData(key, after.to_bytes()));
    Ok(volume.execute(&program)?.is_whole)
}

pub(super) fn chain<const N: usize>(first: [Ccw; 2], rest: [Ccw; N]) -> Vec<Ccw> {
    first.into_iter().chain(rest).collect()
}

/// Read key.
pub(super) fn read_lock(volume: &Volume) -> Result<(Key, Pointer), PdrError> {
    let outcome = volume.execute(&chain(at_lock(), [Ccw::ReadKey, Ccw::ReadData]))?;
    let [key, data] = outcome.read.as_slice() else {
        return Err(PdrError::Missing(volume.path().to_owned()));
    };
    let damaged = |reason: String| PdrError::Damaged { path: volume.path().to_owned(), reason };
    let key = ticket::read(key).map_err(damaged)?;
    let pointer =
        Pointer::from_bytes(data).ok_or_else(|| damaged("its lock record is damaged".to_owned()))?;
    Ok((key, pointer))
}

/// Reads the record of whatever cluster on the volume in this file.
///
/// # Errors
/// See [`PdrError`].
pub fn view(path: &Path) -> Result<View, PdrError> {
    let volume = Volume::open(path, Access::Read)?;
    let mut tries = 0;
    loop {
        match read(&volume) {
            // Changes that came between its two programs have written both copies: what it read is old.
            Err(PdrError::Damaged { .. }) if tries < READ_TRIES => {
                tries += 1;
                std::thread::sleep(READ_AGAIN);
            }
            outcome => return outcome,
        }
    }
}

fn read(volume: &Volume) -> Result<View, PdrError> {
    let (key, pointer) = read_lock(volume)?;
    let contents = contents_of(volume, key.cluster, &pointer)?;
    Ok(View { contents, locked_by: key.held.map(|ticket| ticket.owner()), steals: pointer.steals })
}

/// The copy that counts; if the machine died before it was on the disk, the one before.
pub(super) fn contents_of(
    volume: &Volume,
    cluster: ClusterName,
    pointer: &Pointer,
) -> Result<Contents, PdrError> {
    let damaged = |reason: String| PdrError::Damaged { path: volume.path().to_owned(), reason };
    let bytes = read_copy(volume, pointer.copy)?;
    if crc32c::crc32c(&bytes) == pointer.crc {
        return Contents::from_bytes(&bytes, cluster).map_err(damaged);
    }
    let other = read_copy(volume, 1 - pointer.copy)?;
    match Contents::from_bytes(&other, cluster) {
        Ok(contents) if contents.generation + 1 == pointer.generation => Ok(contents),
        _ => Err(damaged("neither of its copies is whole".to_owned())),
    }
}

fn read_copy(volume: &Volume, copy: usize) -> Result<Vec<u8>, PdrError> {
    let outcome = volume.execute(&chain(at_copy(copy), [Ccw::ReadData]))?;
    let missing = || PdrError::Missing(volume.path().to_owned());
    outcome.read.into_iter().next().filter(|bytes| bytes.len() == CONTENTS_LEN_BYTES).ok_or_else(missing)
}

/// Whose heartbeat or state is new.
fn stamp(stamps: &mut Stamps, before: &Record, after: &Record, now: SystemTime) {
    stamps.last = Some(now);
    for slot in Slot::all() {
        let (old, new) = (before.entry(slot), after.entry(slot));
        let of = &mut stamps.systems[slot.index()];
        if old.heartbeat != new.heartbeat {
            of.heartbeat = Some(now);
        }
        if old.state != new.state {
            of.changed = Some(now);
        }
    }
}

/// Whether a volume that is allocated so has room for the record: only PERM space is nobody's who would write over it.
///
/// # Errors
/// [`PdrError::NoRoom`].
pub fn check_room(path: &Path, allocation: &Allocation) -> Result<(), PdrError> {
    let used = allocation.extents.iter().find(|extent| extent.first == 0 && extent.used_for != Use::Perm);
    used.map_or(Ok(()), |used| Err(PdrError::NoRoom { path: path.to_owned(), used: *used }))
}

/// Formats the three tracks.
pub(super) fn put_record(volume: &Volume, cluster: ClusterName, contents: &Contents) -> Result<(), PdrError> {
    let bytes = contents.to_bytes();
    let generation = contents.generation;
    let pointer = Pointer { generation, copy: 0, crc: crc32c::crc32c(&bytes), steals: 0 };
    let track = |head: u8, key: Vec<u8>, data: Vec<u8>| {
        [Ccw::Seek { cylinder: 0, head }, Ccw::Format(vec![NewRecord { number: 1, key, data }])]
    };
    let unlocked = ticket::unlocked(cluster, &Ticket::new(TOOL), SystemTime::now());
    let mut program = Vec::new();
    program.extend(track(COPY_HEADS[0], Vec::new(), bytes.clone()));
    program.extend(track(COPY_HEADS[1], Vec::new(), bytes));
    // Last: without it there is no record.
    program.extend(track(LOCK_HEAD, unlocked, pointer.to_bytes()));
    volume.execute(&program)?;
    volume.sync()?;
    Ok(())
}
