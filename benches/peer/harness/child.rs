//! Processes that end when the harness does, however it ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// How long a process may take to tidy up after it was asked to end.
const TIDY_UP: Duration = Duration::from_secs(10);
/// Between two looks at whether something has happened.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (or SIGTERM) makes [`check`] fail, so that everything is put away on the way out.
pub(crate) fn watch_for_ctrl_c() -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst))?)
}

/// Fails once the harness was interrupted.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!INTERRUPTED.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

/// A process; asked to end, or killed, when this goes.
#[derive(Debug)]
pub(crate) struct Child {
    child: std::process::Child,
    farewell: Signal,
}

impl Child {
    /// Starts it. `farewell` ends it: sent when this goes, and by the kernel if the harness dies first.
    pub(crate) fn start(command: &mut Command, farewell: Signal) -> io::Result<Self> {
        let follow = move || Ok(set_parent_process_death_signal(Some(farewell))?);
        // A Ctrl-C on the terminal is for the harness, which then ends its children one by one.
        command.process_group(0);
        // SAFETY: between fork and exec the closure makes one system call and touches no memory of others.
        unsafe { command.pre_exec(follow) };
        Ok(Self { child: command.spawn()?, farewell })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end in time, or the harness was interrupted.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            check()?;
            anyhow::ensure!(started.elapsed() < limit, "no end after {} s", limit.as_secs());
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn say_farewell(&mut self) {
        let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) else { return };
        let _ = kill_process(pid, self.farewell);
        let asked = Instant::now();
        while asked.elapsed() < TIDY_UP && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.say_farewell();
        }
        // Neither does harm to a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
