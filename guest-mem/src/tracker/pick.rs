//! Choosing a tracker by what this machine can do, and saying why.

use super::{DirtyTracker, SoftwareBitmap, SoftwareTracker, TrackerError, TrackerKind, UffdTracker};
use crate::page::PageNumber;
use crate::runs::Runs;
use crate::storage::{STORAGE_BYTES_MIN, Storage, StorageOptions};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which tracker the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrackerChoice {
    /// uffd where it works, else software.
    #[default]
    Auto,
    /// uffd or an error.
    Uffd,
    /// The software bitmap.
    Software,
}

impl fmt::Display for TrackerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uffd => "uffd",
            Self::Software => "software",
        })
    }
}

impl FromStr for TrackerChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "uffd" => Ok(Self::Uffd),
            "software" => Ok(Self::Software),
            other => Err(format!("unknown tracker '{other}': use auto, uffd or software")),
        }
    }
}

/// The tracker that was picked.
pub struct PickedTracker {
    /// The tracker, not yet started.
    pub tracker: Box<dyn DirtyTracker>,
    /// For a software tracker: the bitmap that every writer must mark.
    pub bitmap: Option<SoftwareBitmap>,
    /// Why the better tracker was not taken, if one was wished for; goes into the report.
    pub fallback_reason: Option<String>,
}

impl fmt::Debug for PickedTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickedTracker")
            .field("kind", &self.tracker.kind())
            .field("fallback_reason", &self.fallback_reason)
            .finish_non_exhaustive()
    }
}

/// Tries a tracker on a scrap of storage: does it see a write, on this kernel, with these rights?
///
/// # Errors
/// The [`TrackerError`] that says why not.
pub fn probe(kind: TrackerKind) -> Result<(), TrackerError> {
    let storage = Arc::new(Storage::create(&StorageOptions::small(STORAGE_BYTES_MIN))?);
    let (mut tracker, bitmap): (Box<dyn DirtyTracker>, _) = match kind {
        TrackerKind::UffdAsync => (Box::new(UffdTracker::new(Arc::clone(&storage))), None),
        TrackerKind::Software => {
            let bitmap = SoftwareBitmap::new(storage.pages())?;
            (Box::new(SoftwareTracker::new(bitmap.clone())), Some(bitmap))
        }
    };
    let page = PageNumber(3);
    storage.zero_page(page);
    tracker.start()?;
    storage.write_bytes(page, 0, b"probe");
    if let Some(bitmap) = bitmap {
        bitmap.mark(page);
    }
    let mut written = Runs::new();
    tracker.harvest(&mut written)?;
    if !written.contains(page) {
        let source = std::io::Error::other("a write was not seen");
        return Err(TrackerError::Register { step: "probe", source });
    }
    Ok(())
}

/// Picks a tracker for `storage`.
///
/// # Errors
/// With [`TrackerChoice::Uffd`], the reason why that does not work here; otherwise only
/// [`TrackerError::Bitmap`].
pub fn pick_tracker(storage: &Arc<Storage>, choice: TrackerChoice) -> Result<PickedTracker, TrackerError> {
    let uffd = || PickedTracker {
        tracker: Box::new(UffdTracker::new(Arc::clone(storage))),
        bitmap: None,
        fallback_reason: None,
    };
    let software = |fallback_reason| {
        let bitmap = SoftwareBitmap::new(storage.pages())?;
        let tracker = Box::new(SoftwareTracker::new(bitmap.clone()));
        Ok(PickedTracker { tracker, bitmap: Some(bitmap), fallback_reason })
    };
    match choice {
        TrackerChoice::Software => software(None),
        TrackerChoice::Uffd => probe(TrackerKind::UffdAsync).map(|()| uffd()),
        TrackerChoice::Auto => match probe(TrackerKind::UffdAsync) {
            Ok(()) => Ok(uffd()),
            Err(reason) => software(Some(reason.to_string())),
        },
    }
}
