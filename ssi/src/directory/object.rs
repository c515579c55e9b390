//! What one member runs on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::password::{HashCost, Password};
use super::{Entry, Kind, Line, Statement, UserDirect, Where};
use crate::cp::Classes;
use crate::name::{SystemName, UserId};
use crate::service::UserKind;
use crate::source::DeviceNumber;

/// Who may link to a minidisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Users on any member.
    Global,
    /// Users on this member only.
    Local,
}

/// A user's minidisk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectDisk {
    /// Its number.
    pub vdev: DeviceNumber,
    /// Its device type.
    pub device_type: String,
    /// Where it is.
    pub at: Where,
    /// Link mode and suffix.
    pub mode: String,
    /// Who may link to it.
    pub scope: Scope,
    /// Passwords for read, write and multiple access; `ALL` needs none.
    pub passwords: Vec<DiskPassword>,
}

/// A password of a minidisk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskPassword {
    /// `ALL`.
    NotNeeded,
    /// Any other.
    Needed(Password),
}

/// A user as this member has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectUser {
    /// Once in the cluster, or once on each member.
    pub kind: UserKind,
    /// How it is let in.
    pub password: Password,
    /// Privilege classes.
    pub classes: Classes,
    /// Storage at logon and most storage, as written.
    pub storage: [Option<String>; 2],
    /// Those whose passwords let it in, too.
    pub logon_by: Vec<UserId>,
    /// Those who may autolog it.
    pub autolog_by: Vec<UserId>,
    /// It may be relocated, within a domain.
    pub relocation: Option<(bool, Option<SystemName>)>,
    /// Its minidisks.
    pub disks: Vec<ObjectDisk>,
    /// All other statements, as written, those of its profile first.
    pub others: Vec<String>,
}

/// The object directory of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Whose it is.
    pub member: SystemName,
    /// Grows with each compilation.
    pub serial: u64,
    /// Its users.
    pub users: BTreeMap<UserId, ObjectUser>,
}

/// What CP gives users that have none (FEATURES could say otherwise; the shipped default is G).
const CLASSES_DEFAULT: Classes = Classes::of("G");

impl Object {
    /// Compiles the directory for these members, each password hashed once.
    ///
    /// # Errors
    /// See [`Password::compile`].
    pub fn compile(
        source: &UserDirect,
        members: &[SystemName],
        serial: u64,
        cost: HashCost,
    ) -> Result<Vec<Self>, String> {
        let mut hashes = Hashes { cost, known: BTreeMap::new() };
        let compile = |member: &SystemName| compile(source, *member, serial, &mut hashes);
        members.iter().map(compile).collect()
    }

    /// A user.
    pub fn find(&self, user: UserId) -> Option<&ObjectUser> {
        self.users.get(&user)
    }

    /// Whether this password lets the user in: its own, or that of one of its LOGONBY list.
    pub fn lets_in(&self, user: UserId, password: &str) -> bool {
        let Some(entry) = self.find(user) else { return false };
        if matches!(entry.password, Password::NoLog | Password::AutoOnly) {
            return false;
        }
        let mut by = entry.logon_by.iter().filter_map(|other| self.find(*other));
        entry.password.is(password) || by.any(|other| other.password.is(password))
    }
}

struct Hashes {
    cost: HashCost,
    known: BTreeMap<(UserId, String), Password>,
}

impl Hashes {
    fn of(&mut self, user: UserId, text: &str) -> Result<Password, String> {
        let key = (user, text.to_owned());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let password = Password::compile(text, self.cost)?;
        self.known.insert(key, password.clone());
        Ok(password)
    }
}

fn compile(
    source: &UserDirect,
    member: SystemName,
    serial: u64,
    hashes: &mut Hashes,
) -> Result<Object, String> {
    let mut users = BTreeMap::new();
    for entry in source.entries() {
        if matches!(entry.kind, Kind::User | Kind::Identity) {
            users.insert(entry.name, user(source, entry, member, hashes)?);
        }
    }
    Ok(Object { member, serial, users })
}

fn user(
    source: &UserDirect,
    entry: &Entry,
    member: SystemName,
    hashes: &mut Hashes,
) -> Result<ObjectUser, String> {
    let header = entry.header.as_ref().ok_or("a user without a header")?;
    let mut user = ObjectUser {
        kind: if entry.kind == Kind::User { UserKind::Single } else { UserKind::Multi },
        password: hashes.of(entry.name, &header.password)?,
        classes: header.classes.unwrap_or(CLASSES_DEFAULT),
        storage: [header.storage.clone(), header.storage_max.clone()],
        logon_by: Vec::new(),
        autolog_by: Vec::new(),
        relocation: None,
        disks: Vec::new(),
        others: Vec::new(),
    };
    if let Some(profile) = included(source, entry) {
        // What a profile says of classes counts only if the entry says nothing.
        let classes = header.classes;
        add(&mut user, entry.name, &profile.lines, Scope::Global, hashes)?;
        user.classes = classes.unwrap_or(user.classes);
    }
    add(&mut user, entry.name, &entry.lines, Scope::Global, hashes)?;
    if let Some(part) = subconfig(source, entry, member) {
        add(&mut user, entry.name, &part.lines, Scope::Local, hashes)?;
    }
    Ok(user)
}

fn included<'a>(source: &'a UserDirect, entry: &Entry) -> Option<&'a Entry> {
    match entry.lines.first().map(|line| &line.statement) {
        Some(Statement::Include(profile)) => source.entry(Kind::Profile, *profile),
        _ => None,
    }
}

/// What the identity uses on this member.
fn subconfig<'a>(source: &'a UserDirect, entry: &Entry, member: SystemName) -> Option<&'a Entry> {
    let builds = || {
        entry.lines.iter().filter_map(|line| match &line.statement {
            Statement::Build { member, subconfig } => Some((*member, *subconfig)),
            _ => None,
        })
    };
    let named =
        builds().find(|(on, _)| *on == Some(member)).or_else(|| builds().find(|(on, _)| on.is_none()));
    named.and_then(|(_, name)| source.entry(Kind::Subconfig, name))
}

fn add(
    user: &mut ObjectUser,
    name: UserId,
    lines: &[Line],
    scope: Scope,
    hashes: &mut Hashes,
) -> Result<(), String> {
    for line in lines {
        match &line.statement {
            Statement::Include(_) | Statement::Build { .. } => {}
            Statement::Class(classes) => user.classes = *classes,
            Statement::LogonBy(users) => user.logon_by.extend(users),
            Statement::Autolog(users) => user.autolog_by.extend(users),
            Statement::VmRelocate { is_on, domain } => user.relocation = Some((*is_on, *domain)),
            Statement::Minidisk(disk) => {
                let password = |text: &String| match text.as_str() {
                    "ALL" => Ok(DiskPassword::NotNeeded),
                    text => hashes.of(name, text).map(DiskPassword::Needed),
                };
                user.disks.push(ObjectDisk {
                    vdev: disk.vdev,
                    device_type: disk.device_type.clone(),
                    at: disk.at,
                    mode: disk.mode.clone().unwrap_or_else(|| "W".to_owned()),
                    scope: if matches!(disk.at, Where::Virtual(_) | Where::Temporary(_)) {
                        Scope::Local
                    } else {
                        scope
                    },
                    passwords: disk.passwords.iter().map(password).collect::<Result<_, _>>()?,
                });
            }
            other => user.others.push(other.layout().line()),
        }
    }
    Ok(())
}
