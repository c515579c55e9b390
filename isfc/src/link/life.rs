//! When a device's connection is dead: no byte of it has moved for the time-out. No clock and no socket of its own.
//!
//! A frame that is long under way is no sign of death on a slow link; bytes of it that reach the peer are a sign of life.
//! But they must be bytes *of what is waited for*: a peer that takes everything and says nothing lets small frames move
//! for ever. So once all of the oldest unacknowledged frame has reached the peer, only its acknowledgement counts.
//!
//! ```text
//!  stream   ──────────┬───────── oldest unacknowledged frame ─────────┬──────────────
//!                     │                                               │
//!        reached the peer ▲ still moves: alive       reached beyond ──▶ the peer has so long to say so
//! ```

use std::time::{Duration, Instant};

/// What the medium tells of the bytes handed to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Grows whenever bytes have reached the peer.
    pub mark: u64,
    /// At least so many bytes of the stream have reached the peer.
    pub reached_bytes: u64,
}

/// What keeps one direction of a device alive.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    mark: u64,
    moved_at: Instant,
    /// End of the oldest frame that has reached the peer whole and is not acknowledged, and since when.
    whole: Option<(u64, Instant)>,
}

/// Why it is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// No byte moves.
    Stalled,
    /// The peer has all of a frame and does not say so.
    Unacknowledged,
}

impl Life {
    /// Begins now.
    pub fn new(now: Instant) -> Self {
        Self { mark: 0, moved_at: now, whole: None }
    }

    /// Bytes went into the medium at `at`, or there was nothing to wait for.
    pub fn moved(&mut self, at: Instant) {
        self.moved_at = self.moved_at.max(at);
    }

    /// Judges at `now` a device whose oldest unacknowledged frame ends at `oldest_end_bytes` of its stream; `None` if
    /// there is none, and something waits to be handed to the medium.
    pub fn judge(
        &mut self,
        moved: Moved,
        oldest_end_bytes: Option<u64>,
        limit: Duration,
        now: Instant,
    ) -> Option<Death> {
        if moved.mark > self.mark {
            self.mark = moved.mark;
            self.moved_at = now;
        }
        let since = |at: Instant| now.saturating_duration_since(at);
        match oldest_end_bytes {
            Some(end) if end <= moved.reached_bytes => match self.whole {
                Some((known, at)) if known == end => (since(at) > limit).then_some(Death::Unacknowledged),
                _ => {
                    self.whole = Some((end, now));
                    None
                }
            },
            _ => {
                self.whole = None;
                (since(self.moved_at) > limit).then_some(Death::Stalled)
            }
        }
    }
}

/// The sign that a path takes short frames and no long ones: connections die one after the other, each with a frame of
/// which nothing was acknowledged, and none as long ever is.
#[derive(Clone, Debug, Default)]
pub struct Fruitless {
    /// Shortest frame with which a connection died since one as long was acknowledged, and when that began.
    failed: Option<(u64, Instant)>,
    connections: u32,
    /// Longest frame acknowledged that is shorter.
    passed_bytes: u64,
}

/// Connections that must have died so.
const CONNECTIONS_MIN: u32 = 3;

/// Frames of one length pass, and longer ones do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Longest that was acknowledged, in bytes.
    pub passed_bytes: u64,
    /// Shortest that was not.
    pub failed_bytes: u64,
    /// Connections that died over it.
    pub connections: u32,
}

impl Fruitless {
    /// A frame of `len_bytes` was acknowledged.
    pub fn passed(&mut self, len_bytes: u64) {
        if self.failed.is_some_and(|(failed, _)| len_bytes >= failed) {
            *self = Self::default();
        }
        self.passed_bytes = self.passed_bytes.max(len_bytes);
    }

    /// A connection died at `now` with a frame of `len_bytes` on it that was sent at `sent`, and nothing acknowledged. Given
    /// up after two and a half time-outs, and not before three of them.
    pub fn died(&mut self, len_bytes: u64, sent: Instant, limit: Duration, now: Instant) -> Option<Hole> {
        let (shortest, began) = self.failed.unwrap_or((len_bytes, sent));
        let failed = (shortest.min(len_bytes), began.min(sent));
        self.failed = Some(failed);
        self.connections += 1;
        let long = now.saturating_duration_since(failed.1) >= limit * 5 / 2;
        (long && self.connections >= CONNECTIONS_MIN).then_some(Hole {
            passed_bytes: self.passed_bytes,
            failed_bytes: failed.0,
            connections: self.connections,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_frame_that_crosses_slowly_is_alive_however_long_it_takes() {
        let began = Instant::now();
        let mut life = Life::new(began);
        for second in 1..600 {
            let moved = Moved { mark: second, reached_bytes: second * 1000 };
            assert_eq!(life.judge(moved, Some(1 << 20), LIMIT, began + s(second)), None);
        }
        let stuck = Moved { mark: 599, reached_bytes: 599_000 };
        assert_eq!(life.judge(stuck, Some(1 << 20), LIMIT, began + s(604)), None);
        assert_eq!(life.judge(stuck, Some(1 << 20), LIMIT, began + s(605)), Some(Death::Stalled));
    }

    #[test]
    fn a_peer_that_takes_everything_and_says_nothing_is_dead() {
        let began = Instant::now();
        let mut life = Life::new(began);
        let death = (1..).find_map(|second| {
            // Questions go on and on.
            let moved = Moved { mark: second, reached_bytes: 5000 + second * 64 };
            life.judge(moved, Some(4000), LIMIT, began + s(second)).map(|death| (second, death))
        });
        assert_eq!(death, Some((7, Death::Unacknowledged)));
    }

    #[test]
    fn each_frame_has_the_whole_time_to_be_acknowledged() {
        let began = Instant::now();
        let mut life = Life::new(began);
        for second in 1..100 {
            let moved = Moved { mark: second, reached_bytes: 1 << 30 };
            assert_eq!(life.judge(moved, Some(second / 4), LIMIT, began + s(second)), None, "{second}");
        }
    }

    #[test]
    fn long_frames_that_never_pass_are_told_after_a_bounded_time() {
        let began = Instant::now();
        let mut fruitless = Fruitless::default();
        let mut hole = None;
        let mut second = 0;
        while hole.is_none() {
            second += 5;
            fruitless.passed(112);
            hole = fruitless.died(65_600, began + s(second - 5), LIMIT, began + s(second));
            assert!(second <= 20, "no end");
        }
        assert_eq!(hole, Some(Hole { passed_bytes: 112, failed_bytes: 65_600, connections: 3 }));
        assert_eq!(second, 15);
    }

    #[test]
    fn one_long_frame_that_passes_begins_it_anew() {
        let began = Instant::now();
        let mut fruitless = Fruitless::default();
        for round in 0..100 {
            let now = began + s(round * 5);
            assert_eq!(fruitless.died(65_600, now, LIMIT, now + s(5)), None);
            if round % 2 == 1 {
                fruitless.passed(65_600);
            }
        }
    }
}
