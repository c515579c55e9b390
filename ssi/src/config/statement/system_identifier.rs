//! `SYSTEM_IDENTIFIER {LPAR name | model cpuid | * *} sysname [GATEWAY name]` and `SYSTEM_IDENTIFIER_DEFAULT sysname`:
//! which system this hardware is.

use serde::Serialize;

use crate::SystemName;
use crate::config::{Hardware, Pattern};
use crate::source::{Diagnostic, Layout, Spelling, Words};

/// Which hardware is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// The logical partition of this name, or for a second-level system the first-level user id.
    Lpar(Pattern),
    /// Machine type and CPU identification, either of which may be `*`.
    Processor {
        /// Machine type.
        model: Pattern,
        /// CPU identification number.
        cpu_id: Pattern,
    },
}

/// A SYSTEM_IDENTIFIER statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemIdentifier {
    /// On this hardware
    pub machine: Machine,
    /// this system runs.
    pub system: SystemName,
    /// Its name in ISFC collections, if it is another one.
    pub gateway: Option<SystemName>,
}

impl SystemIdentifier {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let machine = if words.accept(Spelling("LPAR")) {
            Machine::Lpar(words.value("a partition's name")?)
        } else {
            Machine::Processor {
                model: words.value("LPAR, a machine type or *")?,
                cpu_id: words.value("a CPU identification or *")?,
            }
        };
        let system = words.value("the system's name")?;
        let gateway = match words.accept(Spelling("GATEWAY")) {
            true => Some(words.value("the gateway's name")?),
            false => None,
        };
        Ok(Self { machine, system, gateway })
    }

    /// Whether this is the hardware that is meant.
    pub fn fits(&self, hardware: &Hardware) -> bool {
        let is = |pattern: &Pattern, text: &str| pattern.matches(&text.to_ascii_uppercase());
        match &self.machine {
            Machine::Lpar(name) => is(name, &hardware.lpar),
            Machine::Processor { model, cpu_id } => {
                is(model, &hardware.model) && is(cpu_id, &hardware.cpu_id)
            }
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("SYSTEM_IDENTIFIER");
        let layout = match &self.machine {
            Machine::Lpar(name) => layout.word("LPAR").word(name),
            Machine::Processor { model, cpu_id } => layout.word(model).word(cpu_id),
        };
        layout.word(self.system).option("GATEWAY", self.gateway)
    }
}

/// A SYSTEM_IDENTIFIER_DEFAULT statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemIdentifierDefault {
    /// The system that runs on hardware nobody named.
    pub system: SystemName,
}

impl SystemIdentifierDefault {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        Ok(Self { system: words.value("the system's name")? })
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new().word("SYSTEM_IDENTIFIER_DEFAULT").word(self.system)
    }
}
