//! Channel programs: chains of commands that no other process comes between.

use super::track::{self, NewRecord, Place};
use super::volume::{DasdError, Volume};

/// A command of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ccw {
    /// Goes to a track. A chain begins with it.
    Seek {
        /// Cylinder, from 0.
        cylinder: u32,
        /// Head, from 0 to 14.
        head: u8,
    },
    /// Finds the record of this number on the track, or ends the chain.
    SearchId(u8),
    /// Finds the record whose key begins with this, or ends the chain. After a search by number: looks at that record only.
    SearchKey(Vec<u8>),
    /// Reads the key of the record that was found.
    ReadKey,
    /// Reads its data.
    ReadData,
    /// Writes its data, of the same length.
    WriteData(Vec<u8>),
    /// Writes its key and data, of the same lengths.
    WriteKeyData(Vec<u8>, Vec<u8>),
    /// Writes the track anew: home address, record 0 and these records.
    Format(Vec<NewRecord>),
}

/// How a chain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// All commands were carried out; else a search found nothing, and nothing behind it was done.
    pub is_whole: bool,
    /// What the reads read, in their order.
    pub read: Vec<Vec<u8>>,
}

/// The track that a chain is on.
struct Position {
    cylinder: u32,
    head: u8,
    bytes: Vec<u8>,
    /// None: not looked at yet.
    records: Option<Vec<Place>>,
    found: Option<Place>,
}

impl Volume {
    /// Executes a chain. It is carried out whole before or after any other on this volume; one that only reads may go on
    /// beside others that only read.
    ///
    /// # Errors
    /// See [`DasdError`]; commands before the one that failed have been carried out.
    pub fn execute(&self, program: &[Ccw]) -> Result<Outcome, DasdError> {
        let writes = program
            .iter()
            .any(|ccw| matches!(ccw, Ccw::WriteData(_) | Ccw::WriteKeyData(..) | Ccw::Format(_)));
        let _turn = self.turn(writes)?;
        let mut position = None;
        let mut read = Vec::new();
        for ccw in program {
            if let Ccw::Seek { cylinder, head } = ccw {
                let bytes = self.read_track(*cylinder, *head)?;
                position =
                    Some(Position { cylinder: *cylinder, head: *head, bytes, records: None, found: None });
                continue;
            }
            let Some(position) = &mut position else {
                return Err(self.track_error(0, 0, "a chain begins with a seek".to_owned()));
            };
            if !self.step(ccw, position, &mut read)? {
                return Ok(Outcome { is_whole: false, read });
            }
        }
        Ok(Outcome { is_whole: true, read })
    }

    /// `false`: a search found nothing.
    fn step(&self, ccw: &Ccw, position: &mut Position, read: &mut Vec<Vec<u8>>) -> Result<bool, DasdError> {
        let (cylinder, head) = (position.cylinder, position.head);
        let wrong = |reason: &str| self.track_error(cylinder, head, reason.to_owned());
        match ccw {
            Ccw::Seek { .. } => {}
            Ccw::Format(records) => {
                let bytes = track::build(cylinder, head, records)
                    .map_err(|reason| self.track_error(cylinder, head, reason))?;
                self.write_track(cylinder, head, 0, &bytes)?;
                position.bytes[..bytes.len()].copy_from_slice(&bytes);
                (position.records, position.found) = (None, None);
            }
            Ccw::SearchId(number) => {
                let records = self.records(position)?;
                position.found = records.iter().copied().find(|record| record.number == *number);
                return Ok(position.found.is_some());
            }
            Ccw::SearchKey(key) => {
                let records = match position.found {
                    Some(found) => vec![found],
                    None => self.records(position)?.to_vec(),
                };
                let has = |record: &Place| {
                    let whole = &position.bytes[record.at..record.at + record.key_len_bytes];
                    !key.is_empty() && whole.starts_with(key)
                };
                position.found = records.into_iter().find(has);
                return Ok(position.found.is_some());
            }
            Ccw::ReadKey | Ccw::ReadData | Ccw::WriteData(_) | Ccw::WriteKeyData(..) => {
                let found = position.found.ok_or_else(|| wrong("no record was searched for"))?;
                self.transfer(ccw, position, found, read)?;
            }
        }
        Ok(true)
    }

    fn transfer(
        &self,
        ccw: &Ccw,
        position: &mut Position,
        found: Place,
        read: &mut Vec<Vec<u8>>,
    ) -> Result<(), DasdError> {
        let data = found.at + found.key_len_bytes;
        let end = data + found.data_len_bytes;
        let (at, bytes) = match ccw {
            Ccw::ReadKey => {
                read.push(position.bytes[found.at..data].to_vec());
                return Ok(());
            }
            Ccw::ReadData => {
                read.push(position.bytes[data..end].to_vec());
                return Ok(());
            }
            Ccw::WriteData(bytes) if bytes.len() == found.data_len_bytes => (data, bytes.clone()),
            Ccw::WriteKeyData(key, bytes)
                if (key.len(), bytes.len()) == (found.key_len_bytes, found.data_len_bytes) =>
            {
                (found.at, [&key[..], bytes].concat())
            }
            _ => {
                let reason = format!("record {} has another length", found.number);
                return Err(self.track_error(position.cylinder, position.head, reason));
            }
        };
        self.write_track(position.cylinder, position.head, at, &bytes)?;
        position.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    fn records<'a>(&self, position: &'a mut Position) -> Result<&'a [Place], DasdError> {
        let (cylinder, head) = (position.cylinder, position.head);
        if position.records.is_none() {
            let records = track::parse(&position.bytes, cylinder, head)
                .map_err(|reason| self.track_error(cylinder, head, reason))?;
            position.records = Some(records);
        }
        Ok(position.records.as_deref().unwrap_or_default())
    }
}
