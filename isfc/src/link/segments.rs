//! The numbered segments of one device, without I/O: what is under way, what has arrived, what is lost.
//!
//! **What can go wrong, told once.** A frame can be dropped, doubled, damaged or overtaken between two devices that
//! both stay up. Every frame therefore carries a number, which is never used for another one. The receiver says which
//! of the last 64 it has; a number that later ones have overtaken, or that stays away although the receiver was
//! asked, is lost, and what it carried goes out again under a new number on any device. What was only late is then
//! there twice: a number that came before is recognised by its bit, and a message or transfer that came under
//! another number by its own (socket and sequence, or epoch and tag).
//!
//! ```text
//!   sender     17  18  19  20  21  22          at most `credit` unacknowledged
//!               │   │   ╳   │   │   │
//!   receiver   17  18       20  21  22  ──▶  SegmentAck { highest: 22, before: 0b…11011 }
//!                       ▲
//!                       └ overtaken by three: lost, sent again
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::SocketId;

/// Segments under way on one device when the receiver has not said otherwise, and the most it may grant.
pub const CREDIT_MAX: u16 = 16;
/// The receiver acknowledges at the latest after so many segments.
const ACK_EVERY: u16 = 4;
/// A segment is lost when so many later ones have arrived.
const OVERTAKEN_BY: u16 = 3;
/// A segment that is not acknowledged for so long is asked for; asked for in vain, it is lost.
pub const PATIENCE: Duration = Duration::from_millis(300);

/// What a segment carried, so that it can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Message `sequence` of a socket.
    Message(SocketId, u64),
    /// An acknowledgement on a socket.
    Ack(SocketId),
    /// A placed transfer.
    Transfer {
        /// Its epoch.
        epoch: u32,
        /// Its tag.
        tag: u64,
    },
    /// This side's name.
    Idx,
    /// Nothing that would be missed.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    segment: u16,
    content: Content,
    span: Span,
    sent: Instant,
}

/// Where a frame lies in its device's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its length, in bytes.
    pub len_bytes: u64,
    /// Bytes of the stream up to its end.
    pub end_bytes: u64,
}

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentAck {
    /// The highest segment that has arrived.
    pub highest: u16,
    /// Bit `n`: the `n + 1`-th before it has arrived.
    pub before: u64,
    /// Segments that may be under way at once.
    pub credit: u16,
}

/// What became of segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Have arrived.
    pub delivered: Vec<Content>,
    /// Must be sent again.
    pub lost: Vec<Content>,
    /// From sending to acknowledgement, for each that has arrived.
    pub latencies: Vec<Duration>,
    /// Length of each frame that has arrived, in bytes.
    pub lens_bytes: Vec<u64>,
    /// Length of the lost transfers, in bytes.
    pub lost_bytes: u64,
}

/// How a segment that came in is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// For the first time.
    Fresh,
    /// It was here before, or is so old that it has been sent again.
    Again,
}

/// The sending side of a device.
#[derive(Debug)]
pub struct TxSegments {
    next: u16,
    credit: u16,
    under_way: VecDeque<UnderWay>,
    asked: Option<Instant>,
}

impl Default for TxSegments {
    fn default() -> Self {
        Self { next: 1, credit: CREDIT_MAX, under_way: VecDeque::new(), asked: None }
    }
}

impl TxSegments {
    /// May another segment go out?
    pub fn has_credit(&self) -> bool {
        self.under_way.len() < usize::from(self.credit)
    }

    /// Segments under way.
    pub fn depth(&self) -> usize {
        self.under_way.len()
    }

    /// Numbers a segment that goes out now. True if it should be acknowledged at once, so that credit does not run
    /// out while the receiver waits for more.
    pub fn send(&mut self, content: Content, now: Instant) -> (u16, bool) {
        self.send_span(content, Span::default(), now)
    }

    /// The same, and remembers where in the stream its frame lies.
    pub fn send_span(&mut self, content: Content, span: Span, now: Instant) -> (u16, bool) {
        let segment = self.next;
        self.next = self.next.wrapping_add(1);
        self.under_way.push_back(UnderWay { segment, content, span, sent: now });
        (segment, self.under_way.len() * 2 >= usize::from(self.credit))
    }

    /// Bytes of the transfers under way.
    pub fn transfer_bytes(&self) -> u64 {
        let transfers = self.under_way.iter().filter(|sent| matches!(sent.content, Content::Transfer { .. }));
        transfers.map(|sent| sent.span.len_bytes).sum()
    }

    /// End of the oldest frame under way, in bytes of the stream.
    pub fn oldest_end_bytes(&self) -> Option<u64> {
        self.under_way.front().map(|oldest| oldest.span.end_bytes)
    }

    /// The oldest frame under way, which nothing after it can overtake: its length and when it was sent.
    pub fn oldest_frame(&self) -> Option<(u64, Instant)> {
        self.under_way.front().map(|oldest| (oldest.span.len_bytes, oldest.sent))
    }

    /// The receiver has told what it has. An acknowledgement of segments that were never sent is ignored.
    pub fn acknowledged(&mut self, ack: &SegmentAck, now: Instant) -> Settled {
        let mut settled = Settled::default();
        if distance(ack.highest, self.next) == 0 || distance(ack.highest, self.next) > 1 << 15 {
            return settled;
        }
        self.credit = ack.credit.clamp(1, CREDIT_MAX);
        self.under_way.retain(|sent| {
            let behind = distance(sent.segment, ack.highest);
            if behind > 1 << 15 {
                return true; // sent after the one acknowledged
            }
            if behind == 0 || (behind <= 64 && ack.before & (1 << (behind - 1)) != 0) {
                settled.delivered.push(sent.content);
                settled.latencies.push(now.saturating_duration_since(sent.sent));
                settled.lens_bytes.push(sent.span.len_bytes);
                return false;
            }
            let late = now.saturating_duration_since(sent.sent) >= PATIENCE;
            if behind >= OVERTAKEN_BY || late {
                settled.lost.push(sent.content);
                if matches!(sent.content, Content::Transfer { .. }) {
                    settled.lost_bytes += sent.span.len_bytes;
                }
                return false;
            }
            true
        });
        settled
    }

    /// How long the oldest segment under way has waited for its acknowledgement.
    pub fn oldest(&self, now: Instant) -> Duration {
        self.under_way.front().map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest.sent))
    }

    /// True if it is time to ask the receiver what it has: the oldest segment has waited too long. Asked at most once
    /// per [`PATIENCE`], whatever is acknowledged meanwhile: on a slow medium everything waits that long, and more
    /// questions would only make it slower.
    pub fn must_ask(&mut self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let waits = self.under_way.front().is_some_and(|oldest| since(oldest.sent) >= PATIENCE);
        if !waits || self.asked.is_some_and(|at| since(at) < PATIENCE) {
            return false;
        }
        self.asked = Some(now);
        true
    }
}

/// The receiving side of a device.
#[derive(Debug, Default)]
pub struct RxSegments {
    highest: Option<u16>,
    before: u64,
    unacknowledged: u16,
}

impl RxSegments {
    /// What to make of `segment`; nothing is recorded yet.
    pub fn classify(&self, segment: u16) -> Arrival {
        let Some(highest) = self.highest else { return Arrival::Fresh };
        match distance(segment, highest) {
            0 => Arrival::Again,
            behind @ 1..=64 if self.before & (1 << (behind - 1)) == 0 => Arrival::Fresh,
            1..=0x8000 => Arrival::Again,
            _ => Arrival::Fresh,
        }
    }

    /// `segment` has arrived whole. True if an acknowledgement is due.
    pub fn arrived(&mut self, segment: u16) -> bool {
        let gap = match self.highest {
            None => {
                self.highest = Some(segment);
                segment != 1
            }
            Some(highest) => self.mark(segment, highest),
        };
        // A peer that takes nothing leaves any number of them unacknowledged.
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        gap || self.unacknowledged >= ACK_EVERY
    }

    /// True if `segment` leaves or fills a gap: the sender should know soon.
    fn mark(&mut self, segment: u16, highest: u16) -> bool {
        let behind = distance(segment, highest);
        if behind > 1 << 15 {
            let ahead = u32::from(distance(highest, segment));
            self.before = self.before.checked_shl(ahead).unwrap_or(0);
            if ahead <= 64 {
                self.before |= 1 << (ahead - 1);
            }
            self.highest = Some(segment);
            return ahead > 1;
        }
        if (1..=64).contains(&behind) {
            self.before |= 1 << (behind - 1);
        }
        true
    }

    /// The acknowledgement to send now; `None` before anything has arrived.
    pub fn acknowledge(&mut self, credit: u16) -> Option<SegmentAck> {
        self.unacknowledged = 0;
        Some(SegmentAck { highest: self.highest?, before: self.before, credit })
    }

    /// Something has arrived that is not acknowledged yet.
    pub fn is_due(&self) -> bool {
        self.unacknowledged > 0
    }
}

/// How far `to` is ahead of `from`, modulo 65,536.
fn distance(from: u16, to: u16) -> u16 {
    to.wrapping_sub(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transfer(tag: u64) -> Content {
        Content::Transfer { epoch: 1, tag }
    }

    #[test]
    fn credit_is_spent_and_given_back() {
        let (mut tx, mut rx, now) = (TxSegments::default(), RxSegments::default(), Instant::now());
        for tag in 0..u64::from(CREDIT_MAX) {
            assert!(tx.has_credit());
            let (segment, _) = tx.send(transfer(tag), now);
            rx.arrived(segment);
        }
        assert!(!tx.has_credit());
        let settled = tx.acknowledged(&rx.acknowledge(4).unwrap(), now);
        assert_eq!((settled.delivered.len(), settled.lost.len()), (16, 0));
        for tag in 0..4 {
            tx.send(transfer(tag), now);
        }
        assert!(!tx.has_credit(), "the receiver granted four");
    }

    #[test]
    fn what_three_have_overtaken_is_lost_and_no_sooner() {
        let (mut tx, mut rx, now) = (TxSegments::default(), RxSegments::default(), Instant::now());
        let numbers: Vec<u16> = (0..5).map(|tag| tx.send(transfer(tag), now).0).collect();
        for (index, due) in [(0, false), (2, true), (3, false)] {
            assert_eq!(rx.arrived(numbers[index]), due);
        }
        assert_eq!(tx.acknowledged(&rx.acknowledge(16).unwrap(), now).lost, []);
        rx.arrived(numbers[4]);
        assert_eq!(tx.acknowledged(&rx.acknowledge(16).unwrap(), now).lost, [transfer(1)]);
        assert_eq!(tx.depth(), 0);
    }

    #[test]
    fn a_lost_tail_is_asked_for_and_then_lost() {
        let (mut tx, mut rx, now) = (TxSegments::default(), RxSegments::default(), Instant::now());
        tx.send(transfer(0), now);
        assert!(!tx.must_ask(now));
        let later = now + PATIENCE;
        assert!(tx.must_ask(later) && !tx.must_ask(later));
        let (question, _) = tx.send(Content::Nothing, later);
        rx.arrived(question);
        assert_eq!(tx.acknowledged(&rx.acknowledge(16).unwrap(), later).lost, [transfer(0)]);
    }

    #[test]
    fn a_segment_that_came_before_is_known_again() {
        let mut rx = RxSegments::default();
        for segment in [65534, 65535, 1, 0] {
            assert_eq!(rx.classify(segment), Arrival::Fresh, "{segment}");
            rx.arrived(segment);
            assert_eq!(rx.classify(segment), Arrival::Again, "{segment}");
        }
        assert_eq!(rx.classify(2), Arrival::Fresh);
        assert_eq!(rx.classify(65533), Arrival::Fresh);
        assert_eq!(rx.classify(60000), Arrival::Again, "so old that it was sent again");
    }

    #[test]
    fn a_peer_that_never_takes_an_acknowledgement_is_no_arithmetic_error() {
        let mut rx = RxSegments::default();
        for segment in 0..=u32::from(u16::MAX) + 1 {
            rx.arrived(segment as u16);
        }
        assert!(rx.is_due());
        assert_eq!(rx.acknowledge(16).map(|ack| ack.highest), Some(0));
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_changes_nothing() {
        let (mut tx, now) = (TxSegments::default(), Instant::now());
        tx.send(transfer(0), now);
        for highest in [2, 500, 40000] {
            let settled = tx.acknowledged(&SegmentAck { highest, before: u64::MAX, credit: 16 }, now);
            assert_eq!(settled, Settled::default(), "{highest}");
        }
    }

    proptest! {
        /// A wire that drops, doubles and swaps: everything arrives, each number is fresh at most once.
        #[test]
        fn whatever_the_wire_does_all_contents_arrive(choices in proptest::collection::vec(any::<u8>(), 0..600)) {
            let (mut tx, mut rx) = (TxSegments::default(), RxSegments::default());
            let mut now = Instant::now();
            let mut waiting: Vec<u64> = (0..100).rev().collect();
            let mut wire: Vec<(u16, Content)> = Vec::new();
            let mut got = std::collections::BTreeSet::new();
            let mut fresh = std::collections::BTreeSet::new();
            let mut choices = choices.into_iter();
            for turn in 0u32.. {
                prop_assert!(turn < 100_000, "no end: {waiting:?} {wire:?}");
                if waiting.is_empty() && wire.is_empty() && tx.depth() == 0 {
                    break;
                }
                now += Duration::from_millis(10);
                if tx.must_ask(now) {
                    let (segment, _) = tx.send(Content::Nothing, now);
                    wire.push((segment, Content::Nothing));
                } else if let Some(tag) = waiting.last().copied().filter(|_| tx.has_credit()) {
                    waiting.pop();
                    let (segment, _) = tx.send(transfer(tag), now);
                    wire.push((segment, transfer(tag)));
                }
                let choice = choices.next().unwrap_or(254);
                match choice % 5 {
                    0 if !wire.is_empty() => drop(wire.remove(usize::from(choice) % wire.len())),
                    1 if !wire.is_empty() => wire.push(wire[usize::from(choice) % wire.len()]),
                    2 if wire.len() > 1 => { let last = wire.len() - 1; wire.swap(0, last) },
                    3 => {}
                    _ if !wire.is_empty() => {
                        let (segment, content) = wire.remove(0);
                        if rx.classify(segment) == Arrival::Fresh {
                            prop_assert!(fresh.insert(segment));
                            rx.arrived(segment);
                            if let Content::Transfer { tag, .. } = content { got.insert(tag); }
                        }
                        let settled = tx.acknowledged(&rx.acknowledge(16).unwrap(), now);
                        waiting.extend(settled.lost.iter().filter_map(|content| match content {
                            Content::Transfer { tag, .. } => Some(*tag),
                            _ => None,
                        }));
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(got.len(), 100);
        }
    }
}
