//! How many bytes of transfers may be under way on a link, so that a message never waits long behind them.
//!
//! Sixteen devices that each hand a whole transfer to a socket put ten megabytes under way. A fast link takes that in a
//! millisecond; one of 5 Mb/s in sixteen seconds, and whatever is sent meanwhile waits as long. So a link begins with
//! little under way and watches how long each transfer takes to be acknowledged: while that is short, what may be under
//! way doubles with each round, as TCP begins; when it is long, it shrinks. A link that has shown itself fast is *open*:
//! then nothing is counted out any more, and only a transfer that took long closes it again.
//!
//! ```text
//!  waits for acknowledgement        what may be under way
//!  (beyond the least seen)
//!      0 … 250 ms                   grows by what was acknowledged
//!    250 … 500 ms                   stays
//!         > 500 ms                  becomes what drains within 500 ms
//! ```
//!
//! All of it is a handful of atomic numbers: devices' threads use it at once, without a lock. It has no clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

/// What is under way at first, in bytes: at 1 Mb/s it drains within a second.
const BUDGET_FIRST_BYTES: u64 = 128 << 10;
/// The least that may be under way, in bytes: one small transfer.
pub const BUDGET_MIN_BYTES: u64 = 64 << 10;
/// From here on nothing is held back: more than what 16 devices hold at a time.
const BUDGET_OPEN_BYTES: u64 = 64 << 20;
/// The smallest transfer that is asked for, in bytes of memory.
pub const TRANSFER_MIN_BYTES: u64 = 64 << 10;
/// Transfers that share what may be under way.
const SHARES: u64 = 4;
/// The least that is counted for a transfer: its header.
const HEADER_BYTES: u64 = 64;
/// Waits up to this long let it grow.
const WAIT_SHORT: Duration = Duration::from_millis(250);
/// Longer ones make it shrink.
const WAIT_LONG: Duration = Duration::from_millis(500);

/// The bytes of transfers under way on a link, and how many may be.
#[derive(Debug)]
pub struct Flow {
    under_way_bytes: AtomicU64,
    budget_bytes: AtomicU64,
    /// The shortest time that an acknowledgement took: the distance.
    least_us: AtomicU64,
    /// When the budget last shrank, in microseconds of the caller's clock.
    shrunk_us: AtomicU64,
    /// Bytes on the wire per 256 bytes of memory, lately: zero and packed pages take few.
    density: AtomicU64,
    /// Somebody had to wait for room.
    waited: AtomicBool,
    /// It holds back at all.
    governs: bool,
}

/// Room for one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Memory it may cover, in bytes.
    pub len_bytes_max: u64,
    /// Wire bytes set aside for it, until [`Flow::settle`] says how many it has.
    pub reserved_bytes: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            under_way_bytes: AtomicU64::new(0),
            budget_bytes: AtomicU64::new(BUDGET_FIRST_BYTES),
            least_us: AtomicU64::new(u64::MAX),
            shrunk_us: AtomicU64::new(0),
            density: AtomicU64::new(256),
            waited: AtomicBool::new(false),
            governs: true,
        }
    }
}

impl Flow {
    /// One that never holds anything back: nobody acknowledges transfers, or no bytes of them travel.
    pub fn ungoverned() -> Self {
        Self { budget_bytes: AtomicU64::new(u64::MAX), governs: false, ..Self::default() }
    }

    /// Nothing is held back now.
    pub fn is_open(&self) -> bool {
        self.budget_bytes.load(Relaxed) >= BUDGET_OPEN_BYTES
    }

    /// Bytes that may be under way.
    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes.load(Relaxed)
    }

    /// Bytes under way, or set aside.
    pub fn under_way_bytes(&self) -> u64 {
        self.under_way_bytes.load(Relaxed)
    }

    /// Room for one more transfer; `None` if it has to wait until others are acknowledged. One is always let through.
    pub fn reserve(&self) -> Option<Room> {
        let budget = self.budget_bytes.load(Relaxed);
        if budget >= BUDGET_OPEN_BYTES {
            return Some(Room { len_bytes_max: u64::MAX, reserved_bytes: 0 });
        }
        let density = self.density.load(Relaxed);
        let len_bytes_max = (budget / SHARES * 256 / density).max(TRANSFER_MIN_BYTES);
        let most = len_bytes_max.min(crate::frame::BODY_LEN_BYTES_MAX);
        let reserved_bytes = (most * density / 256).max(HEADER_BYTES);
        let fits = |under_way: u64| {
            let sum = under_way + reserved_bytes;
            (under_way == 0 || sum <= budget).then_some(sum)
        };
        let room = || {
            let reserved = self.under_way_bytes.fetch_update(SeqCst, SeqCst, fits);
            reserved.is_ok().then_some(Room { len_bytes_max, reserved_bytes })
        };
        room().or_else(|| {
            // Told first and looked again after, so that what is given back in between is not missed.
            self.waited.store(true, SeqCst);
            room()
        })
    }

    /// A transfer that room was made for has `wire_bytes` and covers `covered_bytes` of memory; both are zero if there
    /// was none.
    pub fn settle(&self, room: Room, wire_bytes: u64, covered_bytes: u64) {
        if covered_bytes > 0 && !self.is_open() {
            let density = (wire_bytes * 256 / covered_bytes).clamp(1, 256);
            let lately = self.density.load(Relaxed);
            self.density.store((lately * 3 + density).div_ceil(4), Relaxed);
        }
        self.begin(wire_bytes);
        self.give_back(room.reserved_bytes);
    }

    /// So many bytes of a transfer are under way now.
    pub fn begin(&self, wire_bytes: u64) {
        self.under_way_bytes.fetch_add(wire_bytes, Relaxed);
    }

    /// Bytes that were lost, or that went down with their device.
    pub fn give_back(&self, bytes: u64) {
        let less = |under_way: u64| Some(under_way.saturating_sub(bytes));
        if bytes > 0 {
            let _ = self.under_way_bytes.fetch_update(SeqCst, SeqCst, less);
        }
    }

    /// Anything was acknowledged, so long after it was sent.
    pub fn heard(&self, latency: Duration) {
        let latency_us = latency.as_micros() as u64;
        if latency_us < self.least_us.load(Relaxed) {
            self.least_us.store(latency_us, Relaxed);
        }
    }

    /// A transfer of `wire_bytes` was acknowledged at `now`, `latency` after it was sent.
    pub fn delivered(&self, wire_bytes: u64, latency: Duration, now: Duration) {
        if !self.governs {
            return;
        }
        let under_way = self.under_way_bytes.load(Relaxed);
        self.give_back(wire_bytes);
        let least = self.least_us.load(Relaxed);
        let waited = latency.saturating_sub(Duration::from_micros(if least == u64::MAX { 0 } else { least }));
        if waited <= WAIT_SHORT {
            if !self.is_open() {
                self.budget_bytes.fetch_add(wire_bytes, Relaxed);
            }
        } else if waited > WAIT_LONG {
            // What was under way with it waited as long: they are one sign, not many.
            let (now_us, shrunk_us) = (now.as_micros() as u64, self.shrunk_us.load(Relaxed));
            if now_us.saturating_sub(shrunk_us) < latency.as_micros() as u64 && shrunk_us > 0 {
                return;
            }
            self.shrunk_us.store(now_us.max(1), Relaxed);
            let was = self.budget_bytes.load(Relaxed).min(under_way.max(wire_bytes));
            let fits = was as u128 * WAIT_LONG.as_micros() / waited.as_micros();
            self.budget_bytes.store((fits as u64).max(BUDGET_MIN_BYTES), Relaxed);
        }
    }

    /// True once for each time that somebody had to wait: there may be room now.
    pub fn take_waited(&self) -> bool {
        self.waited.load(Relaxed) && self.waited.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: u64 = 700 << 10;

    /// Sends `rounds` rounds over a link of `bytes_per_s`, whose queue is one for all. The longest that a transfer waited
    /// in the last half, and how much of the time the link was busy.
    fn run(flow: &Flow, bytes_per_s: f64, rounds: usize, begin_s: f64) -> (f64, f64) {
        let (mut now_s, mut free_s, mut busy_s, mut longest_s) = (begin_s, begin_s, 0.0, 0.0f64);
        let mut queue = std::collections::VecDeque::new();
        let mut half_s = begin_s;
        // The system names, which go first.
        flow.heard(Duration::from_micros(200));
        for round in 0..rounds {
            if round == rounds / 2 {
                (busy_s, longest_s, half_s) = (0.0, 0.0, now_s);
            }
            while let Some(room) = flow.reserve() {
                let wire = room.len_bytes_max.min(WIRE);
                flow.settle(room, wire, wire);
                free_s = f64::max(free_s, now_s) + wire as f64 / bytes_per_s;
                busy_s += wire as f64 / bytes_per_s;
                queue.push_back((now_s, free_s, wire));
                if flow.is_open() && queue.len() >= 14 * 16 {
                    break;
                }
            }
            let (sent_s, done_s, wire) = queue.pop_front().expect("one is always let through");
            now_s = done_s + 1e-4;
            longest_s = longest_s.max(now_s - sent_s);
            let latency = Duration::from_secs_f64(now_s - sent_s);
            flow.heard(latency);
            flow.delivered(wire, latency, Duration::from_secs_f64(now_s));
        }
        queue.iter().for_each(|(_, _, wire)| flow.give_back(*wire));
        (longest_s, busy_s / (now_s - half_s))
    }

    #[test]
    fn what_is_under_way_drains_within_a_second_on_any_link_and_keeps_it_busy() {
        for megabits in [1.0, 5.0, 10.0, 100.0, 1000.0] {
            let flow = Flow::default();
            let (longest_s, busy) = run(&flow, megabits * 125e3, 400, 0.0);
            assert!(longest_s < 1.1, "{megabits} Mb/s: {longest_s:.2} s");
            assert!(busy > 0.98, "{megabits} Mb/s: {busy:.3}");
        }
    }

    #[test]
    fn a_fast_link_is_open_after_few_rounds_and_stays_so() {
        let flow = Flow::default();
        run(&flow, 5e9, 400, 0.0);
        assert!(flow.is_open());
        run(&flow, 5e9, 4000, 100.0);
        assert!(flow.is_open());
    }

    #[test]
    fn a_link_that_becomes_slow_closes_and_opens_again() {
        let flow = Flow::default();
        run(&flow, 5e9, 400, 0.0);
        let (longest_s, _) = run(&flow, 625e3, 4000, 100.0);
        assert!(!flow.is_open() && longest_s < 1.1, "{longest_s:.2} s");
        run(&flow, 5e9, 4000, 1e6);
        assert!(flow.is_open());
    }

    #[test]
    fn transfers_that_hold_little_may_cover_more() {
        let flow = Flow::default();
        let room = flow.reserve().unwrap();
        flow.settle(room, 64, room.len_bytes_max);
        for _ in 0..20 {
            let room = flow.reserve().unwrap();
            flow.settle(room, 64, room.len_bytes_max);
        }
        assert!(flow.reserve().unwrap().len_bytes_max >= 1 << 20);
    }

    #[test]
    fn nothing_stays_set_aside_for_what_was_not_sent() {
        let flow = Flow::default();
        for _ in 0..100 {
            let room = flow.reserve().unwrap();
            flow.settle(room, 0, 0);
        }
        let room = flow.reserve().unwrap();
        flow.settle(room, 5000, 65536);
        flow.give_back(5000);
        assert_eq!(flow.under_way_bytes(), 0);
    }
}
