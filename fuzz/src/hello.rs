//! The first bytes on a device, in both directions.

use isfc::hello::{
    DEVICES_MAX, FEATURES, HELLO_LEN_BYTES, Hello, Offer, Refusal, SHARED_REGIONS_MAX, VERSIONS,
    WELCOME_LEN_BYTES, Welcome, WelcomeError, negotiate,
};
use zerocopy::{FromBytes, IntoBytes};

pub fn run(bytes: &[u8]) {
    let mut offer = None;
    if let Some(bytes) = bytes.first_chunk::<HELLO_LEN_BYTES>() {
        let mut bytes = *bytes;
        hello(&bytes);
        bytes[..8].copy_from_slice(b"ISFCHELO");
        offer = hello(&bytes);
    }
    if let Some(bytes) = bytes.last_chunk::<WELCOME_LEN_BYTES>() {
        let mut bytes = *bytes;
        let ours = Offer {
            versions: VERSIONS,
            features: FEATURES,
            device: 0,
            devices: 16,
            shared_regions: 0,
            link_id: 1,
            resume: false,
        };
        welcome(&bytes, &ours);
        bytes[..8].copy_from_slice(b"ISFCWLCM");
        welcome(&bytes, &ours);
        // The two ends may be of any two releases.
        welcome(&bytes, &offer.unwrap_or(ours));
    }
}

fn hello(bytes: &[u8; HELLO_LEN_BYTES]) -> Option<Offer> {
    let offer = match Offer::from_hello(&Hello::read_from_bytes(bytes).unwrap()) {
        Ok(offer) => offer,
        Err(refusal) => {
            assert!(matches!(refusal, Refusal::NotAHello | Refusal::Devices));
            return None;
        }
    };
    assert!(offer.device < offer.devices && offer.devices <= DEVICES_MAX);
    assert!(offer.shared_regions <= SHARED_REGIONS_MAX);
    assert_eq!(Offer::from_hello(&offer.to_hello()), Ok(offer));
    // All that is not said anew is the flags nobody knows, the longest body, and what is reserved.
    assert_eq!(offer.to_hello().as_bytes()[..15], bytes[..15]);
    assert_eq!(offer.to_hello().as_bytes()[16..40], bytes[16..40]);
    negotiated(&offer);
    Some(offer)
}

fn negotiated(offer: &Offer) {
    let ours = negotiate(VERSIONS, FEATURES, offer.versions, offer.features);
    assert_eq!(ours, negotiate(offer.versions, offer.features, VERSIONS, FEATURES));
    let common = |version: u16| {
        version != 0
            && (VERSIONS.0..=VERSIONS.1).contains(&version)
            && (offer.versions.0..=offer.versions.1).contains(&version)
    };
    let newest = (VERSIONS.0..=VERSIONS.1).rev().find(|version| common(*version));
    assert_eq!(ours.ok().map(|agreement| agreement.version), newest, "the newest common version");
    match ours {
        Ok(agreement) => {
            assert_eq!(agreement.features, FEATURES & offer.features);
            assert_eq!(Welcome::new(Ok(agreement)).agreement(offer), Ok(agreement));
        }
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Version);
            let (theirs_oldest, theirs_newest) = VERSIONS;
            let told = Welcome::new(Err(refusal)).agreement(offer);
            assert_eq!(told, Err(WelcomeError::Version { theirs_oldest, theirs_newest }));
        }
    }
}

fn welcome(bytes: &[u8; WELCOME_LEN_BYTES], offer: &Offer) {
    let welcome = Welcome::read_from_bytes(bytes).unwrap();
    match welcome.agreement(offer) {
        Ok(agreement) => {
            assert!((offer.versions.0..=offer.versions.1).contains(&agreement.version));
            assert_ne!(agreement.version, 0);
            assert_eq!(agreement.features & !offer.features, 0, "a feature that was not offered");
        }
        Err(error) => assert!(error.to_string().len() < 400),
    }
}
