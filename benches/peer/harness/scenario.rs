//! What a scenario is made of: a load, those who carry it, and what is claimed of them.

use std::path::PathBuf;

use anyhow::Context;
use guest_mem::{ContentMix, Pattern, Storage, StorageOptions, WorkloadOptions};
use lgr::results::Limit;
use std::os::fd::AsRawFd;

use super::guest::{Fill, Parameters};
use super::search::Space;
use super::tsc;

/// What the guest's pages hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Random,
    Zero,
    /// lgr's mix of zero, text-like, pointer-like, random and repeated pages; the same bytes on both sides.
    Realistic,
}

/// The guest, the same on both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) memory_bytes: u64,
    pub(crate) touched_bytes: u64,
    pub(crate) content: Content,
    /// Bytes of whole pages it dirties per second, at random over the working set; 0 is an idle guest.
    pub(crate) dirty_bytes_per_s: f64,
    pub(crate) working_set_bytes: u64,
    /// The destination's memory is made ready before the clock runs.
    pub(crate) prefaulted: bool,
    /// Most bytes per second on the wire.
    pub(crate) bandwidth_bytes_per_s: Option<u64>,
    /// A migration that takes longer is cancelled and counts as not converging.
    pub(crate) patience_s: u64,
}

/// Somebody who carries the load, or shows a limit.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// How a contender is run.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// `lgr relocate` with the load's options and these.
    Lgr(Vec<String>),
    /// QEMU, with the best setting of the space.
    Qemu(Space),
    /// `lgr bench link` over this medium: raw bytes through sockets.
    Link(&'static str),
    /// `lgr bench memory`: streaming copy by all processors.
    Copy,
    /// `lgr bench memory`: finding the dirty pages when every fourth is.
    Harvest,
    /// A straight line through the times of others: GiB touched, and whose time.
    Line(Vec<(f64, &'static str)>),
}

/// How a claim is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    /// The contender's median over that of the best of these.
    Against(&'static [&'static str], Limit),
    /// The contender's median itself.
    Alone(Limit),
}

/// Something to be shown, a part of a line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// The line's scenario, in the table's words.
    pub(crate) row: &'static str,
    /// What must be reached, in the table's words.
    pub(crate) must: &'static str,
    /// Whose: the best of these.
    pub(crate) of: &'static [&'static str],
    pub(crate) metric: &'static str,
    pub(crate) test: Test,
}

/// Contenders that take turns with one load.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// The metric it is about.
    pub(crate) main: &'static str,
    pub(crate) load: Load,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) claims: Vec<Claim>,
    /// Free memory is warmed before each run.
    pub(crate) warms: bool,
    /// Its share of the time there is, in minutes of a full run.
    pub(crate) minutes: f64,
    pub(crate) runs_max: u32,
}

impl Scenario {
    /// QEMU takes part.
    pub(crate) fn needs_qemu(&self) -> bool {
        self.contenders.iter().any(|contender| matches!(contender.kind, Kind::Qemu(_)))
    }
}

impl Load {
    /// Options of `lgr relocate` that make this guest.
    pub(crate) fn lgr_options(&self) -> Vec<String> {
        let content = match self.content {
            Content::Random => "random",
            Content::Zero => "zero",
            Content::Realistic => "realistic",
        };
        let mut words: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        add("--memory", self.memory_bytes.to_string());
        add("--touched", self.touched_bytes.to_string());
        add("--content", content.to_owned());
        if self.dirty_bytes_per_s > 0.0 {
            // A few bytes of a page at random, which is what QEMU's guest writes.
            add("--workload", "small".to_owned());
            add("--dirty-rate", format!("{:.0}", self.dirty_bytes_per_s));
            add("--working-set", self.working_set_bytes.to_string());
        } else {
            add("--workload", "idle".to_owned());
        }
        if let Some(rate) = self.bandwidth_bytes_per_s {
            add("--rate-limit", rate.to_string());
        }
        if self.prefaulted {
            words.push("--prefault".to_owned());
        }
        words
    }

    /// The same guest for QEMU.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            memory_bytes: self.memory_bytes,
            touched_bytes: self.touched_bytes,
            fill: match self.content {
                Content::Random => Fill::Random,
                Content::Zero => Fill::Zero,
                Content::Realistic => Fill::Nothing,
            },
            dirty_bytes_per_s: self.dirty_bytes_per_s,
            working_set_bytes: self.working_set_bytes,
            tsc_hz: tsc::hz(),
        }
    }

    /// Memory with the content that lgr's own guest has, where the guest does not fill it itself.
    pub(crate) fn ready_made(&self) -> anyhow::Result<Option<ReadyMade>> {
        if self.content != Content::Realistic {
            return Ok(None);
        }
        let storage = Storage::create(&StorageOptions::small(self.memory_bytes))?;
        let options = WorkloadOptions {
            pattern: Pattern::Idle,
            dirty_rate_bytes_per_s: 0,
            working_set_bytes: None,
            touched_bytes: self.touched_bytes,
            content: ContentMix::Realistic,
            seed: 1,
            vcpus: 1,
        };
        guest_mem::fill(&storage, &options, &|_| ()).context("the guest's content")?;
        Ok(Some(ReadyMade(storage)))
    }
}

/// A memory file with a guest's content.
pub(crate) struct ReadyMade(Storage);

impl ReadyMade {
    /// Where another process finds it, as long as this is there.
    pub(crate) fn path(&self) -> PathBuf {
        let file = self.0.fd().as_raw_fd();
        format!("/proc/{}/fd/{file}", std::process::id()).into()
    }
}
