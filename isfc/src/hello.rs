//! The first words on every device: who is calling, with which versions and features, for which link.
//!
//! The dialling side sends one [`Hello`] per device, the listening side answers with one
//! [`Welcome`]. What both will speak is decided by [`negotiate`], a pure function: the newest common
//! version wins, and of the features those that both offer.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First eight bytes of a hello.
pub const HELLO_MAGIC: [u8; 8] = *b"ISFCHELO";
/// First eight bytes of a welcome.
pub const WELCOME_MAGIC: [u8; 8] = *b"ISFCWLCM";
/// Protocol versions this build speaks, oldest and newest.
///
/// Version 1 has sockets and placed transfers. Version 2 adds numbered segments with acknowledgements and credit, and
/// the exchange of system names that the write rule needs.
pub const VERSIONS: (u16, u16) = (1, 2);
/// Feature: payload digests are computed and checked where content is stable.
pub const FEATURE_DIGEST: u64 = 1;
/// Feature: the receiver fetches payload from the sender's shared region.
pub const FEATURE_FETCH: u64 = 2;
/// Feature: extents may be packed, their bytes unpacked by the region's owner, or kept, as the receiver has them
/// already. Needs version 2, where what comes damaged is sent again.
pub const FEATURE_PACKED: u64 = 4;
/// Feature: the owner of a region takes a dictionary for packed extents. How it is told is the owners' own affair.
pub const FEATURE_DICTIONARY: u64 = 8;
/// Feature: what was to be packed may have its extents in any order, not only by their offsets.
pub const FEATURE_ANY_ORDER: u64 = 16;
/// Features this build knows.
pub const FEATURES: u64 =
    FEATURE_DIGEST | FEATURE_FETCH | FEATURE_PACKED | FEATURE_DICTIONARY | FEATURE_ANY_ORDER;
/// Most devices a logical link has (IBM: 1 to 16 FCTC connections per link).
pub const DEVICES_MAX: u8 = 16;
/// Most regions one side shares over the shm medium.
pub const SHARED_REGIONS_MAX: u8 = 4;

/// Sent by the dialling side on each device.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct Hello {
    magic: [u8; 8],
    version_oldest: U16,
    version_newest: U16,
    device: u8,
    devices: u8,
    shared_regions: u8,
    flags: u8,
    features: U64,
    link_id: [u8; 16],
    body_len_max: U32,
    reserved_b: U32,
}

/// Size of a hello on the wire, in bytes.
pub const HELLO_LEN_BYTES: usize = size_of::<Hello>();
/// Size of a welcome on the wire, in bytes.
pub const WELCOME_LEN_BYTES: usize = size_of::<Welcome>();

/// What the dialling side offers; a [`Hello`] in native types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Oldest and newest version spoken.
    pub versions: (u16, u16),
    /// Feature bits.
    pub features: u64,
    /// This device's number, from 0.
    pub device: u8,
    /// Devices of the link, 1 to [`DEVICES_MAX`].
    pub devices: u8,
    /// Regions whose descriptors follow the hello (shm only, on device 0).
    pub shared_regions: u8,
    /// Random number that ties the devices of one link together.
    pub link_id: u128,
    /// The device was up before, and comes back to the link (version 2).
    pub resume: bool,
}

impl Offer {
    /// The hello that says this.
    pub fn to_hello(self) -> Hello {
        Hello {
            magic: HELLO_MAGIC,
            version_oldest: self.versions.0.into(),
            version_newest: self.versions.1.into(),
            device: self.device,
            devices: self.devices,
            shared_regions: self.shared_regions,
            flags: u8::from(self.resume),
            features: self.features.into(),
            link_id: self.link_id.to_le_bytes(),
            body_len_max: (crate::frame::BODY_LEN_BYTES_MAX as u32).into(),
            reserved_b: 0.into(),
        }
    }

    /// Reads a hello.
    ///
    /// # Errors
    /// [`Refusal::NotAHello`] or [`Refusal::Devices`].
    pub fn from_hello(hello: &Hello) -> Result<Self, Refusal> {
        if hello.magic != HELLO_MAGIC {
            return Err(Refusal::NotAHello);
        }
        let devices_ok = hello.devices >= 1 && hello.devices <= DEVICES_MAX && hello.device < hello.devices;
        if !devices_ok || hello.shared_regions > SHARED_REGIONS_MAX {
            return Err(Refusal::Devices);
        }
        Ok(Self {
            versions: (hello.version_oldest.get(), hello.version_newest.get()),
            features: hello.features.get(),
            device: hello.device,
            devices: hello.devices,
            shared_regions: hello.shared_regions,
            link_id: u128::from_le_bytes(hello.link_id),
            resume: hello.flags & 1 != 0,
        })
    }
}

/// Why a call was not taken; the number travels in the [`Welcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub enum Refusal {
    /// The bytes are not a hello.
    #[error("the first bytes are not an ISFC hello")]
    NotAHello = 1,
    /// No common version.
    #[error("no common protocol version")]
    Version = 2,
    /// Device numbers make no sense.
    #[error("device or region counts out of range")]
    Devices = 3,
    /// Another link is being set up or is up.
    #[error("the peer is already serving another link")]
    Busy = 4,
    /// The same device of the same link called twice.
    #[error("this device is already connected")]
    Duplicate = 5,
    /// A device wants to come back to a link that is not here, or from which it was taken.
    #[error("the peer has no such link for the device to come back to")]
    NoSuchLink = 7,
    /// A medium was asked for that this side cannot give (shared regions without shm).
    #[error("the two sides do not use the same medium")]
    Medium = 6,
    /// Over TLS: what follows the hello is not this session's. Somebody plays back what was said elsewhere.
    #[error("this hello belongs to another connection (replayed)")]
    Replayed = 8,
    /// A new link with the id of one that was here before.
    #[error("a link with this id was here before: each link has an id of its own (replayed)")]
    UsedLinkId = 9,
    /// The listener speaks TLS only.
    #[error("it demands TLS, and this side spoke plaintext: give --tls DIR")]
    TlsDemanded = 10,
    /// A device shows another certificate than its link's first.
    #[error("all devices of a link show the same member's certificate, and this one shows another's")]
    Identity = 11,
}

impl Refusal {
    fn from_wire(value: u16) -> Option<Self> {
        Some(match value {
            1 => Self::NotAHello,
            2 => Self::Version,
            3 => Self::Devices,
            4 => Self::Busy,
            5 => Self::Duplicate,
            6 => Self::Medium,
            7 => Self::NoSuchLink,
            8 => Self::Replayed,
            9 => Self::UsedLinkId,
            10 => Self::TlsDemanded,
            11 => Self::Identity,
            _ => return None,
        })
    }
}

/// The listening side's answer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct Welcome {
    magic: [u8; 8],
    /// 0: refused, and `version_oldest..=version_newest` are those of the listener.
    version: U16,
    refusal: U16,
    version_oldest: U16,
    version_newest: U16,
    features: U64,
}

/// What both sides of a device speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Protocol version.
    pub version: u16,
    /// Feature bits.
    pub features: u64,
}

impl Agreement {
    /// Extents may be packed or kept.
    pub fn packs(&self) -> bool {
        self.version >= 2 && self.features & FEATURE_PACKED != 0
    }

    /// Packed extents may refer to a dictionary.
    pub fn takes_dictionaries(&self) -> bool {
        self.packs() && self.features & FEATURE_DICTIONARY != 0
    }

    /// What was to be packed may have its extents in any order.
    pub fn takes_any_order(&self) -> bool {
        self.packs() && self.features & FEATURE_ANY_ORDER != 0
    }
}

/// Why two sides do not come together, as the dialling side learns it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WelcomeError {
    /// What came back is not a welcome at all.
    #[error("the peer does not speak ISFC: it answered {0:02x?}")]
    NotAWelcome([u8; 8]),
    /// Refused for want of a common version.
    #[error(
        "the peer speaks protocol versions {theirs_oldest} to {theirs_newest}, this program {} to {}: use the same release on both sides",
        VERSIONS.0, VERSIONS.1
    )]
    Version {
        /// The peer's oldest.
        theirs_oldest: u16,
        /// The peer's newest.
        theirs_newest: u16,
    },
    /// Refused for another reason.
    #[error("the peer refused the link: {0}")]
    Refused(Refusal),
    /// Refused for a reason this version does not know, or accepted with a version not offered.
    #[error("the peer's answer makes no sense (version {version}, refusal {refusal})")]
    Invalid {
        /// Version field.
        version: u16,
        /// Refusal field.
        refusal: u16,
    },
}

/// Newest common version, common features. Pure: both sides can compute it.
///
/// # Errors
/// [`Refusal::Version`] if the ranges do not overlap or are reversed.
pub fn negotiate(
    ours: (u16, u16),
    our_features: u64,
    theirs: (u16, u16),
    their_features: u64,
) -> Result<Agreement, Refusal> {
    let version = ours.1.min(theirs.1);
    let overlap = ours.0 <= ours.1 && theirs.0 <= theirs.1 && version >= ours.0.max(theirs.0);
    if !overlap || version == 0 {
        return Err(Refusal::Version);
    }
    Ok(Agreement { version, features: our_features & their_features })
}

impl Welcome {
    /// The answer to a call.
    pub fn new(result: Result<Agreement, Refusal>) -> Self {
        let (version, features, refusal) = match result {
            Ok(agreement) => (agreement.version, agreement.features, 0),
            Err(refusal) => (0, 0, refusal as u16),
        };
        Self {
            magic: WELCOME_MAGIC,
            version: version.into(),
            refusal: refusal.into(),
            version_oldest: VERSIONS.0.into(),
            version_newest: VERSIONS.1.into(),
            features: features.into(),
        }
    }

    /// What the dialling side, which offered `offer`, may speak from now on.
    ///
    /// # Errors
    /// See [`WelcomeError`].
    pub fn agreement(&self, offer: &Offer) -> Result<Agreement, WelcomeError> {
        if self.magic != WELCOME_MAGIC {
            return Err(WelcomeError::NotAWelcome(self.magic));
        }
        let (version, refusal) = (self.version.get(), self.refusal.get());
        match Refusal::from_wire(refusal) {
            Some(Refusal::Version) => {
                return Err(WelcomeError::Version {
                    theirs_oldest: self.version_oldest.get(),
                    theirs_newest: self.version_newest.get(),
                });
            }
            Some(other) => return Err(WelcomeError::Refused(other)),
            None => {}
        }
        let offered = version >= offer.versions.0 && version <= offer.versions.1 && version != 0;
        if refusal != 0 || !offered {
            return Err(WelcomeError::Invalid { version, refusal });
        }
        Ok(Agreement { version, features: self.features.get() & offer.features })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_newest_common_version_wins() {
        assert_eq!(negotiate((1, 4), 7, (2, 3), 5), Ok(Agreement { version: 3, features: 5 }));
        assert_eq!(negotiate((1, 1), 1, (1, 9), 1), Ok(Agreement { version: 1, features: 1 }));
    }

    #[test]
    fn packed_extents_keep_their_order_unless_both_know_that_they_need_not() {
        let takes = |features| {
            negotiate(VERSIONS, FEATURES, VERSIONS, features).map(|agreement| agreement.takes_any_order())
        };
        assert_eq!(takes(FEATURES), Ok(true));
        assert_eq!(takes(FEATURES & !FEATURE_ANY_ORDER), Ok(false));
        assert_eq!(takes(FEATURES & !FEATURE_PACKED), Ok(false));
    }

    #[test]
    fn nothing_is_packed_unless_both_know_how_and_what_is_damaged_comes_again() {
        let packs = |version, features| {
            negotiate(VERSIONS, FEATURES, (1, version), features).map(|agreement| agreement.packs())
        };
        assert_eq!(packs(2, FEATURES), Ok(true));
        assert_eq!(packs(2, FEATURE_DIGEST | FEATURE_FETCH), Ok(false), "an older peer");
        assert_eq!(packs(1, FEATURES), Ok(false));
    }

    #[test]
    fn ranges_that_do_not_meet_are_refused() {
        assert_eq!(negotiate((1, 2), 0, (3, 4), 0), Err(Refusal::Version));
        assert_eq!(negotiate((1, 2), 0, (2, 1), 0), Err(Refusal::Version));
        assert_eq!(negotiate((0, 0), 0, (0, 0), 0), Err(Refusal::Version));
    }

    fn offer() -> Offer {
        Offer {
            versions: VERSIONS,
            features: FEATURES,
            device: 2,
            devices: 4,
            shared_regions: 0,
            link_id: 9,
            resume: false,
        }
    }

    #[test]
    fn the_hello_layout_is_pinned() {
        let hello = offer().to_hello();
        let bytes = hello.as_bytes();
        assert_eq!(HELLO_LEN_BYTES, 48);
        assert_eq!(WELCOME_LEN_BYTES, 24);
        assert_eq!(&bytes[..16], b"ISFCHELO\x01\0\x02\0\x02\x04\0\0");
        assert_eq!(bytes[24], 9);
        assert_eq!(Offer::from_hello(&hello), Ok(offer()));
    }

    #[test]
    fn a_refusal_for_the_version_names_both_ranges() {
        let mut welcome = Welcome::new(Err(Refusal::Version));
        welcome.version_oldest = 7.into();
        welcome.version_newest = 8.into();
        let text = welcome.agreement(&offer()).unwrap_err().to_string();
        assert!(text.contains("7 to 8"), "{text}");
    }

    #[test]
    fn a_device_number_beyond_the_link_is_refused() {
        let hello = Offer { device: 4, ..offer() }.to_hello();
        assert_eq!(Offer::from_hello(&hello), Err(Refusal::Devices));
        let hello = Offer { devices: 17, ..offer() }.to_hello();
        assert_eq!(Offer::from_hello(&hello), Err(Refusal::Devices));
    }

    proptest! {
        #[test]
        fn both_sides_compute_the_same(a in 0u16..6, b in 0u16..6, c in 0u16..6, d in 0u16..6, f: u64, g: u64) {
            prop_assert_eq!(negotiate((a, b), f, (c, d), g), negotiate((c, d), g, (a, b), f));
        }

        #[test]
        fn any_bytes_are_a_hello_or_a_refusal(bytes: [u8; HELLO_LEN_BYTES]) {
            let hello: Hello = zerocopy::transmute!(bytes);
            if let Ok(offer) = Offer::from_hello(&hello) {
                prop_assert!(offer.device < offer.devices && offer.devices <= DEVICES_MAX);
            }
        }
    }
}
