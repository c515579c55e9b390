//! What the file says to one member.

use std::collections::BTreeMap;

use serde::Serialize;

use super::statement::{
    Area, Console, CpOwned, DefineVswitch, DeviceChoice, Features, IslinkEndpoint, ModifyVswitch, Owned,
    PdrVolume, Product, Rdevice, RelocationDomain, Ssi, SystemResidence, Vmlan, VswitchName,
};
use super::{Endpoint, Pattern, Record, Statement, SystemConfig};
use crate::source::DeviceNumber;
use crate::{Slot, SystemName, VolumeLabel};

/// The device number of the first volume.
const FIRST_VOLUME_DEVICE: u16 = 0x0200;

/// A slot of the CP-owned list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OwnedVolume {
    /// What is in it.
    pub owned: Owned,
    /// Whether the statement is for all members, as it is for spool volumes.
    pub is_everyones: bool,
}

/// A logical link to be started: one of the devices of a member and where they lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Who is at the other end.
    pub partner: SystemName,
    /// The devices, ascending, with the socket on which the partner listens for each.
    pub devices: BTreeMap<DeviceNumber, Endpoint>,
}

/// The configuration of one member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effective {
    /// Whose it is.
    pub member: SystemName,
    /// The cluster; none: a system by itself.
    pub ssi: Option<Ssi>,
    /// Checkpoint and warm start areas.
    pub system_residence: SystemResidence,
    /// The CP-owned list by slot.
    pub cp_owned: BTreeMap<u8, OwnedVolume>,
    /// Volumes attached at start, and missed if they are not there. True: for all members.
    pub user_volumes: BTreeMap<VolumeLabel, bool>,
    /// Volumes like these are attached at start, too.
    pub user_volumes_included: Vec<Pattern>,
    /// But not volumes like these.
    pub user_volumes_excluded: Vec<Pattern>,
    /// Device numbers of volumes.
    pub volume_devices: BTreeMap<VolumeLabel, DeviceNumber>,
    /// Logical links, by partner.
    pub links: Vec<Link>,
    /// Link devices of which nobody knows where they lead: neither NODE nor ISLINK_ENDPOINT says it.
    pub devices_without_partner: Vec<DeviceNumber>,
    /// Where this member listens: its own endpoints, at least one.
    pub listens_at: Vec<Endpoint>,
    /// Virtual switches, by name.
    pub vswitches: BTreeMap<VswitchName, DefineVswitch>,
    /// Changes to them, in order.
    pub vswitch_changes: Vec<ModifyVswitch>,
    /// Settings for MAC addresses, all statements together.
    pub vmlan: Vmlan,
    /// Relocation domains besides those that always exist.
    pub relocation_domains: Vec<RelocationDomain>,
    /// What is said of real devices, in order.
    pub rdevices: Vec<Rdevice>,
    /// Switches and settings, all statements together.
    pub features: Features,
    /// Products.
    pub products: Vec<Product>,
    /// Where the operator may sit, in the order in which the places are tried.
    pub operator_consoles: Vec<Console>,
    /// Names of statements that have no effect here, each once.
    pub kept: Vec<String>,
    #[serde(skip)]
    endpoints: Vec<IslinkEndpoint>,
}

impl SystemConfig {
    /// The statements that apply to this member, put together. What is wrong with them is for [`SystemConfig::check`].
    pub fn for_member(&self, member: SystemName) -> Effective {
        let mut effective = Effective::empty(member);
        effective.endpoints = self
            .records_of(member)
            .filter_map(|record| match &record.statement {
                Statement::IslinkEndpoint(endpoint) => Some(endpoint.clone()),
                _ => None,
            })
            .collect();
        for record in self.records_of(member) {
            effective.apply(record);
        }
        effective.volume_devices = self.volume_devices();
        effective.links.sort_by_key(|link| link.partner);
        effective.listens_at = effective.endpoints_of(member);
        effective
    }

    /// A device number for each volume that the file names for any member, from 0200 on in the order of the file: volumes are
    /// files and have none of their own, and the same volume should have the same number on all members.
    fn volume_devices(&self) -> BTreeMap<VolumeLabel, DeviceNumber> {
        let mut labels: Vec<VolumeLabel> = Vec::new();
        for record in &self.records {
            match &record.statement {
                Statement::Ssi(Ssi { pdr_volume: PdrVolume::Label(label), .. })
                | Statement::CpOwned(CpOwned { owned: Owned::Volume(label), .. }) => labels.push(*label),
                Statement::UserVolumeList(list) => labels.extend(&list.volumes),
                _ => {}
            }
        }
        let mut devices = BTreeMap::new();
        for label in labels {
            let next = FIRST_VOLUME_DEVICE.checked_add(devices.len() as u16).map(DeviceNumber);
            if let Some(next) = next.filter(|_| devices.len() < usize::from(u16::MAX)) {
                devices.entry(label).or_insert(next);
            }
        }
        devices
    }
}

impl Effective {
    fn empty(member: SystemName) -> Self {
        Self {
            member,
            ssi: None,
            system_residence: SystemResidence { checkpoint: None, warmstart: None },
            cp_owned: BTreeMap::new(),
            user_volumes: BTreeMap::new(),
            user_volumes_included: Vec::new(),
            user_volumes_excluded: Vec::new(),
            volume_devices: BTreeMap::new(),
            links: Vec::new(),
            devices_without_partner: Vec::new(),
            listens_at: Vec::new(),
            vswitches: BTreeMap::new(),
            vswitch_changes: Vec::new(),
            vmlan: Vmlan::default(),
            relocation_domains: Vec::new(),
            rdevices: Vec::new(),
            features: Features::default(),
            products: Vec::new(),
            operator_consoles: Vec::new(),
            kept: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// Where there may be only one, the first counts.
    fn apply(&mut self, record: &Record) {
        let is_everyones = record.scope.is_everyone();
        match &record.statement {
            Statement::Ssi(ssi) => drop(self.ssi.get_or_insert_with(|| ssi.clone())),
            Statement::SystemResidence(areas) => self.residence(areas),
            Statement::CpOwned(owned) => {
                let volume = OwnedVolume { owned: owned.owned, is_everyones };
                self.cp_owned.entry(owned.slot).or_insert(volume);
            }
            Statement::UserVolumeList(list) => {
                self.user_volumes.extend(list.volumes.iter().map(|volume| (*volume, is_everyones)));
            }
            Statement::UserVolumeInclude(list) => {
                self.user_volumes_included.extend(list.patterns.iter().cloned())
            }
            Statement::UserVolumeExclude(list) => {
                self.user_volumes_excluded.extend(list.patterns.iter().cloned())
            }
            Statement::ActivateIslink(link) => {
                for device in &link.devices {
                    self.activate(*device, link.node);
                }
            }
            Statement::DefineVswitch(switch) => {
                self.vswitches.entry(switch.name.clone()).or_insert_with(|| switch.clone());
            }
            Statement::ModifyVswitch(change) => self.vswitch_changes.push(change.clone()),
            Statement::Vmlan(vmlan) => self.vmlan = self.vmlan.then(vmlan),
            Statement::RelocationDomain(domain) => self.relocation_domains.push(domain.clone()),
            Statement::Rdevice(rdevice) => self.rdevices.push(rdevice.clone()),
            Statement::Features(features) => self.features(features),
            Statement::Product(product) => self.products.push(product.clone()),
            Statement::OperatorConsoles(consoles) => self.operator_consoles.extend(&consoles.consoles),
            Statement::Kept(kept) => {
                if !self.kept.contains(&kept.name) {
                    self.kept.push(kept.name.clone());
                }
            }
            Statement::Equate(_)
            | Statement::IslinkEndpoint(_)
            | Statement::SystemIdentifier(_)
            | Statement::SystemIdentifierDefault(_) => {}
        }
    }

    fn residence(&mut self, areas: &SystemResidence) {
        let keep =
            |held: &mut Option<Area>, area: &Option<Area>| *held = held.take().or_else(|| area.clone());
        keep(&mut self.system_residence.checkpoint, &areas.checkpoint);
        keep(&mut self.system_residence.warmstart, &areas.warmstart);
    }

    fn features(&mut self, later: &Features) {
        let Features { enabled, disabled, settings } = &mut self.features;
        switch(&later.disabled, disabled, enabled);
        switch(&later.enabled, enabled, disabled);
        for setting in &later.settings {
            settings.retain(|held| (&held.section, &held.key) != (&setting.section, &setting.key));
            settings.push(setting.clone());
        }
    }

    fn activate(&mut self, device: DeviceNumber, node: Option<SystemName>) {
        let Some(partner) = node.or_else(|| self.partner_by_endpoint(device)) else {
            self.devices_without_partner.push(device);
            return;
        };
        let endpoint = self.endpoint(device, partner);
        let at = self.links.iter().position(|link| link.partner == partner).unwrap_or_else(|| {
            self.links.push(Link { partner, devices: BTreeMap::new() });
            self.links.len() - 1
        });
        self.links[at].devices.insert(device, endpoint);
    }

    /// Without NODE, an endpoint that names the device says who is at its other end.
    fn partner_by_endpoint(&self, device: DeviceNumber) -> Option<SystemName> {
        let names = |endpoint: &&IslinkEndpoint| {
            endpoint.member != self.member
                && matches!(endpoint.devices, DeviceChoice::Range(range) if range.contains(device))
        };
        self.endpoints.iter().find(names).map(|endpoint| endpoint.member)
    }

    /// Where `partner` listens for this device. What names the device counts more than `*`.
    pub fn endpoint(&self, device: DeviceNumber, partner: SystemName) -> Endpoint {
        let of = |is_exact: bool| {
            self.endpoints.iter().find(|endpoint| {
                endpoint.member == partner
                    && endpoint.devices.contains(device)
                    && is_exact == (endpoint.devices != DeviceChoice::All)
            })
        };
        let named = of(true).or_else(|| of(false));
        named.map_or_else(|| Endpoint::default_of(partner), |named| named.endpoint.clone())
    }

    /// All places where this member listens: those named, and its default if not all devices are named.
    fn endpoints_of(&self, member: SystemName) -> Vec<Endpoint> {
        let own = || self.endpoints.iter().filter(|endpoint| endpoint.member == member);
        let mut places: Vec<Endpoint> = own().map(|endpoint| endpoint.endpoint.clone()).collect();
        if !own().any(|endpoint| endpoint.devices == DeviceChoice::All) {
            places.push(Endpoint::default_of(member));
        }
        places.sort();
        places.dedup();
        places
    }

    /// The member's slot in the cluster.
    pub fn slot(&self) -> Option<Slot> {
        self.ssi.as_ref().and_then(|ssi| ssi.slot_of(self.member))
    }

    /// Whether CP attaches this volume to the system when the member starts.
    pub fn attaches(&self, volume: VolumeLabel) -> bool {
        let like = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(volume.as_str()));
        let is_owned = self.cp_owned.values().any(|held| held.owned == Owned::Volume(volume));
        let is_included = like(&self.user_volumes_included) && !like(&self.user_volumes_excluded);
        is_owned || self.user_volumes.contains_key(&volume) || is_included
    }

    /// The links' devices and partners, one by one.
    pub fn link_devices(&self) -> impl Iterator<Item = (DeviceNumber, SystemName)> {
        self.links.iter().flat_map(|link| link.devices.keys().map(|device| (*device, link.partner)))
    }
}

/// Moves the named features to one list from the other.
fn switch(named: &[String], to: &mut Vec<String>, from: &mut Vec<String>) {
    from.retain(|feature| !named.contains(feature));
    to.extend_from_slice(named);
    to.sort();
    to.dedup();
}
