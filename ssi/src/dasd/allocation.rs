//! What the cylinders of a volume are for, and whose they are.

use std::fmt;
use std::str::FromStr;

use crate::name::{ClusterName, SystemName};

/// Bytes of the record.
pub(super) const LEN_BYTES: usize = 1_024;
const MAGIC: &[u8; 8] = b"LGRALOC1";
const EXTENTS_AT: usize = 32;
const EXTENT_LEN_BYTES: usize = 12;
/// Most extents.
const EXTENTS_MAX: usize = (LEN_BYTES - EXTENTS_AT) / EXTENT_LEN_BYTES;

/// What cylinders are for; the words are those of CPFMTXA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Use {
    /// Minidisks, and whatever else is not CP's.
    Perm = 1,
    /// Parm disk.
    Parm = 2,
    /// Spool.
    Spol = 3,
    /// Paging.
    Page = 4,
    /// Temporary minidisks.
    Tdsk = 5,
    /// Object directory.
    Drct = 6,
}

impl Use {
    const ALL: [Self; 6] = [Self::Perm, Self::Parm, Self::Spol, Self::Page, Self::Tdsk, Self::Drct];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Perm => "PERM",
            Self::Parm => "PARM",
            Self::Spol => "SPOL",
            Self::Page => "PAGE",
            Self::Tdsk => "TDSK",
            Self::Drct => "DRCT",
        }
    }
}

/// Cylinders that are for one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// For what.
    pub used_for: Use,
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// Whose a volume is: `cluster.member`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// No cluster: `NOSSI`.
    pub cluster: Option<ClusterName>,
    /// No member, that is any of the cluster: `NOSYS`.
    pub member: Option<SystemName>,
}

/// The allocation record: record 4 of cylinder 0 head 0, 1,024 bytes, numbers big-endian.
///
/// ```text
///   0 "LGRALOC1" │ 8 cluster, blanks behind │ 16 member │ 24 count of extents, u16 │ 26 zero
///  32 extents: use u8, zero × 3, first cylinder u32, last cylinder u32
/// ```
///
/// CP's own map is a byte for each cylinder, or extents where a volume has too many; its form is not published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Whose the volume is.
    pub owner: Owner,
    /// What is not named is PERM.
    pub extents: Vec<Extent>,
}

/// Why cylinders cannot be allocated so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// Not `TYPE:FIRST-LAST`.
    #[error("'{0}' is no allocation: write TYPE:FIRST-LAST, with PERM, PARM, SPOL, PAGE, TDSK or DRCT")]
    Text(String),
    /// Not `CLUSTER.MEMBER`.
    #[error("'{0}' is no owner: write CLUSTER.MEMBER, CLUSTER.NOSYS or NOSSI.NOSYS")]
    Owner(String),
    /// Beyond the last cylinder.
    #[error("{0} is not on a volume of {1} cylinders")]
    Beyond(Extent, u32),
    /// Two at one place.
    #[error("{0} and {1} overlap")]
    Overlap(Extent, Extent),
    /// Too many.
    #[error("{0} allocations are too many: {EXTENTS_MAX} fit")]
    Count(usize),
}

impl Allocation {
    /// Whether it can be on a volume of so many cylinders.
    ///
    /// # Errors
    /// See [`AllocationError`].
    pub fn check(&self, cylinders: u32) -> Result<(), AllocationError> {
        if self.extents.len() > EXTENTS_MAX {
            return Err(AllocationError::Count(self.extents.len()));
        }
        let mut sorted = self.extents.clone();
        sorted.sort_by_key(|extent| extent.first);
        for extent in &sorted {
            if extent.last < extent.first || extent.last >= cylinders {
                return Err(AllocationError::Beyond(*extent, cylinders));
            }
        }
        match sorted.windows(2).find(|pair| pair[1].first <= pair[0].last) {
            Some(pair) => Err(AllocationError::Overlap(pair[0], pair[1])),
            None => Ok(()),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; LEN_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        let cluster = self.owner.cluster.map_or_else(String::new, |name| name.to_string());
        let member = self.owner.member.map_or_else(String::new, |name| name.to_string());
        bytes[8..16].copy_from_slice(format!("{cluster:<8}").as_bytes());
        bytes[16..24].copy_from_slice(format!("{member:<8}").as_bytes());
        bytes[24..26].copy_from_slice(&(self.extents.len() as u16).to_be_bytes());
        for (at, extent) in self.extents.iter().enumerate() {
            let at = EXTENTS_AT + at * EXTENT_LEN_BYTES;
            bytes[at] = extent.used_for as u8;
            bytes[at + 4..at + 8].copy_from_slice(&extent.first.to_be_bytes());
            bytes[at + 8..at + 12].copy_from_slice(&extent.last.to_be_bytes());
        }
        bytes
    }

    /// # Errors
    /// In words, what is wrong with it.
    pub(super) fn from_bytes(bytes: &[u8], cylinders: u32) -> Result<Self, String> {
        if bytes.len() != LEN_BYTES || bytes[..8] != *MAGIC {
            return Err("there is no allocation record: it was not formatted for CP".to_owned());
        }
        let text =
            |at: usize| std::str::from_utf8(&bytes[at..at + 8]).map(str::trim_end).map_err(|e| e.to_string());
        let (cluster, member) = (text(8)?, text(16)?);
        let cluster = (!cluster.is_empty()).then(|| ClusterName::new(cluster)).transpose();
        let member = (!member.is_empty()).then(|| SystemName::new(member)).transpose();
        let owner = Owner {
            cluster: cluster.map_err(|error| error.to_string())?,
            member: member.map_err(|error| error.to_string())?,
        };
        let count = usize::from(u16::from_be_bytes([bytes[24], bytes[25]]));
        if count > EXTENTS_MAX {
            return Err(format!("its allocation record has {count} extents"));
        }
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let extent = |index: usize| {
            let at = EXTENTS_AT + index * EXTENT_LEN_BYTES;
            let used_for = Use::ALL.into_iter().find(|known| *known as u8 == bytes[at]);
            let used_for = used_for.ok_or_else(|| format!("an extent of type {}", bytes[at]))?;
            Ok(Extent { used_for, first: word(at + 4), last: word(at + 8) })
        };
        let extents = (0..count).map(extent).collect::<Result<Vec<_>, String>>()?;
        let allocation = Self { owner, extents };
        allocation.check(cylinders).map_err(|error| error.to_string())?;
        Ok(allocation)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}", self.used_for.as_str(), self.first, self.last)
    }
}

impl FromStr for Extent {
    type Err = AllocationError;

    fn from_str(text: &str) -> Result<Self, AllocationError> {
        let parse = || {
            let (word, range) = text.split_once(':')?;
            let used_for = Use::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(word))?;
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(Self { used_for, first: first.parse().ok()?, last: last.parse().ok()? })
        };
        parse().ok_or_else(|| AllocationError::Text(text.to_owned()))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = self.cluster.map_or_else(|| "NOSSI".to_owned(), |name| name.to_string());
        let member = self.member.map_or_else(|| "NOSYS".to_owned(), |name| name.to_string());
        write!(f, "{cluster}.{member}")
    }
}

impl FromStr for Owner {
    type Err = AllocationError;

    fn from_str(text: &str) -> Result<Self, AllocationError> {
        let parse = || {
            let (cluster, member) = text.split_once('.')?;
            let cluster = match cluster {
                "NOSSI" => None,
                name => Some(ClusterName::new(name).ok()?),
            };
            let member = match member {
                "NOSYS" => None,
                name => Some(SystemName::new(name).ok()?),
            };
            (cluster.is_some() || member.is_none()).then_some(Self { cluster, member })
        };
        parse().ok_or_else(|| AllocationError::Owner(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_reads_as_it_was_written() {
        let extents = ["PERM:0-0", "spol:1-20", "PAGE:30-49"].map(|text| text.parse().unwrap()).to_vec();
        let allocation = Allocation { owner: "DEMOSSI.MEMBERA".parse().unwrap(), extents };
        let bytes = allocation.to_bytes();
        assert_eq!(Allocation::from_bytes(&bytes, 50), Ok(allocation));
        assert!(Allocation::from_bytes(&bytes, 49).unwrap_err().contains("PAGE:30-49"));
        assert!(Allocation::from_bytes(&[0; LEN_BYTES], 50).is_err());
    }

    #[test]
    fn what_cannot_be_allocated_says_why() {
        let check = |texts: &[&str]| {
            let extents = texts.iter().map(|text| text.parse().unwrap()).collect();
            Allocation { owner: Owner::default(), extents }.check(100).map_err(|error| error.to_string())
        };
        assert_eq!(check(&["SPOL:10-20", "PAGE:20-30"]), Err("SPOL:10-20 and PAGE:20-30 overlap".to_owned()));
        assert!(check(&["SPOL:99-100"]).is_err() && check(&["SPOL:5-4"]).is_err());
        assert!("SPOOL:1-2".parse::<Extent>().is_err() && "SPOL:1-x".parse::<Extent>().is_err());
        assert_eq!("DEMOSSI.NOSYS".parse::<Owner>().unwrap().to_string(), "DEMOSSI.NOSYS");
        assert!("NOSSI.MEMBERA".parse::<Owner>().is_err() && "DEMOSSI".parse::<Owner>().is_err());
    }
}
