//! Whether pages can be packed on a link at all.

use guest_mem::{Runs, Storage};
use isfc::{Link, Medium};

use crate::codec::Compress;
use crate::codec::packing::Packing;

/// Contexts for the devices of `link`.
///
/// # Errors
/// In words, why nothing is packed.
pub(super) fn packing_for(
    choice: Compress,
    link: &Link,
    storage: &Storage,
    touched: &Runs,
    limit_bytes_per_s: Option<u64>,
) -> Result<Packing, String> {
    match choice {
        Compress::Never => return Err("not asked for".to_owned()),
        _ if !link.packs() => return Err("the peer cannot unpack".to_owned()),
        // Pages do not go over a wire, but the destination copies them from the source's memory.
        Compress::Auto if link.medium() == Medium::Shm && limit_bytes_per_s.is_none() => {
            return Err("shared memory is no wire".to_owned());
        }
        Compress::Auto | Compress::Zstd(_) => {}
    }
    let arranges = link.takes_any_order();
    Packing::new(choice, storage, touched, link.devices(), limit_bytes_per_s, arranges)
        .map_err(|error| format!("zstd: {error}"))
}
