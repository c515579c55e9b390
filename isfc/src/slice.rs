//! How soon a thread that wakes up gets a processor, and how large a share: the scheduler's time slice and nice value,
//! asked for by the thread itself.
//!
//! With every device busy copying pages, dozens of threads want the processors, and a heartbeat would wait its turn
//! behind several of them at each hop. A thread with a short slice has an early deadline in the kernel's fair
//! scheduler: it runs next when it wakes, for as short as it asked, and gets no larger share for that. Linux 6.12 and
//! newer honour it, for any user; older kernels ignore it.
//!
//! A thread that carries pages is nice: where there are fewer processors than threads, guests come first, those that run
//! on and the one that is being moved. Two dozen threads of a guest's own weight would leave it half of what it wants.
//! Who may not raise a priority ([setpriority(2)](https://man7.org/linux/man-pages/man2/setpriority.2.html)) stays nice.

use std::time::{Duration, Instant};

/// The shortest slice the kernel grants.
const SHORT: Duration = Duration::from_micros(100);
/// How long a device must have carried no pages before it counts as quiet.
const QUIET_AFTER: Duration = Duration::from_millis(200);
/// Added to the nice value of a thread that carries pages: a tenth of the weight.
const PAGES_NICE: i32 = 10;
/// The largest nice value there is.
const NICE_MAX: i32 = 19;

/// `struct sched_attr` of `sched_setattr(2)`, first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Keep the policy (`SCHED_FLAG_KEEP_POLICY`); the nice value is read and set again.
const KEEP_POLICY: u64 = 0x08;

/// Asks for a short slice for the calling thread: for threads that answer messages and do little else.
///
/// Without effect where the kernel does not know it, and on threads under another than the fair policy.
pub fn prefer_latency() {
    set(SHORT, nice());
}

/// The calling thread's nice value.
fn nice() -> i32 {
    // SAFETY: reads the calling thread's own value.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// True if the kernel took it.
fn set(slice: Duration, nice: i32) -> bool {
    // SAFETY: reads the calling thread's own policy.
    if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
        return false;
    }
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: 0,
        flags: KEEP_POLICY,
        nice,
        priority: 0,
        runtime_ns: slice.as_nanos() as u64,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `attr`, which outlives the call. A refusal changes nothing.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    set == 0
}

/// The slice and nice value of a device's thread: short, and that of its process, except while it carries pages.
#[derive(Debug)]
pub(crate) struct Slice {
    pages_at: Option<Instant>,
    nice: i32,
}

impl Slice {
    /// For the calling thread, which carries no pages yet.
    pub(crate) fn new() -> Self {
        prefer_latency();
        Self { pages_at: None, nice: nice() }
    }

    /// Looks at what the thread does now; says so when it begins to carry pages (true) or has stopped to (false). A
    /// system call only then.
    pub(crate) fn observe(&mut self, carries_pages: bool, now: Instant) -> Option<bool> {
        if carries_pages {
            let begins = self.pages_at.replace(now).is_none();
            if begins {
                set(Duration::ZERO, (self.nice + PAGES_NICE).min(NICE_MAX));
            }
            return begins.then_some(true);
        }
        self.pages_at.take_if(|at| now.saturating_duration_since(*at) > QUIET_AFTER)?;
        if !set(SHORT, self.nice) {
            prefer_latency();
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_nice_while_it_carries_pages_and_for_a_moment_after() {
        let steps = std::thread::spawn(|| {
            let (usual, now) = (nice(), Instant::now());
            let mut slice = Slice::new();
            let begins = slice.observe(true, now);
            let carrying = nice();
            let soon = slice.observe(false, now + QUIET_AFTER);
            let later = slice.observe(false, now + QUIET_AFTER * 2);
            // SAFETY: reads the calling thread's own policy.
            let fair = unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER;
            (if fair { usual } else { NICE_MAX }, [begins, soon, later], carrying, nice())
        });
        let (usual, observed, carrying, after) = steps.join().expect("it does not panic");
        assert_eq!(observed, [Some(true), None, Some(false)]);
        // Another policy than the fair one is left alone.
        assert!(
            usual == NICE_MAX || carrying == (usual + PAGES_NICE).min(NICE_MAX),
            "{usual}, then {carrying}"
        );
        assert!(after == usual || after == carrying, "back, or as it was where that is not allowed: {after}");
    }
}
