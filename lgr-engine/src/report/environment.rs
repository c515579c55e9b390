//! The machine a side ran on, and what its process used.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine a result was measured on. The host's name is left out on purpose: reports get published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Processor model, as /proc/cpuinfo names it; `unknown` where it does not.
    pub cpu_model: String,
    /// Logical processors this process may use.
    pub cores: u32,
    /// Memory of the machine, in bytes; zero where /proc/meminfo does not tell.
    pub memory_bytes: u64,
    /// Version of this program.
    pub lgr_version: String,
    /// Revision of its source, if the program knows it ([`tell_program_revision`]).
    pub git_revision: Option<String>,
    /// When the report was made, in seconds since 1970.
    pub date_unix_s: u64,
}

impl Environment {
    /// Looks at this machine. What cannot be found is left as unknown; a probe never fails.
    pub fn probe() -> Self {
        let cpu_model = first_value("/proc/cpuinfo", "model name");
        let memory_kib = first_value("/proc/meminfo", "MemTotal");
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu_model: cpu_model.unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            memory_bytes: memory_kib.and_then(|text| parse_kib(&text)).unwrap_or(0),
            lgr_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_revision: PROGRAM_REVISION.get().cloned(),
            date_unix_s: since_1970.as_secs(),
        }
    }
}

/// See [`tell_program_revision`].
static PROGRAM_REVISION: OnceLock<String> = OnceLock::new();

/// Tells of which revision of its source this program is, once, for every report of this process. A library cannot find
/// that out: whoever builds the program can. Told again, the first stays.
pub fn tell_program_revision(revision: impl Into<String>) {
    let _ = PROGRAM_REVISION.set(revision.into());
}

/// What this process has used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessUsage {
    /// Processor time of all its threads, user and system, in seconds.
    pub cpu_s: f64,
    /// Largest resident memory so far, in bytes (VmHWM); it counts shared and file-backed pages too.
    pub memory_peak_bytes: Option<u64>,
}

impl ProcessUsage {
    /// Looks at this process.
    pub fn probe() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let peak_kib = first_value("/proc/self/status", "VmHWM");
        Self {
            cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            memory_peak_bytes: peak_kib.and_then(|text| parse_kib(&text)),
        }
    }
}

/// The value of the first line `key: value` of a file under /proc.
fn first_value(path: &str, key: &str) -> Option<String> {
    value_in(&fs::read_to_string(path).ok()?, key)
}

fn value_in(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then(|| value.trim().to_owned())
    })
}

/// Bytes of a text such as `24689012 kB`; the kernel means KiB.
fn parse_kib(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_key() {
        let text = "MemTotal:       24689012 kB\nMemFree: 1 kB\nmodel name\t: Some CPU @ 2.0GHz: x\n";
        assert_eq!(value_in(text, "MemTotal").and_then(|v| parse_kib(&v)), Some(24_689_012 * 1024));
        assert_eq!(value_in(text, "model name").as_deref(), Some("Some CPU @ 2.0GHz: x"));
        assert_eq!(value_in(text, "Mem"), None);
        assert_eq!(parse_kib("99999999999999999999 kB"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::probe();
        assert!(!environment.kernel.is_empty() && environment.cores > 0 && environment.memory_bytes > 0);
        let usage = ProcessUsage::probe();
        assert!(usage.cpu_s >= 0.0 && usage.memory_peak_bytes.is_some_and(|bytes| bytes > 0));
    }
}
