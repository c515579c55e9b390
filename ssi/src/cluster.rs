//! A new cluster: what its configuration, its directory and its volumes are to begin with.
//!
//! All of it is text that is meant to be read and edited, and volumes of the usual layout:
//!
//! | Volume | Whose | Holds |
//! |---|---|---|
//! | `VMCOM1` | the cluster's | persistent data record |
//! | `USRVL1` | the cluster's | minidisks of users |
//! | `MnnS01` | member nn's, read by all | spool |
//! | `MnnP01` | member nn's | paging |

use std::fmt::Write;

use crate::dasd::{Allocation, Extent, Label, Owner, Use};
use crate::member::Record;
use crate::name::{ClusterName, MEMBERS_MAX, SystemName, VolumeLabel};

/// Most devices of a link.
const DEVICES_MAX: u8 = 16;

/// What a new cluster is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    name: ClusterName,
    members: Vec<SystemName>,
    devices: u8,
}

/// Why a cluster cannot be planned so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// None, or too many.
    #[error("a cluster has 1 to {MEMBERS_MAX} members, not {0}")]
    Members(usize),
    /// Two have one name.
    #[error("two members are called {0}")]
    Twin(SystemName),
    /// None, or too many.
    #[error("a link has 1 to {DEVICES_MAX} devices, not {0}")]
    Devices(u8),
}

/// A volume of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedVolume {
    /// Its label.
    pub label: VolumeLabel,
    /// What its cylinders are for.
    pub holds: Holds,
    /// The member that may allocate on it; none: any of the cluster.
    pub owner: Option<SystemName>,
    /// Size, in cylinders.
    pub cylinders: u32,
}

/// What a volume is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The persistent data record, and minidisks of the system.
    Common,
    /// Minidisks.
    Minidisks,
    /// Spool.
    Spool,
    /// Paging.
    Paging,
}

/// Users that a new cluster has, each with a minidisk.
const USERS: u32 = 8;
/// Cylinders of each minidisk.
const MINIDISK_CYLINDERS: u32 = 50;
/// Cylinders of a volume that is not for minidisks: few, for files that are quickly made. A 3390-3 has 3,339.
const CYLINDERS: u32 = 50;

impl Plan {
    /// A cluster of these members, each linked with each other by so many devices.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(name: ClusterName, members: Vec<SystemName>, devices: u8) -> Result<Self, PlanError> {
        if members.is_empty() || members.len() > usize::from(MEMBERS_MAX) {
            return Err(PlanError::Members(members.len()));
        }
        if devices == 0 || devices > DEVICES_MAX {
            return Err(PlanError::Devices(devices));
        }
        let twin = members.iter().enumerate().find(|(at, member)| members[..*at].contains(member));
        match twin {
            Some((_, member)) => Err(PlanError::Twin(*member)),
            None => Ok(Self { name, members, devices }),
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> ClusterName {
        self.name
    }

    /// Its members, by slot.
    pub fn members(&self) -> &[SystemName] {
        &self.members
    }

    /// All volumes.
    pub fn volumes(&self) -> Vec<PlannedVolume> {
        let common = [("VMCOM1", Holds::Common), ("USRVL1", Holds::Minidisks)];
        let mut volumes: Vec<_> = common.into_iter().map(|(name, holds)| volume(name, holds, None)).collect();
        for (number, member) in (1..).zip(&self.members) {
            volumes.push(volume(&format!("M{number:02}S01"), Holds::Spool, Some(*member)));
            volumes.push(volume(&format!("M{number:02}P01"), Holds::Paging, Some(*member)));
        }
        volumes
    }

    /// What is on a volume when it is new.
    pub fn label(&self, volume: &PlannedVolume) -> Label {
        let used_for = match volume.holds {
            Holds::Common | Holds::Minidisks => Use::Perm,
            Holds::Spool => Use::Spol,
            Holds::Paging => Use::Page,
        };
        let last = volume.cylinders - 1;
        let own = Extent { used_for: Use::Perm, first: 0, last: 0 };
        let extents = vec![own, Extent { used_for, first: 1, last }];
        let owner = Owner { cluster: Some(self.name), member: volume.owner };
        Label { label: volume.label, allocation: Allocation { owner, extents } }
    }

    /// The persistent data record when nobody has ever been in the cluster.
    pub fn record(&self) -> Record {
        let system = |index: usize| self.members.get(index).copied();
        Record::new(self.name, std::array::from_fn(system))
    }

    /// SYSTEM CONFIG.
    pub fn system_config(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        let _ = writeln!(out, "/* SYSTEM CONFIG of the cluster {}: one file for all members.", self.name);
        let _ = writeln!(out, "   lgr cpsyntax shows what it says to each of them. */\n");
        for (number, member) in (1..).zip(&self.members) {
            let _ = writeln!(out, "System_Identifier LPAR LPAR{number} {member}");
        }
        let _ = write!(out, "\nSSI {} PDR_VOLUME VMCOM1", self.name);
        for (number, member) in (1..).zip(&self.members) {
            let _ = write!(out, ",\n    SLOT {number} {member}");
        }
        let _ = writeln!(out, "\n\n/* Spool volumes: the same slot on all members. */");
        for (number, _) in (1..).zip(&self.members) {
            let _ = writeln!(out, "CP_Owned Slot {} M{number:02}S01", 9 + number);
        }
        let _ = writeln!(out, "\nUser_Volume_List VMCOM1 USRVL1");
        for (number, member) in (1..).zip(&self.members) {
            let _ =
                writeln!(out, "\n/* Paging, and a direct link to every other member. */\n{member}: BEGIN");
            let _ = writeln!(out, "  CP_Owned Slot 255 M{number:02}P01");
            self.links(number, out);
            let _ = writeln!(out, "{member}: END");
        }
        text
    }

    /// Both ends of a link have the same device numbers.
    fn links(&self, me: usize, out: &mut String) {
        for (other, partner) in (1..).zip(&self.members).filter(|(other, _)| *other != me) {
            let first = 0x4000 + 0x400 * me.min(other) + 0x40 * me.max(other);
            let last = first + usize::from(self.devices) - 1;
            let range =
                if first == last { format!("{first:04X}") } else { format!("{first:04X}-{last:04X}") };
            let _ = writeln!(out, "  Activate ISLink {range} NODE {partner}");
        }
    }

    /// USER DIRECT. `password` gives a new one at each call.
    pub fn user_direct(&self, mut password: impl FnMut() -> String) -> String {
        let mut text = String::new();
        let out = &mut text;
        let _ = writeln!(out, "* USER DIRECT of the cluster {}: one source for all members.", self.name);
        let _ = writeln!(out, "* lgr directxa compiles it; running members take the new one by themselves.");
        let _ = writeln!(out, "DIRECTORY SSI 0123 3390 VMCOM1\n");
        let _ = writeln!(out, "PROFILE LINDFLT\n  CLASS G\n  CONSOLE 0009 3215 T");
        let _ = writeln!(out, "  SPOOL 000C 2540 READER *\n  SPOOL 000D 2540 PUNCH A\n  SPOOL 000E 1403 A\n");
        for (user, classes) in [("OPERATOR", "ABCDEFG"), ("MAINT", "ABCDEFG")] {
            let _ = writeln!(out, "IDENTITY {user} {} 64M 128M {classes}", password());
            for (number, member) in (1..).zip(&self.members) {
                let _ = writeln!(out, "  BUILD ON {member} USING SUBCONFIG {}-{number}", &user[..5]);
            }
            let _ = writeln!(out, "  CONSOLE 0009 3215 T");
            for (number, _) in (1..).zip(&self.members) {
                let _ = writeln!(out, "SUBCONFIG {}-{number}", &user[..5]);
            }
            let _ = writeln!(out);
        }
        for number in 1..=USERS {
            let _ = writeln!(out, "USER LINUX{number:02} AUTOONLY 1G 4G G\n  INCLUDE LINDFLT");
            let _ = writeln!(out, "  OPTION CHPIDVIRTUALIZATION ONE");
            let _ = writeln!(
                out,
                "  MDISK 0100 3390 {} {MINIDISK_CYLINDERS} USRVL1 MR\n",
                1 + MINIDISK_CYLINDERS * (number - 1)
            );
        }
        text
    }
}

fn volume(label: &str, holds: Holds, owner: Option<SystemName>) -> PlannedVolume {
    let label = VolumeLabel::new(label).expect("these are labels");
    let cylinders = if holds == Holds::Minidisks { 1 + USERS * MINIDISK_CYLINDERS } else { CYLINDERS };
    PlannedVolume { label, holds, owner, cylinders }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SystemConfig;
    use crate::source::{Limits, Source};

    fn name(text: &str) -> SystemName {
        SystemName::new(text).unwrap()
    }

    fn plan(members: &[&str], devices: u8) -> Result<Plan, PlanError> {
        let cluster = ClusterName::new("DEMOSSI").unwrap();
        Plan::new(cluster, members.iter().map(|text| name(text)).collect(), devices)
    }

    #[test]
    fn the_configuration_of_any_plan_has_no_errors_and_links_all_members() {
        let names = ["MEMBERA", "MEMBERB", "MEMBERC", "MEMBERD"];
        for (count, devices) in [(1, 1), (2, 16), (3, 1), (4, 2), (4, 16)] {
            let plan = plan(&names[..count], devices).unwrap();
            let text = plan.system_config();
            let source = Source::new("system.config", text.as_bytes(), Limits::CONFIG).unwrap();
            let (config, diagnostics) = SystemConfig::parse(&source);
            assert!(diagnostics.is_empty(), "{:?}", diagnostics.findings(&source));
            for member in plan.members() {
                let effective = config.for_member(*member);
                assert_eq!(effective.links.len(), count - 1);
                assert!(effective.links.iter().all(|link| link.devices.len() == usize::from(devices)));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(plan(&[], 2), Err(PlanError::Members(0)));
        assert_eq!(plan(&["A", "B", "C", "D", "E"], 2), Err(PlanError::Members(5)));
        assert_eq!(plan(&["A", "B", "A"], 2), Err(PlanError::Twin(name("A"))));
        assert_eq!(plan(&["A"], 17), Err(PlanError::Devices(17)));
    }
}
