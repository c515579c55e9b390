//! The part of the configuration that must be the same on all members, for the comparison at join.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::statement::{DefineVswitch, MacPrefix, Owned};
use super::{Effective, Endpoint};
use crate::{Slot, VolumeLabel};

/// What of a member's configuration others look at, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Comparison {
    /// The same on all members.
    pub same: BTreeMap<String, String>,
    /// The same on those that have it.
    pub same_where_both: BTreeMap<String, String>,
    /// Not the same on any two.
    pub different: BTreeMap<String, String>,
}

impl Comparison {
    /// What does not fit, with what this side and the other are called.
    pub fn differences(&self, other: &Self, us: &str, them: &str) -> Vec<String> {
        let names: BTreeSet<_> = self.same.keys().chain(other.same.keys()).collect();
        let value = |side: &BTreeMap<String, String>, name: &String| {
            side.get(name).cloned().unwrap_or_else(|| "nothing".to_owned())
        };
        let told =
            |name: &String, ours: &str, theirs: &str| format!("{name}: {ours} on {us}, {theirs} on {them}");
        let unequal = names.into_iter().filter(|name| self.same.get(*name) != other.same.get(*name));
        let mut differences: Vec<String> =
            unequal.map(|name| told(name, &value(&self.same, name), &value(&other.same, name))).collect();
        let both = |ours: &'_ BTreeMap<String, String>,
                    theirs: &'_ BTreeMap<String, String>|
         -> Vec<(String, String, String)> {
            let pair = |(name, our): (&String, &String)| {
                Some((name.clone(), our.clone(), theirs.get(name)?.clone()))
            };
            ours.iter().filter_map(pair).collect()
        };
        for (name, ours, theirs) in both(&self.same_where_both, &other.same_where_both) {
            if ours != theirs {
                differences.push(told(&name, &ours, &theirs));
            }
        }
        for (name, ours, theirs) in both(&self.different, &other.different) {
            if ours == theirs {
                differences.push(format!("{name}: {ours} on both {us} and {them}"));
            }
        }
        differences
    }
}

impl Effective {
    /// What must be the same on all members, by its name.
    ///
    /// The SSI statement, but for the PDR volume: whoever compares has found the other one in the record already, and the
    /// record can be moved while members run that began with another statement. CP-owned volumes that are for everyone,
    /// since spool volumes need the same slot everywhere; the prefix of users' MAC addresses; and relocation domains.
    pub fn shared(&self) -> BTreeMap<String, String> {
        let mut shared = BTreeMap::new();
        let mut say = |name: String, value: String| shared.insert(name, value);
        if let Some(ssi) = &self.ssi {
            say("SSI name".into(), ssi.name.to_string());
            for slot in Slot::all() {
                let member = ssi.members().find(|(named, _)| *named == slot).map(|(_, member)| member);
                say(format!("slot {slot}"), member.map_or("AVAILABLE".into(), |member| member.to_string()));
            }
        }
        for (slot, volume) in self.cp_owned.iter().filter(|(_, volume)| volume.is_everyones) {
            say(format!("CP_OWNED slot {slot}"), owned_text(volume.owned));
        }
        let user_prefix = self.vmlan.user_prefix.unwrap_or(MacPrefix::USER_DEFAULT);
        say("VMLAN USERPREFIX".into(), user_prefix.to_string());
        for domain in &self.relocation_domains {
            let mut members: Vec<_> = domain.members.iter().map(ToString::to_string).collect();
            members.sort();
            say(format!("relocation domain {}", domain.name), members.join(" "));
        }
        shared
    }

    /// Digest of [`Effective::shared`]. Members whose digests differ cannot be in one cluster; of those whose digests are
    /// the same, [`Effective::differences`] may still name what clashes between the two.
    pub fn shared_digest(&self) -> u128 {
        let text: String = self.shared().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        xxh3_128(text.as_bytes())
    }

    /// What this member brings into a comparison with others.
    pub fn comparison(&self) -> Comparison {
        // A switch that both have is the same, but for its uplinks: device numbers may differ.
        let text =
            |switch: &DefineVswitch| DefineVswitch { uplinks: Vec::new(), ..switch.clone() }.layout().line();
        let switches = self.vswitches.iter().map(|(name, switch)| (format!("VSWITCH {name}"), text(switch)));
        // A volume that two members list has the same slot on both: it holds spool.
        let volumes = self
            .owned_slots()
            .map(|(volume, slot)| (format!("CP_OWNED volume {volume}"), format!("slot {slot}")));
        let prefix = self.mac_prefix().map(|prefix| ("VMLAN MACPREFIX".to_owned(), prefix.to_string()));
        Comparison {
            same: self.shared(),
            same_where_both: switches.chain(volumes).collect(),
            different: prefix.into_iter().collect(),
        }
    }

    /// What keeps this member and the other one from being in one cluster, each with its name and both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        if self.member == other.member {
            return Vec::new();
        }
        self.comparison().differences(&other.comparison(), self.member.as_str(), other.member.as_str())
    }

    /// Prefix of MAC addresses that this member gives: as configured, or by its slot.
    pub fn mac_prefix(&self) -> Option<MacPrefix> {
        self.vmlan.mac_prefix.or_else(|| self.slot().map(MacPrefix::of_slot))
    }

    /// CP-owned volumes with their slots.
    pub fn owned_slots(&self) -> impl Iterator<Item = (VolumeLabel, u8)> {
        self.cp_owned.iter().filter_map(|(slot, volume)| match volume.owned {
            Owned::Volume(label) => Some((label, *slot)),
            Owned::Reserved => None,
        })
    }

    /// Where this member calls `partner`, as many different places as its devices lead to.
    pub fn places_of(&self, partner: crate::SystemName) -> Vec<Endpoint> {
        let link = self.links.iter().find(|link| link.partner == partner);
        let mut places: Vec<_> =
            link.map(|link| link.devices.values().cloned().collect()).unwrap_or_default();
        places.sort();
        places.dedup();
        places
    }
}

fn owned_text(owned: Owned) -> String {
    match owned {
        Owned::Volume(label) => label.to_string(),
        Owned::Reserved => "RESERVED".to_owned(),
    }
}
