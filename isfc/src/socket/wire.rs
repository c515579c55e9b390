//! What endpoints say to each other: a fixed 32-byte header, and behind that of a [`PeerMessage::Data`] a body.
//!
//! ```text
//!  0      1       2        4          8                16               24               32
//!  ┌──────┬───────┬────────┬──────────┬────────────────┬────────────────┬────────────────┬─ ─ ─ ─
//!  │ kind │ level │ window │    0     │ endpoint name, │ incarnation    │ number         │ body
//!  │ u8   │ u8 1  │ u16    │          │ padded         │ u64            │ u64            │ (Data)
//!  └──────┴───────┴────────┴──────────┴────────────────┴────────────────┴────────────────┴─ ─ ─ ─
//! ```
//!
//! Little-endian. What a kind does not use is zero, and no kind, level, incarnation or window is.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::name::{EndpointName, NAME_LEN_BYTES};
use super::{BODY_LEN_BYTES_MAX, WINDOW_MAX};

/// Level of this layout and of the rules that go with it.
pub const LEVEL: u8 = 1;
/// Size of the header, in bytes.
pub const HEADER_LEN_BYTES: usize = size_of::<WireHeader>();

const OPEN: u8 = 1;
const READY: u8 = 2;
const DATA: u8 = 3;
const TAKEN: u8 = 4;
const CLOSE: u8 = 5;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireHeader {
    kind: u8,
    level: u8,
    window: U16,
    reserved: U32,
    name: [u8; NAME_LEN_BYTES],
    incarnation: U64,
    number: U64,
}

/// Something one side's endpoints tell the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// The sender has an endpoint.
    Open {
        /// Its name.
        name: EndpointName,
        /// Its incarnation: greater than that of every endpoint the sender opened before.
        incarnation: u64,
        /// Messages it may have waiting, 1 to [`WINDOW_MAX`].
        window: u16,
    },
    /// Every endpoint that the sender had when the link came up has been told.
    Ready {
        /// A random number of the sender, not zero: another one means that the peer has started anew.
        instance: u64,
    },
    /// A message for an endpoint of the receiver.
    Data {
        /// The endpoint's name.
        name: EndpointName,
        /// The endpoint's incarnation, as the receiver told it.
        incarnation: u64,
        /// Number of the message for this incarnation on this link, from 1.
        number: u64,
        /// At most [`BODY_LEN_BYTES_MAX`] bytes.
        body: Vec<u8>,
    },
    /// An endpoint of the sender has taken messages.
    Taken {
        /// The endpoint's name.
        name: EndpointName,
        /// The endpoint's incarnation.
        incarnation: u64,
        /// Everything up to this number is taken; not zero.
        number: u64,
    },
    /// An endpoint of the sender is gone.
    Close {
        /// The endpoint's name.
        name: EndpointName,
        /// The endpoint's incarnation.
        incarnation: u64,
        /// Everything up to this number was taken, and nothing after it ever will be.
        number: u64,
    },
}

/// Why bytes from the peer are no [`PeerMessage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not even a header.
    #[error("a message of {0} bytes is shorter than its header of {HEADER_LEN_BYTES}")]
    Short(usize),
    /// Another level.
    #[error("endpoints of level {0}, this side knows level {LEVEL}")]
    Level(u8),
    /// A kind this level does not have.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// Not as [`EndpointName::from_wire`] wants it.
    #[error("{0:02x?} does not name an endpoint")]
    Name([u8; NAME_LEN_BYTES]),
    /// A field must be zero, or must not, or is out of its range.
    #[error("{field} {value} in a message of kind {kind}")]
    Field {
        /// Kind of the message.
        kind: u8,
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A body where none belongs, or one that is too long.
    #[error("body of {len_bytes} bytes in a message of kind {kind}, at most {max_bytes} allowed")]
    Body {
        /// Kind of the message.
        kind: u8,
        /// Length of the body.
        len_bytes: usize,
        /// Allowed.
        max_bytes: usize,
    },
}

impl PeerMessage {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, name, window, incarnation, number, body): (_, _, _, _, _, &[u8]) = match self {
            Self::Open { name, incarnation, window } => (OPEN, Some(name), *window, *incarnation, 0, &[]),
            Self::Ready { instance } => (READY, None, 0, *instance, 0, &[]),
            Self::Data { name, incarnation, number, body } => {
                (DATA, Some(name), 0, *incarnation, *number, body)
            }
            Self::Taken { name, incarnation, number } => (TAKEN, Some(name), 0, *incarnation, *number, &[]),
            Self::Close { name, incarnation, number } => (CLOSE, Some(name), 0, *incarnation, *number, &[]),
        };
        let header = WireHeader {
            kind,
            level: LEVEL,
            window: window.into(),
            reserved: 0.into(),
            name: name.map_or([0; NAME_LEN_BYTES], |name| name.to_wire()),
            incarnation: incarnation.into(),
            number: number.into(),
        };
        [header.as_bytes(), body].concat()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// See [`WireError`]; a peer that sends such bytes does not keep to the protocol.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (header, body) =
            WireHeader::read_from_prefix(bytes).map_err(|_| WireError::Short(bytes.len()))?;
        if header.level != LEVEL {
            return Err(WireError::Level(header.level));
        }
        if !(OPEN..=CLOSE).contains(&header.kind) {
            return Err(WireError::Kind(header.kind));
        }
        header.check_body(body)?;
        header.check_fields()?;
        let (incarnation, number) = (header.incarnation.get(), header.number.get());
        if header.kind == READY {
            return Ok(Self::Ready { instance: incarnation });
        }
        let name = EndpointName::from_wire(header.name).ok_or(WireError::Name(header.name))?;
        Ok(match header.kind {
            OPEN => Self::Open { name, incarnation, window: header.window.get() },
            DATA => Self::Data { name, incarnation, number, body: body.to_vec() },
            TAKEN => Self::Taken { name, incarnation, number },
            _ => Self::Close { name, incarnation, number },
        })
    }
}

impl WireHeader {
    fn check_body(&self, body: &[u8]) -> Result<(), WireError> {
        let max_bytes = if self.kind == DATA { BODY_LEN_BYTES_MAX } else { 0 };
        if body.len() > max_bytes {
            return Err(WireError::Body { kind: self.kind, len_bytes: body.len(), max_bytes });
        }
        Ok(())
    }

    fn check_fields(&self) -> Result<(), WireError> {
        let (window, number) = (self.window.get(), self.number.get());
        let window_ok = match self.kind {
            OPEN => (1..=WINDOW_MAX).contains(&window),
            _ => window == 0,
        };
        let number_ok = match self.kind {
            OPEN | READY => number == 0,
            DATA | TAKEN => number != 0,
            _ => true,
        };
        let name_ok = self.kind != READY || self.name == [0; NAME_LEN_BYTES];
        let fields = [
            ("window", u64::from(window), window_ok),
            ("reserved field", self.reserved.get().into(), self.reserved.get() == 0),
            ("name", u64::from_le_bytes(self.name), name_ok),
            ("incarnation", self.incarnation.get(), self.incarnation.get() != 0),
            ("number", number, number_ok),
        ];
        match fields.into_iter().find(|(_, _, ok)| !ok) {
            Some((field, value, _)) => Err(WireError::Field { kind: self.kind, field, value }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> EndpointName {
        EndpointName::new("SSILOCK").unwrap()
    }

    #[test]
    fn the_layout_is_pinned() {
        let open = PeerMessage::Open { name: name(), incarnation: 3, window: 0x0120 - 0x20 };
        let expected = b"\x01\x01\x00\x01\0\0\0\0SSILOCK\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(open.encode(), expected);
        let ready = PeerMessage::Ready { instance: 0x0807_0605_0403_0201 };
        let expected =
            b"\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\0";
        assert_eq!(ready.encode(), expected);
        let data = PeerMessage::Data { name: name(), incarnation: 3, number: 0x1234, body: b"hold".to_vec() };
        let expected = b"\x03\x01\0\0\0\0\0\0SSILOCK\0\x03\0\0\0\0\0\0\0\x34\x12\0\0\0\0\0\0hold";
        assert_eq!(data.encode(), expected);
        let taken = PeerMessage::Taken { name: name(), incarnation: 3, number: 2 };
        let expected = b"\x04\x01\0\0\0\0\0\0SSILOCK\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0";
        assert_eq!(taken.encode(), expected);
        let close = PeerMessage::Close { name: name(), incarnation: 3, number: 2 };
        let expected = b"\x05\x01\0\0\0\0\0\0SSILOCK\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0";
        assert_eq!(close.encode(), expected);
    }

    #[test]
    fn every_malformed_message_is_named() {
        let good = PeerMessage::Taken { name: name(), incarnation: 3, number: 2 }.encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            PeerMessage::decode(&bytes).unwrap_err().to_string()
        };
        assert!(PeerMessage::decode(&good[..31]).unwrap_err().to_string().contains("31 bytes"));
        assert_eq!(with(0, 0), "unknown kind 0");
        assert_eq!(with(0, 6), "unknown kind 6");
        assert_eq!(with(1, 2), "endpoints of level 2, this side knows level 1");
        assert_eq!(with(2, 1), "window 1 in a message of kind 4");
        assert_eq!(with(7, 1), "reserved field 16777216 in a message of kind 4");
        assert_eq!(with(16, 0), "incarnation 0 in a message of kind 4");
        assert_eq!(with(24, 0), "number 0 in a message of kind 4");
        assert!(with(8, b's').contains("does not name an endpoint"), "{}", with(8, b's'));
        assert_eq!(with(0, OPEN), "window 0 in a message of kind 1");
        assert!(with(0, READY).starts_with("name "), "{}", with(0, READY));
        let long = [&good[..], b"x"].concat();
        assert!(PeerMessage::decode(&long).unwrap_err().to_string().contains("at most 0 allowed"));
        let body = vec![0; BODY_LEN_BYTES_MAX + 1];
        let data = PeerMessage::Data { name: name(), incarnation: 1, number: 1, body };
        assert!(matches!(PeerMessage::decode(&data.encode()), Err(WireError::Body { kind: DATA, .. })));
    }

    proptest! {
        #[test]
        fn whatever_decodes_is_what_encodes_to_the_same_bytes(
            kind in 0u8..7,
            window in prop_oneof![Just(0u16), Just(1), Just(256), Just(257)],
            incarnation in 0u64..3,
            number in 0u64..3,
            name in prop_oneof![Just(*b"SSILOCK\0"), Just([0; 8]), any::<[u8; 8]>()],
            body in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = vec![kind, LEVEL];
            bytes.extend(window.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(name);
            bytes.extend(incarnation.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            bytes.extend(body);
            if let Ok(message) = PeerMessage::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
