//! MDISK in all its forms.

use serde::{Deserialize, Serialize};

use crate::name::VolumeLabel;
use crate::source::{DeviceNumber, Diagnostic, Layout, Spelling, Words};

/// From one cylinder (or block) on, so many or up to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cylinders {
    /// The first.
    pub first: u32,
    /// How many; none: `END`.
    pub count: Option<u32>,
}

impl Cylinders {
    /// The cylinder behind the last one.
    pub fn end(self) -> u32 {
        self.count.map_or(u32::MAX, |count| self.first.saturating_add(count))
    }

    /// The whole volume, as those have it who look after it.
    pub fn is_full_pack(self) -> bool {
        self.first == 0 && self.count.is_none()
    }
}

/// Where a minidisk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Where {
    /// On a volume; none: `&SYSRES`, that from which the system was started.
    Volume(Cylinders, Option<VolumeLabel>),
    /// A whole real device.
    Real(DeviceNumber),
    /// In storage, so many blocks of 512 bytes.
    Virtual(u32),
    /// Temporary, so many cylinders or blocks.
    Temporary(u32),
}

/// A minidisk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minidisk {
    /// Its virtual device number.
    pub vdev: DeviceNumber,
    /// Its device type, as written, such as `3390` or `FB-512`.
    pub device_type: String,
    /// Where it is.
    pub at: Where,
    /// Link mode and suffix, as written.
    pub mode: Option<String>,
    /// Passwords for read, write and multiple access, as written; `ALL`: none is needed.
    pub passwords: Vec<String>,
}

const MODES: [&str; 12] = ["R", "RR", "W", "WR", "M", "MR", "MW", "SR", "ER", "SW", "EW", "SM"];
/// A 3390-54 has fewer cylinders, a fixed-block volume more blocks.
const MAX: u64 = 2_147_483_647;

impl Minidisk {
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let vdev = words.value("a virtual device number")?;
        let device_type = words.expect("a device type")?.text.to_ascii_uppercase();
        let at = place(words)?;
        let mode = words.next().map(|word| (word.text.to_ascii_uppercase(), word.span));
        if let Some((mode, span)) = &mode
            && !MODES
                .iter()
                .any(|known| mode.strip_prefix(known).is_some_and(|suffix| "VSEDX".contains(suffix)))
        {
            return Err(Diagnostic::error(*span, format!("'{mode}' is no link mode"))
                .expecting("R, RR, W, WR, M, MR or MW, with V, S, E or D behind it"));
        }
        let mut passwords = Vec::new();
        while let Some(word) = words.next() {
            // CP reads three, and says nothing of what follows them.
            if passwords.len() < 3 {
                if word.text.len() > 8 {
                    return Err(Diagnostic::error(word.span, "the password is too long")
                        .expecting("at most 8 characters"));
                }
                passwords.push(word.text.to_ascii_uppercase());
            }
        }
        Ok(Self { vdev, device_type, at, mode: mode.map(|(mode, _)| mode), passwords })
    }

    pub(super) fn layout(&self) -> Layout {
        let layout = Layout::new().word("MDISK").word(self.vdev).word(&self.device_type);
        let layout = match self.at {
            Where::Volume(cylinders, label) => {
                let count = cylinders.count.map_or_else(|| "END".to_owned(), |count| count.to_string());
                let label = label.map_or_else(|| "&SYSRES".to_owned(), |label| label.to_string());
                layout.word(cylinders.first).word(count).word(label)
            }
            Where::Real(device) => layout.word("DEVNO").word(device),
            Where::Virtual(blocks) => layout.word("V-DISK").word(blocks),
            Where::Temporary(size) => layout.word("T-DISK").word(size),
        };
        layout.words(&self.mode).words(&self.passwords)
    }
}

fn place(words: &mut Words<'_>) -> Result<Where, Diagnostic> {
    let number = |words: &mut Words<'_>, what: &str, from: u64| {
        words.number(what, from..=MAX).map(|number| u32::try_from(number).expect("checked by the range"))
    };
    if words.accept(Spelling("DEVNO")) {
        return words.value("a real device number").map(Where::Real);
    }
    if words.accept(Spelling("V-DISK")) {
        return number(words, "a number of blocks", 1).map(Where::Virtual);
    }
    if words.accept(Spelling("T-DISK")) {
        return number(words, "a number of cylinders or blocks", 1).map(Where::Temporary);
    }
    let first = number(words, "a cylinder or block", 0)?;
    let count = if words.accept(Spelling("END")) { None } else { Some(number(words, "how many", 1)?) };
    let label = if words.accept(Spelling("&SYSRES")) {
        None
    } else {
        Some(words.value("a volume's label or &SYSRES")?)
    };
    Ok(Where::Volume(Cylinders { first, count }, label))
}
