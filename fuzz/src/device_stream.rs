//! All that a peer can say on a device, from the header's first byte to what the link makes of it, while the device
//! sends messages and pages of its own.

mod caller;
mod frames;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isfc::frame::{ExtentClass, FrameKind, HEADER_LEN_BYTES, Header};
use isfc::fuzzing::{Conditions, LoneDevice};
use isfc::link::{CREDIT_MAX, PATIENCE};
use isfc::{DownReason, LinkEvent, SocketId};

use super::choices::Choices;
use caller::{Memory, Pages, Sink};
use frames::Frame;

/// Frames that the device may send between two of the peer's.
const FRAMES_AT_ONCE: usize = 64;

pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut peer = Peer::new(choices.byte());
    while !choices.is_over() {
        if let Err(reason) = peer.step(&mut choices) {
            return peer.end(reason);
        }
        peer.listen();
    }
    peer.end(DownReason::Closed);
}

struct Peer {
    device: LoneDevice,
    memory: Arc<Memory>,
    sink: Arc<Sink>,
    pages: Arc<Pages>,
    level2: bool,
    began: Instant,
    now: Instant,
    /// Number of the device's last segment.
    heard: u16,
    /// Number of the peer's next segment.
    next: u16,
    /// The next message that the caller is to be told of on each socket.
    told: BTreeMap<SocketId, u64>,
    /// The fuzzer wrote bytes of its own: nobody knows any more where a frame begins, or what it is to say.
    raw: bool,
    /// It sent more than it heard, which takes time: once is enough.
    flooded: bool,
}

impl Peer {
    fn new(conditions: u8) -> Self {
        let level2 = conditions & 1 == 0;
        let memory = Arc::new(Memory::new());
        let (sink, pages) = (Arc::new(Sink::new(memory.clone(), level2)), Arc::new(Pages::new()));
        let conditions = Conditions {
            level2,
            packs: level2 && conditions & 16 == 0,
            shared_len_bytes: (conditions & 2 != 0).then_some(caller::REGION_LEN_BYTES / 2),
            split: conditions & 4 != 0,
            dialing: conditions & 8 != 0,
        };
        let device = LoneDevice::new(conditions, memory.region(), sink.clone(), pages.clone()).unwrap();
        let now = Instant::now();
        Self {
            device,
            memory,
            sink,
            pages,
            level2,
            began: now,
            now,
            heard: 0,
            next: 1,
            told: BTreeMap::new(),
            raw: false,
            flooded: false,
        }
    }

    /// The peer does something.
    fn step(&mut self, choices: &mut Choices<'_>) -> Result<(), DownReason> {
        let choice = choices.byte();
        match choice % 16 {
            0 => {
                self.now += Duration::from_millis(u64::from(choices.byte()) * 8);
                self.device.check(self.now)
            }
            1 => {
                let socket = SocketId::new(u16::from(choices.byte() % 64)).unwrap();
                self.device.send(socket, choices.take(usize::from(choice >> 4)));
                Ok(())
            }
            2 => {
                self.raw = true;
                let frame = frames::raw(choices);
                self.device.receive(&frame, usize::from(choice >> 4) * 7, self.now)
            }
            3 => {
                self.raw = true;
                self.device.receive(choices.take(usize::from(choice >> 4)), 1, self.now)
            }
            4 if choice >= 0xE0 && !std::mem::replace(&mut self.flooded, true) => self.flood(choices.byte()),
            choice => self.frame(choice, choices),
        }
    }

    /// A peer that sends and does not listen meanwhile.
    fn flood(&mut self, choice: u8) -> Result<(), DownReason> {
        let pings = Header::new(FrameKind::Ping, 0).encode().repeat(choice.into());
        self.device.receive(&pings, 1 << 20, self.now)
    }

    /// A frame that is one, whether or not it makes sense now.
    fn frame(&mut self, choice: u8, choices: &mut Choices<'_>) -> Result<(), DownReason> {
        let segment = match choices.byte() {
            odd @ 240.. => self.next.wrapping_sub(u16::from(odd - 240)),
            ahead @ 230..240 => self.next.wrapping_add(u16::from(ahead - 230)),
            _ => self.next,
        };
        self.next = segment.wrapping_add(1);
        let frame = match choice {
            4 | 5 => frames::message(choices),
            6..=9 => frames::transfer(choices),
            10 | 11 => frames::segment_ack(choices, self.heard),
            12 => frames::ack(choices),
            13 => frames::idx(choices),
            _ => frames::bare(choices),
        };
        let placed = self.sink.placed();
        // Whole, or in pieces.
        let piece_bytes = match choices.u16() {
            0 => usize::MAX,
            piece_bytes => piece_bytes.into(),
        };
        self.device.receive(&frame.encode(segment), piece_bytes, self.now)?;
        if self.sink.placed() > placed && !self.raw {
            self.check_placed(&frame);
        }
        Ok(())
    }

    /// What the sink was told to be in place is there, bit for bit; of extents that overlap, the last.
    fn check_placed(&self, frame: &Frame) {
        let found = self.memory.snapshot();
        let mut expected = found.clone();
        let unpacked = frame.unpacked();
        let (class, mut payload) = match &unpacked {
            Some(unpacked) => (ExtentClass::Packed, &unpacked[..]),
            None => (ExtentClass::Raw, &frame.payload[..]),
        };
        for extent in frame.extents.iter().filter(|extent| extent.class == class) {
            let place = &mut expected[caller::range(extent)];
            if frame.is_fetched() {
                place.fill(0); // as the peer's region is
            } else {
                let (bytes, rest) = payload.split_at(place.len());
                place.copy_from_slice(bytes);
                payload = rest;
            }
        }
        assert!(found == expected, "placed, but not what was sent");
    }

    /// The peer hears what the device sends, and the caller what the link tells.
    fn listen(&mut self) {
        for _ in 0..FRAMES_AT_ONCE {
            let Some(frame) = self.device.transmit(self.now) else { break };
            let header = Header::decode(frame.first_chunk().unwrap()).unwrap();
            assert_eq!(header.body_len_bytes as usize, frame.len() - HEADER_LEN_BYTES);
            assert_eq!(header.device, 0);
            if self.level2 && header.kind != FrameKind::SegmentAck {
                assert_eq!(header.segment, self.heard.wrapping_add(1), "numbers follow each other");
                self.heard = header.segment;
            }
        }
        // Each question that the peer left unanswered may be one more; the name is told without credit.
        let asked = self.now.duration_since(self.began).as_millis() / PATIENCE.as_millis() + 1;
        assert!(u128::from(self.device.depth_max()) <= u128::from(CREDIT_MAX) + 1 + asked);
        while let Some(event) = self.device.event() {
            if let LinkEvent::Message(socket, body) = event
                && !self.raw
            {
                let next = self.told.entry(socket).or_default();
                assert_eq!(body[..8], next.to_le_bytes(), "out of order or twice on {socket:?}");
                *next += 1;
            }
        }
    }

    fn end(mut self, reason: DownReason) {
        self.listen();
        self.pages.ends();
        let Self { device, memory, sink, .. } = self;
        device.end(reason);
        sink.check_ended();
        memory.check_untouched();
    }
}
