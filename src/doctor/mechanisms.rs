//! What a relocation does to the kernel, tried once on a small scale.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use guest_mem::TrackerKind;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::Capability;

const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn probe() -> Vec<Capability> {
    let (loopback, unix) = (loopback(), unix_sockets());
    let (tcp_works, unix_works) = (loopback.is_ok(), unix.is_ok());
    vec![
        dirty_tracking(),
        io_uring(),
        Capability::tried("memfd sealing", memfd_sealing()).essential(),
        Capability::tried("loopback TCP", loopback.map_err(|error| error.to_string()))
            .essential()
            .instead(if unix_works { "--medium unix or shm" } else { "" }),
        Capability::tried("unix sockets", unix.map_err(|error| error.to_string()))
            .essential()
            .instead(if tcp_works { "--medium tcp" } else { "" }),
    ]
}

fn dirty_tracking() -> Capability {
    let found = guest_mem::probe(TrackerKind::UffdAsync);
    let detail = "userfaultfd write-protect-async with PAGEMAP_SCAN saw a write".to_owned();
    let tracking = Capability::tried("dirty tracking", found.map(|()| detail).map_err(|why| why.to_string()));
    match guest_mem::probe(TrackerKind::Software) {
        Ok(()) => tracking.essential().instead("software bitmap, marked by workload guests"),
        Err(_) => tracking.essential(),
    }
}

fn io_uring() -> Capability {
    let outcome = isfc::probe_io_uring().map(|()| "a ring per queue: recvmsg, sendmsg, read".to_owned());
    let outcome = outcome.map_err(|reason| {
        // 1: only for one group and root; 2: for nobody.
        let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        match switch.trim() {
            "1" | "2" => format!("{reason}; kernel.io_uring_disabled is {}", switch.trim()),
            _ => reason,
        }
    });
    Capability::tried("io_uring", outcome).essential().instead("blocking threads, two per queue")
}

/// Guest storage is passed to a peer, so it must not be possible to shorten it under a mapping.
fn memfd_sealing() -> Result<String, String> {
    let step = |what: &'static str| move |error: rustix::io::Errno| format!("{what}: {error}");
    let file = memfd_create("doctor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(step("memfd_create"))?;
    ftruncate(&file, 8192).map_err(step("ftruncate"))?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).map_err(step("F_ADD_SEALS"))?;
    match ftruncate(&file, 4096) {
        Err(_) => Ok("a sealed memory file kept its size".to_owned()),
        Ok(()) => Err("a sealed memory file could be shortened".to_owned()),
    }
}

fn loopback() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (far, _) = listener.accept()?;
    far.set_read_timeout(Some(PATIENCE))?;
    carries_a_byte(near, far)?;
    Ok("127.0.0.1 carries bytes".to_owned())
}

fn unix_sockets() -> io::Result<String> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("probe");
    let listener = UnixListener::bind(&path)?;
    let near = UnixStream::connect(&path)?;
    let (far, _) = listener.accept()?;
    far.set_read_timeout(Some(PATIENCE))?;
    carries_a_byte(near, far)?;
    Ok("a socket in the temporary directory carries bytes".to_owned())
}

fn carries_a_byte(mut near: impl Write, mut far: impl Read) -> io::Result<()> {
    near.write_all(b"!")?;
    let mut byte = [0];
    far.read_exact(&mut byte)?;
    if byte == *b"!" { Ok(()) } else { Err(io::Error::other("it came out as another byte")) }
}
