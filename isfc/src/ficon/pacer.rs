//! Holds real devices to the model: each asks before a program when it may start.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Layout;
use crate::hello::DEVICES_MAX;

/// Time that a late caller may make good at once, in ns: threads are not woken to the microsecond.
const LATE_NS: u64 = 20_000_000;

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
    /// until it starts. `now_ns` is any clock that only goes forward, the same for all devices.
    pub fn reserve(&self, device: u8, payload_bytes: u64, now_ns: u64) -> u64 {
        let timing = self.layout.generation.timing();
        let channel_ns = timing.channel_ns(payload_bytes);
        let own = &self.devices[usize::from(device)];
        let earliest_ns = own.load(Ordering::Relaxed).max(now_ns.saturating_sub(LATE_NS));
        let channel = &self.channels[usize::from(self.layout.channel(device))];
        let mut free_ns = channel.load(Ordering::Relaxed);
        loop {
            let start_ns = free_ns.max(earliest_ns);
            let end_ns = start_ns + channel_ns;
            match channel.compare_exchange_weak(free_ns, end_ns, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let rest_ns = timing.device_rest_ns(self.layout.distance_km);
                    own.store(end_ns + rest_ns, Ordering::Relaxed);
                    // What is sent is there when the channel is done with it, not when it starts.
                    return end_ns.saturating_sub(now_ns);
                }
                Err(found) => free_ns = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PROGRAM_PAYLOAD_BYTES;

    fn bytes_per_s(layout: &str, devices: u8, late_ns: u64) -> f64 {
        let pacer = Pacer::new(layout.parse().unwrap());
        let mut wake = vec![0u64; usize::from(devices)];
        let (mut bytes, goal_ns) = (0, 20_000_000_000);
        while let Some((device, now)) = wake.iter().copied().enumerate().min_by_key(|(_, at)| *at) {
            if now > goal_ns {
                break;
            }
            bytes += PROGRAM_PAYLOAD_BYTES;
            wake[device] = now + pacer.reserve(device as u8, PROGRAM_PAYLOAD_BYTES, now) + late_ns;
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
    fn channels_add_up() {
        let (one, four) = (bytes_per_s("ficon8s:1x4", 4, 0), bytes_per_s("ficon8s:4x4", 16, 0));
        assert!((3.9..4.1).contains(&(four / one)), "{one} {four}");
    }
}
