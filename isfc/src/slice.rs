//! How soon a thread that wakes up gets a processor: the scheduler's time slice, asked for by the thread itself.
//!
//! With every device busy copying pages, dozens of threads want the processors, and a heartbeat would wait its turn
//! behind several of them at each hop. A thread with a short slice has an early deadline in the kernel's fair
//! scheduler: it runs next when it wakes, for as short as it asked, and gets no larger share for that. Linux 6.12 and
//! newer honour it, for any user; older kernels ignore it.

use std::time::{Duration, Instant};

/// The shortest slice the kernel grants.
const SHORT: Duration = Duration::from_micros(100);
/// How long a device must have carried no pages before it counts as quiet.
const QUIET_AFTER: Duration = Duration::from_millis(200);

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
    set(SHORT);
}

fn set(slice: Duration) {
    // SAFETY: reads the calling thread's own policy and nice value.
    let (policy, nice) = unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) };
    if policy != libc::SCHED_OTHER {
        return;
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
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
}

/// The slice of a device's thread: short, except while it carries pages.
#[derive(Debug)]
pub(crate) struct Slice {
    pages_at: Option<Instant>,
}

impl Slice {
    /// For the calling thread, which carries no pages yet.
    pub(crate) fn new() -> Self {
        prefer_latency();
        Self { pages_at: None }
    }

    /// Looks at what the thread does now; says so when it begins to carry pages (true) or has stopped to (false). A
    /// system call only then.
    pub(crate) fn observe(&mut self, carries_pages: bool, now: Instant) -> Option<bool> {
        if carries_pages {
            let begins = self.pages_at.replace(now).is_none();
            return begins.then(|| set(Duration::ZERO)).map(|()| true);
        }
        self.pages_at.take_if(|at| now.saturating_duration_since(*at) > QUIET_AFTER)?;
        prefer_latency();
        Some(false)
    }
}
