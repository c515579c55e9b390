//! Will the guest fit? Asked before anything starts, and answered with the sum.
//!
//! The limits are `MemAvailable` of `/proc/meminfo` and every `memory.max` above this process in the cgroup v2 tree.
//! The size of `/dev/shm` is none of them: a memfd lives on a mount of the kernel's own, without a size limit.

use super::StorageError;
use crate::units::Size;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Memory that a relocation on this machine will take, in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Bytes the guest touches on the source, if the source is on this machine.
    pub source_touched_bytes: u64,
    /// Bytes the guest touches on the destination, if it is on this machine.
    pub destination_touched_bytes: u64,
    /// Everything else: buffers, bitmaps, page tables.
    pub overhead_bytes: u64,
}

impl MemoryNeed {
    /// The sum of the parts.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.source_touched_bytes
            .saturating_add(self.destination_touched_bytes)
            .saturating_add(self.overhead_bytes)
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "source guest {} + destination guest {} + overhead {} = {} needed",
            Size(self.source_touched_bytes),
            Size(self.destination_touched_bytes),
            Size(self.overhead_bytes),
            Size(self.total_bytes())
        )
    }
}

/// Memory that this process could still take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAvailable {
    /// `MemAvailable` of `/proc/meminfo`, in bytes.
    pub mem_available_bytes: u64,
    /// The smallest room under any `memory.max` above this process; `None` without such a limit.
    pub cgroup_room_bytes: Option<u64>,
}

impl MemoryAvailable {
    /// Reads what the kernel says now.
    ///
    /// # Errors
    /// [`StorageError::Inspect`] if `/proc/meminfo` cannot be read or has no `MemAvailable`.
    pub fn read() -> Result<Self, StorageError> {
        let inspect = |source| StorageError::Inspect { step: "/proc/meminfo", source };
        let meminfo = fs::read_to_string("/proc/meminfo").map_err(inspect)?;
        let mem_available_bytes = mem_available_bytes(&meminfo)
            .ok_or_else(|| inspect(std::io::Error::other("no MemAvailable line")))?;
        Ok(Self { mem_available_bytes, cgroup_room_bytes: cgroup_room_bytes() })
    }
}

/// Refuses a guest that cannot fit.
///
/// # Errors
/// [`StorageError::DoesNotFit`], which contains the sum.
pub fn check_fits(need: &MemoryNeed, available: &MemoryAvailable) -> Result<(), StorageError> {
    let machine = (available.mem_available_bytes, "MemAvailable of this machine");
    let (room_bytes, limit) = match available.cgroup_room_bytes {
        Some(room_bytes) if room_bytes < machine.0 => (room_bytes, "memory.max of this cgroup"),
        _ => machine,
    };
    if need.total_bytes() > room_bytes {
        return Err(StorageError::DoesNotFit { need: *need, room_bytes, limit });
    }
    Ok(())
}

fn mem_available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least room under a `memory.max` from this process's cgroup up to the root.
fn cgroup_room_bytes() -> Option<u64> {
    let mount = cgroup2_mount(&fs::read_to_string("/proc/self/mounts").ok()?)?;
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let leaf = mount.join(path);
    leaf.ancestors().take_while(|dir| dir.starts_with(&mount)).filter_map(room_in).min()
}

fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(target))
    })
}

fn room_in(cgroup: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(cgroup.join(name)).ok()?.trim().parse::<u64>().ok();
    let (max, current) = (number("memory.max")?, number("memory.current")?); // "max" parses as no limit
    // Page cache counts as used but is given up under pressure.
    let stat = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    let cache_bytes: u64 = ["inactive_file ", "active_file "]
        .iter()
        .filter_map(|key| stat.lines().find_map(|line| line.strip_prefix(key)?.parse::<u64>().ok()))
        .sum();
    Some(max.saturating_sub(current.saturating_sub(cache_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_guest_that_fits_is_accepted_and_a_larger_one_refused_with_the_sum() {
        let available = MemoryAvailable { mem_available_bytes: 20 * GIB, cgroup_room_bytes: None };
        let mut need = MemoryNeed {
            source_touched_bytes: 8 * GIB,
            destination_touched_bytes: 8 * GIB,
            overhead_bytes: GIB / 4,
        };
        check_fits(&need, &available).unwrap();
        need.source_touched_bytes = 16 * GIB;
        let text = check_fits(&need, &available).unwrap_err().to_string();
        for part in ["16.0 GiB + destination guest 8.00 GiB", "= 24.2 GiB", "20.0 GiB", "MemAvailable"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_tighter_limit_is_the_one_named() {
        let available = MemoryAvailable { mem_available_bytes: 20 * GIB, cgroup_room_bytes: Some(GIB) };
        let need = MemoryNeed { source_touched_bytes: 2 * GIB, ..MemoryNeed::default() };
        assert!(check_fits(&need, &available).unwrap_err().to_string().contains("memory.max"));
    }

    #[test]
    fn a_sum_that_overflows_is_refused() {
        let available = MemoryAvailable { mem_available_bytes: GIB, cgroup_room_bytes: None };
        let need = MemoryNeed {
            source_touched_bytes: u64::MAX,
            destination_touched_bytes: u64::MAX,
            overhead_bytes: 1,
        };
        assert!(check_fits(&need, &available).is_err());
    }

    #[test]
    fn the_kernel_tables_are_read() {
        assert_eq!(mem_available_bytes("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12288));
        assert_eq!(mem_available_bytes("MemTotal: 9 kB\n"), None);
        let mounts = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert!(MemoryAvailable::read().unwrap().mem_available_bytes > 0);
    }
}
