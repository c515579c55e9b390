//! `SSI name [PDR_VOLUME {volid | &SYSPARM}] {SLOT n {sysname | AVAILABLE}}...`: the cluster and who is in it.

use serde::Serialize;

use crate::source::{Diagnostic, Layout, Spelling, Words};
use crate::{ClusterName, Slot, SystemName, VolumeLabel};

/// Where the persistent data record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PdrVolume {
    /// On the volume that the configuration was read from.
    #[default]
    Sysparm,
    /// On this one.
    Label(VolumeLabel),
}

/// What is said of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SlotUse {
    /// Which one.
    pub slot: Slot,
    /// Whose it is; nobody's yet if it is AVAILABLE.
    pub member: Option<SystemName>,
}

/// The SSI statement. Slots that are not named are available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ssi {
    /// The cluster.
    pub name: ClusterName,
    /// Where the PDR is.
    pub pdr_volume: PdrVolume,
    /// As written.
    pub slots: Vec<SlotUse>,
}

impl Ssi {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let name = words.value("the cluster's name")?;
        let mut pdr_volume = None;
        let mut slots = Vec::new();
        while !words.is_empty() {
            if words.accept(Spelling("SLOT")) {
                slots.push(slot_use(words)?);
            } else if words.accept(Spelling("PDR_VOLume")) {
                if pdr_volume.is_some() {
                    return Err(Diagnostic::error(words.last(), "PDR_VOLUME twice").expecting("it once"));
                }
                pdr_volume = Some(volume(words)?);
            } else {
                words.finish("PDR_VOLUME or SLOT")?;
            }
        }
        if slots.is_empty() {
            return Err(Diagnostic::error(words.here(), "no slot is named").expecting("SLOT and its number"));
        }
        Ok(Self { name, pdr_volume: pdr_volume.unwrap_or_default(), slots })
    }

    /// Members with their slots, in the order of the statement.
    pub fn members(&self) -> impl Iterator<Item = (Slot, SystemName)> {
        self.slots.iter().filter_map(|named| named.member.map(|member| (named.slot, member)))
    }

    /// The slot of this member.
    pub fn slot_of(&self, member: SystemName) -> Option<Slot> {
        self.members().find(|(_, name)| *name == member).map(|(slot, _)| slot)
    }

    pub(crate) fn layout(&self) -> Layout {
        let mut layout = Layout::new().word("SSI").word(self.name).word("PDR_VOLUME");
        layout = match self.pdr_volume {
            PdrVolume::Sysparm => layout.word("&SYSPARM"),
            PdrVolume::Label(label) => layout.word(label),
        };
        self.slots.iter().fold(layout, |layout, named| {
            let layout = layout.word("SLOT").word(named.slot);
            match named.member {
                Some(member) => layout.word(member),
                None => layout.word("AVAILABLE"),
            }
        })
    }
}

fn slot_use(words: &mut Words<'_>) -> Result<SlotUse, Diagnostic> {
    let slot = words.value("a slot's number, 1 to 4")?;
    if words.accept(Spelling("AVAILABLE")) {
        return Ok(SlotUse { slot, member: None });
    }
    Ok(SlotUse { slot, member: Some(words.value("a member's name or AVAILABLE")?) })
}

fn volume(words: &mut Words<'_>) -> Result<PdrVolume, Diagnostic> {
    if words.accept(Spelling("&SYSPARM")) {
        return Ok(PdrVolume::Sysparm);
    }
    words.value("a volume's label or &SYSPARM").map(PdrVolume::Label)
}
