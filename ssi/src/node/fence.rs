//! The end of a member, in time whatever hangs.
//!
//! ```text
//!   Engine ── deadline, before it carries an effect out ──▶ Fence (atomics) ◀── looks ── watchdog thread
//!      │                                                      ▲                             │
//!      └── stop: ends the guests, then tells                  │                             ├─ 1. nothing is said any more, guests end
//!                                     Handle, Mesh, Cp: "may I still say that?"             ├─ 2. tells
//!                                                                                           └─ 3. the process ends, whatever hangs
//! ```
//!
//! Nothing stands between the deadline and the end of the guests: the watchdog does no I/O, takes no lock and allocates nothing
//! before that. Everything that speaks for the member looks at the same atomics when it speaks, so a member whose engine
//! hangs, or whose threads have not noticed yet, says nothing that may be true no more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;

use super::clock::now_ms;
use super::console::Console;
use crate::member::Stopped;

/// How often the watchdog looks: a deadline may come nearer by an order only, and a machine may sleep.
const LOOK_UP_MS: u64 = 50;
/// An engine that is told to stop at once has done so by then.
const ORDER_PATIENCE_MS: u64 = 1_000;
/// No deadline.
const NEVER: u64 = u64::MAX;

/// What the process of a member does at its end. The library knows no guests, and ends no process, by itself.
pub trait Ending: Send + Sync + std::fmt::Debug {
    /// Ends every guest, at once: called when the member may run no longer, before anything else is done about it. It must not
    /// wait for anything; neither for a lock that is held while something is written.
    fn end_guests(&self) {}

    /// The member has ended some time ago; whatever of its process is still there, hangs.
    fn overdue(&self, has_left: bool) {
        let _ = has_left;
    }
}

/// How a member has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum End {
    /// It left, and others know: what it says last, is true.
    Left = 1,
    /// It says in the record that it is down.
    Abend = 2,
    /// Others may have taken what it held: it is silent.
    Fenced = 3,
}

impl End {
    pub(super) fn of(why: &Stopped) -> Self {
        match why {
            Stopped::Left => Self::Left,
            Stopped::Abend => Self::Abend,
            _ => Self::Fenced,
        }
    }

    /// How long the engine may take to come to its own end, after that of the guests.
    fn engine_patience(self) -> Duration {
        Duration::from_millis(if self == Self::Abend { 2_500 } else { 100 })
    }

    /// How long those who have asked for something may take to hear of the end.
    pub(super) fn last_words_patience(self) -> Duration {
        Duration::from_millis(if self == Self::Fenced { 150 } else { 1_000 })
    }

    /// How long the process may take after that.
    fn exit_patience(self) -> Duration {
        Duration::from_millis(if self == Self::Fenced { 250 } else { 1_500 })
    }
}

const RUNS: u8 = 0;

/// Until when the member may act, and whether it still does.
#[derive(Debug)]
pub(super) struct Fence {
    /// By the core.
    fence_at_ms: AtomicU64,
    /// By somebody who wants it to stop at once, in case its engine does not hear.
    ordered_at_ms: AtomicU64,
    /// When the engine looked at the world last.
    as_of_ms: AtomicU64,
    /// [`RUNS`], or an [`End`].
    end: AtomicU8,
    engine_has_ended: AtomicBool,
    ending: Option<Arc<dyn Ending>>,
}

impl Fence {
    pub(super) fn new(ending: Option<Arc<dyn Ending>>) -> Self {
        Self {
            fence_at_ms: AtomicU64::new(NEVER),
            ordered_at_ms: AtomicU64::new(NEVER),
            as_of_ms: AtomicU64::new(now_ms()),
            end: AtomicU8::new(RUNS),
            engine_has_ended: AtomicBool::new(false),
            ending,
        }
    }

    /// The engine has looked at the world, and this is its core's deadline now.
    pub(super) fn take_down(&self, looked_at_ms: u64, fence_at_ms: Option<u64>) {
        self.fence_at_ms.store(fence_at_ms.unwrap_or(NEVER), Ordering::SeqCst);
        self.as_of_ms.store(looked_at_ms, Ordering::SeqCst);
    }

    /// For how long the engine has looked at nothing.
    pub(super) fn age_ms(&self) -> u64 {
        now_ms().saturating_sub(self.as_of_ms.load(Ordering::SeqCst))
    }

    /// The member is to stop at once: if its engine does not do it, the watchdog will.
    pub(super) fn order(&self) {
        self.ordered_at_ms.fetch_min(now_ms() + ORDER_PATIENCE_MS, Ordering::SeqCst);
    }

    fn deadline_ms(&self) -> u64 {
        self.fence_at_ms.load(Ordering::SeqCst).min(self.ordered_at_ms.load(Ordering::SeqCst))
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&self) -> Option<End> {
        match self.end.load(Ordering::SeqCst) {
            RUNS if now_ms() > self.fence_at_ms.load(Ordering::SeqCst) => Some(End::Fenced),
            RUNS => None,
            end if end == End::Left as u8 => Some(End::Left),
            end if end == End::Abend as u8 => Some(End::Abend),
            _ => Some(End::Fenced),
        }
    }

    /// Others may have taken what it held, or will at once: nothing that it would say is to be heard.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.ended(), Some(End::Abend | End::Fenced))
    }

    /// Ends the guests. Only the first call does anything, and comes back when that is done.
    pub(super) fn end(&self, end: End) {
        if self.end.compare_exchange(RUNS, end as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            && let Some(ending) = &self.ending
        {
            // Whatever goes wrong in there, the member ends.
            let _ = catch_unwind(AssertUnwindSafe(|| ending.end_guests()));
        }
    }

    pub(super) fn engine_ended(&self) {
        self.engine_has_ended.store(true, Ordering::SeqCst);
    }
}

/// Starts the watchdog. It says on `ended` why the member has stopped if the engine does not.
pub(super) fn watch(fence: Arc<Fence>, console: Arc<Console>, ended: Sender<Stopped>) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("ssi-watchdog".into());
    thread.spawn(move || {
        // Where that is not allowed, it waits for a processor like anybody.
        let _ = rustix::process::setpriority_process(None, -20);
        let end = wait_for_end(&fence);
        std::thread::sleep(end.engine_patience());
        if !fence.engine_has_ended.load(Ordering::SeqCst) {
            let silent_ms = fence.age_ms();
            console.tell(&format!(
                "This member is stopped by its watchdog: it has not come to its end by itself, and has done nothing for {silent_ms} ms"
            ));
            let why = if end == End::Abend { Stopped::Abend } else { Stopped::Fenced { silent_ms } };
            let _ = ended.try_send(why);
        }
        std::thread::sleep(end.last_words_patience() + end.exit_patience());
        if let Some(ending) = &fence.ending {
            ending.overdue(end == End::Left);
        }
    })?;
    Ok(())
}

/// Ends the guests when it is time, if nobody else has.
fn wait_for_end(fence: &Fence) -> End {
    loop {
        let (now_ms, at_ms) = (now_ms(), fence.deadline_ms());
        if now_ms > at_ms {
            fence.end(End::Fenced);
        }
        if fence.end.load(Ordering::SeqCst) != RUNS
            && let Some(end) = fence.ended()
        {
            return end;
        }
        std::thread::sleep(Duration::from_millis((at_ms - now_ms + 1).min(LOOK_UP_MS)));
    }
}

/// Held by the engine's thread: if that panics, the member ends there and then.
pub(super) struct EngineLives {
    pub(super) fence: Arc<Fence>,
    pub(super) ended: Sender<Stopped>,
}

impl Drop for EngineLives {
    fn drop(&mut self) {
        self.fence.end(End::Fenced);
        self.fence.engine_ended();
        // There is room for the first who says why.
        let _ = self.ended.try_send(Stopped::Abend);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[derive(Debug, Default)]
    struct Guests {
        ended: AtomicU8,
        overdue: AtomicBool,
    }

    impl Ending for Guests {
        fn end_guests(&self) {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }

        fn overdue(&self, has_left: bool) {
            assert!(!has_left);
            self.overdue.store(true, Ordering::SeqCst);
        }
    }

    fn wait_for(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_watchdog_ends_guests_once_at_the_deadline_that_was_taken_down_last_and_says_why() {
        let guests = Arc::new(Guests::default());
        let fence = Arc::new(Fence::new(Some(guests.clone())));
        let (ended, why) = crossbeam::channel::bounded(1);
        watch(fence.clone(), Arc::new(Console::open(None).unwrap()), ended).unwrap();
        // It moves on with each heartbeat.
        fence.take_down(now_ms(), Some(now_ms() + 60_000));
        std::thread::sleep(Duration::from_millis(3 * LOOK_UP_MS));
        assert_eq!((fence.ended(), guests.ended.load(Ordering::SeqCst)), (None, 0));
        let at_ms = now_ms() + 200;
        fence.take_down(now_ms(), Some(at_ms));
        wait_for(|| guests.ended.load(Ordering::SeqCst) > 0);
        assert!(now_ms() > at_ms && fence.is_silent());
        assert!(matches!(why.recv_timeout(Duration::from_secs(60)), Ok(Stopped::Fenced { .. })));
        wait_for(|| guests.overdue.load(Ordering::SeqCst));
        fence.end(End::Fenced);
        assert_eq!(guests.ended.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_a_member_says_depends_on_the_deadline_and_not_on_whether_anybody_has_seen_it_pass() {
        let fence = Fence::new(None);
        assert!(!fence.is_silent());
        fence.take_down(now_ms(), Some(now_ms() - 1));
        assert!(fence.is_silent());
        // Whoever has left may still say so.
        let fence = Fence::new(None);
        fence.end(End::Left);
        assert_eq!((fence.ended(), fence.is_silent()), (Some(End::Left), false));
    }

    #[test]
    fn an_engine_that_panics_or_hears_no_order_takes_the_guests_with_it() {
        let guests = Arc::new(Guests::default());
        let fence = Arc::new(Fence::new(Some(guests.clone())));
        let (ended, why) = crossbeam::channel::bounded(1);
        let lives = EngineLives { fence: fence.clone(), ended };
        let engine = std::thread::spawn(move || {
            let _lives = lives;
            panic!("as intended");
        });
        assert!(engine.join().is_err());
        assert_eq!((guests.ended.load(Ordering::SeqCst), why.recv()), (1, Ok(Stopped::Abend)));

        let guests = Arc::new(Guests::default());
        let fence = Arc::new(Fence::new(Some(guests.clone())));
        let (ended, _why) = crossbeam::channel::bounded(1);
        watch(fence.clone(), Arc::new(Console::open(None).unwrap()), ended).unwrap();
        fence.order();
        wait_for(|| guests.ended.load(Ordering::SeqCst) == 1);
    }
}
