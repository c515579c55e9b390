//! The statements of an entry.

use super::minidisk::Minidisk;
use crate::cp::Classes;
use crate::name::{SystemName, UserId};
use crate::source::{DeviceNumber, Diagnostic, Layout, Spelling, Words};

/// What USER and IDENTITY say of a user beside the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The password, or NOLOG, AUTOONLY, LBYONLY or NOPASS.
    pub password: String,
    /// Storage at logon, as written.
    pub storage: Option<String>,
    /// Most storage, as written.
    pub storage_max: Option<String>,
    /// Privilege classes.
    pub classes: Option<Classes>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `INCLUDE profile`
    Include(UserId),
    /// `BUILD ON member USING SUBCONFIG id`
    Build {
        /// The member; none: `*`, any that no other BUILD names.
        member: Option<SystemName>,
        /// What is used there.
        subconfig: UserId,
    },
    /// `CLASS classes`
    Class(Classes),
    /// `LOGONBY userid ...`
    LogonBy(Vec<UserId>),
    /// `AUTOLOG userid ...`: who may autolog this user
    Autolog(Vec<UserId>),
    /// `MDISK`
    Minidisk(Minidisk),
    /// `LINK userid vdev1 [vdev2 [mode]]`
    Link {
        /// Whose minidisk.
        user: UserId,
        /// Its number there.
        theirs: DeviceNumber,
        /// Its number here.
        mine: DeviceNumber,
        /// Link mode, as written.
        mode: Option<String>,
    },
    /// `VMRELOCATE {ON | OFF} [DOMAIN domain]`
    VmRelocate {
        /// The user may be relocated.
        is_on: bool,
        /// Within this domain.
        domain: Option<SystemName>,
    },
    /// A statement that defines a virtual device: its name, the device, and the other words.
    Device(&'static str, DeviceNumber, Vec<String>),
    /// Any other that is known: its name and the other words.
    Words(&'static str, Vec<String>),
}

/// `password [storage [max [classes]]]`
pub(super) fn header(words: &mut Words<'_>) -> Result<Header, Diagnostic> {
    let password =
        words.expect("a password, or NOLOG, AUTOONLY, LBYONLY or NOPASS")?.text.to_ascii_uppercase();
    let storage = storage(words)?;
    let storage_max = if storage.is_some() { self::storage(words)? } else { None };
    let classes = if words.is_empty() { None } else { Some(words.value("privilege classes")?) };
    // CP has more operands here, for line editing; they are not used any more.
    words.rest();
    Ok(Header { password, storage, storage_max, classes })
}

/// `64M`, `1G`, or `*` for the default.
fn storage(words: &mut Words<'_>) -> Result<Option<String>, Diagnostic> {
    let Some(word) = words.next() else { return Ok(None) };
    let text = word.text.to_ascii_uppercase();
    let (number, unit) = text.split_at(text.len() - usize::from(!text.is_empty() && text.is_ascii()));
    let is_size = !number.is_empty()
        && number.len() <= 10
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && "KMGTPE".contains(unit);
    if text == "*" || is_size {
        return Ok(Some(text));
    }
    Err(Diagnostic::error(word.span, format!("'{}' is no storage size", word.text))
        .expecting("a number and K, M, G or T"))
}

pub(super) fn build(words: &mut Words<'_>) -> Result<Statement, Diagnostic> {
    words.require(Spelling("ON"))?;
    let member = if words.accept(Spelling("*")) { None } else { Some(words.value("a member's name or *")?) };
    words.require(Spelling("USING"))?;
    words.require(Spelling("SUBCONFig"))?;
    let subconfig = words.value("a subconfiguration's name")?;
    words.finish("the end of the statement")?;
    Ok(Statement::Build { member, subconfig })
}

pub(super) fn users(words: &mut Words<'_>) -> Result<Vec<UserId>, Diagnostic> {
    let mut users = vec![words.value("a user id")?];
    while !words.is_empty() {
        users.push(words.value("a user id")?);
    }
    Ok(users)
}

pub(super) fn link(words: &mut Words<'_>) -> Result<Statement, Diagnostic> {
    let user = words.value("a user id")?;
    let theirs = words.value("a virtual device number")?;
    let mine = if words.is_empty() { theirs } else { words.value("a virtual device number")? };
    let mode = words.next().map(|word| word.text.to_ascii_uppercase());
    words.finish("the end of the statement")?;
    Ok(Statement::Link { user, theirs, mine, mode })
}

pub(super) fn vmrelocate(words: &mut Words<'_>) -> Result<Statement, Diagnostic> {
    let is_on = words.one_of(&[(Spelling("ON"), true), (Spelling("OFF"), false)])?;
    let domain = if words.accept(Spelling("DOMain")) {
        Some(words.value("a relocation domain's name")?)
    } else {
        None
    };
    words.finish("DOMAIN and its name")?;
    Ok(Statement::VmRelocate { is_on, domain })
}

pub(super) fn rest(words: &mut Words<'_>) -> Vec<String> {
    words.rest().iter().map(|word| word.text.clone()).collect()
}

impl Statement {
    /// The virtual device that it defines.
    pub fn device(&self) -> Option<DeviceNumber> {
        match self {
            Self::Minidisk(disk) => Some(disk.vdev),
            Self::Link { mine, .. } => Some(*mine),
            Self::Device(_, vdev, _) => Some(*vdev),
            _ => None,
        }
    }

    pub(super) fn layout(&self) -> Layout {
        let layout = Layout::new();
        match self {
            Self::Include(profile) => layout.word("INCLUDE").word(profile),
            Self::Build { member, subconfig } => {
                let member = member.map_or_else(|| "*".to_owned(), |member| member.to_string());
                layout.word("BUILD ON").word(member).word("USING SUBCONFIG").word(subconfig)
            }
            Self::Class(classes) => layout.word("CLASS").word(String::from(*classes)),
            Self::LogonBy(users) => layout.word("LOGONBY").words(users),
            Self::Autolog(users) => layout.word("AUTOLOG").words(users),
            Self::Minidisk(disk) => disk.layout(),
            Self::Link { user, theirs, mine, mode } => {
                layout.word("LINK").word(user).word(theirs).word(mine).words(mode)
            }
            Self::VmRelocate { is_on, domain } => {
                layout.word("VMRELOCATE").word(if *is_on { "ON" } else { "OFF" }).option("DOMAIN", *domain)
            }
            Self::Device(name, vdev, words) => layout.word(name).word(vdev).words(words),
            Self::Words(name, words) => layout.word(name).words(words),
        }
    }
}

impl Header {
    pub(super) fn layout(&self, layout: Layout) -> Layout {
        let layout = layout.word(&self.password);
        let Some(storage) = &self.storage else { return layout };
        let max = self.storage_max.clone().or_else(|| self.classes.map(|_| "*".to_owned()));
        layout.word(storage).words(max).words(self.classes.map(String::from))
    }
}
