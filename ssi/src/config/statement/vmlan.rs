//! `VMLAN [MACPREFIX x] [USERPREFIX x] [MACIDRANGE SYSTEM x-x [USER x-x]] [MACPROTECT ON | OFF] ...`: which MAC addresses
//! a member may give.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::source::{Diagnostic, Layout, Spelling, Words};

/// Why a text is no MAC prefix or range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacPrefixError {
    /// Not six hexadecimal digits.
    #[error("'{0}' is not six hexadecimal digits")]
    Digits(String),
    /// No address of a single adapter that is administered locally.
    #[error(
        "'{0}' is no prefix of locally administered addresses: the first byte is 02, 06, 0A, 0E or so on"
    )]
    Local(String),
    /// Not two of them in order.
    #[error("'{0}' is no range of MAC ids")]
    Range(String),
}

fn six_digits(text: &str) -> Option<u32> {
    let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u32::from_str_radix(text, 16).ok() } else { None }
}

/// The first three bytes of MAC addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacPrefix(u32);

impl MacPrefix {
    /// Of addresses that a directory gives to users, if nothing else is said.
    pub const USER_DEFAULT: Self = Self(0x02_0000);

    /// Of addresses that the member in this slot gives, if nothing else is said.
    pub fn of_slot(slot: crate::Slot) -> Self {
        Self(0x02_0000 | u32::from(slot.number()))
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 3] {
        let [_, bytes @ ..] = self.0.to_be_bytes();
        bytes
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06X}", self.0)
    }
}

impl FromStr for MacPrefix {
    type Err = MacPrefixError;

    fn from_str(text: &str) -> Result<Self, MacPrefixError> {
        let number = six_digits(text).ok_or_else(|| MacPrefixError::Digits(text.to_owned()))?;
        // Bit 1 of the first byte: administered locally. Bit 0: a group.
        if (number >> 16) & 0b11 == 0b10 {
            Ok(Self(number))
        } else {
            Err(MacPrefixError::Local(text.to_owned()))
        }
    }
}

impl Serialize for MacPrefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Ids, the last three bytes of MAC addresses, from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacRange {
    first: u32,
    last: u32,
}

impl fmt::Display for MacRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06X}-{:06X}", self.first, self.last)
    }
}

impl FromStr for MacRange {
    type Err = MacPrefixError;

    fn from_str(text: &str) -> Result<Self, MacPrefixError> {
        let parts =
            text.split_once('-').and_then(|(first, last)| Some((six_digits(first)?, six_digits(last)?)));
        match parts {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            _ => Err(MacPrefixError::Range(text.to_owned())),
        }
    }
}

impl Serialize for MacRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A VMLAN statement, or all of them together: what a later one says replaces what an earlier one said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Vmlan {
    /// Of addresses that this member gives; must be another one on each member.
    pub mac_prefix: Option<MacPrefix>,
    /// Of addresses that the directory gives; must be the same on all members.
    pub user_prefix: Option<MacPrefix>,
    /// Ids that the system gives. Not used in a cluster.
    pub system_range: Option<MacRange>,
    /// Of them those that users may be given.
    pub user_range: Option<MacRange>,
    /// Whether a guest is kept from using addresses that it was not given.
    pub mac_protect: Option<bool>,
    /// Most guest LANs that outlive their users; none: no limit.
    pub persistent_limit: Option<u32>,
    /// Most guest LANs that do not.
    pub transient_limit: Option<u32>,
}

impl Vmlan {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let mut statement = Self::default();
        while statement == Self::default() || !words.is_empty() {
            statement.operand(words)?;
        }
        Ok(statement)
    }

    fn operand(&mut self, words: &mut Words<'_>) -> Result<(), Diagnostic> {
        const SWITCH: [(Spelling, bool); 2] = [(Spelling("ON"), true), (Spelling("OFF"), false)];
        if words.accept(Spelling("MACPREfix")) {
            self.mac_prefix = Some(words.value("six hexadecimal digits")?);
        } else if words.accept(Spelling("USERPREfix")) {
            self.user_prefix = Some(words.value("six hexadecimal digits")?);
        } else if words.accept(Spelling("MACIDRange")) {
            words.require(Spelling("SYSTEM"))?;
            self.system_range = Some(words.value("a range such as 000001-FFFFFF")?);
            if words.accept(Spelling("USER")) {
                self.user_range = Some(words.value("a range such as FFF000-FFFFFF")?);
            }
        } else if words.accept(Spelling("MACPROTect")) {
            self.mac_protect = Some(words.one_of(&SWITCH)?);
        } else if words.accept(Spelling("LIMIT")) {
            let is_persistent =
                words.one_of(&[(Spelling("PERSistent"), true), (Spelling("TRANSient"), false)])?;
            let limit = words.number("a number of LANs", 0..=1024)? as u32;
            let held = if is_persistent { &mut self.persistent_limit } else { &mut self.transient_limit };
            *held = Some(limit);
        } else {
            words.expect("MACPREFIX, USERPREFIX or another operand").and_then(|word| {
                let expected = "MACPREFIX, USERPREFIX, MACIDRANGE, MACPROTECT or LIMIT";
                Err(crate::source::unexpected(word, expected))
            })?;
        }
        Ok(())
    }

    /// This one and what a later one says.
    #[must_use]
    pub(crate) fn then(&self, later: &Self) -> Self {
        Self {
            mac_prefix: later.mac_prefix.or(self.mac_prefix),
            user_prefix: later.user_prefix.or(self.user_prefix),
            system_range: later.system_range.or(self.system_range),
            user_range: later.user_range.or(self.user_range),
            mac_protect: later.mac_protect.or(self.mac_protect),
            persistent_limit: later.persistent_limit.or(self.persistent_limit),
            transient_limit: later.transient_limit.or(self.transient_limit),
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("VMLAN");
        let layout = layout.option("MACPREFIX", self.mac_prefix).option("USERPREFIX", self.user_prefix);
        let layout = layout.option("MACIDRANGE SYSTEM", self.system_range).option("USER", self.user_range);
        let layout = layout.option("MACPROTECT", self.mac_protect.map(|on| if on { "ON" } else { "OFF" }));
        let layout = layout.option("LIMIT PERSISTENT", self.persistent_limit);
        layout.option("LIMIT TRANSIENT", self.transient_limit)
    }
}
