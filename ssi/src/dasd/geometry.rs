//! The 3390: cylinders, heads, and what fits on a track.

use std::fmt;
use std::str::FromStr;

/// Tracks of a cylinder.
pub const HEADS: u8 = 15;
/// Bytes of a track in the file, used or not.
pub const TRACK_LEN_BYTES: usize = 56_832;
/// Most cylinders: those of a 3390-54.
pub const CYLINDERS_MAX: u32 = 65_520;
/// Cells of a 3390's track, of 34 bytes.
const TRACK_CELLS: usize = 1_729;

/// How large a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u32,
}

/// A model of the 3390, or so many cylinders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model(pub Geometry);

/// Why a text is no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no 3390: use 3390-1, -2, -3, -9, -27 or -54, or a number of cylinders from 1 to {CYLINDERS_MAX}"
)]
pub struct ModelError(String);

impl FromStr for Model {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let cylinders = match text {
            "3390-1" => 1_113,
            "3390-2" => 2_226,
            "3390-3" => 3_339,
            "3390-9" => 10_017,
            "3390-27" => 32_760,
            "3390-54" => CYLINDERS_MAX,
            number => number.parse().map_err(|_| ModelError(text.to_owned()))?,
        };
        if (1..=CYLINDERS_MAX).contains(&cylinders) {
            Ok(Self(Geometry { cylinders }))
        } else {
            Err(ModelError(text.to_owned()))
        }
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3390 of {} cylinders", self.cylinders)
    }
}

/// Cells that a record takes on a 3390's track, which has 1,729 (IBM 3390 Reference Summary, track capacity).
pub fn space_cells(key_len_bytes: usize, data_len_bytes: usize) -> usize {
    let part = |len: usize| 9 + (len + 6 * (len + 6).div_ceil(232) + 6).div_ceil(34);
    let key = if key_len_bytes == 0 { 0 } else { part(key_len_bytes) };
    10 + key + part(data_len_bytes)
}

/// Whether records of these key and data lengths fit on one track.
pub(super) fn fits(records: impl Iterator<Item = (usize, usize)>) -> bool {
    records.map(|(key, data)| space_cells(key, data)).sum::<usize>() <= TRACK_CELLS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_takes_what_a_3390_takes() {
        // IBM's own table: one record of 56,664 bytes, or twelve of 4,096.
        assert!(fits([(0, 56_664)].into_iter()) && !fits([(0, 56_665)].into_iter()));
        assert!(fits(std::iter::repeat_n((0, 4_096), 12)) && !fits(std::iter::repeat_n((0, 4_096), 13)));
    }

    #[test]
    fn models_have_their_cylinders() {
        let cylinders = |text: &str| text.parse::<Model>().map(|model| model.0.cylinders).ok();
        assert_eq!((cylinders("3390-3"), cylinders("50"), cylinders("0")), (Some(3_339), Some(50), None));
        assert_eq!((cylinders("3380"), cylinders("3390-4"), cylinders("65521")), (Some(3_380), None, None));
    }
}
