//! What the guest is told, in the second sector of its disk, and what it tells, in a page of its memory.
//!
//! ```text
//!   second sector, at 0x7e00 (64-bit numbers, little-endian)   status, at 0x6000
//!    0  first range to fill: from, to (bytes)                   0  "LGR1" filling, "LGR2" filled
//!   16  second range                                            8  pages written
//!   32  multiplier of the generator                            16  timer ticks
//!   40  seed of the content; 0 fills with zero                 24  time stamp of the last tick
//!   48  seed of the writes
//!   56  where the working set begins
//!   64  pages of the working set, less one (all ones in binary)
//!   72  time stamp counts between two pages; 0 is an idle guest
//!   80  time stamp counts of debt that are not forgiven
//! ```

use super::program::assemble;

/// Bytes of a sector.
pub(crate) const SECTOR_BYTES: usize = 512;
/// Bytes of the disk: SeaBIOS takes a disk of one MiB for a disk without question.
const DISK_BYTES: usize = 1 << 20;
/// Below this is the program, its tables, and what a PC has there by tradition.
pub(crate) const FILL_FROM: u64 = 2 << 20;
/// Where memory goes on that does not fit below 4 GiB.
const HIGH_FROM: u64 = 4 << 30;
/// Most memory below 4 GiB; the machine is told the same (`max-ram-below-4g`).
pub(crate) const LOW_BYTES_MAX: u64 = 2 << 30;
/// Debt that lgr's own guest forgives, too, in seconds.
const DEBT_MAX_S: f64 = 0.1;
const PAGE_BYTES: u64 = 4096;
/// Guest-physical address of the status.
pub(crate) const STATUS_AT: u64 = 0x6000;
/// The status's first word once memory is filled.
const FILLED: u64 = u32::from_le_bytes(*b"LGR2") as u64;

/// What the guest puts into its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Nothing that can be compressed.
    Random,
    /// Zero, written.
    Zero,
    /// Nothing at all: what is there stays, and what was never touched stays so.
    Nothing,
}

/// What the guest is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) memory_bytes: u64,
    /// Memory to fill, from the bottom.
    pub(crate) touched_bytes: u64,
    pub(crate) fill: Fill,
    /// Bytes of whole pages to dirty per second; 0 is an idle guest.
    pub(crate) dirty_bytes_per_s: f64,
    /// Memory it dirties at random; a power of two pages, below `LOW_BYTES_MAX`.
    pub(crate) working_set_bytes: u64,
    /// Frequency of the time stamp counter.
    pub(crate) tsc_hz: f64,
}

impl Parameters {
    /// The disk: program, parameters, and empty sectors.
    pub(crate) fn disk(&self) -> Vec<u8> {
        let mut disk = assemble().bytes;
        assert!(disk.len() <= SECTOR_BYTES - 2, "the program has {} bytes", disk.len());
        disk.resize(SECTOR_BYTES - 2, 0);
        disk.extend_from_slice(&[0x55, 0xAA]);
        for word in self.words() {
            disk.extend_from_slice(&word.to_le_bytes());
        }
        disk.resize(DISK_BYTES, 0);
        disk
    }

    fn words(&self) -> [u64; 11] {
        let [low, high] = self.ranges();
        let counts = |seconds: f64| (seconds * self.tsc_hz).round() as u64;
        let (mut per_page, mut pages) = (0, 1);
        if self.dirty_bytes_per_s > 0.0 {
            per_page = counts(PAGE_BYTES as f64 / self.dirty_bytes_per_s).max(1);
            pages = self.working_set_bytes / PAGE_BYTES;
            assert!(pages.is_power_of_two(), "the guest masks page numbers");
        }
        let seed = if self.fill == Fill::Random { SEED } else { 0 };
        let from = self.working_set_from();
        let debt = counts(DEBT_MAX_S);
        [low.0, low.1, high.0, high.1, MULTIPLIER, seed, SEED, from, pages - 1, per_page, debt]
    }

    /// The top of low memory, which is filled like the rest.
    fn working_set_from(&self) -> u64 {
        let low = self.memory_bytes.min(LOW_BYTES_MAX);
        assert!(self.working_set_bytes + FILL_FROM <= low, "the working set fits into low memory");
        low - self.working_set_bytes
    }

    /// What is filled below and above 4 GiB.
    fn ranges(&self) -> [(u64, u64); 2] {
        let touched = match self.fill {
            Fill::Random | Fill::Zero => self.touched_bytes.min(self.memory_bytes),
            Fill::Nothing => 0,
        };
        let low = touched.min(LOW_BYTES_MAX);
        let high = touched - low;
        [(FILL_FROM, low), (HIGH_FROM, HIGH_FROM + high)]
    }
}

/// Any odd number will do.
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
/// Of a generator without increment, modulo 2⁶⁴: Steele and Vigna, "Computationally easy, spectrally good multipliers for
/// congruential pseudorandom number generators" (2021), table 5.
const MULTIPLIER: u64 = 0xD134_2543_DE82_EF95;

/// What the guest tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Memory is filled, and the guest dirties it or rests.
    pub(crate) filled: bool,
    /// Pages written so far, each of them 4 KiB.
    pub(crate) pages_written: u64,
}

impl Status {
    /// From the first words of the status.
    pub(crate) fn from_words(words: [u64; 2]) -> Self {
        Self { filled: words[0] == FILLED, pages_written: words[1] }
    }

    /// Bytes of the pages written.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.pages_written * PAGE_BYTES
    }
}
