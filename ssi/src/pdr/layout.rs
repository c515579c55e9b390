//! The contents of the record as bytes, in the layout of CP's PDRBK: numbers big-endian, names in ASCII with blanks behind.
//!
//! ```text
//! 0000 magic "PDRDATA1" │ 0008 generation, u64 │ 0010 stamp, u64: ms since 1970 │ 0018 CRC32C of all, u32, itself zero
//! 001C level, u16 │ 001E flags: X'80' = no cross-system timeouts │ 001F zero
//! 0040 replacement PDR, 128 bytes: 0040 label of the volume where the record is now, 6 bytes, zero if it is here;
//!      0048 label of the volume from which it was copied and which may not say so yet, 6 bytes, zero if there is none
//! 00C0 32 systems, 704 bytes each:
//!      00 name │ 08 state │ 09 why down │ 10 incarnation, u64 │ 18 heartbeat, u64
//!      from level 2 on: 0A flags: X'80' = it has promised to stop itself in time │ 0C level of its protocol, u16
//!      20 stamp of the heartbeat, u64 │ 28 stamp of the last change of state, u64 │ 30 zero
//! ```
//!
//! The first 40 bytes (X'40') stand for CP's header; the offsets of what follows are CP's less the 64 bytes of the key.
//! Most of a system's 704 bytes are CP's room for the description of its architecture, not used here yet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::member::{Entry, LEVEL, LEVEL_OF_PROMISES, MemberState, Record, WhyDown};
use crate::name::{ClusterName, MEMBERS_MAX, Slot, SystemName, VolumeLabel};

const SYSTEMS_MAX: usize = 32;
const SYSTEM_LEN_BYTES: usize = 704;
const SYSTEMS_AT: usize = 0xC0;
/// Bytes of the contents.
pub const CONTENTS_LEN_BYTES: usize = SYSTEMS_AT + SYSTEMS_MAX * SYSTEM_LEN_BYTES;
const MAGIC: &[u8; 8] = b"PDRDATA1";
const CRC_AT: std::ops::Range<usize> = 0x18..0x1C;
/// Levels of the record that are known here.
const LEVELS: std::ops::RangeInclusive<u16> = 1..=LEVEL;
const FLAG_PROMISED: u8 = 0x80;
const FLAG_NO_TIMEOUTS: u8 = 0x80;

/// When a member last did something, by its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemStamps {
    /// Its last heartbeat.
    pub heartbeat: Option<SystemTime>,
    /// The last change of its state, whoever made it.
    pub changed: Option<SystemTime>,
}

/// Times beside the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The last change of anything.
    pub last: Option<SystemTime>,
    /// By slot.
    pub systems: [SystemStamps; MEMBERS_MAX as usize],
}

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Counts the changes.
    pub generation: u64,
    /// The record.
    pub record: Record,
    /// When.
    pub stamps: Stamps,
    /// The record is on this volume now, and here no longer.
    pub moved_to: Option<VolumeLabel>,
    /// It was copied from this volume, and counts only if that says so.
    pub copied_from: Option<VolumeLabel>,
}

impl Contents {
    /// As it is on the volume.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; CONTENTS_LEN_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        put(&mut bytes, 0x08, self.generation);
        put(&mut bytes, 0x10, millis(self.stamps.last));
        bytes[0x1C..0x1E].copy_from_slice(&self.record.level.to_be_bytes());
        bytes[0x1E] = if self.record.timeouts { 0 } else { FLAG_NO_TIMEOUTS };
        bytes[0x40..0x46].copy_from_slice(&label_bytes(self.moved_to));
        bytes[0x48..0x4E].copy_from_slice(&label_bytes(self.copied_from));
        for slot in Slot::all() {
            let (entry, stamps) = (self.record.entry(slot), &self.stamps.systems[slot.index()]);
            let at = SYSTEMS_AT + slot.index() * SYSTEM_LEN_BYTES;
            let system = &mut bytes[at..at + SYSTEM_LEN_BYTES];
            let name = entry.system.map_or_else(String::new, |name| name.to_string());
            system[..8].copy_from_slice(format!("{name:<8}").as_bytes());
            system[0x08] = entry.state as u8;
            system[0x09] = entry.why as u8;
            if self.record.level >= LEVEL_OF_PROMISES {
                system[0x0A] = if entry.has_promised { FLAG_PROMISED } else { 0 };
                system[0x0C..0x0E].copy_from_slice(&entry.level.to_be_bytes());
            }
            put(system, 0x10, entry.incarnation);
            put(system, 0x18, entry.heartbeat);
            put(system, 0x20, millis(stamps.heartbeat));
            put(system, 0x28, millis(stamps.changed));
        }
        let crc = crc32c::crc32c(&bytes);
        bytes[CRC_AT].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a copy; the cluster's name is in the lock record.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn from_bytes(bytes: &[u8], cluster: ClusterName) -> Result<Self, String> {
        if bytes.len() != CONTENTS_LEN_BYTES || bytes[..8] != *MAGIC {
            return Err("not the contents of a persistent data record".to_owned());
        }
        let mut blank = bytes.to_vec();
        blank[CRC_AT].fill(0);
        if crc32c::crc32c(&blank).to_be_bytes() != bytes[CRC_AT] {
            return Err("its contents are damaged".to_owned());
        }
        let level = u16::from_be_bytes([bytes[0x1C], bytes[0x1D]]);
        if !LEVELS.contains(&level) {
            return Err(format!("the record is of level {level}, and this knows levels 1 to {LEVEL}"));
        }
        let mut record = Record::new(cluster, [None; MEMBERS_MAX as usize]);
        record.timeouts = bytes[0x1E] & FLAG_NO_TIMEOUTS == 0;
        record.level = level;
        let mut stamps = Stamps { last: time(get(bytes, 0x10)), ..Stamps::default() };
        for slot in Slot::all() {
            let at = SYSTEMS_AT + slot.index() * SYSTEM_LEN_BYTES;
            let system = &bytes[at..at + SYSTEM_LEN_BYTES];
            record.entries[slot.index()] =
                entry(system, level).map_err(|why| format!("slot {slot}: {why}"))?;
            stamps.systems[slot.index()] =
                SystemStamps { heartbeat: time(get(system, 0x20)), changed: time(get(system, 0x28)) };
        }
        let label = |at: usize| read_label(&bytes[at..at + 6]);
        let (moved_to, copied_from) = (label(0x40)?, label(0x48)?);
        Ok(Self { generation: get(bytes, 0x08), record, stamps, moved_to, copied_from })
    }
}

fn label_bytes(label: Option<VolumeLabel>) -> [u8; 6] {
    let mut bytes = [0; 6];
    if let Some(label) = label {
        bytes.copy_from_slice(format!("{label:<6}").as_bytes());
    }
    bytes
}

fn read_label(bytes: &[u8]) -> Result<Option<VolumeLabel>, String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    VolumeLabel::new(text.trim_end()).map(Some).map_err(|error| error.to_string())
}

fn entry(system: &[u8], record_level: u16) -> Result<Entry, String> {
    let name = std::str::from_utf8(&system[..8]).map_err(|error| error.to_string())?.trim_end();
    let name =
        (!name.is_empty()).then(|| SystemName::new(name)).transpose().map_err(|error| error.to_string())?;
    use MemberState::{Down, Isolated, Joined, Joining, Leaving};
    let states = [Down, Joining, Joined, Leaving, Isolated];
    let state = states.into_iter().find(|state| *state as u8 == system[0x08]);
    let reasons = [WhyDown::Undetermined, WhyDown::Left, WhyDown::Stopped, WhyDown::Declared];
    let why = reasons.into_iter().find(|why| *why as u8 == system[0x09]);
    let has_room = record_level >= LEVEL_OF_PROMISES;
    let incarnation = get(system, 0x10);
    // Whoever has lived in a record of level 1 speaks level 1.
    let level =
        if has_room { u16::from_be_bytes([system[0x0C], system[0x0D]]) } else { u16::from(incarnation > 0) };
    Ok(Entry {
        system: name,
        state: state.ok_or_else(|| format!("state {}", system[0x08]))?,
        why: why.ok_or_else(|| format!("reason {}", system[0x09]))?,
        incarnation,
        heartbeat: get(system, 0x18),
        level,
        has_promised: has_room && system[0x0A] & FLAG_PROMISED != 0,
    })
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

pub(super) fn get(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}

pub(super) fn millis(time: Option<SystemTime>) -> u64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn time(millis: u64) -> Option<SystemTime> {
    // What no calendar has is no time.
    (1..1 << 45).contains(&millis).then(|| UNIX_EPOCH + Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Change;

    const CRC_AND_FLAGS: [u8; 8] = [121, 119, 196, 84, 0, 2, 0x80, 0];

    fn contents() -> Contents {
        let name = |text: &str| Some(SystemName::new(text).unwrap());
        let cluster = ClusterName::new("DEMOSSI").unwrap();
        let mut record = Record::new(cluster, [name("MEMBERA"), name("MEMBERB"), None, None]);
        record.timeouts = false;
        let slot = Slot::new(2).unwrap();
        record.apply(&Change::BeginJoin { slot, system: name("MEMBERB").unwrap(), level: LEVEL }).unwrap();
        let mut stamps = Stamps { last: time(1_000), ..Stamps::default() };
        stamps.systems[1].heartbeat = time(0x1234);
        let label = |text: &str| Some(VolumeLabel::new(text).unwrap());
        Contents { generation: 7, record, stamps, moved_to: label("VMCOM2"), copied_from: label("A") }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = contents().to_bytes();
        assert_eq!(bytes.len(), 22_720);
        assert_eq!(bytes[..0x18], *b"PDRDATA1\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x03\xE8");
        assert_eq!(bytes[0x18..0x20], CRC_AND_FLAGS);
        assert_eq!(bytes[0x40..0x50], *b"VMCOM2\0\0A     \0\0");
        assert_eq!(bytes[0xC0..0xCA], *b"MEMBERA \0\0");
        let second = &bytes[0xC0 + 704..];
        assert_eq!(second[..0x20], *b"MEMBERB \x01\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01");
        assert_eq!(second[0x20..0x28], [0, 0, 0, 0, 0, 0, 0x12, 0x34]);
        assert_eq!(Contents::from_bytes(&bytes, contents().record.cluster), Ok(contents()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cluster = contents().record.cluster;
        for (at, value, word) in [
            (0, 0, "not the contents"),
            (0x1D, 9, "level 9"),
            (0xC8, 9, "slot 1: state 9"),
            (0xC9, 4, "reason 4"),
            (0xC0, 0xFF, "slot 1"),
        ] {
            let mut bytes = contents().to_bytes();
            bytes[at] = value;
            bytes[CRC_AT].fill(0);
            let crc = crc32c::crc32c(&bytes);
            bytes[CRC_AT].copy_from_slice(&crc.to_be_bytes());
            let why = Contents::from_bytes(&bytes, cluster).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(Contents::from_bytes(&contents().to_bytes()[1..], cluster).is_err());
        let mut bytes = contents().to_bytes();
        bytes[20_000] ^= 1;
        assert_eq!(Contents::from_bytes(&bytes, cluster), Err("its contents are damaged".to_owned()));
    }
}
