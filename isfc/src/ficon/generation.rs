//! The constants of each channel generation, all in one table, each with where it comes from.

use std::fmt;
use std::str::FromStr;

/// A FICON channel generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// FICON Express4: 4 Gb/s.
    Express4,
    /// FICON Express8: 8 Gb/s.
    Express8,
    /// FICON Express8S: 8 Gb/s.
    Express8S,
    /// FICON Express16S: 16 Gb/s.
    Express16S,
    /// FICON Express16S+: 16 Gb/s.
    Express16SPlus,
}

impl Generation {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] =
        [Self::Express4, Self::Express8, Self::Express8S, Self::Express16S, Self::Express16SPlus];

    /// Its name as it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Express4 => "ficon-express4",
            Self::Express8 => "ficon-express8",
            Self::Express8S => "ficon-express8s",
            Self::Express16S => "ficon-express16s",
            Self::Express16SPlus => "ficon-express16s+",
        }
    }

    /// Its constants.
    ///
    /// - `fibre_bytes_per_s`: Fibre Channel line rates (FC-PI: 4.25, 8.5 and 14.025 Gbaud) after coding (8b/10b up to
    ///   8 Gb/s, 64b/66b at 16 Gb/s).
    /// - `engine_ns_per_frame`: **calibrated** for Express4, so that one channel carries the 342 MB/s that IBM measured
    ///   for ISFC (see below). For the later ones it is scaled by the ratio of the rates that IBM published for FICON
    ///   command mode, 350 MB/s and 620 MB/s (recalled from IBM's FICON Express performance charts; the later
    ///   generations raised only the rates of High Performance FICON, which CTC traffic does not use).
    ///
    /// IBM's measurement: one Express4 channel with 12 CTC devices, of which 10 wrote, 45 start-subchannels per second
    /// and device, 342 MB/s (IBM documentation, "Linux on IBM Z, live guest relocation", page
    /// `l0lgr00_fctcdeviceioratenonshared`). Engine and fibre work at the same time in this model; the one measurement
    /// cannot tell whether they do.
    pub const fn timing(self) -> Timing {
        match self {
            Self::Express4 => Timing { fibre_bytes_per_s: 425_000_000, engine_ns_per_frame: 5_907 },
            Self::Express8 | Self::Express8S => {
                Timing { fibre_bytes_per_s: 850_000_000, engine_ns_per_frame: 3_335 }
            }
            Self::Express16S | Self::Express16SPlus => {
                Timing { fibre_bytes_per_s: 1_700_000_000, engine_ns_per_frame: 3_335 }
            }
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Generation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let short = lower.strip_prefix("ficon").unwrap_or(&lower).trim_start_matches(['-', ' ']);
        let short = short.strip_prefix("express").unwrap_or(short).trim_start_matches(['-', ' ']);
        match short {
            "4" => Ok(Self::Express4),
            "8" => Ok(Self::Express8),
            "8s" => Ok(Self::Express8S),
            "16s" => Ok(Self::Express16S),
            "16s+" | "16sp" => Ok(Self::Express16SPlus),
            _ => Err(format!(
                "'{text}' is no channel generation: use ficon4, ficon8, ficon8s, ficon16s or ficon16s+"
            )),
        }
    }
}

/// Payload of one Fibre Channel frame, in bytes (2,112 less the FICON header, in whole 64-byte units).
const FRAME_PAYLOAD_BYTES: u64 = 2048;
/// What a frame takes on the fibre besides: start, header, FICON header, CRC, end, and six idle words between frames.
const FRAME_OVERHEAD_BYTES: u64 = 4 + 24 + 32 + 4 + 4 + 24;
/// The engine's work per start-subchannel: fetching the program, command and status frames. Assumed.
const START_NS: u64 = 30_000;
/// From ending status until the next start-subchannel of the same device: interruption and dispatch. Assumed.
const TURNAROUND_NS: u64 = 100_000;
/// What a write collision costs both sides: busy, attention and another start-subchannel. Assumed.
pub(super) const COLLISION_NS: u64 = 200_000;
/// Light in glass: 5 µs per kilometre.
const NS_PER_KM: u64 = 5_000;

/// The constants of a channel generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// What the fibre carries in one direction, in bytes per second after coding.
    pub fibre_bytes_per_s: u64,
    /// What the channel's engine needs for one frame of data, in ns.
    pub engine_ns_per_frame: u64,
}

impl Timing {
    /// How long a program of `payload_bytes` keeps the channel busy in its direction, in ns: the slower of engine
    /// and fibre, which work at the same time.
    pub const fn channel_ns(&self, payload_bytes: u64) -> u64 {
        let frames = payload_bytes.div_ceil(FRAME_PAYLOAD_BYTES);
        let engine_ns = frames * self.engine_ns_per_frame;
        let on_fibre = payload_bytes + frames * FRAME_OVERHEAD_BYTES;
        let fibre_ns = (on_fibre as u128 * 1_000_000_000 / self.fibre_bytes_per_s as u128) as u64;
        START_NS + if engine_ns > fibre_ns { engine_ns } else { fibre_ns }
    }

    /// How long a program of `payload_bytes` takes on a channel that serves `others` more exchanges frame by frame in
    /// turn, in ns.
    pub const fn message_ns(&self, payload_bytes: u64, others: u64) -> u64 {
        let alone_ns = self.channel_ns(payload_bytes);
        let frames = payload_bytes.div_ceil(FRAME_PAYLOAD_BYTES);
        let frame_ns = self.channel_ns(FRAME_PAYLOAD_BYTES) - START_NS;
        alone_ns + frames * others * frame_ns
    }

    /// How long the light takes over `distance_km`, in ns.
    pub const fn one_way_ns(&self, distance_km: u32) -> u64 {
        NS_PER_KM * distance_km as u64
    }

    /// How long the device stays busy after its channel is done, in ns: ending status comes back over `distance_km`,
    /// and the next program's command goes there.
    pub const fn device_rest_ns(&self, distance_km: u32) -> u64 {
        TURNAROUND_NS + 2 * NS_PER_KM * distance_km as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_usual_form() {
        for generation in Generation::ALL {
            assert_eq!(generation.name().parse(), Ok(generation));
        }
        assert_eq!("ficon8s".parse(), Ok(Generation::Express8S));
        assert_eq!("FICON Express16S+".parse(), Ok(Generation::Express16SPlus));
        for text in ["", "ficon", "ficon32", "escon"] {
            assert!(text.parse::<Generation>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_generation_is_slower_than_the_one_before() {
        let times = Generation::ALL.map(|generation| generation.timing().channel_ns(757_760));
        assert!(times.is_sorted_by(|earlier, later| earlier >= later), "{times:?}");
    }
}
