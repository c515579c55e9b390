//! Holds real devices to the model: each asks before a program when it may start.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Layout;
use crate::hello::DEVICES_MAX;

/// Time that a late caller may make good at once, in ns: threads are not woken to the microsecond, and on a machine with
/// more of them than processors now and then tens of milliseconds late.
const LATE_NS: u64 = 100_000_000;

/// The channels of one side, shared by its devices.
#[derive(Debug)]
pub struct Pacer {
    layout: Layout,
    /// When each channel is free again.
    channels: [AtomicU64; DEVICES_MAX as usize],
    /// When each device is free again.
    devices: [AtomicU64; DEVICES_MAX as usize],
}

impl Pacer {
    /// Nothing has been sent yet.
    pub fn new(layout: Layout) -> Self {
        Self { layout, channels: Default::default(), devices: Default::default() }
    }

    /// Reserves the channel of `device` for a program of `payload_bytes`, and tells how many ns the caller must wait
    /// until it is at the other end. `now_ns` is any clock that only goes forward, the same for all devices; since `busy_ns` of it
    /// the device has had something to send without a break: only within that can it have been late.
    pub fn reserve(&self, device: u8, payload_bytes: u64, now_ns: u64, busy_ns: u64) -> u64 {
        let timing = self.layout.generation.timing();
        let channel_ns = timing.channel_ns(payload_bytes);
        let own = &self.devices[usize::from(device)];
        let late_from_ns = now_ns.saturating_sub(LATE_NS).max(busy_ns);
        let earliest_ns = own.load(Ordering::Relaxed).max(late_from_ns);
        let channel = &self.channels[usize::from(self.layout.channel(device))];
        let mut free_ns = channel.load(Ordering::Relaxed);
        loop {
            let start_ns = free_ns.max(earliest_ns);
            let end_ns = start_ns + channel_ns;
            match channel.compare_exchange_weak(free_ns, end_ns, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let distance_km = self.layout.distance_km;
                    own.store(end_ns + timing.device_rest_ns(distance_km), Ordering::Relaxed);
                    // What is sent is there when the channel is done with it and the light has come over, not when
                    // it starts.
                    return (end_ns + timing.one_way_ns(distance_km)).saturating_sub(now_ns);
                }
                Err(found) => free_ns = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ficon::Simulation;
    use crate::frame::PROGRAM_PAYLOAD_BYTES;
    use crate::write_rule::Side;

    fn bytes_per_s(layout: &str, devices: u8, late_ns: u64) -> f64 {
        let pacer = Pacer::new(layout.parse().unwrap());
        let mut wake = vec![0u64; usize::from(devices)];
        let (mut bytes, goal_ns) = (0, 20_000_000_000);
        while let Some((device, now)) = wake.iter().copied().enumerate().min_by_key(|(_, at)| *at) {
            if now > goal_ns {
                break;
            }
            bytes += PROGRAM_PAYLOAD_BYTES;
            wake[device] = now + pacer.reserve(device as u8, PROGRAM_PAYLOAD_BYTES, now, 0) + late_ns;
        }
        bytes as f64 / 20.0
    }

    #[test]
    fn late_callers_do_not_lose_the_rate_and_none_exceeds_it() {
        for late_ns in [0, 60_000, 1_000_000, 5_000_000] {
            let rate = bytes_per_s("ficon4:1x12", 10, late_ns) / 342e6;
            assert!((0.97..1.03).contains(&rate), "{late_ns} ns late: {rate}");
        }
    }

    #[test]
    fn a_channel_that_had_nothing_to_do_gives_no_time_away() {
        let pacer = Pacer::new("ficon4:1x4".parse().unwrap());
        let program_ns = pacer.layout.generation.timing().channel_ns(PROGRAM_PAYLOAD_BYTES);
        for now_ns in [1_000_000_000, 5_000_000_000] {
            assert_eq!(pacer.reserve(0, PROGRAM_PAYLOAD_BYTES, now_ns, now_ns), program_ns);
            // Another one of the same channel waits for the first.
            assert_eq!(pacer.reserve(1, PROGRAM_PAYLOAD_BYTES, now_ns, now_ns), 2 * program_ns);
        }
        // One that has been busy all the time and comes late makes it good, and no more than that.
        let late_ns = 5_000_000_000 + 2 * program_ns + 1_000_000;
        let left_ns = pacer.reserve(2, PROGRAM_PAYLOAD_BYTES, late_ns, 5_000_000_000);
        assert_eq!(left_ns, program_ns - 1_000_000);
    }

    #[test]
    fn distance_is_waited_for_and_costs_the_rate_what_the_simulation_says() {
        let pacer = Pacer::new("ficon8s:1x4@100".parse().unwrap());
        let program_ns = pacer.layout.generation.timing().channel_ns(PROGRAM_PAYLOAD_BYTES);
        assert_eq!(pacer.reserve(0, PROGRAM_PAYLOAD_BYTES, 0, 0), program_ns + 500_000);
        for (layout, devices) in [("ficon8s:1x2@100", 1), ("ficon8s:1x12@100", 10)] {
            let mut simulation = Simulation::new(layout.parse().unwrap(), false);
            simulation.run(10_000_000_000);
            let paced = bytes_per_s(layout, devices, 0) / simulation.bytes_per_s(Side::Lesser);
            assert!((0.97..1.03).contains(&paced), "{layout}: {paced}");
        }
    }

    #[test]
    fn channels_add_up() {
        let (one, four) = (bytes_per_s("ficon8s:1x4", 4, 0), bytes_per_s("ficon8s:4x4", 16, 0));
        assert!((3.9..4.1).contains(&(four / one)), "{one} {four}");
    }
}
