//! A logical link in virtual time: programs on devices, devices on channels, both sides by the write rule.

use super::Layout;
use super::generation::COLLISION_NS;
use crate::frame::PROGRAM_PAYLOAD_BYTES;
use crate::write_rule::{Side, express, writable};

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

/// What a device is doing: one program at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Device {
    /// Until when it is busy.
    free_ns: u64,
    /// Whose program it carried last.
    last: Option<Side>,
    /// That program carried pages.
    pages: bool,
}

/// One logical link whose sides have more to write than it can carry.
#[derive(Debug)]
pub struct Simulation {
    layout: Layout,
    /// The lesser side has pages to write; the greater has.
    writes: [bool; 2],
    now_ns: u64,
    devices: Vec<Device>,
    /// When each channel is free, for each direction.
    channels: Vec<[u64; 2]>,
    figures: Vec<[DeviceFigures; 2]>,
}

impl Simulation {
    /// An idle link; the lesser side writes, and with `both_ways` the greater, too.
    pub fn new(layout: Layout, both_ways: bool) -> Self {
        Self {
            layout,
            writes: [true, both_ways],
            now_ns: 0,
            devices: vec![Device::default(); usize::from(layout.devices)],
            channels: vec![[0; 2]; usize::from(layout.channels)],
            figures: vec![[DeviceFigures::default(); 2]; usize::from(layout.devices)],
        }
    }

    /// A link on which nobody writes pages.
    pub fn idle(layout: Layout) -> Self {
        Self { writes: [false; 2], ..Self::new(layout, false) }
    }

    /// Lets it work until `until_ns` of virtual time.
    pub fn run(&mut self, until_ns: u64) {
        while self.now_ns < until_ns {
            (0..self.layout.devices).for_each(|device| self.start_if_free(device));
            // Nothing can start before a device is free: that is the next event.
            let later =
                self.devices.iter().map(|device| device.free_ns).filter(|free_ns| *free_ns > self.now_ns);
            self.now_ns = later.min().unwrap_or(until_ns).min(until_ns);
        }
    }

    /// Starts a program if the device is free and somebody may write on it. Where both sides may, both start one as
    /// soon as it is free, and neither can know of the other's: they collide, and they take turns in winning.
    fn start_if_free(&mut self, device: u8) {
        let Device { free_ns, last, .. } = self.devices[usize::from(device)];
        if free_ns > self.now_ns {
            return;
        }
        let up = self.up();
        let wants = |side| writable(up, side) & (1 << device) != 0 && self.writes[side as usize];
        match (wants(Side::Lesser), wants(Side::Greater)) {
            (true, true) => {
                let (winner, loser) = match last {
                    Some(Side::Lesser) => (Side::Greater, Side::Lesser),
                    _ => (Side::Lesser, Side::Greater),
                };
                self.start(device, winner);
                self.devices[usize::from(device)].free_ns += COLLISION_NS;
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
        self.devices[usize::from(device)] = Device { free_ns, last: Some(side), pages: true };
        let figures = &mut self.figures[usize::from(device)][side as usize];
        figures.ssch += 1;
        figures.bytes += PROGRAM_PAYLOAD_BYTES;
        figures.busy_ns += free_ns - self.now_ns;
    }

    /// Sends a message of `len_bytes` to the other side now, and lets the link work until the answer of the same length is
    /// back. How long that took, in ns.
    pub fn round_trip(&mut self, from: Side, len_bytes: u64) -> u64 {
        let began_ns = self.now_ns;
        for side in [from, from.other()] {
            let there_ns = self.message(side, len_bytes);
            self.run(there_ns);
        }
        self.now_ns - began_ns
    }

    /// Median and 99th percentile of 2,000 round trips of 64-byte messages at odd moments, in ns.
    pub fn round_trips(&mut self) -> (u64, u64) {
        self.run(self.now_ns + 50_000_000);
        let mut taken: Vec<u64> = (0..2_000u64)
            .map(|round| {
                self.run(self.now_ns + 300_000 + round * 7_919 % 1_000_000);
                self.round_trip(Side::Lesser, 64)
            })
            .collect();
        taken.sort_unstable();
        (taken[1_000], taken[1_980])
    }

    /// When a message of `side` that starts now is there. It goes over a device without pages on it, or over one of its
    /// express devices, whichever is free first. The channel serves the exchanges under way frame by frame in turn, as
    /// FICON does, so a message waits for a frame of each, not for their ends.
    fn message(&mut self, side: Side, len_bytes: u64) -> u64 {
        let express = express(self.up(), side);
        let starts = |device: u8| self.devices[usize::from(device)].free_ns.max(self.now_ns);
        let device = (0..self.layout.devices)
            .filter(|device| express & (1 << device) != 0 || !self.carries_pages(*device))
            .min_by_key(|device| starts(*device))
            .expect("one device is always express");
        let start_ns = starts(device);
        let channel = self.layout.channel(device);
        let others = (0..self.layout.devices).filter(|other| {
            let Device { free_ns, last, .. } = self.devices[usize::from(*other)];
            *other != device
                && self.layout.channel(*other) == channel
                && last == Some(side)
                && free_ns > start_ns
        });
        let timing = self.layout.generation.timing();
        let message_ns = timing.message_ns(len_bytes, others.count() as u64);
        let there_ns = start_ns + message_ns + timing.one_way_ns(self.layout.distance_km);
        let horizon = &mut self.channels[usize::from(channel)][side as usize];
        *horizon = (*horizon).max(start_ns) + timing.channel_ns(len_bytes);
        let free_ns = start_ns + message_ns + timing.device_rest_ns(self.layout.distance_km);
        self.devices[usize::from(device)] = Device { free_ns, last: Some(side), pages: false };
        there_ns
    }

    fn carries_pages(&self, device: u8) -> bool {
        let Device { free_ns, pages, .. } = self.devices[usize::from(device)];
        pages && free_ns > self.now_ns
    }

    fn up(&self) -> u16 {
        ((1u32 << self.layout.devices) - 1) as u16
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
    use crate::ficon::Generation;

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
    fn a_message_does_not_wait_for_the_pages_in_any_layout() {
        let kinds = [Generation::Express4, Generation::Express8S, Generation::Express16SPlus];
        let layouts = kinds.into_iter().flat_map(|kind| (1..=16).map(move |devices| (kind, devices)));
        for (generation, devices) in layouts {
            for (channels, distance_km) in [(1, 0), (1, 50), (2, 0), (3, 0), (4, 0), (4, 100)] {
                let Ok(layout) = Layout::new(generation, channels, devices, distance_km) else { continue };
                let chunk_ns = layout.generation.timing().channel_ns(PROGRAM_PAYLOAD_BYTES);
                let (idle, _) = Simulation::idle(layout).round_trips();
                let (_, loaded) = Simulation::new(layout, false).round_trips();
                let at = format!("{devices} devices, {layout}: {loaded} ns beside pages, {idle} ns idle");
                assert!(loaded <= 3 * idle + chunk_ns, "{at}");
                assert!(loaded >= idle, "{at}: pages make a message faster?");
            }
        }
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
