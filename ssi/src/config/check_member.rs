//! What is wrong with the statements for one member.

use std::collections::BTreeMap;

use super::statement::{MacPrefix, Owned, PdrVolume};
use super::{Effective, Record, Statement, SystemConfig};
use crate::VolumeLabel;
use crate::source::{Diagnostic, Diagnostics, Span};

impl SystemConfig {
    pub(super) fn check_member(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        self.check_owned(effective, diagnostics);
        self.check_switches(effective, diagnostics);
        self.check_domains(effective, diagnostics);
        self.check_vmlan(effective, diagnostics);
    }

    /// What is named in one statement and missed in others.
    pub(super) fn check_references(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        self.check_pdr_volume(effective, diagnostics);
        self.check_residence(effective, diagnostics);
    }

    fn check_pdr_volume(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        let Some(PdrVolume::Label(volume)) = effective.ssi.as_ref().map(|ssi| ssi.pdr_volume) else { return };
        let Some(record) = self.find(effective.member, |statement| matches!(statement, Statement::Ssi(_)))
        else {
            return;
        };
        if !effective.attaches(volume) {
            let message = format!("PDR volume {volume} is in no volume list of {}", effective.member);
            let expected = "a volume of CP_OWNED, USER_VOLUME_LIST or USER_VOLUME_INCLUDE";
            let span = record.logical.span_of(volume.as_str(), 0);
            diagnostics.push(Diagnostic::error(span, message).expecting(expected));
        }
    }

    /// Each slot once, each volume once.
    fn check_owned(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        let mut slots: BTreeMap<u8, Span> = BTreeMap::new();
        let mut volumes: BTreeMap<VolumeLabel, u8> = BTreeMap::new();
        for record in self.records_of(effective.member) {
            let Statement::CpOwned(owned) = &record.statement else { continue };
            let span = record.logical.span_of(&owned.slot.to_string(), 0);
            if slots.insert(owned.slot, span).is_some() {
                let message = format!(
                    "slot {} of the CP-owned list of {} is named twice",
                    owned.slot, effective.member
                );
                diagnostics.push(Diagnostic::error(span, message).expecting("another slot"));
            }
            let Owned::Volume(volume) = owned.owned else { continue };
            if let Some(first) = volumes.insert(volume, owned.slot) {
                let message = format!("{volume} is in slot {first} of {}, too", effective.member);
                let span = record.logical.span_of(volume.as_str(), 0);
                diagnostics.push(Diagnostic::error(span, message).expecting("each volume in one slot"));
            }
        }
    }

    /// Where a system keeps its warm start data must be a volume of its own.
    fn check_residence(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        for record in self.records_of(effective.member) {
            let Statement::SystemResidence(residence) = &record.statement else { continue };
            for area in residence.checkpoint.iter().chain(&residence.warmstart) {
                if !effective.owned_slots().any(|(volume, _)| volume == area.volume) {
                    let message =
                        format!("{} is not in the CP-owned list of {}", area.volume, effective.member);
                    let span = record.logical.span_of(area.volume.as_str(), 0);
                    diagnostics.push(Diagnostic::warning(span, message).expecting("a volume of CP_OWNED"));
                }
            }
        }
    }

    fn check_switches(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        let mut defined = Vec::new();
        for record in self.records_of(effective.member) {
            match &record.statement {
                Statement::DefineVswitch(switch) => {
                    if defined.contains(&&switch.name) {
                        let message =
                            format!("VSWITCH {} is defined twice on {}", switch.name, effective.member);
                        let span = record.logical.span_of(switch.name.as_str(), 0);
                        diagnostics.push(Diagnostic::error(span, message).expecting("another name"));
                    }
                    defined.push(&switch.name);
                }
                Statement::ModifyVswitch(change) if !defined.contains(&&change.name) => {
                    let message =
                        format!("VSWITCH {} is not defined before on {}", change.name, effective.member);
                    let span = record.logical.span_of(change.name.as_str(), 0);
                    diagnostics.push(Diagnostic::error(span, message).expecting("a switch that is"));
                }
                _ => {}
            }
        }
    }

    /// Domains have members of the cluster, and names that are free: `SSI` is all members, and each member is one.
    fn check_domains(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        let mut defined = Vec::new();
        for record in self.records_of(effective.member) {
            let Statement::RelocationDomain(domain) = &record.statement else { continue };
            let place = |text: &str, nth: usize| record.logical.span_of(text, nth);
            let Some(ssi) = &effective.ssi else {
                let message = "a relocation domain without a cluster";
                diagnostics
                    .push(Diagnostic::error(record.logical.span, message).expecting("an SSI statement"));
                continue;
            };
            let is_taken = domain.name.as_str() == "SSI" || ssi.slot_of(domain.name).is_some();
            if is_taken || defined.contains(&domain.name) {
                let message = format!("relocation domain {} exists already", domain.name);
                diagnostics.push(
                    Diagnostic::error(place(domain.name.as_str(), 0), message).expecting("another name"),
                );
            }
            defined.push(domain.name);
            for member in domain.members.iter().filter(|member| ssi.slot_of(**member).is_none()) {
                let message = format!("{member} is not a member of cluster {}", ssi.name);
                let nth = usize::from(*member == domain.name);
                diagnostics
                    .push(Diagnostic::error(place(member.as_str(), nth), message).expecting("a member"));
            }
        }
    }

    fn check_vmlan(&self, effective: &Effective, diagnostics: &mut Diagnostics) {
        if effective.ssi.is_none() {
            return;
        }
        let user_prefix = effective.vmlan.user_prefix.unwrap_or(MacPrefix::USER_DEFAULT);
        for record in self.records_of(effective.member) {
            let Statement::Vmlan(vmlan) = &record.statement else { continue };
            if vmlan.system_range.is_some() {
                let message = "MACIDRANGE is not used in a cluster: the prefixes keep members apart";
                let span = keyword_span(record, "MACIDR");
                diagnostics
                    .push(Diagnostic::warning(span, message).expecting("MACPREFIX, one for each member"));
            }
            let prefix = vmlan.mac_prefix.or_else(|| effective.mac_prefix());
            if prefix == Some(user_prefix) {
                let message =
                    format!("MACPREFIX and USERPREFIX of {} are both {user_prefix}", effective.member);
                let span = record.logical.span_of(&user_prefix.to_string(), 0);
                diagnostics.push(Diagnostic::error(span, message).expecting("two prefixes"));
            }
        }
    }
}

fn keyword_span(record: &Record, start: &str) -> Span {
    let is_it = |text: &str| text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    let word = record.logical.words.iter().find(|word| is_it(&word.text));
    word.map_or(record.logical.span, |word| word.span)
}
