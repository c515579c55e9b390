//! How QEMU is set up for a migration: everything that the search may turn.

use serde::Serialize;
use serde_json::{Value, json};

/// What carries a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Carrier {
    /// TCP over loopback.
    Tcp,
    /// A socket in the file system.
    Unix,
}

/// Where pages that are all zero are looked for (`zero-page-detection`, QEMU 9 and newer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ZeroPages {
    /// In the threads that send; QEMU's own choice with multifd.
    Multifd,
    /// In the migration thread.
    Legacy,
    /// Nowhere.
    None,
}

impl ZeroPages {
    fn name(self) -> &'static str {
        match self {
            Self::Multifd => "multifd",
            Self::Legacy => "legacy",
            Self::None => "none",
        }
    }
}

/// What is behind the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Memory {
    /// Anonymous memory, for which QEMU asks the kernel for huge pages.
    Anonymous,
    /// A memory file, shared.
    Memfd,
}

/// A way to set QEMU up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub(crate) carrier: Carrier,
    /// Channels of multifd; 0 is the single stream of old.
    pub(crate) channels: u8,
    pub(crate) zero_pages: ZeroPages,
    pub(crate) memory: Memory,
    /// The destination's memory is made ready before the migration.
    pub(crate) prealloc: bool,
    /// Level of multifd's zstd.
    pub(crate) zstd_level: Option<u8>,
    pub(crate) downtime_limit_ms: u32,
    /// Most bytes per second; none is as good as unlimited.
    pub(crate) bandwidth_bytes_per_s: Option<u64>,
}

/// More than any link has, and far from overflowing inside QEMU.
const UNLIMITED_BYTES_PER_S: u64 = 1 << 40;

impl Setting {
    /// Where every search begins: what the documents of QEMU recommend for speed.
    pub(crate) const START: Self = Self {
        carrier: Carrier::Tcp,
        channels: 4,
        zero_pages: ZeroPages::Multifd,
        memory: Memory::Anonymous,
        prealloc: true,
        zstd_level: None,
        downtime_limit_ms: 300,
        bandwidth_bytes_per_s: None,
    };

    /// Arguments of `migrate-set-capabilities`: all that matter, on or off, since a QEMU may have had others before.
    pub(crate) fn capabilities(&self) -> Value {
        let multifd = self.channels > 0;
        json!({ "capabilities": [
            { "capability": "events", "state": true },
            { "capability": "multifd", "state": multifd },
        ] })
    }

    /// Arguments of `migrate-set-parameters`. `known` has the parameters of this QEMU: older ones lack some.
    pub(crate) fn parameters(&self, known: &Value) -> Value {
        let mut parameters = json!({
            "downtime-limit": self.downtime_limit_ms,
            "max-bandwidth": self.bandwidth_bytes_per_s.unwrap_or(UNLIMITED_BYTES_PER_S),
            "multifd-channels": self.channels.max(1),
            "multifd-compression": if self.zstd_level.is_some() { "zstd" } else { "none" },
        });
        if let Some(level) = self.zstd_level {
            parameters["multifd-zstd-level"] = level.into();
        }
        if known.get("zero-page-detection").is_some() {
            parameters["zero-page-detection"] = self.zero_pages.name().into();
        }
        parameters
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let carrier = if self.carrier == Carrier::Tcp { "tcp" } else { "unix" };
        let channels = match self.channels {
            0 => "single stream".to_owned(),
            1 => "multifd, 1 channel".to_owned(),
            channels => format!("multifd, {channels} channels"),
        };
        let mut words = vec![carrier.to_owned(), channels];
        words.extend(self.zstd_level.map(|level| format!("zstd level {level}")));
        words.push(format!("zero pages {}", self.zero_pages.name()));
        words.push((if self.memory == Memory::Anonymous { "anonymous memory" } else { "memfd" }).to_owned());
        words.push((if self.prealloc { "preallocated" } else { "fresh memory" }).to_owned());
        words.push(format!("downtime limit {} ms", self.downtime_limit_ms));
        words.extend(
            self.bandwidth_bytes_per_s.map(|rate| format!("told to keep to {:.0} Mb/s", rate as f64 * 8e-6)),
        );
        words.join(", ")
    }
}
