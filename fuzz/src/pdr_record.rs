//! The contents of a persistent data record.

use ssi::ClusterName;
use ssi::pdr::{CONTENTS_LEN_BYTES, Contents};

/// What is taken is written and read the same.
pub fn run(bytes: &[u8]) {
    let cluster = ClusterName::new("DEMOSSI").unwrap();
    let _ = Contents::from_bytes(bytes, cluster);
    // Once more with the right beginning, length and sum; the input is laid over the header, and the first systems.
    let mut contents = vec![0; CONTENTS_LEN_BYTES];
    let (header, systems) = bytes.split_at(bytes.len().min(0x50));
    contents[..header.len()].copy_from_slice(header);
    for (at, system) in systems.chunks(0x30).take(4).enumerate() {
        let at = 0xC0 + 704 * at;
        contents[at..at + system.len()].copy_from_slice(system);
    }
    contents[..8].copy_from_slice(b"PDRDATA1");
    contents[0x1C..0x1E].copy_from_slice(&[0, 1 + bytes.last().map_or(0, |byte| byte & 1)]);
    contents[0x18..0x1C].fill(0);
    let crc = crc32c::crc32c(&contents);
    contents[0x18..0x1C].copy_from_slice(&crc.to_be_bytes());
    if let Ok(taken) = Contents::from_bytes(&contents, cluster) {
        let again = Contents::from_bytes(&taken.to_bytes(), cluster).unwrap();
        assert_eq!(again, taken);
    }
}
