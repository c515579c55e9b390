//! Takes a sample of whatever thread has used up the next bit of processor time.
//!
//! `ITIMER_PROF` counts the processor time of all threads, and the kernel sends its signal to the thread that runs when the
//! count is full, at most once for each of its ticks (250 a second and processor on many kernels). A thread that sleeps is
//! never disturbed. The handler writes into memory that was set aside before, takes no lock, and reads the stack through
//! `process_vm_readv`, which says no where a plain read would fault: code without frame pointers, such as the C library,
//! may leave anything in that register. Time in the kernel is charged to the call that entered it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use anyhow::bail;
use zerocopy::{FromZeros, KnownLayout};

/// Deepest stack that is kept; frames nearer to the thread's begin are cut off.
const FRAMES_MAX: usize = 96;
/// Most samples of one profile: minutes of a busy machine. Memory is taken as they come.
const SAMPLES_MAX: usize = 1 << 17;
/// Shorter than the kernel's tick, so that each tick is a sample.
const INTERVAL_US: libc::suseconds_t = 997;
/// A longer step from one frame to the next is no stack of ours.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// The stage that the process is in: zero for none, see [`super::Stages`].
pub(super) static STAGE: AtomicU32 = AtomicU32::new(0);
/// Where the handler writes; null while nothing is sampled.
static SLOTS: AtomicPtr<Slots> = AtomicPtr::new(std::ptr::null_mut());
/// This process, so that the handler need not ask.
static PROCESS: AtomicI32 = AtomicI32::new(0);

#[derive(FromZeros, KnownLayout)]
struct Slot {
    filled: AtomicBool,
    stage: AtomicU32,
    name: [AtomicU64; 2],
    depth: AtomicUsize,
    frames: [AtomicUsize; FRAMES_MAX],
}

struct Slots {
    next: AtomicUsize,
    slots: Box<[Slot]>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Number of the stage.
    pub(super) stage: u32,
    /// Name of the thread.
    pub(super) thread: String,
    /// Addresses, the innermost first; all but that one are where a call returns to.
    pub(super) frames: Vec<usize>,
}

/// Sampling, until it is finished or dropped.
pub(super) struct Sampler(());

impl Sampler {
    /// Begins.
    pub(super) fn start() -> anyhow::Result<Self> {
        PROCESS.store(rustix::process::getpid().as_raw_nonzero().get(), Ordering::Relaxed);
        let probe = std::hint::black_box(&[1_usize, 2]);
        if read_words(probe.as_ptr().addr()) != Some(*probe) {
            let error = io::Error::last_os_error();
            bail!("this process cannot read its own stacks with process_vm_readv: {error}");
        }
        let Ok(slots) = <[Slot]>::new_box_zeroed_with_elems(SAMPLES_MAX) else {
            bail!("no memory for samples");
        };
        if !SLOTS.load(Ordering::Acquire).is_null() {
            bail!("this process is being profiled already");
        }
        // Never freed: a signal that is under way on another thread may still hold the pointer.
        let slots = Box::leak(Box::new(Slots { next: AtomicUsize::new(0), slots }));
        SLOTS.store(slots, Ordering::Release);
        handle(on_tick as *const () as libc::sighandler_t)?;
        tick_every(INTERVAL_US)?;
        Ok(Self(()))
    }

    /// Ends, and gives what was sampled in some stage.
    pub(super) fn finish(self) -> Vec<Sample> {
        drop(self);
        let slots = SLOTS.load(Ordering::Acquire);
        // SAFETY: set by `start` to memory that is never freed, and only read through atomics.
        let Some(slots) = (unsafe { slots.as_ref() }) else { return Vec::new() };
        let filled = slots.slots.iter().filter(|slot| slot.filled.load(Ordering::Acquire));
        filled.map(Sample::of).collect()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // A tick that was sent already must not meet the default action, which ends the process.
        let _ = tick_every(0);
        let _ = handle(libc::SIG_IGN);
    }
}

impl Sample {
    fn of(slot: &Slot) -> Self {
        let name: Vec<u8> =
            slot.name.iter().flat_map(|part| part.load(Ordering::Relaxed).to_ne_bytes()).collect();
        let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let depth = slot.depth.load(Ordering::Relaxed).min(FRAMES_MAX);
        Self {
            stage: slot.stage.load(Ordering::Relaxed),
            thread: String::from_utf8_lossy(&name[..len]).into_owned(),
            frames: slot.frames[..depth].iter().map(|frame| frame.load(Ordering::Relaxed)).collect(),
        }
    }
}

fn handle(handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: a sigaction of zeros is valid; the handler is `on_tick`, which has the signature that SA_SIGINFO asks for
    // and does only what a signal handler may, or SIG_IGN.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &action, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn tick_every(us: libc::suseconds_t) -> io::Result<()> {
    let time = libc::timeval { tv_sec: 0, tv_usec: us };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the timer outlives the call, and the old one is not asked for.
    let done = unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The two words at `address`: a frame's link to the one before it, and where it returns to.
fn read_words(address: usize) -> Option<[usize; 2]> {
    let mut words = [0_usize; 2];
    let len = size_of_val(&words);
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: len };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: len };
    let process = PROCESS.load(Ordering::Relaxed);
    // SAFETY: it writes to `words` alone; an address that cannot be read is an error and no fault.
    let read = unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) };
    (read == len as isize).then_some(words)
}

/// The signal handler. Atomics, two harmless system calls, no allocation, no lock; `errno` is put back.
extern "C" fn on_tick(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let stage = STAGE.load(Ordering::Relaxed);
    // SAFETY: `start` set it to memory that is never freed.
    let Some(slots) = (unsafe { SLOTS.load(Ordering::Acquire).as_ref() }) else { return };
    if stage == 0 {
        return;
    }
    let Some(slot) = slots.slots.get(slots.next.fetch_add(1, Ordering::Relaxed)) else { return };
    // SAFETY: errno of this thread, which the code that was interrupted may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: with SA_SIGINFO the kernel passes the ucontext of the code that was interrupted.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |number: libc::c_int| registers[number as usize] as usize;
    let stack = register(libc::REG_RSP);
    slot.frames[0].store(register(libc::REG_RIP), Ordering::Relaxed);
    slot.depth.store(walk(register(libc::REG_RBP), stack, &slot.frames), Ordering::Relaxed);
    let mut name = [0_u64; 2];
    // SAFETY: the kernel writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    slot.name.iter().zip(name).for_each(|(part, value)| part.store(value, Ordering::Relaxed));
    slot.stage.store(stage, Ordering::Relaxed);
    slot.filled.store(true, Ordering::Release);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Follows the frame pointers up from `frame` and stores where each returns to; gives how many frames there are then.
fn walk(mut frame: usize, stack: usize, frames: &[AtomicUsize; FRAMES_MAX]) -> usize {
    let mut below = stack;
    for (depth, slot) in frames.iter().enumerate().skip(1) {
        // The stack grows down: each caller's frame lies above, and not far.
        let is_near = frame >= below && frame - below <= FRAME_BYTES_MAX && frame.is_multiple_of(8);
        let Some([next, returns_to]) = is_near.then(|| read_words(frame)).flatten() else { return depth };
        if returns_to == 0 {
            return depth;
        }
        slot.store(returns_to, Ordering::Relaxed);
        below = frame + 16;
        frame = next;
    }
    FRAMES_MAX
}
