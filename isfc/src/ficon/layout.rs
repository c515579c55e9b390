//! Which devices are on which channels: `GEN:CxD`, optionally `@KM`.

use std::fmt;
use std::str::FromStr;

use super::Generation;
use crate::hello::DEVICES_MAX;

/// Farthest that FICON reaches with extenders, in km.
const DISTANCE_KM_MAX: u32 = 300;

/// The channels of one side of a logical link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the channels are.
    pub generation: Generation,
    /// How many there are.
    pub channels: u8,
    /// Devices in all; the first ones on the first channel, and so on.
    pub devices: u8,
    /// Length of the fibre, in km.
    pub distance_km: u32,
}

/// Why a text is no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Not of the form.
    #[error("'{0}' is no layout: write GENERATION:CHANNELSxDEVICES, as in ficon8s:4x4 or ficon4:1x12@10")]
    Form(String),
    /// The generation is unknown.
    #[error("{0}")]
    Generation(String),
    /// Too many or too few.
    #[error(
        "{channels} channels with {devices} devices: a link has 1 to 16 devices, at least one for each channel"
    )]
    Devices {
        /// Channels asked for.
        channels: u32,
        /// Devices asked for, in all.
        devices: u32,
    },
    /// Too far.
    #[error("{0} km: FICON reaches {DISTANCE_KM_MAX} km")]
    Distance(u32),
}

impl Layout {
    /// `devices` devices in all, spread over `channels` channels.
    ///
    /// # Errors
    /// [`LayoutError::Devices`], [`LayoutError::Distance`].
    pub fn new(
        generation: Generation,
        channels: u32,
        devices: u32,
        distance_km: u32,
    ) -> Result<Self, LayoutError> {
        if channels == 0 || devices < channels || devices > u32::from(DEVICES_MAX) {
            return Err(LayoutError::Devices { channels, devices });
        }
        if distance_km > DISTANCE_KM_MAX {
            return Err(LayoutError::Distance(distance_km));
        }
        Ok(Self { generation, channels: channels as u8, devices: devices as u8, distance_km })
    }

    /// The channel of `device`, from 0.
    pub fn channel(&self, device: u8) -> u8 {
        (u32::from(device) * u32::from(self.channels) / u32::from(self.devices)) as u8
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}x{}", self.generation, self.channels, self.devices / self.channels)?;
        if self.distance_km > 0 {
            write!(f, "@{}", self.distance_km)?;
        }
        Ok(())
    }
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let form = || LayoutError::Form(text.to_owned());
        let (generation, rest) = text.rsplit_once(':').ok_or_else(form)?;
        let (counts, distance) = rest.split_once('@').unwrap_or((rest, "0"));
        let (channels, each) = counts.split_once('x').ok_or_else(form)?;
        let distance = distance.strip_suffix("km").unwrap_or(distance);
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let number = |part: &str| part.parse::<u32>().ok().filter(|_| digits(part)).ok_or_else(form);
        let (channels, each, distance_km) = (number(channels)?, number(each)?, number(distance)?);
        let generation = generation.parse().map_err(LayoutError::Generation)?;
        Self::new(generation, channels, channels.saturating_mul(each), distance_km)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_survive_printing() {
        for text in ["ficon-express8s:4x4", "ficon-express4:1x12", "ficon-express16s+:2x8@100"] {
            assert_eq!(text.parse::<Layout>().unwrap().to_string(), text);
        }
        assert_eq!("ficon4:1x1@10km".parse(), "ficon4:1x1@10".parse::<Layout>());
        let four: Layout = "ficon8s:4x4".parse().unwrap();
        assert_eq!((0..16).map(|device| four.channel(device)).collect::<Vec<_>>()[2..6], [0, 0, 1, 1]);
    }

    #[test]
    fn nonsense_is_refused() {
        let texts = [
            "",
            "ficon8s",
            "ficon8s:4",
            "ficon8s:0x4",
            "ficon8s:4x5",
            "ficon8s:4x0",
            "x:1x1",
            "ficon4:1x1@301",
            "ficon4:99999x99999",
            "ficon8s:4kmx4",
            "ficon8s:4x4@10kmkm",
            "ficon8s:+4x4",
        ];
        for text in texts {
            assert!(text.parse::<Layout>().is_err(), "{text}");
        }
    }
}
