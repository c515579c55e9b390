//! The first bytes on a device, in both directions.
#![no_main]

use isfc::hello::{
    DEVICES_MAX, FEATURES, HELLO_LEN_BYTES, Hello, Offer, VERSIONS, WELCOME_LEN_BYTES, Welcome, negotiate,
};
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

fuzz_target!(|bytes: &[u8]| {
    if let Some(bytes) = bytes.first_chunk::<HELLO_LEN_BYTES>() {
        let mut bytes = *bytes;
        hello(&bytes);
        bytes[..8].copy_from_slice(b"ISFCHELO");
        hello(&bytes);
    }
    if let Some(bytes) = bytes.first_chunk::<WELCOME_LEN_BYTES>() {
        let mut bytes = *bytes;
        welcome(&bytes);
        bytes[..8].copy_from_slice(b"ISFCWLCM");
        welcome(&bytes);
    }
});

fn hello(bytes: &[u8; HELLO_LEN_BYTES]) {
    let Ok(offer) = Offer::from_hello(&Hello::read_from_bytes(bytes).unwrap()) else { return };
    assert!(offer.device < offer.devices && offer.devices <= DEVICES_MAX);
    let ours = negotiate(VERSIONS, FEATURES, offer.versions, offer.features);
    assert_eq!(ours, negotiate(offer.versions, offer.features, VERSIONS, FEATURES));
    if let Ok(agreement) = ours {
        assert!(agreement.version >= VERSIONS.0 && agreement.version <= VERSIONS.1);
        assert_eq!(agreement.features & !FEATURES, 0);
        assert_eq!(Welcome::new(Ok(agreement)).agreement(&offer), Ok(agreement));
    }
}

fn welcome(bytes: &[u8; WELCOME_LEN_BYTES]) {
    let welcome = Welcome::read_from_bytes(bytes).unwrap();
    let offer = Offer {
        versions: VERSIONS,
        features: FEATURES,
        device: 0,
        devices: 16,
        shared_regions: 0,
        link_id: 1,
        resume: false,
    };
    if let Ok(agreement) = welcome.agreement(&offer) {
        assert!(agreement.version >= VERSIONS.0 && agreement.version <= VERSIONS.1);
        assert_eq!(agreement.features & !FEATURES, 0);
    }
}
