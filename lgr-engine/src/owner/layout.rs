//! The bytes of an owner record. The picture is in the documentation of [`crate::owner`].

use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::byteorder::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::OwnerRecord;
use super::name::{GuestName, MemberName};

/// First bytes of every owner record.
pub(super) const MAGIC: [u8; 8] = *b"LGROWNER";
/// Version of the layout this code reads and writes.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Length of the header and of each slot: one sector, the unit disks write whole.
pub(super) const SECTOR_LEN_BYTES: usize = 512;
/// Length of a whole file: header, slot A, slot B.
pub(super) const FILE_LEN_BYTES: usize = 3 * SECTOR_LEN_BYTES;
/// Bytes covered by the checksum that ends a sector.
const SUMMED_LEN_BYTES: usize = SECTOR_LEN_BYTES - size_of::<u64>();

/// What the first sector tells. It is written once, when the record is made.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    format_version: U32,
    file_len_bytes: U32,
    guest: [u8; 8],
    reserved: [u8; 480],
    checksum: U64,
}

/// One of the two copies of the record's changing part.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Slot {
    epoch: U64,
    time_unix_ns: U64,
    nonce: U128,
    owner: [u8; 8],
    previous_owner: [u8; 8],
    reserved: [u8; 456],
    checksum: U64,
}

const _: () = assert!(size_of::<Header>() == SECTOR_LEN_BYTES && size_of::<Slot>() == SECTOR_LEN_BYTES);

/// What is wrong with the bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LayoutFault {
    WrongLength { found_bytes: usize },
    BadMagic,
    UnknownVersion { found: u32 },
    DamagedHeader,
    OtherGuest { found: GuestName },
    NoValidSlot,
}

/// Byte offset of the slot that holds `epoch`: odd epochs live in slot A, even ones in slot B, so
/// a write never touches the slot with the newest record.
pub(super) fn slot_offset_bytes(epoch: u64) -> usize {
    if epoch % 2 == 1 { SECTOR_LEN_BYTES } else { 2 * SECTOR_LEN_BYTES }
}

/// Checksum of one sector. The offset is the seed: a sector written to the wrong place is damaged.
fn checksum(sector: &[u8], offset_bytes: usize) -> u64 {
    xxh3_64_with_seed(&sector[..SUMMED_LEN_BYTES], offset_bytes as u64)
}

/// The sector for `record`, to be written at [`slot_offset_bytes`] of its epoch.
pub(super) fn encode_slot(record: &OwnerRecord) -> [u8; SECTOR_LEN_BYTES] {
    debug_assert!(record.epoch > 0, "epoch zero is invalid");
    let mut slot = Slot {
        epoch: record.epoch.into(),
        time_unix_ns: record.time_unix_ns.into(),
        nonce: record.nonce.into(),
        owner: record.owner.to_padded(),
        previous_owner: record.previous_owner.map_or([0; 8], MemberName::to_padded),
        reserved: [0; 456],
        checksum: U64::ZERO,
    };
    slot.checksum = checksum(slot.as_bytes(), slot_offset_bytes(record.epoch)).into();
    zerocopy::transmute!(slot)
}

/// A whole new file with `record` in its slot and the other slot empty.
pub(super) fn encode_file(guest: GuestName, record: &OwnerRecord) -> [u8; FILE_LEN_BYTES] {
    let mut header = Header::new_zeroed();
    header.magic = MAGIC;
    header.format_version = FORMAT_VERSION.into();
    header.file_len_bytes = (FILE_LEN_BYTES as u32).into();
    header.guest = guest.to_padded();
    header.checksum = checksum(header.as_bytes(), 0).into();
    let mut file = [0; FILE_LEN_BYTES];
    file[..SECTOR_LEN_BYTES].copy_from_slice(header.as_bytes());
    let offset_bytes = slot_offset_bytes(record.epoch);
    file[offset_bytes..][..SECTOR_LEN_BYTES].copy_from_slice(&encode_slot(record));
    file
}

/// The record in slot A or B, or `None` when that slot is empty, torn or damaged.
fn decode_slot(guest: GuestName, sector: &[u8], offset_bytes: usize) -> Option<OwnerRecord> {
    let slot = Slot::ref_from_bytes(sector).ok()?;
    let epoch = slot.epoch.get();
    if slot.checksum.get() != checksum(sector, offset_bytes)
        || epoch == 0
        || slot_offset_bytes(epoch) != offset_bytes
    {
        return None;
    }
    let previous_owner = match slot.previous_owner {
        [0, 0, 0, 0, 0, 0, 0, 0] => None,
        bytes => Some(MemberName::from_padded(bytes)?),
    };
    Some(OwnerRecord {
        guest,
        epoch,
        nonce: slot.nonce.get(),
        owner: MemberName::from_padded(slot.owner)?,
        previous_owner,
        time_unix_ns: slot.time_unix_ns.get(),
    })
}

/// Reads a whole file: the header must be sound and name `guest`; of the valid slots the one with
/// the higher epoch is the record.
pub(super) fn decode_file(guest: GuestName, file: &[u8]) -> Result<OwnerRecord, LayoutFault> {
    // Magic and version come before the length: a file of another kind or of a later version is
    // best named as that, and a later version may have another length.
    let Ok((header, _)) = Header::ref_from_prefix(file) else {
        return Err(LayoutFault::WrongLength { found_bytes: file.len() });
    };
    if header.magic != MAGIC {
        return Err(LayoutFault::BadMagic);
    }
    if header.format_version.get() != FORMAT_VERSION {
        return Err(LayoutFault::UnknownVersion { found: header.format_version.get() });
    }
    if file.len() != FILE_LEN_BYTES {
        return Err(LayoutFault::WrongLength { found_bytes: file.len() });
    }
    let header_sum = checksum(&file[..SECTOR_LEN_BYTES], 0);
    if header.checksum.get() != header_sum || header.file_len_bytes.get() as usize != FILE_LEN_BYTES {
        return Err(LayoutFault::DamagedHeader);
    }
    let found = GuestName::from_padded(header.guest).ok_or(LayoutFault::DamagedHeader)?;
    if found != guest {
        return Err(LayoutFault::OtherGuest { found });
    }
    [SECTOR_LEN_BYTES, 2 * SECTOR_LEN_BYTES]
        .into_iter()
        .filter_map(|offset_bytes| {
            decode_slot(guest, &file[offset_bytes..][..SECTOR_LEN_BYTES], offset_bytes)
        })
        .max_by_key(|record| record.epoch)
        .ok_or(LayoutFault::NoValidSlot)
}
