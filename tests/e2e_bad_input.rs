//! What cannot work gets one line that says what is wrong and what to do, the right exit code, and a guest left
//! as it was. Nothing that comes from outside makes the command panic, hang, or forget its next caller.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use std::io::{Read, Write};
use std::process::Command;

use common::pair::Aftermath;
use common::{Ended, Running, SMALL, Trial, assert_moved_whole, kernel, wire};
use isfc::frame::{FrameKind, Header};
use lgr_engine::event::Event;
use lgr_engine::owner::{GuestName, MemberName, OwnerVolume};
use lgr_engine::report::{EngineKind, Side};

/// Runs `lgr` with these words, which it must refuse with `code` and one line that has all of `parts`.
fn refused(words: &str, code: i32, parts: &[&str]) {
    let trial = Trial::new();
    trial.run(words).refused(code, parts);
}

/// Relocates to `address`, which must be refused with one line; the record then still names the source.
fn refused_by(address: &str, parts: &[&str]) {
    let trial = Trial::new();
    let volume = trial.volume();
    let words = format!("relocate --to {address} --volume {} {SMALL} --progress none", volume.display());
    trial.run(&words).refused(1, parts);
    assert_eq!(trial.owner(), "MEMBERA");
}

#[test]
fn words_that_make_no_sense_are_wrong_usage() {
    for (words, parts) in [
        ("relocate --medium rdma", &["unknown medium 'rdma': use tcp, unix or shm"] as &[&str]),
        ("relocate --queues 0", &["'0'", "--queues", "1..=16"]),
        ("relocate --queues 17", &["'17'", "--queues", "1..=16"]),
        ("relocate --memory lots", &["'lots' is no size", "as in 4G"]),
        ("relocate --workload frantic", &["frantic", "hotcold"]),
        ("relocate --fault kill-both@pass1", &["'kill-both@pass1' is no fault: write ACTION@STEP"]),
        ("relocate --fault cut:1@lunch", &["'cut:1@lunch' is no fault"]),
        ("relocate --max-total soon", &["write seconds"]),
        ("relocate --member TOOLONGNAME", &["TOOLONGNAME", "at most 8"]),
        ("relocate --to rdma", &["'rdma' is no address: write tcp:HOST:PORT"]),
        ("receive nowhere", &["'nowhere' is no address: write tcp:HOST:PORT, unix:PATH or shm:PATH"]),
        ("owner", &["<GUEST>"]),
    ] {
        let trial = Trial::new();
        let ended = trial.run(words);
        assert_eq!(ended.code(), Some(2), "{words}: {ended}");
        assert!(ended.words().starts_with("error: "), "{ended}");
        for part in parts {
            assert!(ended.words().contains(part), "'{part}' is not in: {ended}");
        }
    }
}

#[test]
fn a_run_that_is_refused_makes_no_report_and_leaves_an_old_one_alone() {
    let trial = Trial::new();
    let (new, old) = (trial.path("new.json"), trial.path("old.json"));
    std::fs::write(&old, "{}").unwrap();
    for report in [&new, &old] {
        let words = format!("relocate --volume {} --json {}", trial.volume().display(), report.display());
        trial.run(&words).refused(2, &["--volume needs --to"]);
    }
    assert!(!new.exists());
    assert_eq!(std::fs::read_to_string(old).unwrap(), "{}");
}

#[test]
fn a_guest_larger_than_the_machine_is_refused_with_the_sum() {
    refused("relocate --memory 1T", 1, &["1.00 TiB + destination guest 1.00 TiB", " = 2.00 TiB needed"]);
}

#[test]
fn a_guest_that_touches_more_than_it_has_is_refused() {
    refused("relocate --memory 16M --touched 32M", 1, &["32.0 MiB touched", "16.0 MiB"]);
}

#[test]
fn a_size_that_is_not_offered_is_refused() {
    refused("relocate --memory 2T --touched 16M", 1, &["1 TiB"]);
    refused("relocate --memory 4k", 1, &["1 MiB"]);
}

#[test]
fn an_address_where_nobody_listens_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hint = format!("is `lgr receive tcp:{free}` running there?");
    refused_by(&format!("tcp:{free}"), &["cannot connect", "refused", &hint]);
    refused_by("unix:/nonexistent/link", &["cannot connect to unix:/nonexistent/link"]);
}

#[test]
fn a_peer_of_another_version_is_named_with_its_versions() {
    let (address, thread) = wire::answering(16, wire::refusal((7, 8)));
    refused_by(&address, &["versions 7 to 8, this program 1 to 2", "same release"]);
    thread.join().unwrap();
}

#[test]
fn a_web_server_is_not_taken_for_a_member() {
    let (address, thread) = wire::answering(16, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    refused_by(&address, &["does not speak ISFC"]);
    thread.join().unwrap();
}

#[test]
fn a_listener_that_hangs_up_is_named() {
    let (address, thread) = wire::answering(16, Vec::new());
    refused_by(&address, &[&address, "did not answer the hello"]);
    drop(thread);
}

fn listening(trial: &Trial) -> (Running, String) {
    let volume = trial.volume();
    let words = format!("receive tcp:127.0.0.1:0 --volume {} --progress json", volume.display());
    let mut member = trial.start(&words);
    let address = member.address();
    (member, address)
}

/// After all that was said to it, the listener takes a good caller's guest.
fn takes_a_guest(trial: &Trial, destination: Running, address: &str) -> Ended {
    let volume = trial.volume();
    let words = format!("relocate --to {address} --volume {} --progress json {SMALL}", volume.display());
    let source = trial.run(&words);
    let aftermath = Aftermath { source, destination: destination.wait() };
    assert_eq!(aftermath.assert_one_guest(trial), Side::Destination);
    assert_moved_whole(&aftermath.source, &aftermath.source.report());
    aftermath.destination
}

fn notes(ended: &Ended) -> Vec<String> {
    let text = |event| match event {
        Event::Note { text } => Some(text),
        _ => None,
    };
    ended.events().into_iter().filter_map(text).collect()
}

#[test]
fn callers_of_other_versions_and_garbage_do_not_keep_a_good_caller_out() {
    let trial = Trial::new();
    let (member, address) = listening(&trial);
    let welcome = wire::say(&address, &wire::hello((9, 9)));
    assert_eq!(wire::read_welcome(&welcome), (0, 2, (1, 2)));
    let garbage: Vec<u8> =
        (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    wire::say(&address, &garbage);
    wire::say(&address, b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n");
    wire::say(&address, b"");
    // One that says half a hello and stays is still there when the good caller comes.
    let mut silent = wire::call(&address);
    silent.write_all(&wire::hello((1, 1))[..20]).unwrap();
    let ended = takes_a_guest(&trial, member, &address);
    let notes = notes(&ended);
    for part in ["no common protocol version", "not an ISFC hello", "hung up before its hello"] {
        assert!(notes.iter().any(|note| note.contains(part)), "'{part}' is not in {notes:#?}");
    }
}

#[test]
fn a_frame_of_an_impossible_length_ends_the_link_and_nothing_else() {
    let trial = Trial::new();
    let (member, address) = listening(&trial);
    let mut stream = wire::call(&address);
    stream.write_all(&wire::hello((1, 1))).unwrap();
    let mut welcome = [0; 24];
    stream.read_exact(&mut welcome).unwrap();
    assert_eq!(wire::read_welcome(&welcome).0, 1);
    let mut header = Header::new(FrameKind::Message, 0);
    header.body_len_bytes = 1 << 63;
    stream.write_all(&header.encode()).unwrap();
    let ended = member.wait();
    assert_eq!(ended.code(), Some(1), "{ended}");
    let report = ended.report();
    assert_eq!(report.finish.code.number(), 3, "{ended}");
    assert!(report.finish.reason.contains("frame body of 9223372036854775808 bytes"), "{ended}");
    assert!(report.memory_peak_bytes.destination.unwrap() < 64 << 20, "{ended}");
}

#[test]
fn a_destination_without_a_caller_ends_when_asked_to() {
    let trial = Trial::new();
    trial.run("receive tcp:127.0.0.1:0 --wait 0.1 --progress none").refused(1, &["no peer called within"]);
    let (member, _) = listening(&trial);
    member.signal(rustix::process::Signal::INT);
    member.wait().refused(1, &["stopped waiting"]);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", taken.local_addr().unwrap());
    refused(&format!("receive {address}"), 1, &["cannot listen on", &address, "in use"]);
}

#[test]
fn a_volume_that_is_missing_is_named() {
    let parts = ["the shared volume /nonexistent/volume cannot be used", "No such file"];
    for words in ["relocate --to tcp:127.0.0.1:1 --memory 16M", "receive tcp:127.0.0.1:0", "owner LINUX1"] {
        refused(&format!("{words} --volume /nonexistent/volume"), 1, &parts);
    }
    refused("relocate --memory 16M --volume /tmp", 2, &["--volume needs --to"]);
}

#[test]
fn two_volumes_are_not_taken_for_one() {
    let trial = Trial::new();
    let other = trial.path("other");
    std::fs::create_dir(&other).unwrap();
    let (member, address) = listening(&trial);
    let words = format!("relocate --to {address} --volume {} --progress json {SMALL}", other.display());
    let source = trial.run(&words);
    let report = source.report();
    common::assert_stayed_whole(&source, &report, 6);
    assert!(report.finish.reason.contains("--volume with a shared directory"), "{source}");
    assert_eq!(member.wait().code(), Some(1));
}

#[test]
fn a_guest_that_another_member_owns_is_not_started() {
    let trial = Trial::new();
    let other = MemberName::new("MEMBERC").unwrap();
    let volume = OwnerVolume::open(trial.volume()).unwrap();
    volume.create(GuestName::new("LINUX1").unwrap(), other).unwrap();
    let (member, address) = listening(&trial);
    let words = format!("relocate --to {address} --volume {} {SMALL}", trial.volume().display());
    trial.run(&words).refused(1, &["LINUX1.owner", "owned by member MEMBERC"]);
    assert_eq!(trial.owner(), "MEMBERC");
    drop(member);
}

#[test]
fn a_damaged_owner_record_is_neither_believed_nor_overwritten() {
    let trial = Trial::new();
    let file = trial.volume().join("LINUX1.owner");
    let words = format!("--volume {}", trial.volume().display());
    for (content, part) in
        [(&b"not a record"[..], "1536"), (&[b'x'; 1536][..], "is not an owner record"), (&[][..], "1536")]
    {
        std::fs::write(&file, content).unwrap();
        trial.run(&format!("owner LINUX1 {words}")).refused(1, &["LINUX1.owner", part]);
        let relocate = format!("relocate --to tcp:127.0.0.1:1 {SMALL} {words}");
        trial.run(&relocate).refused(1, &["LINUX1.owner", part]);
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_starts() {
    let parts = ["cannot write /nonexistent/report.json", "No such file"];
    refused(&format!("relocate {SMALL} --json /nonexistent/report.json"), 1, &parts);
    refused("receive tcp:127.0.0.1:0 --json /nonexistent/report.json", 1, &parts);
}

#[test]
fn a_full_dev_shm_does_not_stop_a_move() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: full /dev/shm (not root)");
        return;
    }
    let trial = Trial::new();
    let lgr = env!("CARGO_BIN_EXE_lgr");
    let mount = "mount -t tmpfs -o size=16k tmpfs /dev/shm";
    let fill = "! head -c 1M /dev/zero > /dev/shm/full 2>/dev/null";
    for medium in ["tcp", "shm"] {
        let mut command = Command::new("unshare");
        let run = format!("exec {lgr} relocate {SMALL} --progress json --medium {medium}");
        command.args(["-m", "sh", "-c", &format!("{mount} && {fill} && {run}")]);
        let ended = trial.spawn(command).wait();
        assert_moved_whole(&ended, &ended.report());
    }
}

#[test]
fn without_locked_memory_a_move_still_works() {
    let trial = Trial::new();
    let mut command = trial.lgr(&format!("relocate {SMALL} --progress json"));
    kernel::without_locked_memory(&mut command);
    let ended = trial.spawn(command).wait();
    let report = ended.report();
    assert_moved_whole(&ended, &report);
    assert!(report.engine == EngineKind::IoUring || !report.fallbacks.is_empty(), "{ended}");
}

#[test]
fn io_uring_that_was_asked_for_and_is_forbidden_is_an_error() {
    let trial = Trial::new();
    let mut command = trial.lgr(&format!("relocate {SMALL} --engine io_uring"));
    kernel::without_call(&mut command, libc::SYS_io_uring_setup);
    trial.spawn(command).wait().refused(1, &["io_uring was asked for and cannot be used here"]);
}

#[test]
fn a_link_that_leaves_the_machine_must_be_asked_for() {
    let parts = ["not only on this machine", "--insecure-plaintext"];
    refused("receive tcp:0.0.0.0:0", 1, &parts);
    refused("relocate --to tcp:192.0.2.1:7000 --memory 16M", 1, &parts);
}

#[test]
fn the_last_of_a_repeated_option_counts() {
    let trial = Trial::new();
    let (ended, report) = trial.relocate(&format!("{SMALL} --queues 16 --queues 3"));
    assert_moved_whole(&ended, &report);
    assert_eq!(report.queues.len(), 2 * 3);
}

#[test]
fn a_fault_that_never_strikes_is_told() {
    let trial = Trial::new();
    let ended = trial.run(&format!("relocate {SMALL} --fault cut:99@pass1 --fault hold:1:5ms@pass900"));
    for fault in ["cut:99@pass1", "hold:1:5ms@pass900"] {
        let text = format!("the fault {fault} did not strike");
        assert!(ended.words().contains(&text), "{ended}");
    }
}

#[test]
fn without_io_uring_threads_carry_the_guest_and_the_report_says_so() {
    let trial = Trial::new();
    let mut command = trial.lgr(&format!("relocate {SMALL} --progress json"));
    kernel::without_call(&mut command, libc::SYS_io_uring_setup);
    let ended = trial.spawn(command).wait();
    let report = ended.report();
    assert_moved_whole(&ended, &report);
    assert_eq!(report.engine, EngineKind::Blocking);
    for side in [Side::Source, Side::Destination] {
        let named = report.fallbacks.iter().any(|fallback| {
            fallback.side == side && fallback.wanted == "io_uring" && fallback.used == "blocking"
        });
        assert!(named, "{side:?}: {:#?}", report.fallbacks);
    }
}

/// `relocate` where neither the system call nor the device gives a userfaultfd.
fn without_userfaultfd(trial: &Trial, words: &str) -> Option<Ended> {
    let lgr = env!("CARGO_BIN_EXE_lgr");
    let run = format!("exec {lgr} relocate {SMALL} {words}");
    let mut command = if std::path::Path::new("/dev/userfaultfd").exists() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: without userfaultfd (there is a device, and not root to hide it)");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &format!("mount --bind /dev/null /dev/userfaultfd && {run}")]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", &run]);
        command
    };
    kernel::without_call(&mut command, libc::SYS_userfaultfd);
    Some(trial.spawn(command).wait())
}

#[test]
fn without_userfaultfd_the_software_tracker_is_used_and_named() {
    let trial = Trial::new();
    let Some(ended) = without_userfaultfd(&trial, "--progress json --dirty-rate 400M") else { return };
    let report = ended.report();
    assert_moved_whole(&ended, &report);
    assert_eq!(report.tracker, "software");
    let named = report.fallbacks.iter().any(|fallback| fallback.wanted == "userfaultfd");
    assert!(named, "{:#?}", report.fallbacks);
}

#[test]
fn userfaultfd_where_there_is_none_is_refused() {
    let trial = Trial::new();
    let Some(ended) = without_userfaultfd(&trial, "--progress none --tracker uffd") else { return };
    ended.refused(1, &["userfaultfd is not available", "run as root"]);
}
