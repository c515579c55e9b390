//! Options that several subcommands share.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use guest_mem::{Backing, TrackerChoice};
use guest_mem::{ContentMix, Pattern, WorkloadOptions};
use isfc::{Engine, LinkOptions};
use lgr_engine::fault::Fault;
use lgr_engine::owner::{GuestName, MemberName};
use lgr_engine::policy::{Limits, PolicyChoice};
use serde::Serialize;

use crate::security::SecurityArgs;
use crate::units::{parse_bytes, parse_rate};

/// The guest that is built and moved.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Guest")]
pub(crate) struct GuestArgs {
    /// Memory of the guest (1M to 1T; only what it touches is ever allocated)
    #[arg(long, default_value = "2G", value_parser = parse_bytes, value_name = "SIZE")]
    pub(crate) memory: u64,

    /// Memory the guest has touched when the move begins [default: all of it]
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    pub(crate) touched: Option<u64>,

    /// How it writes: idle, uniform, sequential, hotcold, zipf, phased, small, java or churn
    #[arg(long, default_value = "hotcold", value_parser = named::<Pattern>, value_name = "PATTERN")]
    #[serde(serialize_with = "as_text")]
    pub(crate) workload: Pattern,

    /// Memory it changes per second, all virtual CPUs together
    #[arg(long, default_value = "200M", value_parser = parse_bytes, value_name = "SIZE")]
    pub(crate) dirty_rate: u64,

    /// Memory it writes to [default: all it has touched]
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    pub(crate) working_set: Option<u64>,

    /// What its pages hold: realistic, zero, random, text, pointer or duplicates
    #[arg(long, default_value = "realistic", value_parser = named::<ContentMix>, value_name = "MIX")]
    #[serde(serialize_with = "as_text")]
    pub(crate) content: ContentMix,

    /// Virtual CPUs, a writer thread each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64), value_name = "N")]
    pub(crate) vcpus: u8,

    /// Seed of content and writes
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,

    /// Pages behind its memory: small, thp or hugetlb
    #[arg(long, default_value = "small", value_parser = named::<Backing>, value_name = "PAGES")]
    #[serde(serialize_with = "as_text")]
    pub(crate) backing: Backing,

    /// How its writes are tracked: auto, uffd or software
    #[arg(long, default_value = "auto", value_parser = named::<TrackerChoice>, value_name = "TRACKER")]
    #[serde(serialize_with = "as_text")]
    pub(crate) tracker: TrackerChoice,

    /// Its name, up to 8 characters
    #[arg(long = "guest", default_value = "LINUX1", value_parser = named::<GuestName>, value_name = "NAME")]
    pub(crate) guest: GuestName,
}

impl GuestArgs {
    /// Memory touched before the move, in bytes.
    pub(crate) fn touched_bytes(&self) -> u64 {
        self.touched.unwrap_or(self.memory)
    }

    /// What the workload guest is to do.
    pub(crate) fn workload(&self) -> WorkloadOptions {
        WorkloadOptions {
            pattern: self.workload,
            dirty_rate_bytes_per_s: self.dirty_rate,
            working_set_bytes: self.working_set,
            touched_bytes: self.touched_bytes(),
            content: self.content,
            seed: self.seed,
            vcpus: self.vcpus,
        }
    }
}

/// When the guest is stopped, and when the move ends whatever happens.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Limits")]
pub(crate) struct StopArgs {
    /// Stop rule: default, default:MS, fixed-passes:N or threshold:MS (as other engines have it)
    #[arg(long, default_value = "default", value_parser = named::<PolicyChoice>, value_name = "RULE")]
    #[serde(serialize_with = "as_text")]
    pub(crate) policy: PolicyChoice,

    /// MAXTOTAL: cancel a move that takes longer [default: no limit]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub(crate) max_total: Option<f64>,

    /// MAXQUIESCE: never hold the guest stopped longer [default: 10, no limit with --immediate]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub(crate) max_quiesce: Option<f64>,

    /// Most passes over the running guest
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub(crate) max_passes: u32,

    /// One early pass, then straight to quiesce
    #[arg(long)]
    pub(crate) immediate: bool,
}

/// Limits of a move that is really made.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) stop: StopArgs,

    /// Most bytes per second on the wire, for all queues together [default: no limit]
    #[arg(long, visible_alias = "bandwidth", value_parser = parse_rate, value_name = "SIZE")]
    pub(crate) rate_limit: Option<NonZeroU64>,
}

impl StopArgs {
    /// The same as the engine takes them.
    pub(crate) fn limits(&self) -> Limits {
        let given = if self.immediate { Limits::immediate() } else { Limits::default() };
        Limits {
            max_total: self.max_total.map(Duration::from_secs_f64).or(given.max_total),
            max_quiesce: self.max_quiesce.map(Duration::from_secs_f64).or(given.max_quiesce),
            max_passes: self.max_passes,
            immediate: self.immediate,
        }
    }
}

/// What drives the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum EngineArg {
    /// io_uring if it is allowed here, else blocking threads
    Auto,
    /// io_uring
    IoUring,
    /// Blocking threads
    Blocking,
}

/// Where owner records are.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct VolumeArgs {
    /// Directory that both members can reach: who runs a guest is recorded there [default: lgr-volume-UID in the
    /// directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) volume: Option<PathBuf>,
}

impl VolumeArgs {
    /// The shared volume; without the option, a directory of this user on this machine.
    pub(crate) fn dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.volume {
            return Ok(dir.clone());
        }
        let user = rustix::process::getuid().as_raw();
        let dir = std::env::temp_dir().join(format!("lgr-volume-{user}"));
        let made = std::fs::DirBuilder::new().recursive(true).create(&dir);
        made.map_err(|error| anyhow::anyhow!("cannot make the volume {}: {error}", dir.display()))?;
        Ok(dir)
    }
}

/// Options of a member, on either side.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Member")]
pub(crate) struct MemberArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) volume: VolumeArgs,

    /// What drives the queues
    #[arg(long, default_value = "auto", value_name = "ENGINE")]
    pub(crate) engine: EngineArg,

    /// A peer that is silent or takes nothing for so long is dead
    #[arg(long, default_value_t = 5.0, value_parser = seconds, value_name = "SECONDS")]
    pub(crate) peer_timeout: f64,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) security: SecurityArgs,

    /// Do something bad on purpose: ACTION@STEP, such as kill-source@pass2 or cut:3@final
    #[arg(long, value_parser = named::<Fault>, value_name = "FAULT")]
    #[serde(serialize_with = "as_texts")]
    pub(crate) fault: Vec<Fault>,

    /// How progress is shown
    #[arg(long, default_value = "auto", value_name = "HOW")]
    #[serde(skip)]
    pub(crate) progress: ProgressArg,

    /// Started by another lgr, whose end is this one's end
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) supervised: bool,
}

impl MemberArgs {
    /// How the link is to be run.
    pub(crate) fn link_options(&self, member: MemberName) -> LinkOptions {
        let engine = match self.engine {
            EngineArg::Auto => None,
            EngineArg::IoUring => Some(Engine::IoUring),
            EngineArg::Blocking => Some(Engine::Blocking),
        };
        let silence_limit = Duration::from_secs_f64(self.peer_timeout);
        let timeline_every = Some(TIMELINE_EVERY);
        let name = member.to_string();
        LinkOptions { engine, silence_limit, name, timeline_every, ..LinkOptions::default() }
    }
}

/// How often the queues are sampled for the report's timeline.
const TIMELINE_EVERY: Duration = Duration::from_millis(50);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// A bar on a terminal, plain lines otherwise
    Auto,
    /// A bar
    Bar,
    /// Plain lines
    Plain,
    /// One JSON object per line on standard output, for programs
    Json,
    /// Nothing
    None,
}

/// Parses anything that has a name, keeping its own message.
pub(crate) fn named<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Parses the name of a member.
pub(crate) fn member_name(text: &str) -> Result<MemberName, String> {
    named(text)
}

/// Seconds, with fractions; from a millisecond to what z/VM takes (99999999).
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.001..=99_999_999.0).contains(&value) => Ok(value),
        _ => Err("write seconds, from 0.001 to 99999999".to_owned()),
    }
}

/// The value in its written form.
pub(crate) fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    out: S,
) -> Result<S::Ok, S::Error> {
    out.collect_str(value)
}

/// The value in its written form, or `null`.
pub(crate) fn as_text_if_given<T: std::fmt::Display, S: serde::Serializer>(
    value: &Option<T>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => out.collect_str(value),
        None => out.serialize_none(),
    }
}

fn as_texts<T: std::fmt::Display, S: serde::Serializer>(values: &[T], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(values.iter().map(ToString::to_string))
}
