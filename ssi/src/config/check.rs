//! What is wrong with a file as a whole.

use std::collections::BTreeMap;

use super::statement::{Machine, PdrVolume, Ssi};
use super::{Effective, Record, Statement, SystemConfig};
use crate::SystemName;
use crate::source::{Diagnostic, Diagnostics};

impl SystemConfig {
    /// What is wrong with the file: for all members, and for each of them.
    pub fn check(&self) -> Diagnostics {
        self.check_all(true)
    }

    /// With `is_whole` also what is missing in the file.
    pub(super) fn check_all(&self, is_whole: bool) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        self.check_names(&mut diagnostics);
        self.check_ssi(&mut diagnostics);
        if is_whole {
            self.check_named(&mut diagnostics);
            self.check_qualifiers(&mut diagnostics);
        }
        let members: Vec<Effective> = self.members().into_iter().map(|name| self.for_member(name)).collect();
        for effective in &members {
            self.check_member(effective, &mut diagnostics);
            if is_whole {
                self.check_references(effective, &mut diagnostics);
            }
        }
        self.check_links(&members, &mut diagnostics);
        if is_whole {
            self.check_mesh(&members, &mut diagnostics);
        }
        self.check_pairs(&members, &mut diagnostics);
        diagnostics
    }

    /// All records with a statement of this kind.
    pub(super) fn each<'a, T: 'a>(
        &'a self,
        pick: impl Fn(&'a Statement) -> Option<&'a T> + 'a,
    ) -> impl Iterator<Item = (&'a Record, &'a T)> {
        self.records
            .iter()
            .filter_map(move |record| pick(&record.statement).map(|statement| (record, statement)))
    }

    fn ssi_statements(&self) -> impl Iterator<Item = (&Record, &Ssi)> {
        self.each(|statement| match statement {
            Statement::Ssi(ssi) => Some(ssi),
            _ => None,
        })
    }

    /// Every system has a name.
    fn check_named(&self, diagnostics: &mut Diagnostics) {
        if self.identified().is_empty() {
            let start = self.records.first().map(|record| record.logical.span).unwrap_or_default();
            let message = "no statement says what the system is called";
            diagnostics.push(
                Diagnostic::error(start, message).expecting("SYSTEM_IDENTIFIER or SYSTEM_IDENTIFIER_DEFAULT"),
            );
        }
        for (record, ssi) in self.ssi_statements().take(1) {
            self.check_identified(record, ssi, diagnostics);
        }
    }

    /// Hardware has one name at most.
    fn check_names(&self, diagnostics: &mut Diagnostics) {
        let mut named: Vec<&Machine> = Vec::new();
        for record in &self.records {
            let Statement::SystemIdentifier(identifier) = &record.statement else { continue };
            if named.contains(&&identifier.machine) {
                let message =
                    format!("this machine has a name already, so that it is never {}", identifier.system);
                diagnostics
                    .push(Diagnostic::error(record.logical.span, message).expecting("another machine"));
            }
            named.push(&identifier.machine);
        }
    }

    fn check_ssi(&self, diagnostics: &mut Diagnostics) {
        for (at, (record, ssi)) in self.ssi_statements().enumerate() {
            if at > 0 {
                let message = "a second SSI statement: a system is in one cluster";
                diagnostics
                    .push(Diagnostic::error(record.logical.span, message).expecting("one SSI statement"));
                continue;
            }
            if !record.scope.is_everyone() {
                let message = "the SSI statement is not for all members";
                diagnostics.push(
                    Diagnostic::error(record.logical.span, message)
                        .expecting("the same SSI statement for everyone"),
                );
            }
            self.check_order(record, diagnostics);
            check_slots(record, ssi, diagnostics);
        }
    }

    /// A system that does not know its name cannot find itself in the statement.
    fn check_order(&self, ssi: &Record, diagnostics: &mut Diagnostics) {
        let is_name = |record: &&Record| {
            matches!(record.statement, Statement::SystemIdentifier(_) | Statement::SystemIdentifierDefault(_))
        };
        let first = self.records.iter().find(is_name);
        if first.is_some_and(|first| first.logical.span > ssi.logical.span) {
            let message = "SSI stands before the system's name is known";
            let expected = "SSI after SYSTEM_IDENTIFIER or SYSTEM_IDENTIFIER_DEFAULT";
            diagnostics.push(Diagnostic::error(ssi.logical.span, message).expecting(expected));
        }
    }

    /// Whoever can start is in a slot, and whoever is in a slot can start.
    fn check_identified(&self, record: &Record, ssi: &Ssi, diagnostics: &mut Diagnostics) {
        let identified = self.identified();
        for named in &self.records {
            let system = match &named.statement {
                Statement::SystemIdentifier(identifier) => identifier.system,
                Statement::SystemIdentifierDefault(default) => default.system,
                _ => continue,
            };
            if ssi.slot_of(system).is_none() {
                let message = format!("{system} is in no slot of cluster {}", ssi.name);
                let span = named.logical.span_of(system.as_str(), 0);
                diagnostics.push(
                    Diagnostic::error(span, message).expecting("a member that the SSI statement names"),
                );
            }
        }
        for (_, member) in ssi.members().filter(|(_, member)| !identified.contains(member)) {
            let message = format!("no SYSTEM_IDENTIFIER names {member}: it cannot start from this file");
            let span = record.logical.span_of(member.as_str(), 0);
            diagnostics
                .push(Diagnostic::warning(span, message).expecting("a SYSTEM_IDENTIFIER statement for it"));
        }
    }

    fn check_qualifiers(&self, diagnostics: &mut Diagnostics) {
        let mut systems: Vec<SystemName> = self.members();
        systems.extend(self.identified());
        for record in &self.records {
            for pattern in record.scope.patterns() {
                let is_group = self.each(equate).any(|(_, equate)| equate.name.as_str() == pattern.as_str());
                if !is_group && !systems.iter().any(|system| pattern.matches(system.as_str())) {
                    let message = format!("the statement is for {pattern}, and no system is called so");
                    diagnostics.push(
                        Diagnostic::warning(record.logical.span, message)
                            .expecting("a member or an EQUATE name"),
                    );
                }
            }
        }
    }

    /// The first record for this member that says this.
    pub(super) fn find(&self, member: SystemName, is_it: impl Fn(&Statement) -> bool) -> Option<&Record> {
        self.records_of(member).find(|record| is_it(&record.statement))
    }
}

fn equate(statement: &Statement) -> Option<&super::statement::Equate> {
    match statement {
        Statement::Equate(equate) => Some(equate),
        _ => None,
    }
}

/// Each slot once, each member once.
fn check_slots(record: &Record, ssi: &Ssi, diagnostics: &mut Diagnostics) {
    let mut slots = BTreeMap::new();
    let mut members = BTreeMap::new();
    for named in &ssi.slots {
        let times: &mut usize = slots.entry(named.slot).or_insert(0);
        if *times > 0 {
            let span = slot_span(record, named.slot, *times);
            let message = format!("slot {} is named twice", named.slot);
            diagnostics.push(Diagnostic::error(span, message).expecting("each slot once"));
        }
        *times += 1;
        let Some(member) = named.member else { continue };
        let times: &mut usize = members.entry(member).or_insert(0);
        if *times > 0 {
            // The cluster's name may be the same as a member's; it is the second word.
            let nth = *times + usize::from(ssi.name.as_str() == member.as_str());
            let span = record.logical.span_of(member.as_str(), nth);
            let message = format!("two members are called {member}");
            diagnostics.push(Diagnostic::error(span, message).expecting("another name in each slot"));
        }
        *times += 1;
    }
    if let PdrVolume::Sysparm = ssi.pdr_volume {
        let message = "the PDR is on the volume this file is on, which is not checked here";
        diagnostics.push(
            Diagnostic::warning(record.logical.words[0].span, message).expecting("PDR_VOLUME and a label"),
        );
    }
}

fn slot_span(record: &Record, slot: crate::Slot, nth: usize) -> crate::source::Span {
    let number = slot.to_string();
    let pairs = record.logical.words.windows(2);
    let named = pairs.filter(|pair| pair[0].text.eq_ignore_ascii_case("SLOT") && pair[1].text == number);
    named.map(|pair| pair[1].span).nth(nth).unwrap_or(record.logical.span)
}
