//! What becomes of a frame that has come in whole, and of what the peer says it has not got.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::DownReason;
use super::super::core::SocketId;
use super::super::segments::{Content, SegmentAck, Settled};
use super::{DAMAGED_MAX, Shared, UNTAKEN_BYTES_MAX, UNTAKEN_MAX};
use crate::counters::add;
use crate::device::{Complete, Incoming};

impl Shared {
    /// A whole frame has come in.
    pub(crate) fn complete(&self, device: u8, complete: Complete, now: Instant) -> Result<(), DownReason> {
        let Complete { incoming, segment, ack_now } = complete;
        if self.level2 {
            let due = match &incoming {
                Incoming::SegmentAck(_) => false,
                Incoming::Nothing { damaged: true } => true,
                _ => self.device(device).line().rx.arrived(segment) || ack_now,
            };
            if due {
                self.ack_soon(device);
            }
        }
        self.incoming(device, incoming, now)
    }

    fn incoming(&self, device: u8, incoming: Incoming, now: Instant) -> Result<(), DownReason> {
        let socket_id = |socket| SocketId::new(socket).expect("the header's limits were checked");
        match incoming {
            Incoming::Ping => {}
            Incoming::Transfer => add(&self.counters(device).transfers_rx, 1),
            Incoming::Ack { socket, sequence } => self.core().ack(socket_id(socket), sequence),
            Incoming::Message { socket, sequence, body } => {
                if self.untaken.load(Ordering::Relaxed) > UNTAKEN_MAX {
                    return Err(DownReason::Protocol(format!("{UNTAKEN_MAX} messages wait untaken")));
                }
                if self.untaken_bytes.load(Ordering::Relaxed) > UNTAKEN_BYTES_MAX {
                    let text = format!("messages of {UNTAKEN_BYTES_MAX} bytes wait untaken");
                    return Err(DownReason::Protocol(text));
                }
                self.with_core(|core, effects| core.message(socket_id(socket), sequence, body, effects))
                    .map_err(|error| DownReason::Protocol(error.to_string()))?;
            }
            Incoming::SegmentAck(_) | Incoming::Idx(_) | Incoming::Dvx if !self.level2 => {
                return Err(DownReason::Protocol("a frame of level 2 on a link of level 1".to_owned()));
            }
            Incoming::SegmentAck(ack) => self.segment_ack(device, &ack, now),
            Incoming::Idx(name) => self.introduced(name)?,
            Incoming::Dvx => return Err(DownReason::Deactivated),
            Incoming::Nothing { damaged: false } => {}
            Incoming::Nothing { damaged: true } => {
                let count = self.device(device).damaged.fetch_add(1, Ordering::Relaxed) + 1;
                if count > DAMAGED_MAX {
                    return Err(DownReason::Protocol(format!("{count} payloads came damaged")));
                }
            }
        }
        Ok(())
    }

    fn introduced(&self, name: [u8; crate::frame::IDX_LEN_BYTES]) -> Result<(), DownReason> {
        let bad = || DownReason::Protocol(crate::frame::FrameError::Name(name).to_string());
        let text = std::str::from_utf8(&name).map_err(|_| bad())?.trim_end_matches('\0');
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad());
        }
        if let Some(certified) = self.options.peer_name.as_deref().filter(|certified| *certified != text) {
            let words = format!("the peer calls itself {text}, and its certificate is that of {certified}");
            return Err(DownReason::Protocol(words));
        }
        if self.peer_name.get_or_init(|| text.to_owned()) != text {
            return Err(DownReason::Protocol(format!(
                "the peer calls itself {text} on one device and not on all"
            )));
        }
        self.assign_roles();
        Ok(())
    }

    fn segment_ack(&self, device: u8, ack: &SegmentAck, now: Instant) {
        let state = self.device(device);
        let settled = {
            let mut line = state.line();
            let settled = line.tx.acknowledged(ack, now);
            for latency in &settled.latencies {
                line.latency_us.saturating_record(latency.as_micros().max(1) as u64);
            }
            settled
        };
        self.learn(&settled, now);
        for content in settled.delivered {
            if let (Content::Transfer { epoch, tag }, Some(source)) = (content, self.source()) {
                source.delivered(device, epoch, tag);
            }
        }
        if !settled.lost.is_empty() {
            add(&self.counters(device).resends, settled.lost.len() as u64);
            self.send_again(device, &settled.lost);
        }
        if self.split {
            state.waker.wake();
        }
    }

    /// What acknowledgements say of the path: how fast it is, and which frames it carries.
    fn learn(&self, settled: &Settled, now: Instant) {
        let since = now.saturating_duration_since(self.started);
        self.flow.give_back(settled.lost_bytes);
        let mut longest = 0;
        for ((content, latency), len_bytes) in
            settled.delivered.iter().zip(&settled.latencies).zip(&settled.lens_bytes)
        {
            longest = longest.max(*len_bytes);
            self.flow.heard(*latency);
            if matches!(content, Content::Transfer { .. }) {
                self.flow.delivered(*len_bytes, *latency, since);
            }
        }
        if longest > self.longest_passed.load(Ordering::Relaxed) || self.failing.load(Ordering::Relaxed) {
            self.longest_passed.fetch_max(longest, Ordering::Relaxed);
            self.fruitless().passed(longest);
        }
        if self.flow.take_waited() {
            self.kick_writers(settled.delivered.len() + 1);
        }
    }

    fn send_again(&self, device: u8, lost: &[Content]) {
        let _ = self.with_core(|core, effects| -> Result<(), std::convert::Infallible> {
            for content in lost {
                match *content {
                    Content::Message(socket, sequence) => core.message_lost(socket, sequence, effects),
                    Content::Ack(socket) => core.ack_lost(socket, effects),
                    Content::Idx => self.device(device).introduce.store(true, Ordering::Release),
                    Content::Transfer { .. } | Content::Nothing => {}
                }
            }
            Ok(())
        });
        for content in lost {
            if let (Content::Transfer { epoch, tag }, Some(source)) = (*content, self.source()) {
                source.lost(device, epoch, tag);
            }
        }
        self.kick_writers(lost.len());
    }
}
