//! What is where on which volume.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Cylinders, Statement, UserDirect, Where};
use crate::name::UserId;
use crate::source::{DeviceNumber, Span};

/// A minidisk on a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// The entry that has it.
    pub owner: UserId,
    /// Its number there.
    pub vdev: DeviceNumber,
    /// Where it is.
    pub at: Cylinders,
    #[serde(skip)]
    pub(super) span: Span,
}

impl Placed {
    /// `1-100`, or `0-END`.
    pub fn range(&self) -> String {
        match self.at.count {
            Some(_) => format!("{}-{}", self.at.first, self.at.end() - 1),
            None => format!("{}-END", self.at.first),
        }
    }
}

/// Two that have cylinders in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The volume.
    pub volume: String,
    /// The one that begins first.
    pub first: Placed,
    /// The other.
    pub second: Placed,
}

/// All minidisks on a volume, by their first cylinders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeMap {
    /// Its label, or `&SYSRES`.
    pub volume: String,
    /// What is on it.
    pub disks: Vec<Placed>,
}

/// The maps of all volumes, by label.
pub fn maps(directory: &UserDirect) -> Vec<VolumeMap> {
    let mut volumes: BTreeMap<String, Vec<Placed>> = BTreeMap::new();
    for entry in directory.entries() {
        for line in &entry.lines {
            let Statement::Minidisk(disk) = &line.statement else { continue };
            let Where::Volume(at, label) = disk.at else { continue };
            let volume = label.map_or_else(|| "&SYSRES".to_owned(), |label| label.to_string());
            let placed = Placed { owner: entry.name, vdev: disk.vdev, at, span: line.logical.span };
            volumes.entry(volume).or_default().push(placed);
        }
    }
    let sorted = volumes.into_iter().map(|(volume, mut disks)| {
        disks.sort_by_key(|disk| (disk.at.first, disk.at.end(), disk.owner, disk.vdev));
        VolumeMap { volume, disks }
    });
    sorted.collect()
}

impl VolumeMap {
    /// Each minidisk that begins before one ahead of it has ended. Whole volumes, as those have them who look after them,
    /// overlap with nothing; nor does &SYSRES, which is another volume on each member.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        let mut furthest: Option<&Placed> = None;
        for disk in self.disks.iter().filter(|disk| !disk.at.is_full_pack()) {
            match furthest {
                Some(first) if disk.at.first < first.at.end() && self.volume != "&SYSRES" => {
                    let (first, second) = (first.clone(), disk.clone());
                    overlaps.push(Overlap { volume: self.volume.clone(), first, second });
                }
                _ => {}
            }
            if furthest.is_none_or(|first| first.at.end() < disk.at.end()) {
                furthest = Some(disk);
            }
        }
        overlaps
    }

    /// Cylinders in front of and between minidisks that nobody has: first and last.
    pub fn gaps(&self) -> Vec<(u32, u32)> {
        let (mut gaps, mut next) = (Vec::new(), 0);
        for disk in self.disks.iter().filter(|disk| !disk.at.is_full_pack()) {
            if disk.at.first > next {
                gaps.push((next, disk.at.first - 1));
            }
            next = next.max(disk.at.end());
        }
        gaps
    }
}
