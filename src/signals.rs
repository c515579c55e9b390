//! Ctrl-C, and following a parent into its end.

use lgr_engine::driver::{Cancel, REQUESTS_TO_GIVE_UP};
use rustix::process::{Signal, set_parent_process_death_signal};

/// The first Ctrl-C (or SIGTERM) requests a cancel, the second ends the process, unless that would be the end of what may be
/// the only copy of a guest: then it warns, and the third gives the guest up in an orderly way. One more always ends it.
pub(crate) fn cancel_on_ctrl_c() -> anyhow::Result<Cancel> {
    let cancel = Cancel::new();
    let request = cancel.clone();
    ctrlc::set_handler(move || {
        let times = request.request();
        if times > REQUESTS_TO_GIVE_UP || (times > 1 && !request.holds_guest()) {
            std::process::exit(130);
        }
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
