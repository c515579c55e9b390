//! A batch of the manifest that the moved guest's memory is compared with.

use guest_mem::{BATCH_PAGES_MAX, ManifestBatch};

pub fn run(bytes: &[u8]) {
    if let Ok(batch) = ManifestBatch::decode(bytes) {
        assert!((1..=u64::from(BATCH_PAGES_MAX)).contains(&batch.run.pages.get()));
        assert_eq!(batch.encode(), bytes);
    }
}
