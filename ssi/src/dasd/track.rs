//! A track: records of count, key and data, one after the other.

use super::geometry::{TRACK_LEN_BYTES, fits};

const HOME_LEN_BYTES: usize = 5;
const COUNT_LEN_BYTES: usize = 8;
const END: [u8; COUNT_LEN_BYTES] = [0xFF; COUNT_LEN_BYTES];

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Its number on the track, from 1.
    pub number: u8,
    /// Its key; empty: none.
    pub key: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
}

/// Where a record is on its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) number: u8,
    /// Of the key, from the beginning of the track.
    pub(super) at: usize,
    pub(super) key_len_bytes: usize,
    pub(super) data_len_bytes: usize,
}

/// The bytes of a track with these records behind record 0; only as many as are used.
///
/// # Errors
/// They do not fit.
pub(super) fn build(cylinder: u32, head: u8, records: &[NewRecord]) -> Result<Vec<u8>, String> {
    let lens = records.iter().map(|record| (record.key.len(), record.data.len()));
    if records.iter().any(|record| record.key.len() > 255) || !fits(lens.chain([(0, 8)])) {
        return Err("the records do not fit on a track".to_owned());
    }
    let cchh = [(cylinder >> 8) as u8, cylinder as u8, 0, head];
    let mut bytes = vec![0];
    bytes.extend(cchh);
    let zero = NewRecord { number: 0, key: Vec::new(), data: vec![0; 8] };
    for record in std::iter::once(&zero).chain(records) {
        bytes.extend(cchh);
        bytes.extend([record.number, record.key.len() as u8]);
        bytes.extend((record.data.len() as u16).to_be_bytes());
        bytes.extend(&record.key);
        bytes.extend(&record.data);
    }
    bytes.extend(END);
    debug_assert!(bytes.len() <= TRACK_LEN_BYTES);
    Ok(bytes)
}

/// The records of a track, record 0 with them. A track of zeros has never been formatted, and has none.
///
/// # Errors
/// In words, what is wrong with it.
pub(super) fn parse(bytes: &[u8], cylinder: u32, head: u8) -> Result<Vec<Place>, String> {
    let cchh = [(cylinder >> 8) as u8, cylinder as u8, 0, head];
    let home = bytes.get(..HOME_LEN_BYTES).ok_or("shorter than its home address")?;
    if bytes.iter().take(HOME_LEN_BYTES + 2 * COUNT_LEN_BYTES).all(|byte| *byte == 0) {
        return Err("it was never formatted".to_owned());
    }
    if home[0] != 0 || home[1..] != cchh {
        return Err("its home address is that of another track".to_owned());
    }
    let (mut places, mut at) = (Vec::new(), HOME_LEN_BYTES);
    loop {
        let count = bytes.get(at..at + COUNT_LEN_BYTES).ok_or("it has no end")?;
        if count == END {
            return Ok(places);
        }
        let (key_len_bytes, data_len_bytes) =
            (usize::from(count[5]), usize::from(u16::from_be_bytes([count[6], count[7]])));
        at += COUNT_LEN_BYTES;
        let end = at + key_len_bytes + data_len_bytes;
        if count[..4] != cchh || end + COUNT_LEN_BYTES > bytes.len() {
            return Err(format!("record {} is damaged", count[4]));
        }
        places.push(Place { number: count[4], at, key_len_bytes, data_len_bytes });
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_built_is_found_again(
            cylinder in 0..65_520_u32,
            head in 0..15_u8,
            records in proptest::collection::vec(
                (1..=255_u8, proptest::collection::vec(any::<u8>(), 0..70), proptest::collection::vec(any::<u8>(), 0..900)),
                0..12,
            ),
        ) {
            let records: Vec<NewRecord> =
                records.into_iter().map(|(number, key, data)| NewRecord { number, key, data }).collect();
            let mut bytes = build(cylinder, head, &records).unwrap();
            let places = parse(&bytes, cylinder, head).unwrap();
            prop_assert_eq!(places.len(), records.len() + 1);
            for (place, record) in places[1..].iter().zip(&records) {
                let data = place.at + place.key_len_bytes;
                prop_assert_eq!(place.number, record.number);
                prop_assert_eq!(&bytes[place.at..data], &record.key[..]);
                prop_assert_eq!(&bytes[data..data + place.data_len_bytes], &record.data[..]);
            }
            bytes.truncate(bytes.len() - 1);
            prop_assert!(parse(&bytes, cylinder, head).is_err());
        }

        #[test]
        fn anything_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, 0, 0);
            let _ = parse(&[vec![0, 0, 0, 0, 0], bytes].concat(), 0, 0);
        }
    }
}
