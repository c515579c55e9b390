//! Processor time of a process, all its threads together, ended ones too: fields 14 and 15 of `/proc/PID/stat`, see
//! proc_pid_stat(5). The kernel counts in hundredths of a second there.

use anyhow::Context;

/// Seconds of user and system time so far.
pub(crate) fn seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticks = ticks(&text).with_context(|| format!("{path} is not as expected: {text}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn ticks(stat: &str) -> Option<u64> {
    // The name, field 2, is in brackets and may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}
