//! What DIRECTXA finds wrong with a source.

use std::collections::BTreeMap;

use super::map::maps;
use super::{Entry, Kind, Line, Minidisk, Statement, UserDirect, Where};
use crate::name::{SystemName, UserId};
use crate::source::{DeviceNumber, Diagnostic, Span};

/// Names that a SUBCONFIG must not have (IBM, SUBCONFIG statement).
const RESERVED: [&str; 4] = ["LOGNSYSC", "LOGNSYSG", "SYSTEM", "SYSTEMMP"];
const RESERVED_BEGINNINGS: [&str; 3] = ["LOGN", "LOGL", "LOGV"];

impl UserDirect {
    pub(super) fn check(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        self.check_names(&mut found);
        self.check_order(&mut found);
        self.check_builds(&mut found);
        for entry in &self.entries {
            self.check_entry(entry, &mut found);
        }
        for overlap in maps(self).into_iter().flat_map(|map| map.overlaps()) {
            let message = format!(
                "the minidisk overlaps {} {:04X} of {} on volume {}",
                overlap.first.range(),
                overlap.first.vdev.0,
                overlap.first.owner,
                overlap.volume
            );
            found.push(Diagnostic::error(overlap.second.span, message).expecting("free cylinders"));
        }
        found
    }

    /// BUILD statements name members of the cluster only.
    pub fn check_members(&self, members: &[SystemName]) -> Vec<Diagnostic> {
        let lines = self.entries.iter().flat_map(|entry| &entry.lines);
        let unknown = lines.filter_map(|line| match &line.statement {
            Statement::Build { member: Some(member), .. } if !members.contains(member) => {
                let known = members.iter().map(SystemName::as_str).collect::<Vec<_>>().join(", ");
                let message = format!("no member is called {member}");
                Some(Diagnostic::error(line.logical.span, message).expecting(known))
            }
            _ => None,
        });
        unknown.collect()
    }

    fn check_names(&self, found: &mut Vec<Diagnostic>) {
        let mut seen: BTreeMap<(bool, UserId), &Entry> = BTreeMap::new();
        for entry in &self.entries {
            // Profiles have names of their own; users, identities and subconfigurations share theirs.
            if let Some(first) = seen.insert((entry.kind == Kind::Profile, entry.name), entry) {
                let message = format!("{} is there twice, first as {}", entry.name, word(first.kind));
                found.push(Diagnostic::error(name_span(entry), message).expecting("another name"));
            }
            let name = entry.name.as_str();
            let is_reserved = RESERVED.contains(&name)
                || (name.len() == 8
                    && RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)));
            if is_reserved && entry.kind == Kind::Subconfig {
                found.push(
                    Diagnostic::error(name_span(entry), format!("{name} is reserved for CP"))
                        .expecting("another name"),
                );
            }
        }
    }

    fn check_order(&self, found: &mut Vec<Diagnostic>) {
        let rank = |kind: Kind| match kind {
            Kind::GlobalDefs => 0,
            Kind::Profile => 1,
            Kind::User | Kind::Identity | Kind::Subconfig => 2,
        };
        for pair in self.entries.windows(2) {
            if rank(pair[1].kind) < rank(pair[0].kind) {
                let message = format!("{} behind {}", word(pair[1].kind), word(pair[0].kind));
                let expected = "global definitions, then profiles, then users";
                found.push(Diagnostic::error(pair[1].logical.span, message).expecting(expected));
            }
        }
    }

    fn check_builds(&self, found: &mut Vec<Diagnostic>) {
        let mut built: BTreeMap<UserId, UserId> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == Kind::Identity) {
            let mut members = Vec::new();
            for line in &entry.lines {
                let Statement::Build { member, subconfig } = &line.statement else { continue };
                let span = line.logical.span;
                if members.contains(member) {
                    let member = member.map_or_else(|| "*".to_owned(), |member| member.to_string());
                    found.push(
                        Diagnostic::error(span, format!("a second BUILD ON {member}"))
                            .expecting("another member"),
                    );
                }
                members.push(*member);
                if self.entry(Kind::Subconfig, *subconfig).is_none() {
                    let message = format!("there is no SUBCONFIG {subconfig}");
                    found.push(Diagnostic::error(span, message).expecting("the name of one"));
                }
                if let Some(other) = built.insert(*subconfig, entry.name) {
                    let message = format!("SUBCONFIG {subconfig} is used by {other} already");
                    found.push(Diagnostic::error(span, message).expecting("one of its own"));
                }
            }
        }
        for entry in self.entries.iter().filter(|entry| entry.kind == Kind::Subconfig) {
            if !built.contains_key(&entry.name) {
                let message = format!("no IDENTITY uses SUBCONFIG {}", entry.name);
                found.push(
                    Diagnostic::warning(name_span(entry), message).expecting("BUILD ON … USING SUBCONFIG"),
                );
            }
        }
    }

    fn check_entry(&self, entry: &Entry, found: &mut Vec<Diagnostic>) {
        let mut devices: BTreeMap<DeviceNumber, Span> = BTreeMap::new();
        for (at, line) in entry.lines.iter().enumerate() {
            if let Some(device) = line.statement.device()
                && devices.insert(device, line.logical.span).is_some()
            {
                let message = format!("virtual device {device} is there twice");
                found.push(Diagnostic::error(line.logical.span, message).expecting("another device number"));
            }
            if let Some(diagnostic) = self.check_line(entry, at, line) {
                found.push(diagnostic);
            }
        }
    }

    fn check_line(&self, entry: &Entry, at: usize, line: &Line) -> Option<Diagnostic> {
        let span = line.logical.span;
        match &line.statement {
            Statement::Include(profile) => {
                if !matches!(entry.kind, Kind::User | Kind::Identity) {
                    let message = format!("INCLUDE in {}", word(entry.kind));
                    return Some(Diagnostic::error(span, message).expecting("it in USER or IDENTITY"));
                }
                if at != 0 {
                    let message = "INCLUDE is not the first statement of its entry";
                    return Some(
                        Diagnostic::error(span, message).expecting("it right behind USER or IDENTITY"),
                    );
                }
                let missing = self.entry(Kind::Profile, *profile).is_none();
                missing.then(|| {
                    Diagnostic::error(span, format!("there is no PROFILE {profile}"))
                        .expecting("the name of one")
                })
            }
            Statement::Build { .. } if entry.kind != Kind::Identity => Some(
                Diagnostic::error(span, format!("BUILD in {}", word(entry.kind))).expecting("it in IDENTITY"),
            ),
            Statement::Minidisk(Minidisk { device_type, at: Where::Volume(at, _), .. })
                if device_type.starts_with("33") && at.first == 0 && !at.is_full_pack() =>
            {
                let message =
                    "the minidisk has cylinder 0, where CP keeps the label and the persistent data record";
                Some(Diagnostic::warning(span, message).expecting("cylinder 1 or a later one"))
            }
            Statement::Link { user, .. } => {
                let is_known =
                    self.entries.iter().any(|entry| entry.name == *user && entry.kind != Kind::Profile);
                (!is_known).then(|| {
                    Diagnostic::warning(span, format!("{user} is not in this directory"))
                        .expecting("a user id")
                })
            }
            _ => None,
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::GlobalDefs => "GLOBALDEFS",
        Kind::Profile => "PROFILE",
        Kind::User => "USER",
        Kind::Identity => "IDENTITY",
        Kind::Subconfig => "SUBCONFIG",
    }
}

fn name_span(entry: &Entry) -> Span {
    entry.logical.words.get(1).map_or(entry.logical.span, |word| word.span)
}
