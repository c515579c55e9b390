//! The end of a device, its return, and the end of the link as a whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use socket2::Socket;

use super::super::life::Hole;
use super::super::segments::{RxSegments, TxSegments};
use super::super::{DownReason, LinkEvent};
use super::Shared;
use crate::panics::guarded;

impl Shared {
    /// The owner of the regions hears that the device touches them no more.
    pub(crate) fn tell_sink_of_end(&self, device: u8) {
        if let Some(sink) = self.sink.get() {
            sink.device_down(device);
        }
    }

    /// Runs in the device's own thread, last.
    pub(crate) fn device_ended(&self, device: u8, reason: DownReason) {
        self.mark_down(device, &reason);
        self.look_for_hole(device);
        let reason = self.first_reason(device).unwrap_or(reason);
        let _ = self.events.send(LinkEvent::DeviceDown(device, reason.clone()));
        let _ = self.with_core(|core, effects| -> Result<(), Infallible> {
            core.device_down(device, reason, effects);
            Ok(())
        });
        let state = self.device(device);
        {
            let mut line = state.line();
            self.flow.give_back(line.tx.transfer_bytes());
            line.tx = TxSegments::default();
        }
        self.assign_roles();
        *state.ended.lock().expect("no thread panics while it holds this") = true;
        state.ended_signal.notify_all();
        self.wake_keeper();
    }

    /// Did the device die over a frame that never arrives, as others did before? Then the link is given up.
    fn look_for_hole(&self, device: u8) {
        let now = Instant::now();
        let limit = self.silence_limit();
        let Some((len_bytes, sent)) = self.device(device).line().tx.oldest_frame() else { return };
        // One that has just been sent says nothing; and a peer may have lost patience a little sooner.
        if now.saturating_duration_since(sent) < limit / 2 {
            return;
        }
        self.failing.store(true, Ordering::Relaxed);
        let died = self.fruitless().died(len_bytes, sent, limit, now);
        if let Some(Hole { passed_bytes, failed_bytes, connections }) = died {
            self.give_up(if passed_bytes < failed_bytes {
                DownReason::MtuHole { passed_bytes, failed_bytes, connections }
            } else {
                DownReason::Fruitless { failed_bytes, connections }
            });
        }
    }

    pub(super) fn fruitless(&self) -> std::sync::MutexGuard<'_, super::Fruitless> {
        self.fruitless.lock().expect("no thread panics while it holds this")
    }

    /// Takes the link down as a whole, for a reason that no return of a device would mend.
    pub(crate) fn give_up(&self, reason: DownReason) {
        let reason = self.given_up.get_or_init(|| reason).clone();
        for (device, state) in (0..).zip(&self.devices) {
            self.mark_down(device, &reason);
            state.cut();
            state.waker.wake();
        }
        self.wake_keeper();
    }

    /// No device will come back.
    pub(crate) fn is_over(&self) -> bool {
        self.given_up.get().is_some() || self.core().devices_up() == 0
    }

    /// A thread of the link has panicked: nobody knows what it left half done.
    pub(crate) fn panicked(&self, thread: &str, words: String) -> DownReason {
        let reason = DownReason::Panicked { thread: thread.to_owned(), words };
        self.give_up(reason.clone());
        reason
    }

    /// Runs what a thread of the link is for; if it panics, the link goes down and says so.
    pub(crate) fn watched(self: &Arc<Self>, thread: &str, run: impl FnOnce()) {
        if let Err(words) = guarded(run) {
            self.panicked(thread, words);
        }
    }

    /// A device that had ended is there again, on another socket; its thread is to be started after this.
    /// False if the link is down, and then nothing revives it; or if this side has taken the device out meanwhile.
    pub(crate) fn revive(&self, device: u8, socket: Socket) -> bool {
        if self.core().devices_up() == 0 || self.given_up.get().is_some() {
            return false;
        }
        let state = self.device(device);
        // Held to the end: whoever takes the device out now either forbids its return, or finds it there.
        let mut reason = state.reason.lock().expect("no thread panics while it holds a reason");
        if *reason == Some(DownReason::Local) || self.given_up.get().is_some() {
            return false;
        }
        *state.socket.lock().expect("no thread panics while it holds a socket") = Arc::new(socket);
        {
            let mut line = state.line();
            line.tx = TxSegments::default();
            line.rx = RxSegments::default();
        }
        state.ack_due.store(false, Ordering::Relaxed);
        state.introduce.store(true, Ordering::Relaxed);
        state.damaged.store(0, Ordering::Relaxed);
        state.receiving.store(false, Ordering::Relaxed);
        state.leaving.store(false, Ordering::Relaxed);
        state.carrying.store(0, Ordering::Relaxed);
        *reason = None;
        *state.ended.lock().expect("no thread panics while it holds this") = false;
        state.closed.store(false, Ordering::Release);
        drop(reason);
        self.core().device_up(device);
        let _ = self.events.send(LinkEvent::DeviceUp(device));
        self.assign_roles();
        true
    }
}
