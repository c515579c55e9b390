//! `USER_VOLUME_LIST volid...`, `USER_VOLUME_INCLUDE pattern...` and `USER_VOLUME_EXCLUDE pattern...`: volumes with
//! minidisks, which are attached to the system when it starts.

use serde::Serialize;

use crate::VolumeLabel;
use crate::config::Pattern;
use crate::source::{Diagnostic, Layout, Words};

/// Volumes that are missed when they are not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserVolumeList {
    /// Their labels.
    pub volumes: Vec<VolumeLabel>,
}

impl UserVolumeList {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let mut volumes = vec![words.value("a volume's label")?];
        while !words.is_empty() {
            volumes.push(words.value("a volume's label")?);
        }
        Ok(Self { volumes })
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new().word("USER_VOLUME_LIST").words(&self.volumes)
    }
}

/// Volumes whose labels are like this; none of them is missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserVolumePatterns {
    /// Patterns of labels.
    pub patterns: Vec<Pattern>,
}

impl UserVolumePatterns {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let mut patterns = vec![words.value("a volume's label or a pattern of labels")?];
        while !words.is_empty() {
            patterns.push(words.value("a volume's label or a pattern of labels")?);
        }
        Ok(Self { patterns })
    }

    pub(crate) fn layout(&self, name: &str) -> Layout {
        Layout::new().word(name).words(&self.patterns)
    }
}
