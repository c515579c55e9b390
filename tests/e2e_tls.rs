//! Members that speak TLS: a guest is moved, and whoever is not who they should be is turned away with the reason.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::pair::{Aftermath, Pair};
use common::{Ended, Running, SMALL, Trial, assert_moved_whole};
use isfc::tls::pki::{self, Validity};
use lgr_engine::event::Event;
use lgr_engine::report::Side;
use rustix::process::Signal;

/// A cluster in the trial's directory: its CA, and what MEMBERA and MEMBERB need.
fn cluster(trial: &Trial, name: &str) -> PathBuf {
    let dir = trial.path(name);
    let made = trial.run(&format!("pki init {} --cluster {name}", dir.display()));
    assert_eq!(made.code(), Some(0), "{made}");
    for member in ["MEMBERA", "MEMBERB"] {
        let made = trial.run(&format!("pki issue {} {member}", dir.display()));
        assert_eq!(made.code(), Some(0), "{made}");
    }
    dir
}

/// A destination that waits, started with these words.
fn receive(trial: &Trial, words: &str) -> (Running, String) {
    let common = format!("--volume {} --progress json", trial.volume().display());
    let mut destination = trial.start(&format!("receive tcp:127.0.0.1:0 {common} {words}"));
    let address = destination.address();
    (destination, address)
}

fn relocate(trial: &Trial, address: &str, words: &str) -> Ended {
    let common = format!("--volume {} --progress json {SMALL}", trial.volume().display());
    trial.run(&format!("relocate --to {address} {common} {words}"))
}

/// The next caller that the destination turned away, and why.
fn refusal(destination: &mut Running) -> String {
    destination.event(|event| match event {
        Event::Note { text } => text.strip_prefix("caller refused: ").map(str::to_owned),
        _ => None,
    })
}

/// Both sides say why they do not come together.
fn assert_refused(trial: &Trial, receive_words: &str, relocate_words: &str, here: &str, there: &str) {
    let (mut destination, address) = receive(trial, receive_words);
    relocate(trial, &address, relocate_words).refused(1, &[&address, here]);
    let why = refusal(&mut destination);
    assert!(why.contains(there), "'{there}' is not in: {why}");
    destination.signal(Signal::TERM);
    assert_eq!(destination.wait().code(), Some(1));
}

#[test]
fn a_guest_moves_over_tls_and_the_report_says_who_was_there() {
    let trial = Trial::new();
    let dir = cluster(&trial, "MOVE");
    let dir = dir.display();
    let (destination, address) = receive(&trial, &format!("--tls {dir}/MEMBERB --peer MEMBERA"));
    let source = relocate(&trial, &address, &format!("--tls {dir}/MEMBERA --peer MEMBERB"));
    let report = source.report();
    assert_moved_whole(&source, &report);
    let tls = report.tls.unwrap();
    assert_eq!((tls.version.as_str(), tls.suite.starts_with("TLS13_")), ("TLSv1.3", true), "{tls:?}");
    assert_eq!(tls.peer.source.as_deref(), Some("MEMBERB"));
    assert_eq!(tls.peer.destination.as_deref(), Some("MEMBERA"));
    assert!(source.events().iter().any(
        |event| matches!(event, Event::Connected { tls: Some(tls), .. } if tls.contains("with MEMBERB"))
    ));
    assert_eq!(destination.wait().code(), Some(0));
    assert_eq!(trial.owner(), "MEMBERB");
}

#[test]
fn a_plain_link_says_that_it_is_plain() {
    let trial = Trial::new();
    let (ended, report) = trial.relocate(SMALL);
    assert_moved_whole(&ended, &report);
    assert_eq!(report.tls, None);
}

#[test]
fn devices_that_are_cut_come_back_over_tls() {
    let trial = Trial::new();
    let dir = cluster(&trial, "CUT");
    let dir = dir.display();
    let (destination, address) = receive(&trial, &format!("--tls {dir}/MEMBERB"));
    // Long enough for the devices to come back, which takes a tenth of a second.
    let words = "--rate-limit 8M --compress never --fault cut:1@pass1 --fault cut:3@pass1 --queues 4";
    let source = relocate(&trial, &address, &format!("--tls {dir}/MEMBERA {words}"));
    assert_moved_whole(&source, &source.report());
    for said in ["device 1 is down", "device 3 is down", "device 1 is up again", "device 3 is up again"] {
        let told = |event: &Event| matches!(event, Event::Note { text } if text.starts_with(said));
        assert!(source.events().iter().any(told), "'{said}': {source}");
    }
    assert_eq!(destination.wait().code(), Some(0));
}

#[test]
fn a_destination_that_is_killed_leaves_the_guest_at_the_source() {
    let trial = Trial::new();
    let dir = cluster(&trial, "KILL");
    let dir = dir.display();
    let (destination, address) =
        receive(&trial, &format!("--tls {dir}/MEMBERB --fault kill-destination@pass1"));
    let source = relocate(&trial, &address, &format!("--tls {dir}/MEMBERA"));
    let destination = destination.wait();
    assert!(destination.was_killed(), "{destination}");
    assert_eq!(Aftermath { source, destination }.assert_one_guest(&trial), Side::Source);
}

#[test]
fn a_member_of_another_cluster_is_turned_away() {
    let trial = Trial::new();
    let (ours, theirs) = (cluster(&trial, "OURS"), cluster(&trial, "THEIRS"));
    assert_refused(
        &trial,
        &format!("--tls {}/MEMBERB", ours.display()),
        &format!("--tls {}/MEMBERA", theirs.display()),
        "its certificate is not from this cluster's CA",
        "this side's certificate is not from its cluster's CA",
    );
}

#[test]
fn another_member_than_the_one_expected_is_turned_away() {
    let trial = Trial::new();
    let dir = cluster(&trial, "WHO");
    let dir = dir.display();
    assert_refused(
        &trial,
        &format!("--tls {dir}/MEMBERB"),
        &format!("--tls {dir}/MEMBERA --peer MEMBERC"),
        "its certificate is that of MEMBERB, and MEMBERC is expected",
        "this side is not the member that it expects",
    );
    assert_refused(
        &trial,
        &format!("--tls {dir}/MEMBERB --peer MEMBERC"),
        &format!("--tls {dir}/MEMBERA"),
        "it refused this side: this side is not the member that it expects",
        "its certificate is that of MEMBERA, and MEMBERC is expected",
    );
}

#[test]
fn plaintext_and_tls_turn_each_other_away() {
    let trial = Trial::new();
    let dir = cluster(&trial, "PLAIN");
    let dir = dir.display();
    assert_refused(
        &trial,
        &format!("--tls {dir}/MEMBERB"),
        "",
        "it demands TLS, and this side spoke plaintext: give --tls DIR",
        "it speaks plaintext; this side demands TLS",
    );
    assert_refused(
        &trial,
        "",
        &format!("--tls {dir}/MEMBERA"),
        "it speaks plaintext; this side demands TLS",
        "it speaks TLS, and this side was started without: give --tls DIR",
    );
}

#[test]
fn a_certificate_out_of_its_time_is_refused_at_the_start() {
    let trial = Trial::new();
    let dir = cluster(&trial, "TIME");
    let now = Validity::days(0).not_after_unix_s;
    let issue = |name: &str, from: i64, to: i64| {
        let validity =
            Validity { not_before_unix_s: now + from * 86_400, not_after_unix_s: now + to * 86_400 };
        pki::issue(&dir, "MEMBERB", validity, &trial.path(name)).unwrap();
        trial.path(name).display().to_string()
    };
    for (files, words) in [
        (issue("old", -3, -2), "its certificate expired on 20"),
        (issue("young", 2, 3), "its certificate is not valid before 20"),
    ] {
        let words = [words, &format!("{files}/cert.pem"), "--tls"];
        trial.run(&format!("receive tcp:127.0.0.1:0 --tls {files}")).refused(1, &words);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let trial = Trial::new();
    let dir = cluster(&trial, "FILES");
    let dir = dir.display();
    let start = |words: &str| trial.run(&format!("receive tcp:127.0.0.1:0 {words}"));
    let member = ["this member is called MEMBERB", "is that of MEMBERA", "give --member MEMBERA"];
    start(&format!("--tls {dir}/MEMBERA")).refused(1, &member);
    start(&format!("--tls {dir}/NOBODY")).refused(1, &["cannot read", "NOBODY/ca.pem", "lgr pki issue"]);
    let key = trial.path("FILES").join("MEMBERB/key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let others = ["can be read by others (mode 0644)", "FILES/MEMBERB/key.pem", "chmod 600"];
    start(&format!("--tls {dir}/MEMBERB")).refused(1, &others);
}

#[test]
fn a_link_that_leaves_the_machine_is_protected_or_refused() {
    let trial = Trial::new();
    let dir = cluster(&trial, "LEAVE");
    let dir = dir.display();
    for words in ["receive tcp:0.0.0.0:0", "relocate --to tcp:192.0.2.7:7000"] {
        trial.run(words).refused(1, &["--tls DIR", "--insecure-plaintext", "lgr pki"]);
    }
    let both = trial.run(&format!("receive tcp:0.0.0.0:0 --insecure-plaintext --tls {dir}/MEMBERB"));
    assert_eq!(both.code(), Some(2), "{both}");
    assert!(both.words().contains("'--insecure-plaintext' cannot be used with '--tls <DIR>'"), "{both}");
    for medium in ["unix", "shm"] {
        let address = format!("{medium}:{}", trial.path("socket").display());
        trial
            .run(&format!("receive {address} --tls {dir}/MEMBERB"))
            .refused(1, &["--tls is for tcp", "mode 0600"]);
    }
    trial.run(&format!("relocate --tls {dir}/MEMBERA")).refused(2, &["--tls needs --to"]);
    let alone = trial.run("receive tcp:127.0.0.1:0 --peer MEMBERA");
    assert_eq!(alone.code(), Some(2), "{alone}");
    assert!(alone.words().contains("--tls <DIR>"), "{alone}");
    // With TLS any address will do.
    let mut waits = trial.start(&format!("receive tcp:0.0.0.0:0 --tls {dir}/MEMBERB --progress json"));
    waits.address();
    waits.signal(Signal::TERM);
    assert_eq!(waits.wait().code(), Some(1));
}

#[test]
fn pki_overwrites_nothing_and_shows_what_it_made() {
    let trial = Trial::new();
    let dir = cluster(&trial, "SHOW");
    let files = ["ca.key", "ca.pem", "MEMBERA/key.pem", "MEMBERA/cert.pem", "MEMBERA/ca.pem"];
    let read = || files.map(|file| std::fs::read(dir.join(file)).unwrap());
    let before = read();
    let again = "exists already, and nothing is overwritten";
    trial.run(&format!("pki init {} --cluster OTHER", dir.display())).refused(1, &[again, "ca.key"]);
    trial.run(&format!("pki issue {} MEMBERA", dir.display())).refused(1, &[again, "key.pem"]);
    assert!(read() == before);
    trial
        .run(&format!("pki init {} --cluster a/b", trial.path("x").display()))
        .refused(1, &["for a cluster"]);
    trial.run(&format!("pki issue {} NINECHARS", dir.display())).refused(2, &["at most 8"]);

    let shown = trial.run(&format!("pki show {}/MEMBERA", dir.display()));
    assert!(shown.out().contains("member MEMBERA of cluster SHOW"), "{shown}");
    assert!(shown.out().contains("CA of cluster SHOW"), "{shown}");
    let json = trial.run(&format!("pki show --json {}/MEMBERA/cert.pem", dir.display())).out();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["member"], &json[0]["cluster"]), (&"MEMBERA".into(), &"SHOW".into()), "{json}");
    assert_eq!(
        (&json[0]["state"], json[0]["sha256"].as_str().unwrap().len()),
        (&"valid".into(), 64),
        "{json}"
    );
    trial.run(&format!("pki show {}", trial.path("nothing").display())).refused(1, &["cannot read"]);

    // Lower case is folded; --out and names that are odd in files and URIs.
    let out = trial.path("odd");
    let made = trial.run(&format!("pki issue {} a@#$_-9 --days 1 --out {}", dir.display(), out.display()));
    assert_eq!(made.code(), Some(0), "{made}");
    assert!(trial.run(&format!("pki show {}", out.display())).out().contains("member A@#$_-9 of"), "{made}");
}

/// A pair that a test of its own covers in plaintext, once over TLS: Ctrl-C leaves one guest.
#[test]
fn a_move_that_is_cancelled_over_tls_leaves_one_guest() {
    let trial = Trial::new();
    let dir = cluster(&trial, "STOP");
    let dir = dir.display();
    let (destination, address) = receive(&trial, &format!("--tls {dir}/MEMBERB"));
    let words = format!("--volume {} --progress json {SMALL}", trial.volume().display());
    let words =
        format!("relocate --to {address} {words} --rate-limit 4M --compress never --tls {dir}/MEMBERA");
    let mut pair = Pair { source: trial.start(&words), destination };
    pair.source.in_first_pass();
    pair.source.signal(Signal::INT);
    assert_eq!(pair.wait().assert_one_guest(&trial), Side::Source);
}

/// A peer that takes the call and says nothing would be waited for until the deadline of the handshake.
#[test]
fn ctrl_c_ends_a_call_that_nobody_answers() {
    let trial = Trial::new();
    let dir = cluster(&trial, "DEMO");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("--to tcp:{}", silent.local_addr().unwrap());
    let common =
        format!("--volume {} {SMALL} --tls {}", trial.volume().display(), dir.join("MEMBERA").display());
    let source = trial.start(&format!("relocate {to} {common}"));
    let _called = silent.accept().unwrap();
    source.signal(Signal::INT);
    source.wait().refused(1, &["cancelled while calling"]);
}
