//! Who has the lock: the key of the lock record.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::layout::{get, millis, put};
use crate::name::ClusterName;

pub(super) const KEY_LEN_BYTES: usize = 64;
/// What a search looks at: identifier, cluster, state and ticket, not the stamp.
const SEARCH_LEN_BYTES: usize = 48;
const UNLOCKED: [u8; 8] = *b"        ";
const IDENT: &[u8; 8] = b"PDR     ";

/// One time somebody takes the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// System or tool, padded.
    pub(super) owner: [u8; 8],
    /// Which boot of which machine.
    pub(super) boot: u64,
    /// Process there.
    pub(super) pid: u32,
    /// Counts.
    pub(super) number: u32,
}

/// The key while somebody has the record.
pub(super) fn locked(cluster: ClusterName, ticket: &Ticket, now: SystemTime) -> Vec<u8> {
    key(cluster, ticket.owner, ticket, now)
}

/// The key of a record that nobody has; `ticket` had it last. So no key comes twice, and who has seen one knows that nothing
/// has changed as long as it is there.
pub(super) fn unlocked(cluster: ClusterName, ticket: &Ticket, now: SystemTime) -> Vec<u8> {
    key(cluster, UNLOCKED, ticket, now)
}

fn key(cluster: ClusterName, state: [u8; 8], ticket: &Ticket, now: SystemTime) -> Vec<u8> {
    let mut key = vec![0; KEY_LEN_BYTES];
    key[..8].copy_from_slice(IDENT);
    key[8..16].copy_from_slice(format!("{cluster:<8}").as_bytes());
    key[16..24].copy_from_slice(&state);
    put(&mut key, 0x18, ticket.boot);
    put(&mut key, 0x20, (u64::from(ticket.pid) << 32) | u64::from(ticket.number));
    put(&mut key, 0x30, millis(Some(now)));
    key
}

/// A key that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) cluster: ClusterName,
    /// Who has it; none: unlocked.
    pub(super) held: Option<Ticket>,
    /// What a search for this very key looks for.
    pub(super) search: Vec<u8>,
}

/// # Errors
/// In words, what is wrong with it.
pub(super) fn read(key: &[u8]) -> Result<Key, String> {
    if key.len() != KEY_LEN_BYTES || key[..8] != *IDENT {
        return Err("not the key of a persistent data record".to_owned());
    }
    let text = std::str::from_utf8(&key[8..16]).map_err(|error| error.to_string())?;
    let cluster = ClusterName::new(text.trim_end()).map_err(|error| error.to_string())?;
    let mut owner = [0; 8];
    owner.copy_from_slice(&key[16..24]);
    let numbers = get(key, 0x20);
    let ticket = Ticket { owner, boot: get(key, 0x18), pid: (numbers >> 32) as u32, number: numbers as u32 };
    let held = (owner != UNLOCKED).then_some(ticket);
    Ok(Key { cluster, held, search: key[..SEARCH_LEN_BYTES].to_vec() })
}

impl Ticket {
    /// A new one for this process.
    pub(super) fn new(owner: &str) -> Self {
        let mut padded = UNLOCKED;
        for (to, from) in padded.iter_mut().zip(owner.bytes()) {
            *to = from;
        }
        let number = numbers().fetch_add(1, Ordering::Relaxed);
        Self { owner: padded, boot: boot(), pid: std::process::id(), number }
    }

    /// What its owner searches for.
    pub(super) fn search(&self, cluster: ClusterName) -> Vec<u8> {
        let mut key = locked(cluster, self, SystemTime::UNIX_EPOCH);
        key.truncate(SEARCH_LEN_BYTES);
        key
    }

    /// Its owner's name.
    pub(super) fn owner(&self) -> String {
        String::from_utf8_lossy(&self.owner).trim_end().to_owned()
    }

    /// Its process ran on this machine, in this boot, and is gone. A process in another container is not seen, and taken
    /// for gone: its lock is then taken early, which does no harm.
    pub(super) fn is_dead(&self) -> bool {
        self.boot == boot() && !std::path::Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

/// Counts from where no earlier process of the same number is likely to have been.
fn numbers() -> &'static AtomicU32 {
    static NUMBERS: std::sync::OnceLock<AtomicU32> = std::sync::OnceLock::new();
    NUMBERS.get_or_init(|| AtomicU32::new((millis(Some(SystemTime::now())) as u32) << 8))
}

/// A number for this boot of this machine.
fn boot() -> u64 {
    static BOOT: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        xxhash_rust::xxh3::xxh3_64(&id) | 1
    })
}
