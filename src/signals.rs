//! Ctrl-C, and following a parent into its end.

use std::sync::atomic::{AtomicBool, Ordering};

use lgr_engine::driver::Cancel;
use rustix::process::{Signal, set_parent_process_death_signal};

/// The first Ctrl-C (or SIGTERM) requests a cancel, the second ends the process.
pub(crate) fn cancel_on_ctrl_c() -> anyhow::Result<Cancel> {
    static AGAIN: AtomicBool = AtomicBool::new(false);
    let cancel = Cancel::new();
    let request = cancel.clone();
    ctrlc::set_handler(move || {
        if AGAIN.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        request.request();
    })?;
    Ok(cancel)
}

/// Calls `act` at each Ctrl-C or SIGTERM, with how often there was one; the third ends the process.
pub(crate) fn on_each(act: impl Fn(u32) + Send + 'static) -> anyhow::Result<()> {
    let mut times = 0;
    ctrlc::set_handler(move || {
        times += 1;
        if times > 2 {
            std::process::exit(130);
        }
        act(times);
    })?;
    Ok(())
}

/// A member started by a launcher dies with it, so that nothing is left behind.
pub(crate) fn follow_parent(supervised: bool) -> anyhow::Result<()> {
    if supervised {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    Ok(())
}
