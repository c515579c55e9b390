//! The machine and its limits, as files under /proc and /sys and the resource limits tell them.

use std::fs;
use std::path::Path;

use guest_mem::{HUGE_PAGE_SIZE, MemoryAvailable};
use lgr_engine::report::Environment;
use rustix::process::{Resource, getrlimit};

use super::{Capability, State};
use crate::units::size;

/// First kernel with PAGEMAP_SCAN.
const KERNEL_WANTED: (u32, u32) = (6, 7);
/// Memory of a relocation beside its two guests, in bytes.
const OVERHEAD_BYTES: u64 = 256 << 20;
const QUEUES: u64 = 16;
/// Each queue has a socket, an eventfd and a ring.
const FILES_PER_QUEUE: u64 = 3;
/// Standard streams, memory files, listener, userfaultfd and the like.
const FILES_BESIDE_QUEUES: u64 = 32;

pub(super) fn probe() -> Vec<Capability> {
    let environment = Environment::probe();
    vec![
        kernel(&environment.kernel),
        processor(&environment),
        avx2(),
        memory(environment.memory_bytes),
        huge_pages(),
        shmem_huge_pages(),
        shared_memory_mount(),
        locked_memory(),
        open_files(getrlimit(Resource::Nofile).current),
        kvm(),
        perf(),
    ]
}

/// The text of a small file, trimmed; `None` if it cannot be read or is no text.
fn text_of(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel(release: &str) -> Capability {
    let detail = format!("Linux {release}, {} or newer wanted", version(KERNEL_WANTED));
    match major_minor(release) {
        Some(found) if found >= KERNEL_WANTED => Capability::new("kernel", State::Yes, detail),
        Some(_) => Capability::new("kernel", State::Limited, detail),
        None => Capability::new("kernel", State::Limited, format!("{detail}; cannot read this version")),
    }
    .instead("what the rows below say")
}

fn version((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

fn major_minor(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn processor(environment: &Environment) -> Capability {
    let (model, cores) = (&environment.cpu_model, environment.cores);
    let state = if cores >= 2 { State::Yes } else { State::Limited };
    let unit = if cores == 1 { "core" } else { "cores" };
    Capability::new("processor", state, format!("{model}, {cores} {unit} for this process"))
        .instead("both sides and the guest share one core: slow")
}

fn avx2() -> Capability {
    #[cfg(target_arch = "x86_64")]
    let found = std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    let outcome = if found { Ok("zero test and streaming copy") } else { Err("not in this processor") };
    Capability::tried("AVX2", outcome.map(Into::into).map_err(Into::into)).instead("portable code: slower")
}

fn memory(total_bytes: u64) -> Capability {
    let available = match MemoryAvailable::read() {
        Ok(available) => available,
        Err(error) => return Capability::new("memory", State::Limited, error.to_string()),
    };
    let limit = available.cgroup_room_bytes;
    let room = limit.map_or(available.mem_available_bytes, |room| room.min(available.mem_available_bytes));
    let guest_max = room.saturating_sub(OVERHEAD_BYTES) / 2;
    let limit = limit.map_or("no cgroup limit".to_owned(), |room| format!("cgroup leaves {}", size(room)));
    let state = match guest_max {
        0 => State::No,
        1..=0x3fff_ffff => State::Limited,
        _ => State::Yes,
    };
    let (available, total) = (size(available.mem_available_bytes), size(total_bytes));
    let detail = format!(
        "{available} available of {total}, {limit}; largest guest with both sides here: {}",
        size(guest_max)
    );
    let memory = Capability::new("memory", state, detail).essential();
    if state == State::Limited { memory.instead("a smaller guest: --memory") } else { memory }
}

fn huge_pages() -> Capability {
    let pool = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB");
    let number = |name: &str| text_of(pool.join(name)).and_then(|text| text.parse::<u64>().ok());
    let (Some(total), Some(free)) = (number("nr_hugepages"), number("free_hugepages")) else {
        return Capability::new("huge pages (hugetlb)", State::No, "no pool of 2 MiB pages in this kernel")
            .instead("4 KiB pages");
    };
    let state = match free {
        0 => State::No,
        _ if free < total => State::Limited,
        _ => State::Yes,
    };
    let bytes = size(free.saturating_mul(HUGE_PAGE_SIZE));
    let detail = format!("{free} of {total} pages of 2 MiB free ({bytes}); set vm.nr_hugepages for more");
    Capability::new("huge pages (hugetlb)", state, detail).instead("4 KiB pages")
}

fn shmem_huge_pages() -> Capability {
    let root = Path::new("/sys/kernel/mm/transparent_hugepage");
    let word = |name: &str| text_of(root.join(name)).and_then(|text| chosen(&text));
    let name = "huge pages (THP, memfd)";
    // Newer kernels have a setting for each size, which mostly says "inherit".
    let own = word("hugepages-2048kB/shmem_enabled").filter(|word| word != "inherit");
    let Some(setting) = own.or_else(|| word("shmem_enabled")) else {
        return Capability::new(name, State::No, "not in this kernel").instead("4 KiB pages");
    };
    let (state, meaning) = meaning_of(&setting);
    Capability::new(name, state, format!("shmem_enabled is '{setting}': {meaning}")).instead("4 KiB pages")
}

/// The word in brackets of a list such as `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// What a setting of shmem_enabled means for guest storage, which is a memfd.
/// Source: Linux, Documentation/admin-guide/mm/transhuge.rst.
fn meaning_of(setting: &str) -> (State, &'static str) {
    match setting {
        "always" | "force" => (State::Yes, "every memfd may get them; guests that do not ask are kept out"),
        "within_size" => (State::Yes, "a memfd may get them inside its size"),
        "advise" => (State::Yes, "guests that ask for them may get them"),
        "never" | "deny" => (State::No, "no memfd gets them; write advise there to change it"),
        _ => (State::Limited, "not known to this program"),
    }
}

fn shared_memory_mount() -> Capability {
    let note = "guest storage does not live there";
    match rustix::fs::statvfs("/dev/shm") {
        Ok(stat) => {
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            let (total, free) = (bytes(stat.f_blocks), bytes(stat.f_bavail));
            let state = if free > 0 { State::Yes } else { State::Limited };
            Capability::new("/dev/shm", state, format!("{} free of {}; {note}", size(free), size(total)))
        }
        Err(error) => Capability::new("/dev/shm", State::No, format!("{error}; {note}")),
    }
    .instead("memfd, which it does not limit")
}

fn locked_memory() -> Capability {
    let limit = getrlimit(Resource::Memlock).current;
    let limit = limit.map_or("unlimited".to_owned(), size);
    Capability::new("RLIMIT_MEMLOCK", State::Yes, format!("{limit}; nothing is locked or pinned"))
}

fn open_files(limit: Option<u64>) -> Capability {
    let wanted = QUEUES * FILES_PER_QUEUE + FILES_BESIDE_QUEUES;
    let Some(limit) = limit else {
        return Capability::new(
            "RLIMIT_NOFILE",
            State::Yes,
            format!("unlimited; {QUEUES} queues want {wanted}"),
        );
    };
    let queues = (limit.saturating_sub(FILES_BESIDE_QUEUES) / FILES_PER_QUEUE).min(QUEUES);
    let state = match queues {
        0 => State::No,
        QUEUES => State::Yes,
        _ => State::Limited,
    };
    let detail = format!("{limit}; {QUEUES} queues want {wanted} ({FILES_PER_QUEUE} each and some)");
    let files = Capability::new("RLIMIT_NOFILE", state, detail).essential();
    if queues > 0 {
        files.instead(&format!("--queues {queues}, or raise it: ulimit -n {wanted}"))
    } else {
        files
    }
}

fn kvm() -> Capability {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let outcome = opened.map(|_| "may be opened; workload guests do not need it".to_owned());
    Capability::tried("/dev/kvm", outcome.map_err(|error| error.to_string()))
        .instead("workload guests, which need none")
}

fn perf() -> Capability {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("perf").is_file());
    let paranoid = text_of("/proc/sys/kernel/perf_event_paranoid").and_then(|text| text.parse::<i32>().ok());
    let allowed = rustix::process::geteuid().is_root() || paranoid.is_some_and(|level| level <= 2);
    let counters = Path::new("/sys/bus/event_source/devices");
    let hardware = ["cpu", "cpu_core"].iter().any(|name| counters.join(name).is_dir());
    let level = paranoid.map_or("unknown".to_owned(), |level| level.to_string());
    let program = if found { "on PATH" } else { "not on PATH" };
    let units = if hardware { "hardware counters" } else { "no hardware counters" };
    let detail = format!("perf {program}, perf_event_paranoid {level}, {units}");
    if !found || !allowed {
        return Capability::new("perf", State::No, detail).instead("the report's CPU seconds");
    }
    let state = if hardware { State::Yes } else { State::Limited };
    Capability::new("perf", state, detail).instead("the software clock: perf record -e cpu-clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read_however_they_are_written() {
        assert_eq!(major_minor("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(major_minor("6.7-rc1"), Some((6, 7)));
        for odd in ["", "six", "6", "99999999999.1"] {
            assert_eq!(major_minor(odd), None, "{odd}");
            assert_eq!(kernel(odd).state, State::Limited);
        }
        assert_eq!(kernel("5.10.0").state, State::Limited);
    }

    #[test]
    fn the_chosen_setting_is_the_one_in_brackets() {
        assert_eq!(chosen("always [within_size] never").as_deref(), Some("within_size"));
        for odd in ["", "always", "[", "]["] {
            assert_eq!(chosen(odd), None, "{odd}");
        }
    }

    #[test]
    fn few_open_files_mean_fewer_queues_and_very_few_mean_none() {
        assert_eq!(open_files(Some(1024)).state, State::Yes);
        assert_eq!(open_files(None).state, State::Yes);
        let some = open_files(Some(64));
        assert_eq!(some.state, State::Limited);
        assert!(some.used_instead.is_some_and(|text| text.starts_with("--queues 10,")));
        assert!(open_files(Some(33)).is_fatal());
    }
}
