//! What source and destination say to each other on the control socket.
//!
//! One code byte, then a fixed little-endian body, then (in some) a tail of bytes or text. As in z/VM's
//! relocation messages the high bit marks what the destination says. Zero is no code. The version is
//! agreed in the link's hello.
//!
//! ```text
//!  source                                             destination
//!    │ 01 offer ────────────────────────────────────▶ │  room, owner record, skeleton guest
//!    │ ◀──────────────────── 81 accepted / 82 refused │
//!    │ ═══ transfers of pass n ═════════════════════▶ │
//!    │ 07 dictionary ───────────────────────────────▶ │  (at most one, while the guest runs)
//!    │ ◀──────────────────────────── 8B dictionary ok │
//!    │ 02 end of pass n (counts, digest) ───────────▶ │  counted until all have arrived
//!    │ ◀───────────────────── 83 pass ok / 84 pass bad│
//!    │ 08 try the record ───────────────────────────▶ │  can it be written there, now?
//!    │ ◀─────────────── 8C record ready / 8D not ready│
//!    │        … guest stopped …                       │
//!    │ 03 guest state ──────────────────────────────▶ │  before the penultimate pass
//!    │ 02 end of the final pass, commit within … ms ▶ │  takes the owner record, resumes the guest
//!    │ 09 withdraw ─────────────────────────────────▶ │  (the source would have the guest back)
//!    │ ◀──────────────────── 85 resumed / 86 not owner│
//!    │ ◀──────────────────────────────── 8E abstained │  has not taken the guest and never will
//!    │ 04 cancel ───────────────────────────────────▶ │  (at any time before the commit)
//! ```
//!
//! Codes 08, 09, 8C to 8E and the time for the commit are used where both sides said so: the source in its offer, the
//! destination when it accepts. Between others the record alone decides, as it does when the link is gone.

use guest_mem::{PAGE_SIZE, Runs};
use isfc::SocketId;
use zerocopy::byteorder::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::owner::{GuestName, MemberName};
use crate::report::{FinishCode, PassKind};

/// The socket of these messages.
pub const CONTROL: SocketId = SocketId::new(0).expect("0 is a socket number");
/// The socket of the verification that follows a move; it waits behind everything else.
pub const VERIFY: SocketId = SocketId::new(32).expect("32 is a socket number");
/// Longest text or state, in bytes.
pub const TAIL_LEN_BYTES_MAX: usize = 512 << 10;

/// A guest is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireOffer {
    guest: [u8; 8],
    source: [u8; 8],
    storage_len: U64,
    touched_len: U64,
    page_size: U32,
    backing: u8,
    verify: u8,
    /// Bit 0: what the source says of the commit is answered.
    answers: u8,
    reserved: u8,
    run_after_ms: U64,
    owner_epoch: U64,
    owner_nonce: U128,
}

/// What the source offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The guest to be moved.
    pub guest: GuestName,
    /// The member it runs on.
    pub source: MemberName,
    /// Size of its memory, in bytes.
    pub storage_len_bytes: u64,
    /// Memory it has touched, in bytes: what the destination must have room for.
    pub touched_len_bytes: u64,
    /// Page size, in bytes.
    pub page_size_bytes: u32,
    /// Number of the backing (1 small pages, 2 transparent huge pages, 3 hugetlb).
    pub backing: u8,
    /// The source will send a manifest of its memory after the move.
    pub verify: bool,
    /// The source would try the record before it stops the guest, and withdraw by a message; an older one does not ask.
    pub answers: bool,
    /// How long the guest is to run at the destination before it is checked, in milliseconds.
    pub run_after_ms: u64,
    /// Epoch of the owner record.
    pub owner_epoch: u64,
    /// Identity of the owner record: both sides must look at the same file.
    pub owner_nonce: u128,
    /// Where the touched memory lies, so that the destination can make it ready: first page and number
    /// of pages of each stretch, in order, at most [`STRETCHES_MAX`].
    pub stretches: Vec<(u64, u64)>,
}

/// Stretches of touched memory in an offer; 16 bytes each.
pub const STRETCHES_MAX: usize = 16 << 10;

/// Describes `runs` in at most [`STRETCHES_MAX`] stretches, bridging the smallest gaps first.
pub fn stretches_of(runs: &Runs) -> Vec<(u64, u64)> {
    let mut gap_pages_max = 0;
    loop {
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for run in runs.iter() {
            match stretches.last_mut() {
                Some((start, pages)) if run.start.get() - (*start + *pages) <= gap_pages_max => {
                    *pages = run.end().get() - *start;
                }
                _ => stretches.push((run.start.get(), run.pages.get())),
            }
        }
        if stretches.len() <= STRETCHES_MAX {
            return stretches;
        }
        gap_pages_max = (gap_pages_max * 2).max(1);
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WirePassEnd {
    epoch: U32,
    pass: U32,
    kind: u8,
    commit: u8,
    reserved: [u8; 2],
    commit_within_ms: U32,
    transfers: U64,
    pages: U64,
    digest: U64,
}

/// Counts of one pass; the two sides' must be equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassTotals {
    /// Transfers, each counted once however often it was sent.
    pub transfers: u64,
    /// Pages they cover.
    pub pages: u64,
    /// Sum of their coverage digests ([`isfc::frame::coverage_digest`]), wrapping.
    pub digest: u64,
}

/// All transfers of a pass have been handed to the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassEnd {
    /// Epoch of the transfers; a repeated pass has a new one.
    pub epoch: u32,
    /// Pass number, from 1.
    pub pass: u32,
    /// What kind of pass.
    pub kind: PassKind,
    /// When everything is there: take the guest over.
    pub commit: bool,
    /// Do so within this time or never, in milliseconds; 0 for no limit.
    pub commit_within_ms: u32,
    /// The source's counts.
    pub totals: PassTotals,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WirePassAnswer {
    epoch: U32,
    reserved: U32,
    transfers: U64,
    pages: U64,
    digest: U64,
    damaged: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireResumed {
    owner_epoch: U64,
    commit_ns: U64,
    resume_ns: U64,
}

/// A message of the control or verification socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// 01: a guest is offered.
    Offer(Offer),
    /// 02: a pass is complete on the source's side.
    PassEnd(PassEnd),
    /// 03: the stopped guest's state.
    State(Vec<u8>),
    /// 04: the move is off; the guest stays at the source.
    Cancel(FinishCode, String),
    /// 05: a batch of the manifest of the source's memory, numbered from 0.
    Manifest(u64, Vec<u8>),
    /// 06: that was all of it: number of batches.
    ManifestEnd(u64),
    /// 07: what packed pages may refer to, as a zstd frame, from when the destination has answered.
    Dictionary(Vec<u8>),
    /// 08: try the owner record for writing; numbered, so that a late answer is known for what it is.
    TryRecord(u64),
    /// 09: the source would have the guest back: abstain, and say so, or say that the guest has been taken.
    Withdraw,
    /// 81: the destination is ready for the first pass.
    Accepted {
        /// Its name.
        member: MemberName,
        /// It answers 08 and 09, and keeps the time for the commit.
        answers: bool,
    },
    /// 82: the destination will not take the guest.
    Refused(String),
    /// 83: everything of the epoch has arrived, counts and digests match.
    PassOk(u32, PassTotals),
    /// 84: everything has arrived, but counts or digests do not match, or payloads are damaged.
    PassBad {
        /// Epoch of the transfers.
        epoch: u32,
        /// What the destination counted.
        totals: PassTotals,
        /// Transfers whose payload did not hash to the sender's digest.
        damaged: u64,
    },
    /// 85: the destination owns the guest and runs it.
    Resumed {
        /// Epoch of the owner record now.
        owner_epoch: u64,
        /// Time to change the owner record, in nanoseconds.
        commit_ns: u64,
        /// Time from there until the guest ran, in nanoseconds.
        resume_ns: u64,
    },
    /// 86: the owner record had been changed before; the destination does not run the guest.
    NotOwner,
    /// 87: the destination gives up, because….
    Failed(String),
    /// 88: the guest at the destination is stopped and may be checked.
    ReadyToVerify,
    /// 89: manifest batches up to and including this one have been checked.
    ManifestTaken(u64),
    /// 8A: the destination's half of the report, as JSON.
    Report(Vec<u8>),
    /// 8B: the dictionary is there.
    DictionaryTaken,
    /// 8C: the owner record can be written at the destination.
    RecordReady(u64),
    /// 8D: it cannot, because….
    RecordNotReady(u64, String),
    /// 8E: the destination has not taken the guest and never will, whatever the record says later.
    Abstained(String),
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nothing at all.
    #[error("empty message")]
    Empty,
    /// A code this version does not know.
    #[error("unknown message code {0:#04x}")]
    Code(u8),
    /// Too short, or longer than its kind may be.
    #[error("message {code:#04x} has {len_bytes} bytes")]
    Length {
        /// Its code.
        code: u8,
        /// Its length.
        len_bytes: usize,
    },
    /// A field has a value it cannot have.
    #[error("message {code:#04x}: bad {field}")]
    Field {
        /// Its code.
        code: u8,
        /// Which field.
        field: &'static str,
    },
}

fn pass_kind_number(kind: PassKind) -> u8 {
    match kind {
        PassKind::First => 1,
        PassKind::Intermediate => 2,
        PassKind::Penultimate => 3,
        PassKind::Final => 4,
    }
}

fn pass_kind(number: u8) -> Option<PassKind> {
    Some(match number {
        1 => PassKind::First,
        2 => PassKind::Intermediate,
        3 => PassKind::Penultimate,
        4 => PassKind::Final,
        _ => return None,
    })
}

impl Offer {
    fn to_wire(&self) -> WireOffer {
        WireOffer {
            guest: self.guest.to_padded(),
            source: self.source.to_padded(),
            storage_len: self.storage_len_bytes.into(),
            touched_len: self.touched_len_bytes.into(),
            page_size: self.page_size_bytes.into(),
            backing: self.backing,
            verify: u8::from(self.verify),
            answers: u8::from(self.answers),
            reserved: 0,
            run_after_ms: self.run_after_ms.into(),
            owner_epoch: self.owner_epoch.into(),
            owner_nonce: self.owner_nonce.into(),
        }
    }

    fn decode(body: &[u8], length: MessageError) -> Result<Self, MessageError> {
        let (wire, tail) = WireOffer::read_from_prefix(body).map_err(|_| length.clone())?;
        let field = |field| MessageError::Field { code: 0x01, field };
        if !tail.len().is_multiple_of(16) || tail.len() / 16 > STRETCHES_MAX {
            return Err(length);
        }
        let pages = wire.storage_len.get() / PAGE_SIZE as u64;
        let mut stretches = Vec::with_capacity(tail.len() / 16);
        let mut free = 0;
        for stretch in tail.chunks_exact(16) {
            let (start, count) = stretch.split_at(8);
            let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
            let (start, count) = (word(start), word(count));
            let end = start.checked_add(count).filter(|end| *end <= pages);
            if start < free || count == 0 {
                return Err(field("touched memory"));
            }
            free = end.ok_or(field("touched memory"))?;
            stretches.push((start, count));
        }
        Ok(Self {
            guest: GuestName::from_padded(wire.guest).ok_or(field("guest name"))?,
            source: MemberName::from_padded(wire.source).ok_or(field("member name"))?,
            storage_len_bytes: wire.storage_len.get(),
            touched_len_bytes: wire.touched_len.get(),
            page_size_bytes: wire.page_size.get(),
            backing: wire.backing,
            verify: wire.verify == 1,
            answers: wire.answers & 1 == 1,
            run_after_ms: wire.run_after_ms.get(),
            owner_epoch: wire.owner_epoch.get(),
            owner_nonce: wire.owner_nonce.get(),
            stretches,
        })
    }
}

impl PassEnd {
    fn to_wire(self) -> WirePassEnd {
        WirePassEnd {
            epoch: self.epoch.into(),
            pass: self.pass.into(),
            kind: pass_kind_number(self.kind),
            commit: u8::from(self.commit),
            reserved: [0; 2],
            commit_within_ms: self.commit_within_ms.into(),
            transfers: self.totals.transfers.into(),
            pages: self.totals.pages.into(),
            digest: self.totals.digest.into(),
        }
    }

    fn from_wire(wire: &WirePassEnd) -> Result<Self, MessageError> {
        Ok(Self {
            epoch: wire.epoch.get(),
            pass: wire.pass.get(),
            kind: pass_kind(wire.kind).ok_or(MessageError::Field { code: 0x02, field: "pass kind" })?,
            commit: wire.commit == 1,
            commit_within_ms: wire.commit_within_ms.get(),
            totals: PassTotals {
                transfers: wire.transfers.get(),
                pages: wire.pages.get(),
                digest: wire.digest.get(),
            },
        })
    }
}

impl Message {
    /// The socket it belongs on.
    pub fn socket(&self) -> SocketId {
        match self {
            Self::Manifest(..) | Self::ManifestEnd(_) | Self::ManifestTaken(_) | Self::ReadyToVerify => {
                VERIFY
            }
            _ => CONTROL,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Offer(offer) => {
                let words = offer.stretches.iter().flat_map(|(start, pages)| [*start, *pages]);
                let tail: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
                joined(0x01, offer.to_wire().as_bytes(), &tail)
            }
            Self::PassEnd(end) => joined(0x02, end.to_wire().as_bytes(), &[]),
            Self::State(state) => joined(0x03, &[], state),
            Self::Cancel(code, text) => joined(0x04, &[code.number()], text.as_bytes()),
            Self::Manifest(number, batch) => joined(0x05, &number.to_le_bytes(), batch),
            Self::ManifestEnd(batches) => joined(0x06, &batches.to_le_bytes(), &[]),
            Self::Dictionary(packed) => joined(0x07, &[], packed),
            Self::TryRecord(number) => joined(0x08, &number.to_le_bytes(), &[]),
            Self::Withdraw => joined(0x09, &[], &[]),
            // An older source takes a name and nothing else.
            Self::Accepted { member, answers: false } => joined(0x81, &member.to_padded(), &[]),
            Self::Accepted { member, answers: true } => joined(0x81, &member.to_padded(), &[1]),
            Self::Refused(text) => joined(0x82, &[], text.as_bytes()),
            Self::PassOk(epoch, totals) => joined(0x83, pass_answer(*epoch, totals, 0).as_bytes(), &[]),
            Self::PassBad { epoch, totals, damaged } => {
                joined(0x84, pass_answer(*epoch, totals, *damaged).as_bytes(), &[])
            }
            Self::Resumed { owner_epoch, commit_ns, resume_ns } => {
                let wire = WireResumed {
                    owner_epoch: (*owner_epoch).into(),
                    commit_ns: (*commit_ns).into(),
                    resume_ns: (*resume_ns).into(),
                };
                joined(0x85, wire.as_bytes(), &[])
            }
            Self::NotOwner => joined(0x86, &[], &[]),
            Self::Failed(text) => joined(0x87, &[], text.as_bytes()),
            Self::ReadyToVerify => joined(0x88, &[], &[]),
            Self::ManifestTaken(number) => joined(0x89, &number.to_le_bytes(), &[]),
            Self::Report(json) => joined(0x8A, &[], json),
            Self::DictionaryTaken => joined(0x8B, &[], &[]),
            Self::RecordReady(number) => joined(0x8C, &number.to_le_bytes(), &[]),
            Self::RecordNotReady(number, why) => joined(0x8D, &number.to_le_bytes(), why.as_bytes()),
            Self::Abstained(why) => joined(0x8E, &[], why.as_bytes()),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (&code, body) = bytes.split_first().ok_or(MessageError::Empty)?;
        let length = MessageError::Length { code, len_bytes: bytes.len() };
        if body.len() > TAIL_LEN_BYTES_MAX {
            return Err(length);
        }
        let number = || body.try_into().map(u64::from_le_bytes).map_err(|_| length.clone());
        let empty = |message| if body.is_empty() { Ok(message) } else { Err(length.clone()) };
        Ok(match code {
            0x01 => Self::Offer(Offer::decode(body, length)?),
            0x02 => Self::PassEnd(PassEnd::from_wire(&fixed(body, length)?)?),
            0x03 => Self::State(body.to_vec()),
            0x04 => {
                let (&number, text) = body.split_first().ok_or(length)?;
                let bad = MessageError::Field { code, field: "finish code" };
                Self::Cancel(FinishCode::try_from(number).map_err(|_| bad)?, text_of(text))
            }
            0x05 => {
                let (number, batch) = body.split_first_chunk().ok_or(length)?;
                Self::Manifest(u64::from_le_bytes(*number), batch.to_vec())
            }
            0x06 => Self::ManifestEnd(number()?),
            0x07 => Self::Dictionary(body.to_vec()),
            0x08 => Self::TryRecord(number()?),
            0x09 => empty(Self::Withdraw)?,
            0x81 => {
                let (name, tail) = body.split_first_chunk().ok_or(length.clone())?;
                let member = MemberName::from_padded(*name)
                    .ok_or(MessageError::Field { code, field: "member name" })?;
                let answers = match tail {
                    [] => false,
                    [flags] => flags & 1 == 1,
                    _ => return Err(length),
                };
                Self::Accepted { member, answers }
            }
            0x82 => Self::Refused(text_of(body)),
            0x83 | 0x84 => {
                let wire: WirePassAnswer = fixed(body, length)?;
                let epoch = wire.epoch.get();
                let totals = PassTotals {
                    transfers: wire.transfers.get(),
                    pages: wire.pages.get(),
                    digest: wire.digest.get(),
                };
                if code == 0x83 {
                    Self::PassOk(epoch, totals)
                } else {
                    Self::PassBad { epoch, totals, damaged: wire.damaged.get() }
                }
            }
            0x85 => {
                let wire: WireResumed = fixed(body, length)?;
                Self::Resumed {
                    owner_epoch: wire.owner_epoch.get(),
                    commit_ns: wire.commit_ns.get(),
                    resume_ns: wire.resume_ns.get(),
                }
            }
            0x86 => empty(Self::NotOwner)?,
            0x87 => Self::Failed(text_of(body)),
            0x88 => empty(Self::ReadyToVerify)?,
            0x89 => Self::ManifestTaken(number()?),
            0x8A => Self::Report(body.to_vec()),
            0x8B => empty(Self::DictionaryTaken)?,
            0x8C => Self::RecordReady(number()?),
            0x8D => {
                let (number, why) = body.split_first_chunk().ok_or(length)?;
                Self::RecordNotReady(u64::from_le_bytes(*number), text_of(why))
            }
            0x8E => Self::Abstained(text_of(body)),
            other => return Err(MessageError::Code(other)),
        })
    }
}

fn pass_answer(epoch: u32, totals: &PassTotals, damaged: u64) -> WirePassAnswer {
    WirePassAnswer {
        epoch: epoch.into(),
        reserved: 0.into(),
        transfers: totals.transfers.into(),
        pages: totals.pages.into(),
        digest: totals.digest.into(),
        damaged: damaged.into(),
    }
}

fn joined(code: u8, fixed: &[u8], tail: &[u8]) -> Vec<u8> {
    let room = TAIL_LEN_BYTES_MAX - fixed.len();
    let tail = &tail[..tail.len().min(room)];
    [&[code], fixed, tail].concat()
}

fn fixed<T: FromBytes>(body: &[u8], error: MessageError) -> Result<T, MessageError> {
    T::read_from_bytes(body).map_err(|_| error)
}

/// A peer's text, made safe to print: no control characters, at most a few lines long.
fn text_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]);
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer() -> Offer {
        Offer {
            guest: GuestName::new("LINUX1").unwrap(),
            source: MemberName::new("MEMBERA").unwrap(),
            storage_len_bytes: 1 << 30,
            touched_len_bytes: 1 << 29,
            page_size_bytes: 4096,
            backing: 1,
            verify: true,
            answers: true,
            run_after_ms: 1000,
            owner_epoch: 3,
            owner_nonce: 0x1234,
            stretches: vec![(0, 10), (20, 1)],
        }
    }

    #[test]
    fn every_message_survives_the_wire() {
        let totals = PassTotals { transfers: 1, pages: 2, digest: 3 };
        let end =
            PassEnd { epoch: 4, pass: 2, kind: PassKind::Final, commit: true, commit_within_ms: 9, totals };
        let name = MemberName::new("MEMBERB").unwrap();
        for message in [
            Message::Offer(offer()),
            Message::PassEnd(end),
            Message::State(vec![1, 2, 3]),
            Message::Cancel(FinishCode::MaxQuiesceExceeded, "too long".into()),
            Message::Manifest(7, vec![9; 100]),
            Message::ManifestEnd(8),
            Message::Accepted { member: name, answers: false },
            Message::Accepted { member: name, answers: true },
            Message::TryRecord(2),
            Message::Withdraw,
            Message::RecordReady(2),
            Message::RecordNotReady(2, "read-only".into()),
            Message::Abstained("it is locked".into()),
            Message::Refused("no room".into()),
            Message::PassOk(4, totals),
            Message::PassBad { epoch: 4, totals, damaged: 1 },
            Message::Resumed { owner_epoch: 4, commit_ns: 5, resume_ns: 6 },
            Message::NotOwner,
            Message::Failed("bad".into()),
            Message::ReadyToVerify,
            Message::ManifestTaken(7),
            Message::Report(b"{}".to_vec()),
            Message::Dictionary(vec![0x28, 0xB5]),
            Message::DictionaryTaken,
        ] {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn codes_and_layouts_are_pinned() {
        let bytes = Message::Offer(offer()).encode();
        assert_eq!(bytes.len(), 1 + 72 + 2 * 16);
        assert_eq!(&bytes[..17], b"\x01LINUX1\0\0MEMBERA\0");
        let end = PassEnd {
            epoch: 4,
            pass: 2,
            kind: PassKind::First,
            commit: false,
            commit_within_ms: 8,
            totals: PassTotals { transfers: 5, pages: 6, digest: 7 },
        };
        let mut expected = vec![2, 4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0];
        for number in [5u64, 6, 7] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(Message::PassEnd(end).encode(), expected);
    }

    #[test]
    fn an_older_peer_is_not_told_what_it_cannot_read_and_asks_for_nothing() {
        let member = MemberName::new("MEMBERB").unwrap();
        assert_eq!(Message::Accepted { member, answers: false }.encode(), b"\x81MEMBERB\0");
        assert_eq!(Message::Accepted { member, answers: true }.encode(), b"\x81MEMBERB\0\x01");
        let mut bytes = Message::Offer(offer()).encode();
        assert_eq!(std::mem::take(&mut bytes[1 + 16 + 16 + 6]), 1);
        let Ok(Message::Offer(older)) = Message::decode(&bytes) else { panic!("no offer") };
        assert!(!older.answers);
    }

    #[test]
    fn touched_memory_outside_the_guest_or_out_of_order_is_refused() {
        for stretches in [vec![(0, 0)], vec![(5, 5), (9, 1)], vec![(1 << 18, 1)], vec![(u64::MAX, 2)]] {
            let message = Message::Offer(Offer { stretches, ..offer() });
            assert!(Message::decode(&message.encode()).is_err());
        }
    }

    #[test]
    fn scattered_memory_is_described_in_bounded_space() {
        let scattered = (0..100_000).map(|run| guest_mem::Run::new(run * 3, 1)).collect();
        let runs = Runs::from_unsorted(scattered);
        let stretches = stretches_of(&runs);
        assert!(!stretches.is_empty() && stretches.len() <= STRETCHES_MAX);
        let covered: u64 = stretches.iter().map(|(_, pages)| pages).sum();
        assert!(covered >= 100_000);
    }

    #[test]
    fn a_peers_text_cannot_drive_the_terminal() {
        let message = Message::decode(b"\x82\x1b[2Jboo\n").unwrap();
        assert_eq!(message, Message::Refused(" [2Jboo ".into()));
    }

    proptest! {
        #[test]
        fn decoding_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = Message::decode(&bytes) {
                let again = Message::decode(&message.encode());
                prop_assert!(again.is_ok());
            }
        }
    }
}
