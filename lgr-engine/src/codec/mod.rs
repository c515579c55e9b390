//! Fewer bytes where the link is the limit: packing pages with zstd, and not sending what the destination has already.
//!
//! ```text
//!  guest page ──one copy──▶ private chunk: zero? hash ──┬─ zero ───────────────▶ zero extent
//!                                                       ├─ as it was last sent ▶ kept extent    (last_sent)
//!                                                       └─ the rest, like by like ─▶ packed extents (texture, packer)
//!                                                                                one zstd frame, or raw if it gains nothing
//!  every 100 ms: link, processor, gain ──▶ chooser ──▶ raw, or zstd at the level that moves most memory per second
//! ```
//!
//! While pages go out raw, nothing here touches them: they leave straight from guest memory, and nothing is copied,
//! hashed or remembered. Live memory is never packed in place, as it may change under the compressor.
//!
//! - [`chooser`]: which codec, and why; a pure function of what was measured;
//! - [`dictionary`]: what pages from all over the guest have in common, for chunks to refer to;
//! - [`packer`]: one zstd context per queue and direction;
//! - [`texture`]: which pages of a chunk belong side by side;
//! - [`last_sent`]: the hash of what each page held when it was last sent;
//! - [`packing`]: all of these at the source, shared by the devices.

pub mod chooser;
pub mod dictionary;
pub mod last_sent;
mod meter;
pub mod packer;
pub mod packing;
mod slots;
pub mod texture;

use std::fmt;
use std::str::FromStr;

/// Lowest and highest level of zstd that is used. Higher ones take more memory per queue than 16 queues can have.
pub const LEVELS: (i32, i32) = (1, 9);

/// When pages are packed, as the operator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// When the link is the limit, at the level that moves most memory per second.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always, at this level.
    Zstd(i32),
}

impl fmt::Display for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Never => f.write_str("never"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// A text that is no [`Compress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write auto, never, zstd or zstd:LEVEL with a level from {} to {}", LEVELS.0, LEVELS.1)]
pub struct UnknownCompress;

impl FromStr for Compress {
    type Err = UnknownCompress;

    fn from_str(text: &str) -> Result<Self, UnknownCompress> {
        match text {
            "auto" => return Ok(Self::Auto),
            "never" => return Ok(Self::Never),
            "zstd" => return Ok(Self::Zstd(LEVELS.0)),
            _ => {}
        }
        let level = text.strip_prefix("zstd:").and_then(|level| level.parse().ok()).ok_or(UnknownCompress)?;
        if (LEVELS.0..=LEVELS.1).contains(&level) { Ok(Self::Zstd(level)) } else { Err(UnknownCompress) }
    }
}

/// How data pages go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// Packed, at this level.
    Zstd(i32),
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => f.write_str("raw"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for choice in [Compress::Auto, Compress::Never, Compress::Zstd(1), Compress::Zstd(9)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("zstd".parse(), Ok(Compress::Zstd(1)));
        for wrong in ["", "zstd:", "zstd:0", "zstd:10", "zstd:-1", "lz4", "Auto"] {
            assert_eq!(wrong.parse::<Compress>(), Err(UnknownCompress), "{wrong}");
        }
    }
}
