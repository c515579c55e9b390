//! stub
/// Pages per batch.
pub const BATCH_PAGES: u64 = 4096;
/// Number of a backing in an offer.
pub fn backing_number(backing: guest_mem::Backing) -> u8 {
    match backing {
        guest_mem::Backing::Small => 1,
        guest_mem::Backing::Thp => 2,
        guest_mem::Backing::HugeTlb => 3,
    }
}
