//! What the workload guest shall do: pattern, rate, working set, content.

use super::WorkloadError;
use crate::page::{PAGE_SIZE, PageCount};
use crate::units::Size;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most vCPUs a workload guest can have.
pub const VCPUS_MAX: u8 = 64;
/// Highest dirty rate that can be asked for, in bytes per second (1 TB/s).
pub const DIRTY_RATE_MAX_BYTES_PER_S: u64 = 1_000_000_000_000;

/// Which pages are written, and in which order.
///
/// The patterns are those the literature measures migration with; see each for its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// No writes; the vCPUs tick on.
    Idle,
    /// Any page of the working set, with equal chance.
    Uniform,
    /// Page after page, round and round.
    Sequential,
    /// Nine writes in ten go to a tenth of the pages (writable working set: Clark et al., NSDI 2005).
    #[default]
    #[serde(rename = "hotcold")]
    HotCold,
    /// By rank, theta 0.99 (YCSB's default), ranks scattered over the working set.
    Zipf,
    /// Half a second at twice the rate, half a second quiet; uniform.
    Phased,
    /// Uniform pages, of which 8 to 256 bytes change in place.
    #[serde(rename = "small")]
    SmallUpdates,
    /// A Java heap: an allocation sweep that redirties 86 % of the pages (figure of IBM's LGR tests), then
    /// a collection that copies survivors into the last sixteenth.
    #[serde(rename = "java")]
    JavaSweep,
    /// Uniform pages, freed to zero if they hold data and filled if they are zero.
    Churn,
}

const PATTERNS: [(&str, Pattern); 9] = [
    ("idle", Pattern::Idle),
    ("uniform", Pattern::Uniform),
    ("sequential", Pattern::Sequential),
    ("hotcold", Pattern::HotCold),
    ("zipf", Pattern::Zipf),
    ("phased", Pattern::Phased),
    ("small", Pattern::SmallUpdates),
    ("java", Pattern::JavaSweep),
    ("churn", Pattern::Churn),
];

impl Pattern {
    /// Every pattern, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = Self> {
        PATTERNS.iter().map(|(_, pattern)| *pattern)
    }
}

/// What the pages hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentMix {
    /// 25 % zero, 45 % text-like, 10 % pointer-heavy, 15 % random, 5 % duplicates: synthetic, by seed.
    #[default]
    Realistic,
    /// All zero, also after writes: the best case of every engine.
    Zero,
    /// Incompressible: the worst case.
    Random,
    /// Words and numbers, about 2.5 to 4 : 1 under a fast compressor.
    Text,
    /// Eight-byte pointers with equal upper halves, small integers, zeroes.
    Pointer,
    /// One of 64 bodies (the 32-byte header still tells the pages apart).
    Duplicates,
}

const MIXES: [(&str, ContentMix); 6] = [
    ("realistic", ContentMix::Realistic),
    ("zero", ContentMix::Zero),
    ("random", ContentMix::Random),
    ("text", ContentMix::Text),
    ("pointer", ContentMix::Pointer),
    ("duplicates", ContentMix::Duplicates),
];

/// The name of `value` in a table of names.
fn name_of<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, entry)| entry == value).map_or("?", |(name, _)| name)
}

fn parse_name<T: Copy>(table: &[(&'static str, T)], what: &str, name: &str) -> Result<T, String> {
    table.iter().find(|(entry, _)| *entry == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        format!("unknown {what} '{name}': use {}", names.join(", "))
    })
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&PATTERNS, self))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        parse_name(&PATTERNS, "workload", name)
    }
}

impl fmt::Display for ContentMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&MIXES, self))
    }
}

impl FromStr for ContentMix {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        parse_name(&MIXES, "content", name)
    }
}

/// Everything that defines a workload; moves with the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadOptions {
    /// Which pages are written.
    pub pattern: Pattern,
    /// Bytes of pages dirtied per second by all vCPUs together: each write counts as one page of 4096.
    pub dirty_rate_bytes_per_s: u64,
    /// The first so many touched bytes are written to; `None` for all of them.
    pub working_set_bytes: Option<u64>,
    /// Bytes of storage that the guest has touched when it starts.
    pub touched_bytes: u64,
    /// What pages hold.
    pub content: ContentMix,
    /// The same seed gives the same content and the same order of writes.
    pub seed: u64,
    /// Writer threads, 1 to [`VCPUS_MAX`].
    pub vcpus: u8,
}

impl WorkloadOptions {
    /// Confirms that the options make sense for storage of `storage_bytes`.
    ///
    /// # Errors
    /// [`WorkloadError::Options`], which says what to change.
    pub fn check(&self, storage_bytes: u64) -> Result<(), WorkloadError> {
        let refuse = |why: String| Err(WorkloadError::Options { why });
        if !(1..=VCPUS_MAX).contains(&self.vcpus) {
            return refuse(format!("{} vCPUs: choose 1 to {VCPUS_MAX}", self.vcpus));
        }
        if self.dirty_rate_bytes_per_s > DIRTY_RATE_MAX_BYTES_PER_S {
            return refuse(format!(
                "a dirty rate of {} bytes/s: choose at most {DIRTY_RATE_MAX_BYTES_PER_S}",
                self.dirty_rate_bytes_per_s
            ));
        }
        if self.touched_bytes > storage_bytes {
            return refuse(format!(
                "{} touched do not fit in a guest of {}",
                Size(self.touched_bytes),
                Size(storage_bytes)
            ));
        }
        if let Some(working_set_bytes) = self.working_set_bytes
            && working_set_bytes > self.touched_bytes
        {
            return refuse(format!(
                "a working set of {working_set_bytes} bytes is larger than the {} touched",
                self.touched_bytes
            ));
        }
        if self.writes() && self.working_set_pages().0 < u64::from(self.vcpus) {
            return refuse(format!(
                "{} vCPUs need a working set of at least {} bytes",
                self.vcpus,
                usize::from(self.vcpus) * PAGE_SIZE
            ));
        }
        Ok(())
    }

    /// True if the vCPUs write at all.
    pub(crate) fn writes(&self) -> bool {
        self.pattern != Pattern::Idle && self.dirty_rate_bytes_per_s > 0
    }

    pub(crate) fn touched_pages(&self) -> PageCount {
        PageCount(self.touched_bytes / PAGE_SIZE as u64)
    }

    pub(crate) fn working_set_pages(&self) -> PageCount {
        PageCount(self.working_set_bytes.unwrap_or(self.touched_bytes) / PAGE_SIZE as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> WorkloadOptions {
        WorkloadOptions {
            pattern: Pattern::Uniform,
            dirty_rate_bytes_per_s: 1_000_000,
            working_set_bytes: None,
            touched_bytes: 1 << 20,
            content: ContentMix::Realistic,
            seed: 1,
            vcpus: 2,
        }
    }

    #[test]
    fn names_are_parsed_as_they_are_shown() {
        for pattern in Pattern::all() {
            assert_eq!(pattern.to_string().parse::<Pattern>(), Ok(pattern));
        }
        for (name, mix) in MIXES {
            assert_eq!((mix.to_string().as_str(), name.parse::<ContentMix>()), (name, Ok(mix)));
        }
        assert!("busy".parse::<Pattern>().unwrap_err().contains("hotcold"));
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_what_to_change() {
        options().check(1 << 20).unwrap();
        let why = |change: fn(&mut WorkloadOptions)| {
            let mut changed = options();
            change(&mut changed);
            changed.check(1 << 20).unwrap_err().to_string()
        };
        assert!(why(|o| o.vcpus = 0).contains("1 to 64"));
        assert!(why(|o| o.vcpus = 65).contains("1 to 64"));
        assert!(why(|o| o.dirty_rate_bytes_per_s = u64::MAX).contains("at most"));
        assert!(why(|o| o.touched_bytes = u64::MAX).contains("do not fit"));
        assert!(why(|o| o.working_set_bytes = Some(2 << 20)).contains("larger than"));
        assert!(why(|o| o.working_set_bytes = Some(4096)).contains("at least 8192"));
    }
}
