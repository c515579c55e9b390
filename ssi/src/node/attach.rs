//! Which of the volumes of the configuration a member can have.

use super::ClusterDir;
use crate::config::Effective;
use crate::config::statement::Owned;
use crate::dasd::{self, Access, DasdError, Label, Use};
use crate::name::VolumeLabel;
use crate::source::DeviceNumber;

/// A volume that the configuration lists.
#[derive(Debug)]
pub struct AttachedVolume {
    /// Its label.
    pub label: VolumeLabel,
    /// Its device number; none: it is only like a pattern of USER_VOLUME_INCLUDE.
    pub device: Option<DeviceNumber>,
    /// What it says of itself, or why it is not attached.
    pub outcome: Result<Label, DasdError>,
}

impl AttachedVolume {
    /// What operators are told of it, if it is not attached.
    pub fn complaint(&self) -> Option<String> {
        let error = self.outcome.as_ref().err()?;
        let device = self.device.map_or_else(|| "----".to_owned(), |device| device.to_string());
        Some(match error {
            DasdError::Ownership { found, .. } => format!(
                "HCPRDA6629I Ownership of DASD {device}, volume {} was read as {found}. No extents can be brought online; \
                 the device is not attached.",
                self.label
            ),
            other => format!("DASD {device}, volume {}: {other}; the device is not attached.", self.label),
        })
    }
}

/// Opens a volume and looks whether this member may have it. One that is another cluster's is refused; one that is another
/// member's as well, unless all members read such volumes, as they do spool.
///
/// # Errors
/// See [`DasdError`].
pub fn attach(dir: &ClusterDir, effective: &Effective, label: VolumeLabel) -> Result<Label, DasdError> {
    let path = dir.volume(label);
    let Some(ssi) = &effective.ssi else { return dasd::label(&dasd::Volume::open(&path, Access::Read)?) };
    let attach = |access| dasd::attach(&path, access, label, ssi.name, effective.member);
    let (_, found) = attach(Access::Read)?;
    let is_private =
        found.allocation.extents.iter().any(|extent| matches!(extent.used_for, Use::Page | Use::Tdsk));
    if is_private { Ok(attach(Access::Write)?.1) } else { Ok(found) }
}

/// All volumes of the configuration: CP-owned ones, those of the user volume list, and files that are like a pattern.
pub fn attach_all(dir: &ClusterDir, effective: &Effective) -> Vec<AttachedVolume> {
    let owned = effective.cp_owned.values().filter_map(|volume| match volume.owned {
        Owned::Volume(label) => Some(label),
        Owned::Reserved => None,
    });
    let mut labels: Vec<VolumeLabel> = owned.chain(effective.user_volumes.keys().copied()).collect();
    labels.extend(there(dir).into_iter().filter(|label| effective.attaches(*label)));
    labels.sort();
    labels.dedup();
    let volume = |label| AttachedVolume {
        label,
        device: effective.volume_devices.get(&label).copied(),
        outcome: attach(dir, effective, label),
    };
    labels.into_iter().map(volume).collect()
}

/// Volumes whose files are there.
fn there(dir: &ClusterDir) -> Vec<VolumeLabel> {
    let entries = std::fs::read_dir(dir.volumes()).into_iter().flatten().flatten();
    let label = |entry: std::fs::DirEntry| {
        entry.file_name().to_str()?.strip_suffix(".dasd").and_then(|name| VolumeLabel::new(name).ok())
    };
    entries.filter_map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SystemConfig;
    use crate::dasd::{Allocation, Geometry, format};
    use crate::name::SystemName;
    use crate::source::{Limits, Source};

    const CONFIG: &str = "SYSTEM_IDENTIFIER LPAR L1 MEMBERA
SYSTEM_IDENTIFIER LPAR L2 MEMBERB
SSI DEMO PDR_VOLUME VMCOM1 SLOT 1 MEMBERA SLOT 2 MEMBERB
CP_OWNED SLOT 10 M02S01
CP_OWNED SLOT 255 M02P01
USER_VOLUME_LIST VMCOM1 MISSNG
USER_VOLUME_INCLUDE LNX*
ACTIVATE ISLINK 4290 NODE MEMBERA";

    #[test]
    fn what_is_anothers_is_refused_with_both_names_and_spool_is_read_by_all() {
        let root = tempfile::tempdir().unwrap();
        let dir = ClusterDir::new(root.path());
        std::fs::create_dir(dir.volumes()).unwrap();
        let make = |name: &str, owner: &str, extents: &str| {
            let label = VolumeLabel::new(name).unwrap();
            let extents = vec![extents.parse().unwrap()];
            let allocation = Allocation { owner: owner.parse().unwrap(), extents };
            format(&dir.volume(label), Geometry { cylinders: 2 }, &Label { label, allocation }).unwrap();
        };
        make("VMCOM1", "DEMO.NOSYS", "PERM:0-1");
        make("M02S01", "DEMO.MEMBERB", "SPOL:1-1");
        make("M02P01", "DEMO.MEMBERB", "PAGE:1-1");
        make("LNX001", "OTHER.NOSYS", "PERM:0-1");
        make("UNUSED", "OTHER.NOSYS", "PERM:0-1");
        let source = Source::new("c", CONFIG.as_bytes(), Limits::CONFIG).unwrap();
        let (config, _) = SystemConfig::parse_statements(&source);
        let complaints = |member: &str| -> Vec<String> {
            let effective = config.for_member(SystemName::new(member).unwrap());
            attach_all(&dir, &effective).iter().filter_map(AttachedVolume::complaint).collect()
        };
        let [foreign, theirs, missing] = complaints("MEMBERA").try_into().unwrap();
        assert!(foreign.contains("DASD ----, volume LNX001 was read as OTHER.NOSYS"), "{foreign}");
        assert!(
            theirs.starts_with("HCPRDA6629I Ownership of DASD 0202, volume M02P01 was read as DEMO.MEMBERB.")
        );
        assert!(missing.starts_with("DASD 0203, volume MISSNG: ") && missing.contains("No such file"));
        assert_eq!(complaints("MEMBERB").len(), 2);
    }
}
