//! The configuration of one member as people read it.

use std::fmt;

use super::statement::{Console, Owned, PdrVolume, VlanUse};
use super::{Effective, Link};
use crate::SystemName;
use crate::source::DeviceNumber;

/// Width of the column of headings.
const HEADING_LEN: usize = 20;
/// Longest line, where words allow it.
const COLUMNS: usize = 100;

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cluster(f)?;
        self.volumes(f)?;
        self.connections(f)?;
        self.network(f)?;
        self.rest(f)
    }
}

/// A heading and what belongs to it; nothing if that is nothing.
fn entry<T: ToString>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    let mut line = format!("  {heading:<HEADING_LEN$}");
    let empty = line.len();
    for item in items {
        let item = item.to_string();
        if line.len() > empty && line.len() + item.len() + 2 > COLUMNS {
            writeln!(f, "{}", line.trim_end())?;
            line = " ".repeat(empty);
        }
        line += &format!("{item}  ");
    }
    if line.len() > empty { writeln!(f, "{}", line.trim_end()) } else { Ok(()) }
}

impl Effective {
    fn cluster(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ssi) = &self.ssi else { return writeln!(f, "{}: in no cluster", self.member) };
        match self.slot() {
            Some(slot) => writeln!(f, "{}: slot {slot} of cluster {}", self.member, ssi.name)?,
            None => writeln!(f, "{}: in no slot of cluster {}", self.member, ssi.name)?,
        }
        let member =
            |member: Option<SystemName>| member.map_or("AVAILABLE".to_owned(), |name| name.to_string());
        entry(f, "slots", ssi.slots.iter().map(|named| format!("{} {}", named.slot, member(named.member))))?;
        let pdr = match ssi.pdr_volume {
            PdrVolume::Sysparm => "&SYSPARM".to_owned(),
            PdrVolume::Label(label) => label.to_string(),
        };
        entry(f, "PDR volume", [pdr])?;
        entry(f, "shared digest", [format!("{:032x}", self.shared_digest())])
    }

    fn volumes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let areas = [
            ("checkpoint", &self.system_residence.checkpoint),
            ("warm start", &self.system_residence.warmstart),
        ];
        for (heading, area) in areas {
            entry(
                f,
                heading,
                area.iter().map(|area| format!("{} from {} for {}", area.volume, area.from, area.len)),
            )?;
        }
        let owned = self.cp_owned.iter().map(|(slot, volume)| match volume.owned {
            Owned::Volume(label) => format!("{slot} {label}"),
            Owned::Reserved => format!("{slot} reserved"),
        });
        entry(f, "CP-owned", owned)?;
        entry(f, "user volumes", self.user_volumes.keys())?;
        entry(f, "user volumes like", &self.user_volumes_included)?;
        entry(f, "but not like", &self.user_volumes_excluded)
    }

    fn connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        entry(f, "listens at", &self.listens_at)?;
        for link in &self.links {
            for (endpoint, devices) in link.by_endpoint() {
                let devices = devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                entry(f, &format!("link to {}", link.partner), [format!("{devices} at {endpoint}")])?;
            }
        }
        Ok(())
    }

    fn network(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        entry(f, "MAC prefix", self.mac_prefix())?;
        entry(f, "users' MAC prefix", self.vmlan.user_prefix)?;
        for (name, switch) in &self.vswitches {
            let vlan = match switch.vlan {
                VlanUse::Unaware => "no VLANs".to_owned(),
                VlanUse::Aware => "VLANs".to_owned(),
                VlanUse::Default(id) => format!("VLAN {id}"),
            };
            let layer = format!("{:?}", switch.layer).to_lowercase();
            let uplinks = switch.uplinks.iter().map(ToString::to_string);
            entry(f, &format!("VSWITCH {name}"), [layer, vlan].into_iter().chain(uplinks))?;
        }
        for rdevice in &self.rdevices {
            let devices = rdevice.devices.iter().map(ToString::to_string);
            let eqid = rdevice.eqid.iter().map(|eqid| format!("EQID {eqid}"));
            entry(f, "real devices", devices.chain(eqid).chain(rdevice.device_type.clone()))?;
        }
        Ok(())
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for domain in &self.relocation_domains {
            entry(f, &format!("domain {}", domain.name), &domain.members)?;
        }
        entry(f, "features on", &self.features.enabled)?;
        entry(f, "features off", &self.features.disabled)?;
        let settings = self.features.settings.iter().map(|setting| {
            let key = setting.key.as_ref().map(|key| format!("{key} ")).unwrap_or_default();
            format!("{} {key}{}", setting.section, setting.value)
        });
        entry(f, "settings", settings)?;
        entry(f, "products", self.products.iter().map(|product| &product.id))?;
        let consoles = self.operator_consoles.iter().map(|console| match console {
            Console::Device(device) => device.to_string(),
            Console::System3270 => "SYSTEM_3270".to_owned(),
            Console::SystemConsole => "SYSTEM_CONSOLE".to_owned(),
        });
        entry(f, "operator consoles", consoles)?;
        entry(f, "kept, not used", &self.kept)
    }
}

impl Link {
    /// Its devices by where they lead.
    fn by_endpoint(&self) -> Vec<(String, Vec<DeviceNumber>)> {
        let mut places: Vec<(String, Vec<DeviceNumber>)> = Vec::new();
        for (device, endpoint) in &self.devices {
            let endpoint = endpoint.to_string();
            match places.iter_mut().find(|(place, _)| *place == endpoint) {
                Some((_, devices)) => devices.push(*device),
                None => places.push((endpoint, vec![*device])),
            }
        }
        places
    }
}
