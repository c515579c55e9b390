//! An object directory as a file.
//!
//! ```text
//! 00 "LGRODIR1" │ 08 version, LE u32 │ 0C zero │ 10 length of the body, LE u64 │ 18 XXH3-64 of the body │ 20 body (postcard)
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::Object;

const MAGIC: &[u8; 8] = b"LGRODIR1";
const VERSION: u32 = 1;
const HEADER_LEN_BYTES: usize = 0x20;
/// Longest body.
const LEN_BYTES_MAX: u64 = 64 << 20;

/// Why an object directory is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The file system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is none, or damaged.
    #[error("{} is no object directory: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Replaces these files, or makes them. Each is at every instant the old one or the new one; none is replaced unless all of
/// the new ones are on the disk.
///
/// # Errors
/// See [`ObjectError`]; all old ones are there still, unless a file system that took the new ones does not rename them.
pub fn write(objects: &[(PathBuf, &Object)]) -> Result<(), ObjectError> {
    let mut staged = Vec::new();
    let outcome = objects.iter().try_for_each(|(path, object)| {
        staged.push(path.with_extension(format!("new{}", std::process::id())));
        stage(staged.last().expect("it was just put there"), object)
    });
    let outcome = outcome.and_then(|()| {
        objects.iter().zip(&staged).try_for_each(|((path, _), new)| {
            std::fs::rename(new, path).map_err(|source| ObjectError::Io { path: path.clone(), source })
        })
    });
    staged.iter().for_each(|new| drop(std::fs::remove_file(new)));
    outcome?;
    objects.iter().try_for_each(|(path, _)| sync_directory_of(path))
}

fn stage(path: &Path, object: &Object) -> Result<(), ObjectError> {
    let failed = |source| ObjectError::Io { path: path.to_owned(), source };
    let bytes = to_bytes(object).map_err(|reason| failed(std::io::Error::other(reason)))?;
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)
}

fn sync_directory_of(path: &Path) -> Result<(), ObjectError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|source| ObjectError::Io { path: parent.to_owned(), source })
}

fn to_bytes(object: &Object) -> Result<Vec<u8>, String> {
    let body = postcard::to_allocvec(object).expect("a directory has no lengths unknown");
    if body.len() as u64 > LEN_BYTES_MAX {
        return Err(format!(
            "the object directory has {} bytes, at most {LEN_BYTES_MAX} allowed",
            body.len()
        ));
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(xxh3_64(&body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

/// Reads an object directory.
///
/// # Errors
/// See [`ObjectError`].
pub fn read(path: &Path) -> Result<Object, ObjectError> {
    let failed = |source| ObjectError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(HEADER_LEN_BYTES as u64 + LEN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    from_bytes(&bytes).map_err(|reason| ObjectError::Damaged { path: path.to_owned(), reason })
}

/// Reads the bytes of such a file.
///
/// # Errors
/// In words, what is wrong with it.
pub fn from_bytes(bytes: &[u8]) -> Result<Object, String> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_LEN_BYTES) else {
        return Err(format!("{} bytes are too few", bytes.len()));
    };
    if header[..8] != *MAGIC {
        return Err("it does not begin as one".to_owned());
    }
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if version != VERSION {
        return Err(format!(
            "version {version}, and this knows version {VERSION}: compile it anew (lgr directxa)"
        ));
    }
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    if word(0x10) != body.len() as u64 {
        return Err(format!("it should have {} bytes behind its header, and has {}", word(0x10), body.len()));
    }
    if word(0x18) != xxh3_64(body) {
        return Err("it is damaged".to_owned());
    }
    match postcard::take_from_bytes(body) {
        Ok((object, [])) => Ok(object),
        Ok(_) => Err("bytes are left over".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{HashCost, UserDirect};
    use crate::name::SystemName;
    use crate::source::{Limits, Source};

    fn object(serial: u64) -> Object {
        let source = Source::new("d", b"USER LINUX01 SECRET 1G 2G G\n", Limits::DIRECTORY).unwrap();
        let (directory, _) = UserDirect::parse(&source);
        let members = [SystemName::new("MEMBERA").unwrap()];
        Object::compile(&directory, &members, serial, HashCost::LEAST).unwrap().remove(0)
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let bytes = to_bytes(&object(7)).unwrap();
        assert_eq!(from_bytes(&bytes).unwrap().serial, 7);
        assert!(!bytes.windows(6).any(|window| window == b"SECRET"));
        for len in 0..bytes.len() {
            assert!(from_bytes(&bytes[..len]).is_err());
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            // Four bytes are not used.
            assert!(from_bytes(&damaged).is_err() || (0x0C..0x10).contains(&at), "{at}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(from_bytes(&longer).is_err());
    }

    #[test]
    fn if_one_cannot_be_written_all_old_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (here, nowhere) = (dir.path().join("A.directory"), dir.path().join("none/B.directory"));
        write(&[(here.clone(), &object(1))]).unwrap();
        let error = write(&[(here.clone(), &object(2)), (nowhere, &object(2))]).unwrap_err();
        assert!(error.to_string().contains("none/B"), "{error}");
        assert_eq!(read(&here).unwrap().serial, 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
