//! Free memory that the machine really has.
//!
//! Under a hypervisor that takes free memory back (a balloon with free page reporting), the first touch of a page may
//! cost the hypervisor many times what it costs the kernel, and who comes next after a large process has ended is spared
//! that. Where the subject is fresh memory, each run is therefore preceded by this: as much memory as the destination
//! will need is touched, held while the source fills its own, and given back just before the move begins. It is then
//! fresh to the kernel, which clears and maps it anew, for everybody alike.

use memmap2::{Advice, MmapMut};

/// More than the guest's memory, for what a process needs besides.
const SPARE_SHARE: u64 = 8;
const PAGE_BYTES: usize = 4096;

/// Touched memory that is free again when this goes.
pub(crate) struct WarmMemory(#[expect(dead_code, reason = "held, not read")] MmapMut);

impl WarmMemory {
    /// Touches memory for a guest of `memory_bytes` bytes.
    pub(crate) fn for_guest(memory_bytes: u64) -> anyhow::Result<Self> {
        let mut map = MmapMut::map_anon((memory_bytes + memory_bytes / SPARE_SHARE) as usize)?;
        // Only a kernel without huge pages refuses.
        let _ = map.advise(Advice::HugePage);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = map.len().div_ceil(threads).next_multiple_of(PAGE_BYTES);
        std::thread::scope(|scope| {
            for part in map.chunks_mut(share) {
                scope.spawn(|| part.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1));
            }
        });
        Ok(Self(map))
    }
}
