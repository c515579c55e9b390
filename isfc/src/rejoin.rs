//! Devices that went down come back by themselves: the side that called calls again, the side that listened goes on
//! listening.
//!
//! ```text
//!   dialling side                                 listening side
//!   device 3 down ──wait, then call──▶ hello (resume, link id, device 3)
//!                                      is it this link's? ── no ──▶ refused
//!                                                         └─ yes ─▶ old connection cut, welcome
//!   new thread, segments from 1  ◀──────────────────────────────▶  new thread, segments from 1
//! ```
//!
//! What the old connection carried was given back when it ended, so nothing is continued: a device that comes back
//! is as a new one. Over TLS it shakes hands anew, and only with the member that was there. A link whose last device
//! is gone stays down: its callers have acted on that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::dial::Dialer;
use crate::hello::Offer;
use crate::link::{DownReason, Engine, Shared, spawn_device};
use crate::listener::Listener;
use crate::medium::Carrier;

/// First wait before a device is called again; it doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two calls of a device.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the keeper of a link looks at its devices while one is down. While all are up it sleeps: whatever changes that
/// wakes it.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Longest sleep of a keeper with nothing to do.
const SLEEP: Duration = Duration::from_secs(5);

/// How the devices of a link are brought back.
#[derive(Debug)]
pub(crate) enum Rejoin {
    /// By calling again.
    Dial(Dialer, Offer),
    /// By waiting for the peer's call.
    Listen(Arc<Listener>, Offer),
}

/// The threads of a link's devices.
pub(crate) type Threads = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// Brings back the devices of one link.
pub(crate) struct Keeper {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Engine,
    pub(crate) threads: Threads,
    pub(crate) stop: Arc<AtomicBool>,
    /// Who is at the other end by its certificate; over TLS only.
    pub(crate) member: Option<String>,
}

impl Keeper {
    /// Runs until the link is down or dropped.
    pub(crate) fn run(&self, rejoin: &Rejoin) {
        match rejoin {
            Rejoin::Dial(dialer, offer) => self.dial(dialer, *offer),
            Rejoin::Listen(listener, offer) => {
                let back = |device, carrier| self.take(device, carrier);
                let refuses = |device| self.shared.first_reason(device) == Some(DownReason::Local);
                listener.take_back(offer, self.member.as_deref(), &|| self.is_over(), &refuses, &back);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.shared.is_over()
    }

    fn dial(&self, dialer: &Dialer, offer: Offer) {
        let now = Instant::now();
        let mut waits = vec![(WAIT_MIN, now); usize::from(offer.devices)];
        let mut was_down = vec![false; usize::from(offer.devices)];
        self.shared.keep_here();
        while !self.is_over() {
            for device in 0..offer.devices {
                // A peer that has stopped takes calls and does not answer: each may cost a second.
                if self.is_over() {
                    return;
                }
                let (wait, at) = &mut waits[usize::from(device)];
                let down = self.shared.device(device).has_ended()
                    && self.shared.first_reason(device) != Some(DownReason::Local);
                if down && !std::mem::replace(&mut was_down[usize::from(device)], down) {
                    (*wait, *at) = (WAIT_MIN, Instant::now() + WAIT_MIN);
                }
                if !down {
                    was_down[usize::from(device)] = false;
                } else if *at <= Instant::now() {
                    let back = dialer.call_again(&Offer { device, ..offer });
                    match back {
                        Ok(carrier) => {
                            self.take(device, carrier);
                            // If it goes down again before anybody looks, that is a new time, with a wait of its own.
                            was_down[usize::from(device)] = false;
                        }
                        Err(_) => {
                            *wait = (*wait * 2).min(WAIT_MAX);
                            *at = Instant::now() + *wait;
                        }
                    }
                }
            }
            std::thread::park_timeout(if was_down.contains(&true) { LOOK_EVERY } else { SLEEP });
        }
    }

    /// The device has a connection again.
    fn take(&self, device: u8, carrier: Carrier) {
        let state = self.shared.device(device);
        if !state.has_ended() {
            // This side has not noticed yet that the old connection is gone.
            self.shared.mark_down(device, &DownReason::Closed);
            state.cut();
            state.waker.wake();
            state.wait_ended();
        }
        if self.stop.load(Ordering::Acquire) || !self.shared.revive(device, carrier.socket) {
            return;
        }
        match spawn_device(device, &self.shared, self.engine, carrier.tunnel) {
            Ok(thread) => add_thread(&self.threads, thread),
            Err(error) => self.shared.device_ended(device, DownReason::Io(error.to_string())),
        }
    }
}

/// Keeps the thread of a device that came back, and lets go of those that have ended: a thread that nobody joins or lets
/// go of keeps its stack, and a device may come back any number of times.
fn add_thread(threads: &Threads, thread: JoinHandle<()>) {
    let mut threads = threads.lock().expect("no thread panics while it holds this");
    threads.retain(|thread| !thread.is_finished());
    threads.push(thread);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_connections_that_are_gone_are_let_go_of() {
        let threads = Threads::default();
        for _ in 0..50 {
            let thread = std::thread::spawn(|| ());
            while !thread.is_finished() {
                std::thread::yield_now();
            }
            add_thread(&threads, thread);
        }
        assert_eq!(threads.lock().unwrap().len(), 1);
    }
}
