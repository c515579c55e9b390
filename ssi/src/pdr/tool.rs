//! What `lgr formssi` does to a record.

use std::path::Path;
use std::time::SystemTime;

use super::layout::{Contents, Stamps};
use super::store::{
    PdrError, TOOL, TRIES_MAX, at_lock, chain, check_room, contents_of, put_record, read_lock, write,
};
use super::ticket::{self, Ticket};
use crate::dasd::{Access, Ccw, Volume, label};
use crate::member::{LEVEL, Record};
use crate::name::ClusterName;

/// Format: writes a new record, all of whose members are down. One that is there already, of whatever cluster, is only
/// replaced if `replace` says so.
///
/// # Errors
/// See [`PdrError`].
pub fn create(path: &Path, record: &Record, replace: bool) -> Result<(), PdrError> {
    let volume = Volume::open(path, Access::Write)?;
    check_room(path, &label(&volume)?.allocation)?;
    if !replace && let Ok((key, _)) = read_lock(&volume) {
        return Err(PdrError::Exists { path: path.to_owned(), found: key.cluster });
    }
    let stamps = Stamps { last: Some(SystemTime::now()), ..Stamps::default() };
    let contents = Contents { generation: 1, record: *record, stamps, moved_to: None, copied_from: None };
    put_record(&volume, record.cluster, &contents)
}

/// Upgrade: makes a record of an older level one of this level, while members run; gives the level it had. It takes no lock,
/// so no member waits for it, whatever becomes of it.
///
/// # Errors
/// See [`PdrError`]; the record is what it was then.
pub fn upgrade(path: &Path, cluster: ClusterName) -> Result<u16, PdrError> {
    let volume = Volume::open(path, Access::Write)?;
    for _ in 0..TRIES_MAX {
        let (key, pointer) = read_lock(&volume)?;
        if key.cluster != cluster {
            return Err(PdrError::Cluster { path: path.to_owned(), found: key.cluster, expected: cluster });
        }
        if let Some(held) = key.held {
            return Err(PdrError::Locked { path: path.to_owned(), owner: held.owner() });
        }
        let mut contents = match contents_of(&volume, cluster, &pointer) {
            // Changes that came between have written both copies.
            Err(PdrError::Damaged { .. }) if read_lock(&volume)?.0 != key => continue,
            contents => contents?,
        };
        if contents.moved_to.is_some() || contents.copied_from.is_some() {
            return Err(PdrError::Lost(path.to_owned()));
        }
        let before = contents.record.level;
        if before == LEVEL {
            return Ok(before);
        }
        contents.record.level = LEVEL;
        contents.generation += 1;
        contents.stamps.last = Some(SystemTime::now());
        let unlocked = ticket::unlocked(cluster, &Ticket::new(TOOL), SystemTime::now());
        if write(&volume, (key.search, unlocked), pointer, Some(&contents))? {
            volume.sync()?;
            return Ok(before);
        }
    }
    Err(PdrError::Lost(path.to_owned()))
}

/// Takes the lock away from whoever has it; gives the name.
///
/// # Errors
/// See [`PdrError`].
pub fn unlock(path: &Path) -> Result<Option<String>, PdrError> {
    let volume = Volume::open(path, Access::Write)?;
    let (key, pointer) = read_lock(&volume)?;
    let Some(held) = key.held else { return Ok(None) };
    let unlocked = ticket::unlocked(key.cluster, &Ticket::new(TOOL), SystemTime::now());
    let write = Ccw::WriteKeyData(unlocked, pointer.to_bytes());
    let outcome = volume.execute(&chain(at_lock(), [Ccw::SearchKey(key.search), write]))?;
    volume.sync()?;
    Ok(outcome.is_whole.then(|| held.owner()))
}
