//! Every thread that a message goes through has a short time slice, so that none waits behind threads that carry pages.
//! One hop without it costs a message the slice of everybody in front of it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use isfc::socket::Hub;
use isfc::tls::pki::{self, Validity};
use isfc::tls::{Identity, Tls};
use isfc::{Link, LinkOptions, Listener};

/// `struct sched_attr` of `sched_getattr(2)`, first version.
#[repr(C)]
#[derive(Default)]
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

/// The slice of thread `tid` (0: this one); zero if the kernel does not tell.
fn slice_ns(tid: libc::pid_t) -> u64 {
    let mut attr = SchedAttr::default();
    let len = size_of::<SchedAttr>();
    // SAFETY: the kernel writes at most `len` bytes to `attr`.
    unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut attr, len, 0) };
    attr.runtime_ns
}

/// The threads of this process with that name.
fn threads(name: &str) -> Vec<libc::pid_t> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let named = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    named.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

#[test]
fn hub_device_and_tunnel_run_on_short_slices_while_no_pages_go() {
    let usual = std::thread::spawn(|| slice_ns(0)).join().unwrap();
    let short = std::thread::spawn(|| {
        isfc::prefer_latency();
        slice_ns(0)
    });
    let short = short.join().unwrap();
    if short == usual {
        println!("skipped: this kernel gives no thread a slice of its own");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    pki::create_ca(dir.path(), "TEST", Validity::days(1)).unwrap();
    let tls = |name: &str| {
        let out = dir.path().join(name);
        pki::issue(dir.path(), name, Validity::days(1), &out).unwrap();
        Tls::new(Identity::load(&out).unwrap())
    };
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.with_tls(tls("B")).unwrap();
    let (address, calling) = (listener.address().clone(), tls("A"));
    let caller = std::thread::spawn(move || isfc::connect_tls(&address, 2, &calling).unwrap());
    let patience = Some(Duration::from_secs(30));
    let taken = listener.accept(patience, &|| false, &|why| panic!("{why}")).unwrap();
    let hubs = [(caller.join().unwrap(), "A"), (taken, "B")].map(|(endpoints, name)| {
        let options = LinkOptions { name: name.to_owned(), ..LinkOptions::default() };
        let hub = Hub::new().unwrap();
        hub.attach(Arc::new(Link::start(endpoints, options).unwrap())).unwrap();
        hub
    });
    let started = Instant::now();
    for (name, count) in [("isfc-hub", 2), ("isfc-tls", 4), ("ctc-00", 2), ("ctc-01", 2)] {
        // A thread asks for its slice soon after it has begun.
        while threads(name).iter().filter(|tid| slice_ns(**tid) == short).count() < count {
            assert!(started.elapsed() < Duration::from_secs(30), "{name}: {:?}", threads(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    drop(hubs);
}
