//! Formatting, labels, and attaching: is it the volume that is wanted, and may this member have it?

use std::io::ErrorKind;
use std::path::Path;

use super::allocation::{Allocation, Owner};
use super::ebcdic;
use super::geometry::{Geometry, HEADS};
use super::program::Ccw;
use super::track::{self, NewRecord};
use super::volume::{Access, DasdError, Volume};
use crate::name::{ClusterName, SystemName, VolumeLabel};

/// Where the word `CPVOL` is in the label (CP's own place for it).
const CPVOL_AT: usize = 0x2E;
const LABEL_LEN_BYTES: usize = 80;

/// What a volume says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub label: VolumeLabel,
    /// What its cylinders are for, and whose it is.
    pub allocation: Allocation,
}

/// Makes a volume: formats every track, and writes label, allocation and owner. There must be no file of that name; it
/// gets its name when it is whole.
///
/// # Errors
/// See [`DasdError`]; an allocation that cannot be is a [`DasdError::Format`].
pub fn format(path: &Path, geometry: Geometry, label: &Label) -> Result<Volume, DasdError> {
    let is_there = || {
        let reason = "there is a file of that name already".to_owned();
        DasdError::Format { path: path.to_owned(), reason }
    };
    if path.exists() {
        return Err(is_there());
    }
    make(path, geometry, label)?.name(false).map_err(|error| match error {
        DasdError::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists => is_there(),
        other => other,
    })
}

/// The same, but a file that is there is replaced; it stays as it is if the new one cannot be made.
///
/// # Errors
/// As for [`format()`].
pub fn reformat(path: &Path, geometry: Geometry, label: &Label) -> Result<Volume, DasdError> {
    if path.is_dir() {
        return Err(DasdError::Format { path: path.to_owned(), reason: "not a file".to_owned() });
    }
    make(path, geometry, label)?.name(true)
}

fn make(path: &Path, geometry: Geometry, label: &Label) -> Result<Volume, DasdError> {
    let bad = |reason: String| DasdError::Format { path: path.to_owned(), reason };
    label.allocation.check(geometry.cylinders).map_err(|error| bad(error.to_string()))?;
    let volume = Volume::create(path, geometry)?;
    for cylinder in 0..geometry.cylinders {
        for head in 0..HEADS {
            let records = if (cylinder, head) == (0, 0) { system_records(label) } else { Vec::new() };
            let bytes = track::build(cylinder, head, &records)
                .map_err(|reason| volume.track_error(cylinder, head, reason))?;
            volume.write_track(cylinder, head, 0, &bytes)?;
        }
    }
    volume.sync()?;
    Ok(volume)
}

fn system_records(label: &Label) -> Vec<NewRecord> {
    // A disabled wait: this volume cannot be IPLed.
    let mut ipl1 = vec![0x00, 0x06, 0, 0, 0, 0, 0, 0x0F];
    ipl1.resize(24, 0);
    vec![
        NewRecord { number: 1, key: ebcdic::from_ascii("IPL1"), data: ipl1 },
        NewRecord { number: 2, key: ebcdic::from_ascii("IPL2"), data: vec![0; 144] },
        NewRecord { number: 3, key: ebcdic::from_ascii("VOL1"), data: label_bytes(label.label) },
        NewRecord { number: 4, key: Vec::new(), data: label.allocation.to_bytes() },
    ]
}

fn label_bytes(label: VolumeLabel) -> Vec<u8> {
    let mut bytes = ebcdic::from_ascii(&format!("VOL1{label:<6}"));
    bytes.resize(LABEL_LEN_BYTES, 0x40);
    // No table of contents.
    bytes[10..16].fill(0);
    bytes[CPVOL_AT..CPVOL_AT + 5].copy_from_slice(&ebcdic::from_ascii("CPVOL"));
    bytes
}

/// What the volume says of itself.
///
/// # Errors
/// See [`DasdError`]; a volume without a label is a [`DasdError::Format`].
pub fn label(volume: &Volume) -> Result<Label, DasdError> {
    let bad = |reason: String| DasdError::Format { path: volume.path().to_owned(), reason };
    let read = |search: Ccw| -> Result<Option<Vec<u8>>, DasdError> {
        let outcome = volume.execute(&[Ccw::Seek { cylinder: 0, head: 0 }, search, Ccw::ReadData])?;
        Ok(outcome.read.into_iter().next())
    };
    let bytes = read(Ccw::SearchKey(ebcdic::from_ascii("VOL1")))?;
    let bytes = bytes.filter(|bytes| bytes.len() == LABEL_LEN_BYTES);
    let bytes = bytes.ok_or_else(|| bad("it has no label".to_owned()))?;
    let text = ebcdic::to_ascii(&bytes[4..10]);
    let label = VolumeLabel::new(text.trim_end()).map_err(|error| bad(format!("its label: {error}")))?;
    let allocation =
        read(Ccw::SearchId(4))?.ok_or_else(|| bad("there is no allocation record".to_owned()))?;
    let allocation = Allocation::from_bytes(&allocation, volume.geometry().cylinders).map_err(bad)?;
    Ok(Label { label, allocation })
}

/// Writes label, allocation and owner anew, in one channel program; nothing else on the volume changes.
///
/// # Errors
/// As for [`format()`]; a volume that has no label, or no allocation record, has to be formatted.
pub fn relabel(volume: &Volume, new: &Label) -> Result<(), DasdError> {
    let bad = |reason: String| DasdError::Format { path: volume.path().to_owned(), reason };
    label(volume)?;
    new.allocation.check(volume.geometry().cylinders).map_err(|error| bad(error.to_string()))?;
    let outcome = volume.execute(&[
        Ccw::Seek { cylinder: 0, head: 0 },
        Ccw::SearchId(3),
        Ccw::WriteData(label_bytes(new.label)),
        Ccw::SearchId(4),
        Ccw::WriteData(new.allocation.to_bytes()),
    ])?;
    if outcome.is_whole { volume.sync() } else { Err(bad("its label is not where CP has it".to_owned())) }
}

/// Opens the volume `wanted` for a member of a cluster: one that has another label, or is another cluster's or member's,
/// is refused.
///
/// # Errors
/// See [`DasdError`].
pub fn attach(
    path: &Path,
    access: Access,
    wanted: VolumeLabel,
    cluster: ClusterName,
    member: SystemName,
) -> Result<(Volume, Label), DasdError> {
    let volume = Volume::open(path, access)?;
    let found = label(&volume)?;
    if found.label != wanted {
        let reason = format!("its label is {}, not {wanted}", found.label);
        return Err(DasdError::Format { path: path.to_owned(), reason });
    }
    let owner = found.allocation.owner;
    let is_foreign = owner.cluster.is_some_and(|name| name != cluster)
        || (access == Access::Write && owner.member.is_some_and(|name| name != member));
    if is_foreign {
        let expected = Owner { cluster: Some(cluster), member: Some(member) };
        let (path, found, expected) = (path.to_owned(), owner.to_string(), expected.to_string());
        return Err(DasdError::Ownership { path, found, expected });
    }
    Ok((volume, found))
}
