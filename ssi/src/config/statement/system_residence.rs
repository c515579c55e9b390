//! `SYSTEM_RESIDENCE {CHECKPOINT | WARMSTART} [VOLID] volid FROM [CYL | PAGE] n FOR n ...`: where a member keeps what it
//! needs to start warm.

use serde::Serialize;

use crate::VolumeLabel;
use crate::source::{Diagnostic, Layout, Spelling, Words};

/// Greatest number of a cylinder or page.
const MAX: u64 = u32::MAX as u64;

/// What an area is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AreaUnit {
    /// Cylinders of ECKD volumes.
    Cylinder,
    /// Pages of FBA volumes.
    Page,
}

/// A part of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Area {
    /// The volume.
    pub volume: VolumeLabel,
    /// Whether in cylinders or pages.
    pub unit: AreaUnit,
    /// The first one.
    pub from: u32,
    /// How many.
    pub len: u32,
}

/// A SYSTEM_RESIDENCE statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemResidence {
    /// Data of a checkpoint start.
    pub checkpoint: Option<Area>,
    /// Data of a warm start.
    pub warmstart: Option<Area>,
}

impl SystemResidence {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let (mut checkpoint, mut warmstart) = (None, None);
        const AREAS: [(Spelling, bool); 2] = [(Spelling("CHECKpoint"), true), (Spelling("WARMstart"), false)];
        while checkpoint.is_none() && warmstart.is_none() || !words.is_empty() {
            let is_checkpoint = words.one_of(&AREAS)?;
            let at = words.last();
            let held = if is_checkpoint { &mut checkpoint } else { &mut warmstart };
            if held.replace(area(words)?).is_some() {
                return Err(Diagnostic::error(at, "the same area twice").expecting("it once"));
            }
        }
        Ok(Self { checkpoint, warmstart })
    }

    pub(crate) fn layout(&self) -> Layout {
        let areas = [("CHECKPOINT", &self.checkpoint), ("WARMSTART", &self.warmstart)];
        areas.into_iter().fold(Layout::new().word("SYSTEM_RESIDENCE"), |layout, (name, area)| match area {
            Some(area) => {
                let unit = if area.unit == AreaUnit::Cylinder { "CYL" } else { "PAGE" };
                let layout = layout.word(name).word("VOLID").word(area.volume);
                layout.word("FROM").word(unit).word(area.from).word("FOR").word(area.len)
            }
            None => layout,
        })
    }
}

fn area(words: &mut Words<'_>) -> Result<Area, Diagnostic> {
    words.accept(Spelling("VOLid"));
    let volume = words.value("a volume's label")?;
    words.require(Spelling("FROM"))?;
    let is_page = words.accept(Spelling("PAGE"));
    if !is_page {
        words.accept(Spelling("CYLinder"));
    }
    let from = words.number("a number", 0..=MAX)? as u32;
    words.require(Spelling("FOR"))?;
    let len = words.number("a number", 1..=MAX)? as u32;
    let unit = if is_page { AreaUnit::Page } else { AreaUnit::Cylinder };
    Ok(Area { volume, unit, from, len })
}
