//! `RDEVICE rdev[-rdev]... [EQID eqid | NOEQID] [TYPE type] ...`: what is true of real devices.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::source::{DeviceNumber, DeviceRange, Diagnostic, Layout, Spelling, Words};

/// Operands that are known by name, with how many words follow each; they have no effect here.
const OTHER: &[(Spelling, usize)] = &[
    (Spelling("MODEL"), 1),
    (Spelling("CLASSes"), 1),
    (Spelling("DPMSIZE"), 1),
    (Spelling("FORM"), 1),
    (Spelling("FEATures"), 1),
    (Spelling("EMULATED_3270"), 0),
    (Spelling("PRIVILEGED_USER"), 1),
    (Spelling("SHARED"), 1),
    (Spelling("MDC"), 1),
];

/// Name of an equivalence: devices of this name on different members are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Equivalence(String);

impl Equivalence {
    /// In capitals.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Equivalence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Equivalence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err(format!("'{text}' is no EQID"))
        }
    }
}

/// An RDEVICE statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rdevice {
    /// These devices
    pub devices: Vec<DeviceRange>,
    /// have this EQID.
    pub eqid: Option<Equivalence>,
    /// Whether NOEQID was written.
    pub is_without_eqid: bool,
    /// Their type, e.g. `OSA`.
    pub device_type: Option<String>,
    /// Other operands, as written.
    pub other: Vec<String>,
}

impl Rdevice {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let mut devices = vec![words.value::<DeviceRange>("a device number or a range of them")?];
        while let Some(range) = words.peek().and_then(|word| word.text.parse().ok()) {
            words.next();
            devices.push(range);
        }
        let mut statement =
            Self { devices, eqid: None, is_without_eqid: false, device_type: None, other: Vec::new() };
        if words.is_empty() {
            words.expect("EQID, TYPE or another attribute")?;
        }
        while !words.is_empty() {
            statement.attribute(words)?;
        }
        Ok(statement)
    }

    fn attribute(&mut self, words: &mut Words<'_>) -> Result<(), Diagnostic> {
        let has_eqid = self.eqid.is_some() || self.is_without_eqid;
        if !has_eqid && words.accept(Spelling("EQID")) {
            self.eqid = Some(words.value("1 to 8 letters and digits")?);
        } else if !has_eqid && words.accept(Spelling("NOEQID")) {
            self.is_without_eqid = true;
        } else if self.device_type.is_none() && words.accept(Spelling("TYPe")) {
            self.device_type = Some(words.expect("a type of device")?.text.to_ascii_uppercase());
        } else if let Some((name, follow)) = words.peek().and_then(other) {
            words.next();
            self.other.push(name.full());
            for _ in 0..follow {
                self.other.push(words.expect(&format!("what {name} is"))?.text.to_ascii_uppercase());
            }
        } else {
            words.finish("EQID, NOEQID, TYPE or another attribute, each once")?;
        }
        Ok(())
    }

    /// Whether it is about this device.
    pub fn names(&self, device: DeviceNumber) -> bool {
        self.devices.iter().any(|range| range.contains(device))
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("RDEVICE").words(&self.devices);
        let layout = layout.option("EQID", self.eqid.as_ref()).flag("NOEQID", self.is_without_eqid);
        let layout = match &self.device_type {
            Some(text) => layout.word("TYPE").text(text),
            None => layout,
        };
        self.other.iter().fold(layout, |layout, word| layout.text(word))
    }
}

fn other(word: &crate::source::Word) -> Option<(Spelling, usize)> {
    OTHER.iter().find(|(name, _)| word.is(*name)).copied()
}
