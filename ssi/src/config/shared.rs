//! The part of the configuration that must be the same on all members, for the comparison at join.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_128;

use super::statement::{DefineVswitch, MacPrefix, Owned, PdrVolume};
use super::{Effective, Endpoint};
use crate::{Slot, VolumeLabel};

impl Effective {
    /// What must be the same on all members, by its name.
    ///
    /// The SSI statement; CP-owned volumes that are for everyone, since spool volumes need the same slot everywhere; the
    /// prefix of users' MAC addresses; and relocation domains.
    pub fn shared(&self) -> BTreeMap<String, String> {
        let mut shared = BTreeMap::new();
        let mut say = |name: String, value: String| shared.insert(name, value);
        if let Some(ssi) = &self.ssi {
            say("SSI name".into(), ssi.name.to_string());
            say(
                "PDR volume".into(),
                match ssi.pdr_volume {
                    PdrVolume::Sysparm => "&SYSPARM".into(),
                    PdrVolume::Label(label) => label.to_string(),
                },
            );
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

    /// What keeps this member and the other one from being in one cluster, each with its name and both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (self.shared(), other.shared());
        let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let value = |side: &BTreeMap<String, String>, name: &String| {
            side.get(name).cloned().unwrap_or_else(|| "nothing".to_owned())
        };
        let mut differences: Vec<String> = names
            .into_iter()
            .filter(|name| ours.get(*name) != theirs.get(*name))
            .map(|name| {
                let (us, them) = (self.member, other.member);
                format!("{name}: {} on {us}, {} on {them}", value(&ours, name), value(&theirs, name))
            })
            .collect();
        differences.extend(self.moved_volumes(other));
        differences.extend(self.other_switches(other));
        differences.extend(self.same_prefix(other));
        differences
    }

    /// A switch that both have is the same, but for its uplinks: device numbers may differ.
    fn other_switches(&self, other: &Self) -> Vec<String> {
        let text =
            |switch: &DefineVswitch| DefineVswitch { uplinks: Vec::new(), ..switch.clone() }.layout().line();
        let differ = self.vswitches.iter().filter_map(|(name, ours)| {
            let (ours, theirs) = (text(ours), text(other.vswitches.get(name)?));
            let (us, them) = (self.member, other.member);
            (ours != theirs).then(|| format!("VSWITCH {name}: {ours} on {us}, {theirs} on {them}"))
        });
        differ.collect()
    }

    /// A volume that two members list has the same slot on both: it holds spool.
    fn moved_volumes(&self, other: &Self) -> Vec<String> {
        let theirs: BTreeMap<VolumeLabel, u8> = other.owned_slots().collect();
        let moved = self.owned_slots().filter_map(|(volume, slot)| {
            let their_slot = *theirs.get(&volume)?;
            (slot != their_slot).then(|| {
                let (us, them) = (self.member, other.member);
                format!("CP_OWNED volume {volume}: slot {slot} on {us}, slot {their_slot} on {them}")
            })
        });
        moved.collect()
    }

    fn same_prefix(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (self.mac_prefix()?, other.mac_prefix()?);
        let is_clash = ours == theirs && self.member != other.member;
        is_clash.then(|| format!("VMLAN MACPREFIX: {ours} on both {} and {}", self.member, other.member))
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
