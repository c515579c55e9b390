//! What is wrong between members: their links, and what must be the same or must differ.

use super::statement::{DEVICES_MAX, DeviceChoice, Owned};
use super::{Effective, Record, Statement, SystemConfig};
use crate::SystemName;
use crate::source::{DeviceNumber, Diagnostic, Diagnostics};

impl SystemConfig {
    pub(super) fn check_links(&self, members: &[Effective], diagnostics: &mut Diagnostics) {
        for effective in members {
            self.check_devices(effective, diagnostics);
            self.check_partners(effective, members, diagnostics);
            self.check_endpoints(effective, diagnostics);
        }
    }

    fn islink_records(&self, member: SystemName) -> impl Iterator<Item = (&Record, DeviceNumber)> {
        self.records_of(member).flat_map(|record| {
            let devices = match &record.statement {
                Statement::ActivateIslink(link) => link.devices.as_slice(),
                _ => &[],
            };
            devices.iter().map(move |device| (record, *device))
        })
    }

    /// A device is on one link, and a link has sixteen at most.
    fn check_devices(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        let mut seen = Vec::new();
        for (record, device) in self.islink_records(effective.member) {
            let span = device_span(record, device);
            if seen.contains(&device) {
                let message = format!("link device {device} of {} is a duplicate", effective.member);
                diagnostics.push(Diagnostic::error(span, message).expecting("each device once"));
            }
            seen.push(device);
            if effective.devices_without_partner.contains(&device) {
                let message =
                    format!("nothing says where link device {device} of {} leads", effective.member);
                diagnostics.push(
                    Diagnostic::error(span, message).expecting("NODE, or ISLINK_ENDPOINT for the device"),
                );
            }
        }
        for link in effective.links.iter().filter(|link| link.devices.len() > DEVICES_MAX) {
            let last = link.devices.keys().last().copied().unwrap_or(DeviceNumber(0));
            let found = self.islink_records(effective.member).find(|(_, device)| *device == last);
            let Some((record, device)) = found else { continue };
            let count = link.devices.len();
            let message =
                format!("the link from {} to {} has {count} devices", effective.member, link.partner);
            let expected = format!("at most {DEVICES_MAX}");
            diagnostics.push(Diagnostic::error(device_span(record, device), message).expecting(expected));
        }
    }

    /// Both ends of a device are configured, and no link leads to its own member.
    fn check_partners(&self, effective: &Effective, members: &[Effective], diagnostics: &mut Diagnostics) {
        for (device, partner) in effective.link_devices() {
            let mut records = self.islink_records(effective.member);
            let Some((record, _)) = records.find(|(_, named)| *named == device) else { continue };
            let span = device_span(record, device);
            if partner == effective.member {
                let message = format!("link device {device} of {partner} leads to {partner} itself");
                diagnostics.push(Diagnostic::error(span, message).expecting("another member"));
                continue;
            }
            let Some(other) = members.iter().find(|other| other.member == partner) else {
                if effective.ssi.is_some() {
                    let message = format!("{partner} is not a member of the cluster");
                    let span = record.logical.span_of(partner.as_str(), 0);
                    diagnostics
                        .push(Diagnostic::warning(span, message).expecting("a member that a slot names"));
                }
                continue;
            };
            if !other.link_devices().any(|end| end == (device, effective.member)) {
                let message = format!("{partner} does not activate {device} to {}", effective.member);
                diagnostics.push(
                    Diagnostic::warning(span, message).expecting("the same device number at both ends"),
                );
            }
        }
    }

    /// At most one statement says where a device leads.
    fn check_endpoints(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        let mut seen: Vec<(SystemName, DeviceChoice)> = Vec::new();
        for record in self.records_of(effective.member) {
            let Statement::IslinkEndpoint(endpoint) = &record.statement else { continue };
            let same = |(member, devices): &(SystemName, DeviceChoice)| {
                *member == endpoint.member
                    && match (*devices, endpoint.devices) {
                        (DeviceChoice::Range(one), DeviceChoice::Range(other)) => one.overlaps(other),
                        (one, other) => one == other,
                    }
            };
            if seen.iter().any(same) {
                let message =
                    format!("another statement says where these devices lead to {}", endpoint.member);
                diagnostics.push(
                    Diagnostic::error(record.logical.span, message)
                        .expecting("one statement for each device"),
                );
            }
            seen.push((endpoint.member, endpoint.devices));
            let is_member = effective.ssi.as_ref().is_none_or(|ssi| ssi.slot_of(endpoint.member).is_some());
            if !is_member {
                let message = format!("{} is not a member of the cluster", endpoint.member);
                let span = record.logical.span_of(endpoint.member.as_str(), 0);
                diagnostics.push(Diagnostic::warning(span, message).expecting("a member that a slot names"));
            }
        }
    }

    /// Every two members of a cluster need a link.
    pub(super) fn check_mesh(&self, members: &[Effective], diagnostics: &mut Diagnostics) {
        for (at, one) in members.iter().enumerate() {
            let (Some(_), Some(record)) =
                (&one.ssi, self.find(one.member, |statement| matches!(statement, Statement::Ssi(_))))
            else {
                continue;
            };
            for other in &members[at + 1..] {
                let is_linked = |from: &Effective, to: &Effective| {
                    from.links.iter().any(|link| link.partner == to.member)
                };
                if !is_linked(one, other) || !is_linked(other, one) {
                    let message = format!("{} and {} have no link", one.member, other.member);
                    let span = record.logical.span_of(other.member.as_str(), 0);
                    let expected = "ACTIVATE ISLINK on both, between every two members";
                    diagnostics.push(Diagnostic::warning(span, message).expecting(expected));
                }
            }
        }
    }

    /// What must be the same on two members, or must not.
    pub(super) fn check_pairs(&self, members: &[Effective], diagnostics: &mut Diagnostics) {
        for (at, one) in members.iter().enumerate().filter(|(_, one)| one.ssi.is_some()) {
            for other in &members[at + 1..] {
                for difference in one.differences(other) {
                    let span = self.place_of(other, &difference);
                    let message = format!("{difference}: they cannot be in one cluster");
                    diagnostics.push(
                        Diagnostic::error(span, message).expecting("the same for both, or one for each"),
                    );
                }
            }
        }
    }

    /// The statement that makes the difference, as well as it can be found.
    fn place_of(&self, effective: &Effective, difference: &str) -> crate::source::Span {
        let is_it = |statement: &Statement| match statement {
            Statement::CpOwned(owned) => match owned.owned {
                Owned::Volume(label) => difference.starts_with(&format!("CP_OWNED volume {label}:")),
                Owned::Reserved => false,
            },
            Statement::Vmlan(_) => difference.starts_with("VMLAN"),
            Statement::RelocationDomain(domain) => difference.contains(&format!("domain {}:", domain.name)),
            Statement::DefineVswitch(switch) => difference.contains(&format!("VSWITCH {}:", switch.name)),
            _ => false,
        };
        let any = || self.records.iter().find(|record| is_it(&record.statement));
        let found = self.find(effective.member, is_it).or_else(any);
        found.map(|record| record.logical.span).unwrap_or_default()
    }
}

fn device_span(record: &Record, device: DeviceNumber) -> crate::source::Span {
    let is_it =
        |text: &str| text.parse::<crate::source::DeviceRange>().is_ok_and(|range| range.contains(device));
    let word = record.logical.words.iter().find(|word| is_it(&word.text));
    word.map_or(record.logical.span, |word| word.span)
}
