//! Results as files: `SCENARIO.json` and `SCENARIO-PICTURE.svg` in a machine's folder.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{ResultError, ScenarioResult};
use crate::pictures;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why results could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file or folder cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any result.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes: no benchmark result is")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// What it holds is no result.
    #[error("{path}: {source}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why, with the line.
        source: ResultError,
    },
    /// There is none in the folder.
    #[error("{path} holds no benchmark result (*.json)")]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// Reads one result.
///
/// # Errors
/// The file cannot be read or is no result; the file and the line are named.
pub fn read(path: &Path) -> Result<ScenarioResult, FolderError> {
    let fail = |source| FolderError::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(fail)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FolderError::TooLarge { path: path.to_owned() });
    }
    ScenarioResult::from_json(&text).map_err(|source| FolderError::Content { path: path.to_owned(), source })
}

/// Reads all results of a folder (`*.json`), by name.
///
/// # Errors
/// The folder cannot be read, holds none, or one of them is no result.
pub fn read_folder(dir: &Path) -> Result<Vec<ScenarioResult>, FolderError> {
    json_files(dir)?.iter().map(|path| read(path)).collect()
}

/// The results of a folder for a page over them, and the files that another version of this program wrote. Those are no
/// reason for what was just measured to have no page.
///
/// # Errors
/// The folder cannot be read, holds none, or one of them is no result of any version.
pub fn read_folder_for_page(dir: &Path) -> Result<(Vec<ScenarioResult>, Vec<PathBuf>), FolderError> {
    let (mut results, mut left_out) = (Vec::new(), Vec::new());
    for path in json_files(dir)? {
        match read(&path) {
            Ok(result) => results.push(result),
            Err(FolderError::Content { source: ResultError::UnknownVersion { .. }, .. }) => {
                left_out.push(path)
            }
            Err(error) => return Err(error),
        }
    }
    Ok((results, left_out))
}

fn json_files(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let fail = |source| FolderError::Read { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(FolderError::Empty { path: dir.to_owned() });
    }
    paths.sort();
    Ok(paths)
}

/// Writes a result's JSON and its pictures into a folder, which is made if it is not there. Pictures of the same
/// scenario that it has no longer are removed.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn write(dir: &Path, result: &ScenarioResult) -> Result<(), FolderError> {
    fs::create_dir_all(dir).map_err(|source| FolderError::Write { path: dir.to_owned(), source })?;
    put(&dir.join(format!("{}.json", result.scenario)), &result.to_json_pretty())?;
    let drawn = pictures::of_result(result);
    for (kind, picture) in &drawn {
        put(&dir.join(pictures::file_name(&result.scenario, *kind)), &picture.to_svg())?;
    }
    for kind in pictures::KINDS {
        let path = dir.join(pictures::file_name(&result.scenario, kind));
        if drawn.iter().all(|(drawn, _)| *drawn != kind) && path.exists() {
            fs::remove_file(&path).map_err(|source| FolderError::Write { path, source })?;
        }
    }
    Ok(())
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn put(path: &Path, text: &str) -> Result<(), FolderError> {
    let fail = |source| FolderError::Write { path: path.to_owned(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(fail)?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(fail)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}
