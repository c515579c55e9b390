//! A device's subchannel as it really runs: a channel program becomes the gather list of one send, and what the medium
//! makes of it becomes ending status.
//!
//! ```text
//!   start-subchannel   PREPARE CC │ WRITE CD header │ CD extents │ CD page run │ … │ page run
//!                         │              └───────────────┬───────────────────────────┘
//!   credit: the partner ◀─┘                              ▼  words that touch become one buffer
//!   has a Read for it                           iovec │ iovec │ …    one sendmsg on the ring
//!                                                        │
//!   channel end, device end, residual 0  ◀──all sent─────┤
//!   … and unit check, residual > 0       ◀──device gone──┘
//! ```
//!
//! The partner keeps a Read outstanding for every segment it grants, so the Prepare has ended before the program is
//! started and the Write always finds its Read: the exchange of [`crate::ctc::Adapter`] frames that would establish
//! that for each single program is what credit replaces.

use libc::iovec;

use super::receiver::advance;
use crate::ctc::channel::SubchannelStatus;
use crate::ctc::program::CCW_LEN_BYTES;
use crate::ctc::{CcwFlags, UnitStatus, WriteProgram};

/// Runs one program at a time.
pub(crate) struct Subchannel {
    program: WriteProgram,
    buffers: Vec<iovec>,
    first: usize,
    left_bytes: u32,
}

impl Subchannel {
    pub(crate) fn new() -> Self {
        let program = WriteProgram::for_frames();
        let buffers = Vec::with_capacity(program.segments_max());
        Self { program, buffers, first: 0, left_bytes: 0 }
    }

    /// Empties the program.
    pub(crate) fn clear(&mut self) {
        self.program.clear();
        self.buffers.clear();
        self.first = 0;
        self.left_bytes = 0;
    }

    /// Adds a stretch to be written. An empty one is left out: it would never be seen to be sent.
    ///
    /// A frame that does not fit is a defect of this crate: its parts have limits of their own.
    pub(crate) fn push(&mut self, base: *const u8, len_bytes: usize) {
        if len_bytes > 0 {
            let pushed = self.program.push(base as u64, len_bytes as u32);
            pushed.expect("a program takes the longest frame");
        }
    }

    /// Start-subchannel: lays the program's data chain out as a gather list.
    pub(crate) fn start(&mut self) {
        debug_assert!(!self.program.is_empty(), "a frame has a header");
        self.left_bytes = self.program.len_bytes();
        let mut end = 0;
        for word in self.program.ccws().iter().filter(|word| !word.flags.has(CcwFlags::CC)) {
            let len = usize::from(word.count_bytes);
            match self.buffers.last_mut() {
                Some(last) if word.address == end => last.iov_len += len,
                // Only ever read through: the kernel's send takes `iovec`, which has no const form.
                _ => self.buffers.push(iovec { iov_base: word.address as usize as *mut _, iov_len: len }),
            }
            end = word.address + len as u64;
        }
    }

    /// What is left to send.
    pub(crate) fn buffers(&mut self) -> &mut [iovec] {
        &mut self.buffers[self.first..]
    }

    /// The whole program's data, in bytes.
    pub(crate) fn len_bytes(&self) -> u64 {
        u64::from(self.program.len_bytes())
    }

    /// `count` more bytes are sent; the ending status once all are.
    pub(crate) fn moved(&mut self, count: usize) -> Option<SubchannelStatus> {
        advance(&mut self.buffers, &mut self.first, count);
        self.left_bytes -= count as u32;
        (self.left_bytes == 0).then(|| self.status(UnitStatus::ENDED))
    }

    /// The medium takes no more: how far the program came.
    pub(crate) fn abandon(&mut self) -> SubchannelStatus {
        self.status(UnitStatus::ENDED_CHECK)
    }

    fn status(&self, unit: UnitStatus) -> SubchannelStatus {
        let mut sent = self.program.len_bytes() - self.left_bytes;
        let mut words = 0;
        for word in self.program.ccws() {
            let count = if word.flags.has(CcwFlags::CC) { 0 } else { u32::from(word.count_bytes) };
            words += 1;
            if sent < count {
                break;
            }
            sent -= count;
        }
        SubchannelStatus {
            unit,
            subchannel: 0,
            residual_bytes: self.left_bytes,
            ccw_address: words * CCW_LEN_BYTES,
            unsolicited: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctc::{Adapter, Ccw, Channel, ChannelEffect, Effect, Role};
    use crate::frame::PROGRAM_PAYLOAD_BYTES;

    /// Two channels whose adapters are ready. Frames arrive at once; how many side 0 sent is counted.
    struct Pair {
        channels: [Channel; 2],
        sent: usize,
    }

    impl Pair {
        fn ready() -> Self {
            let channels = [0, 1].map(|_| Channel::new(Adapter::new(Default::default())));
            let mut pair = Self { channels, sent: 0 };
            pair.channels[0].connected(Role::Winner, &mut Vec::new());
            pair.channels[1].connected(Role::Loser, &mut Vec::new());
            for side in [0, 1, 0] {
                pair.start(side, &[Ccw::new(0x03, CcwFlags::SLI, 1, 0)]);
                while pair.test(0).is_some() | pair.test(1).is_some() {}
            }
            pair.sent = 0;
            pair
        }

        fn start(&mut self, side: usize, program: &[Ccw]) {
            let mut out = Vec::new();
            self.channels[side].start(program, &mut out).unwrap();
            self.pass_on(side, &out);
        }

        fn test(&mut self, side: usize) -> Option<SubchannelStatus> {
            let mut out = Vec::new();
            let status = self.channels[side].test(&mut out);
            self.pass_on(side, &out);
            status
        }

        fn pass_on(&mut self, side: usize, effects: &[ChannelEffect]) {
            for effect in effects {
                if let ChannelEffect::Device(Effect::Transmit(frame, _)) = effect {
                    self.sent += 1 - side;
                    let mut answers = Vec::new();
                    self.channels[1 - side].receive(frame, &mut answers).unwrap();
                    self.pass_on(1 - side, &answers);
                }
            }
        }
    }

    /// A Read of as many bytes, and some more.
    fn read_of(len_bytes: u32) -> Vec<Ccw> {
        let words = len_bytes / 60_000 + 1;
        let flags = |word| if word + 1 < words { CcwFlags::CD } else { CcwFlags::SLI };
        (0..words).map(|word| Ccw::new(0x02, flags(word), 60_000, 0)).collect()
    }

    /// Why the data plane needs no exchange of the adapters: where a Read is outstanding, they end the program at once, with
    /// one frame and the status that the medium gives.
    #[test]
    fn the_medium_ends_a_program_as_the_adapters_do_when_the_partner_reads() {
        let whole = PROGRAM_PAYLOAD_BYTES as usize;
        for lens in [vec![64], vec![64, 4096], vec![64, whole], vec![64, 16 * 255, 4096, 4096, 70_000]] {
            let mut subchannel = Subchannel::new();
            for (number, len) in lens.iter().enumerate() {
                subchannel.push((number << 24) as *const u8, *len);
            }
            subchannel.start();
            let program = subchannel.program.ccws().to_vec();
            let len_bytes = subchannel.program.len_bytes();
            let by_medium = subchannel.moved(len_bytes as usize);
            let mut pair = Pair::ready();
            pair.start(1, &read_of(len_bytes));
            // The Read of a partner that has nothing else to do is announced; ISFC's end does not wait for that.
            while pair.test(0).is_some() {}
            pair.start(0, &program);
            assert_eq!((pair.test(0), pair.sent), (by_medium, 1), "{lens:?}");
            let read = pair.test(1).unwrap();
            assert!(read.unit == UnitStatus::ENDED && read.subchannel == 0, "{read:?}");
            assert_eq!(read.residual_bytes, (len_bytes / 60_000 + 1) * 60_000 - len_bytes);
        }
    }

    #[test]
    fn words_that_touch_are_one_buffer() {
        let mut subchannel = Subchannel::new();
        subchannel.push(0x1000 as *const u8, 64);
        subchannel.push(0x10_0000 as *const u8, 100 * 4096);
        subchannel.push((0x10_0000 + 100 * 4096) as *const u8, 4096);
        subchannel.push(0x40_0000 as *const u8, 0);
        subchannel.start();
        let lens: Vec<usize> = subchannel.buffers().iter().map(|buffer| buffer.iov_len).collect();
        assert_eq!(lens, [64, 101 * 4096]);
    }

    #[test]
    fn a_program_that_was_cut_off_says_how_far_it_came() {
        let mut subchannel = Subchannel::new();
        subchannel.push(0x1000 as *const u8, 64);
        subchannel.push(0x9000 as *const u8, 4096);
        subchannel.start();
        assert_eq!(subchannel.moved(100), None);
        let status = subchannel.abandon();
        // Prepare, header, and the word that was cut.
        assert_eq!((status.residual_bytes, status.ccw_address), (4060, 24));
        assert!(status.unit.contains(UnitStatus::UNIT_CHECK));
        let status = subchannel.moved(4060);
        assert_eq!(status.map(|status| (status.unit, status.residual_bytes)), Some((UnitStatus::ENDED, 0)));
        subchannel.clear();
        subchannel.push(0x1000 as *const u8, 64);
        subchannel.start();
        assert!(subchannel.moved(64).is_some());
    }
}
