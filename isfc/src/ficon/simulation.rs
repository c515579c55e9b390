//! A logical link in virtual time: programs on devices, devices on channels, both sides by the write rule.

use super::Layout;
use super::generation::COLLISION_NS;
use crate::frame::PROGRAM_PAYLOAD_BYTES;
use crate::write_rule::{Side, writable};

/// What one side of a device did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceFigures {
    /// Start-subchannels that wrote.
    pub ssch: u64,
    /// Payload, in bytes.
    pub bytes: u64,
    /// Writes that met a write of the other side and had to wait for it.
    pub collisions: u64,
    /// Time the device was busy for this side, in ns.
    pub busy_ns: u64,
}

/// One logical link whose sides have more to write than it can carry.
#[derive(Debug)]
pub struct Simulation {
    layout: Layout,
    both_ways: bool,
    now_ns: u64,
    /// Until when each device is busy, and whose write it carried last.
    devices: Vec<(u64, Option<Side>)>,
    /// When each channel is free, for each direction.
    channels: Vec<[u64; 2]>,
    figures: Vec<[DeviceFigures; 2]>,
}

impl Simulation {
    /// An idle link; the lesser side writes, and with `both_ways` the greater, too.
    pub fn new(layout: Layout, both_ways: bool) -> Self {
        Self {
            layout,
            both_ways,
            now_ns: 0,
            devices: vec![(0, None); usize::from(layout.devices)],
            channels: vec![[0; 2]; usize::from(layout.channels)],
            figures: vec![[DeviceFigures::default(); 2]; usize::from(layout.devices)],
        }
    }

    /// Lets it work until `until_ns` of virtual time.
    pub fn run(&mut self, until_ns: u64) {
        while self.now_ns < until_ns {
            (0..self.layout.devices).for_each(|device| self.start_if_free(device));
            // Nothing can start before a device is free: that is the next event.
            let later =
                self.devices.iter().map(|(free_ns, _)| *free_ns).filter(|free_ns| *free_ns > self.now_ns);
            self.now_ns = later.min().unwrap_or(until_ns);
        }
    }

    /// Starts a program if the device is free and somebody may write on it. Where both sides may, both start one as
    /// soon as it is free, and neither can know of the other's: they collide, and they take turns in winning.
    fn start_if_free(&mut self, device: u8) {
        let (free_ns, last) = self.devices[usize::from(device)];
        if free_ns > self.now_ns {
            return;
        }
        let up = ((1u32 << self.layout.devices) - 1) as u16;
        let wants =
            |side| writable(up, side) & (1 << device) != 0 && (self.both_ways || side == Side::Lesser);
        match (wants(Side::Lesser), wants(Side::Greater)) {
            (true, true) => {
                let (winner, loser) = match last {
                    Some(Side::Lesser) => (Side::Greater, Side::Lesser),
                    _ => (Side::Lesser, Side::Greater),
                };
                self.start(device, winner);
                self.devices[usize::from(device)].0 += COLLISION_NS;
                self.figures[usize::from(device)][loser as usize].collisions += 1;
            }
            (true, false) => self.start(device, Side::Lesser),
            (false, true) => self.start(device, Side::Greater),
            (false, false) => {}
        }
    }

    fn start(&mut self, device: u8, side: Side) {
        let timing = self.layout.generation.timing();
        let channel = &mut self.channels[usize::from(self.layout.channel(device))][side as usize];
        let end_ns = (*channel).max(self.now_ns) + timing.channel_ns(PROGRAM_PAYLOAD_BYTES);
        *channel = end_ns;
        let free_ns = end_ns + timing.device_rest_ns(self.layout.distance_km);
        self.devices[usize::from(device)] = (free_ns, Some(side));
        let figures = &mut self.figures[usize::from(device)][side as usize];
        figures.ssch += 1;
        figures.bytes += PROGRAM_PAYLOAD_BYTES;
        figures.busy_ns += free_ns - self.now_ns;
    }

    /// Virtual time so far, in ns.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// What each device did for the lesser and the greater side.
    pub fn figures(&self) -> &[[DeviceFigures; 2]] {
        &self.figures
    }

    /// Payload of one side per second, in bytes, over the time so far.
    pub fn bytes_per_s(&self, side: Side) -> f64 {
        let bytes: u64 = self.figures.iter().map(|device| device[side as usize].bytes).sum();
        bytes as f64 * 1e9 / self.now_ns.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_ten_seconds(layout: &str, both_ways: bool) -> Simulation {
        let mut simulation = Simulation::new(layout.parse().unwrap(), both_ways);
        simulation.run(10_000_000_000);
        simulation
    }

    #[test]
    fn one_express4_channel_with_twelve_devices_is_as_ibm_measured_it() {
        let simulation = after_ten_seconds("ficon4:1x12", false);
        let rate = simulation.bytes_per_s(Side::Lesser) / 342e6;
        assert!((0.95..1.05).contains(&rate), "{rate}");
        let ssch: Vec<u64> = simulation.figures().iter().map(|device| device[0].ssch).collect();
        assert!(ssch[..10].iter().all(|count| (428..=473).contains(count)), "{ssch:?}");
        assert_eq!(ssch[10..], [0, 0], "the write rule leaves two to the other side");
    }

    #[test]
    fn more_channels_carry_more_and_distance_costs_where_devices_are_few() {
        let rate = |layout| after_ten_seconds(layout, false).bytes_per_s(Side::Lesser);
        assert!(rate("ficon8s:4x4") > 3.5 * rate("ficon8s:1x4"));
        assert!(rate("ficon8s:1x2@100") < 0.7 * rate("ficon8s:1x2"));
        assert!(rate("ficon8s:1x12@100") > 0.99 * rate("ficon8s:1x12"));
    }

    #[test]
    fn two_sides_share_what_they_both_may_write_on() {
        let simulation = after_ten_seconds("ficon8s:1x12", true);
        let only = |device: usize, side: Side| simulation.figures()[device][side as usize].ssch;
        assert_eq!([only(0, Side::Greater), only(11, Side::Lesser)], [0, 0]);
        assert!(only(0, Side::Lesser) > 0 && only(11, Side::Greater) > 0);
        assert!(only(5, Side::Lesser) > 0 && only(5, Side::Greater) > 0);
        let collisions: u64 = simulation.figures().iter().flatten().map(|figures| figures.collisions).sum();
        assert!(collisions > 0);
    }
}
