//! TLS on a link: who is let in, who is not, and what each is told.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "tls/hostile.rs"]
mod hostile;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostile::Hostile;
use isfc::hello::{FEATURE_DIGEST, Offer, VERSIONS};
use isfc::tls::pki::{Validity, create_ca, issue, show};
use isfc::tls::{CertificateName, Identity, Tls};
use isfc::{
    Address, DownReason, Endpoints, Engine, Link, LinkEvent, LinkOptions, Listener, MediumError, SocketId,
};
use proptest::prelude::*;
use zerocopy::IntoBytes;

const PATIENCE: Duration = Duration::from_secs(20);
const DAY_S: i64 = 86_400;

/// A cluster's CA and members A and B, in a directory of its own.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self { dir: tempfile::tempdir().unwrap() };
        create_ca(&cluster.ca(), "TEST", Validity::days(10)).unwrap();
        cluster.issue("A", Validity::days(1));
        cluster.issue("B", Validity::days(1));
        cluster
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    fn member(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, name: &str, validity: Validity) {
        issue(&self.ca(), name, validity, &self.member(name)).unwrap();
    }

    fn tls(&self, name: &str) -> Tls {
        Tls::new(Identity::load(&self.member(name)).unwrap())
    }
}

fn days_from_now(from: i64, to: i64) -> Validity {
    let now = Validity::days(0).not_after_unix_s;
    Validity { not_before_unix_s: now + from * DAY_S, not_after_unix_s: now + to * DAY_S }
}

/// A listener in a thread of its own. It ends when a link has come, or when this goes.
struct Listening {
    at: SocketAddr,
    refused: Receiver<String>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<(Endpoints, Listener), MediumError>>>,
}

impl Listening {
    fn new(tls: Option<Tls>) -> Self {
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        if let Some(tls) = tls {
            listener = listener.with_tls(tls).unwrap();
        }
        let Address::Tcp(at) = *listener.address() else { panic!("not tcp") };
        let (sender, refused) = channel();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let sender = Mutex::new(sender);
            let tell = |why: String| drop(sender.lock().unwrap().send(why));
            let stop = || stopped.load(std::sync::atomic::Ordering::Relaxed);
            listener.accept(Some(PATIENCE), &stop, &tell).map(|endpoints| (endpoints, listener))
        });
        Self { at, refused, stop, thread: Some(thread) }
    }

    fn address(&self) -> Address {
        Address::Tcp(self.at)
    }

    /// Why the next caller is refused.
    fn reason(&self) -> String {
        self.refused.recv_timeout(PATIENCE).unwrap()
    }

    fn link(mut self) -> (Endpoints, Listener) {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn assert_says(text: &str, part: &str) {
    assert!(text.contains(part), "'{part}' is not in: {text}");
}

/// What a caller with `tls` is told by a listener with `listening`, and what that says of it.
fn both_reasons(listening: Tls, calling: &Tls) -> (String, String) {
    let listening = Listening::new(Some(listening));
    let caller = isfc::connect_tls(&listening.address(), 1, calling).unwrap_err().to_string();
    (caller, listening.reason())
}

fn options(name: &str) -> LinkOptions {
    LinkOptions { name: name.to_owned(), ..LinkOptions::default() }
}

/// Both ends, the calling one (A) first; devices that go down come back.
fn pair(cluster: &Cluster, queues: usize, engine: Option<Engine>) -> (Link, Link) {
    let listening = Listening::new(Some(cluster.tls("B").expecting("A")));
    let called = isfc::connect_tls(&listening.address(), queues, &cluster.tls("A").expecting("B")).unwrap();
    let (taken, listener) = listening.link();
    let taken = taken.rejoin_through(listener);
    (
        Link::start(called, LinkOptions { engine, ..options("A") }).unwrap(),
        Link::start(taken, LinkOptions { engine, ..options("B") }).unwrap(),
    )
}

/// Waits for an event, and drops those before it.
fn until(link: &Link, wanted: impl Fn(&LinkEvent) -> bool) {
    while !wanted(&link.recv(PATIENCE).unwrap()) {}
}

fn message(link: &Link) -> Vec<u8> {
    loop {
        if let LinkEvent::Message(_, body) = link.recv(PATIENCE).unwrap() {
            return body;
        }
    }
}

fn offer(link_id: u128, device: u8, devices: u8) -> Offer {
    Offer {
        versions: VERSIONS,
        features: FEATURE_DIGEST,
        device,
        devices,
        shared_regions: 0,
        link_id,
        resume: false,
    }
}

fn hello(link_id: u128) -> Vec<u8> {
    offer(link_id, 0, 1).to_hello().as_bytes().to_vec()
}

#[test]
fn members_of_a_cluster_know_each_other() {
    let cluster = Cluster::new();
    for engine in [Some(Engine::Blocking), None] {
        let (a, b) = pair(&cluster, 4, engine);
        for (from, to, other) in [(&a, &b, "B"), (&b, &a, "A")] {
            let session = from.tls().unwrap();
            assert_eq!(session.peer, CertificateName::new("TEST", other).unwrap());
            assert_eq!(session.version, "TLSv1.3");
            assert!(session.suite.starts_with("TLS13_"), "{session:?}");
            for len_bytes in [0, 1, 8000, 1 << 20] {
                from.send(SocketId::new(0).unwrap(), &vec![7; len_bytes]).unwrap();
                assert_eq!(message(to), vec![7; len_bytes]);
            }
        }
    }
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    // The caller looks first, and tells the listener.
    let (caller, listener) = both_reasons(ours.tls("B"), &theirs.tls("A"));
    assert_says(&caller, "its certificate is not from this cluster's CA");
    assert_says(&listener, "it refused this side: this side's certificate is not from its cluster's CA");
    // A caller that takes any listener is refused by it.
    let listening = Listening::new(Some(ours.tls("B")));
    let mut hostile = Hostile::isfc(listening.at, &theirs.member("A"));
    hostile.shake();
    hostile.hear_out();
    assert_says(&listening.reason(), "its certificate is not from this cluster's CA");
    // One that trusts both, and is trusted by one, is told so.
    let both = theirs.member("BOTH");
    issue(&theirs.ca(), "A", Validity::days(1), &both).unwrap();
    let pem = |dir: PathBuf| std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    std::fs::write(both.join("ca.pem"), pem(theirs.ca()) + &pem(ours.ca())).unwrap();
    let (caller, listener) = both_reasons(ours.tls("B"), &Tls::new(Identity::load(&both).unwrap()));
    assert_says(&caller, "it refused this side: this side's certificate is not from its cluster's CA");
    assert_says(&listener, "its certificate is not from this cluster's CA");
}

#[test]
fn certificates_out_of_their_time_are_refused_with_the_date() {
    let cluster = Cluster::new();
    cluster.issue("OLD", days_from_now(-9, -2));
    cluster.issue("YOUNG", days_from_now(2, 3));
    for (name, words) in [("OLD", "its certificate expired on 20"), ("YOUNG", "is not valid before 20")] {
        let listening = Listening::new(Some(cluster.tls("B")));
        let mut hostile = Hostile::isfc(listening.at, &cluster.member(name));
        hostile.shake();
        hostile.hear_out();
        assert_says(&listening.reason(), words);
        // And nobody starts with one.
        let error = Identity::load(&cluster.member(name)).unwrap_err().to_string();
        assert_says(&error, words);
        assert_says(&error, "cert.pem");
    }
}

#[test]
fn only_the_member_that_is_expected_may_be_there() {
    let cluster = Cluster::new();
    let (caller, listener) = both_reasons(cluster.tls("B"), &cluster.tls("A").expecting("C"));
    assert_says(&caller, "its certificate is that of B, and C is expected");
    assert_says(&listener, "it refused this side: this side is not the member that it expects");
    let (caller, listener) = both_reasons(cluster.tls("B").expecting("C"), &cluster.tls("A"));
    assert_says(&listener, "its certificate is that of A, and C is expected");
    assert_says(&caller, "it refused this side: this side is not the member that it expects");
}

#[test]
fn a_certificate_for_another_cluster_is_refused_even_if_its_ca_is_trusted() {
    let cluster = Cluster::new();
    let other = cluster.dir.path().join("other");
    create_ca(&other, "OTHER", Validity::days(1)).unwrap();
    let member = cluster.member("X");
    issue(&other, "X", Validity::days(1), &member).unwrap();
    let pem = |dir: &Path| std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    std::fs::write(cluster.member("B").join("ca.pem"), pem(&cluster.ca()) + &pem(&other)).unwrap();
    let listening = Listening::new(Some(cluster.tls("B")));
    let mut hostile = Hostile::isfc(listening.at, &member);
    hostile.shake();
    hostile.hear_out();
    assert_says(&listening.reason(), "its certificate is for the cluster OTHER, this side's for TEST");
}

#[test]
fn a_caller_without_certificate_is_refused() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let mut hostile = Hostile::call(listening.at, None, Some(b"isfc/2"));
    hostile.shake();
    hostile.hear_out();
    assert_says(&listening.reason(), "it showed no certificate");
}

#[test]
fn tls_for_something_else_is_refused() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let mut hostile = Hostile::call(listening.at, Some(&cluster.member("A")), None);
    hostile.shake();
    hostile.hear_out();
    assert_says(&listening.reason(), "it speaks TLS, but not for an ISFC link");
}

#[test]
fn plaintext_and_tls_do_not_meet() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let caller = isfc::connect(&listening.address(), 1, &[]).unwrap_err().to_string();
    assert_says(&caller, "it demands TLS, and this side spoke plaintext: give --tls DIR");
    assert_says(&listening.reason(), "it speaks plaintext; this side demands TLS");

    let listening = Listening::new(None);
    let caller = isfc::connect_tls(&listening.address(), 1, &cluster.tls("A")).unwrap_err().to_string();
    assert_says(&caller, "it speaks plaintext; this side demands TLS");
    assert_says(&listening.reason(), "it speaks TLS, and this side was started without: give --tls DIR");
}

#[test]
fn a_hello_played_back_on_another_connection_is_refused() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    // Recorded on a first connection of the same member, which it never finished.
    let mut first = Hostile::isfc(listening.at, &cluster.member("A"));
    let mut recorded = hello(77);
    recorded.extend(first.shake());
    drop(first);
    let mut second = Hostile::isfc(listening.at, &cluster.member("A"));
    let binding = second.shake();
    assert_ne!(&recorded[48..], binding);
    second.say(&recorded);
    assert_eq!(second.refusal(), 8);
    loop {
        let reason = listening.reason();
        if !reason.contains("hung up before its hello") {
            assert_says(&reason, "this hello belongs to another connection (replayed)");
            break;
        }
    }
    // The same hello with its own session's value is good.
    let mut good = Hostile::isfc(listening.at, &cluster.member("A"));
    let binding = good.shake();
    good.say(&[hello(77), binding.to_vec()].concat());
    assert_eq!(good.refusal(), 0);
    assert_eq!(listening.link().0.tls().unwrap().peer.member(), "A");
}

#[test]
fn a_link_id_that_was_served_is_refused() {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(at) = *listener.address() else { panic!("not tcp") };
    let mut first = TcpStream::connect(at).unwrap();
    first.write_all(&hello(5)).unwrap();
    listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")).unwrap();
    let mut again = TcpStream::connect(at).unwrap();
    again.write_all(&hello(5)).unwrap();
    let said = Mutex::new(Vec::new());
    let stop = || !said.lock().unwrap().is_empty();
    let outcome = listener.accept(Some(PATIENCE), &stop, &|why| said.lock().unwrap().push(why));
    assert!(matches!(outcome, Err(MediumError::Stopped)), "{outcome:?}");
    assert_says(&said.lock().unwrap()[0], "a link with this id was here before");
    let mut welcome = [0; 24];
    again.read_exact(&mut welcome).unwrap();
    assert_eq!(welcome[10], 9);
}

#[test]
fn all_devices_show_the_same_member() {
    let cluster = Cluster::new();
    cluster.issue("C", Validity::days(1));
    let listening = Listening::new(Some(cluster.tls("B")));
    let mut refusals = Vec::new();
    let mut held = Vec::new();
    for (device, name) in [(0, "A"), (1, "C")] {
        let mut hostile = Hostile::isfc(listening.at, &cluster.member(name));
        let binding = hostile.shake();
        hostile.say(&[offer(9, device, 2).to_hello().as_bytes(), &binding].concat());
        refusals.push(hostile.refusal());
        held.push(hostile);
    }
    assert_eq!(refusals, [0, 11]);
    assert_says(&listening.reason(), "all devices of a link show the same member's certificate");
}

#[test]
fn a_member_that_calls_itself_otherwise_is_cut_off() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let mut hostile = Hostile::isfc(listening.at, &cluster.member("A"));
    let binding = hostile.shake();
    hostile.say(&[hello(3), binding.to_vec()].concat());
    assert_eq!(hostile.refusal(), 0);
    let link = Link::start(listening.link().0, options("B")).unwrap();
    hostile.say(&idx("MALLORY"));
    let reason = loop {
        if let LinkEvent::LinkDown(reason) = link.recv(PATIENCE).unwrap() {
            break reason;
        }
    };
    let expected = "the peer calls itself MALLORY, and its certificate is that of A";
    assert_eq!(reason, DownReason::Protocol(expected.to_owned()));
}

/// The frame by which a system tells its name, as docs/protocol.md has it.
fn idx(name: &str) -> Vec<u8> {
    let mut body = [0; 8];
    body[..name.len()].copy_from_slice(name.as_bytes());
    let mut frame = b"ISFC\x06\0\0\0".to_vec();
    frame.extend(8_u64.to_le_bytes());
    frame.resize(64, 0);
    frame[34..36].copy_from_slice(&1_u16.to_le_bytes());
    frame[36..44].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&body).to_le_bytes());
    let crc = crc32c::crc32c(&frame[..60]);
    frame[60..64].copy_from_slice(&crc.to_le_bytes());
    frame.extend(body);
    frame
}

#[test]
fn a_member_may_not_call_itself_otherwise_than_its_own_certificate() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let called = isfc::connect_tls(&listening.address(), 1, &cluster.tls("A")).unwrap();
    let error = Link::start(called, options("Z")).unwrap_err().to_string();
    assert_says(&error, "this member is called Z, and its certificate is that of A");
    listening.link();
}

/// Each of these holds one place of many, and for a time that is known.
#[test]
fn callers_that_stop_half_way_hit_the_deadline() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let silent = TcpStream::connect(listening.at).unwrap();
    // The beginning of a record that says it is longer.
    let mut half = TcpStream::connect(listening.at).unwrap();
    half.write_all(&[22, 3, 1, 1, 0, 1]).unwrap();
    let mut shaken = Hostile::isfc(listening.at, &cluster.member("A"));
    shaken.shake();
    let started = Instant::now();
    let reasons: Vec<String> = (0..3).map(|_| listening.reason()).collect();
    assert!(started.elapsed() < 3 * isfc::HELLO_DEADLINE, "{:?}", started.elapsed());
    let late = "it did not finish the TLS handshake within 5s";
    assert_eq!(reasons.iter().filter(|reason| reason.contains(late)).count(), 2, "{reasons:#?}");
    assert_eq!(reasons.iter().filter(|reason| reason.contains("no whole hello")).count(), 1, "{reasons:#?}");
    drop((silent, half, shaken));
    // None of them has kept a good caller out.
    isfc::connect_tls(&listening.address(), 4, &cluster.tls("A")).unwrap();
    listening.link();
}

#[test]
fn a_listener_that_never_answers_is_given_up() {
    let cluster = Cluster::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let error = isfc::connect_tls(&Address::Tcp(at), 2, &cluster.tls("A")).unwrap_err().to_string();
    assert_says(&error, "it did not finish the TLS handshake within 5s");
}

#[test]
fn garbage_behind_the_handshake_ends_the_link_with_its_reason() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let mut hostile = Hostile::isfc(listening.at, &cluster.member("A"));
    let binding = hostile.shake();
    hostile.say(&[hello(4), binding.to_vec()].concat());
    assert_eq!(hostile.refusal(), 0);
    let link = Link::start(listening.link().0, options("B")).unwrap();
    // A record that nobody with the key has made.
    let mut forged = vec![23, 3, 3, 0, 64];
    forged.extend([0x5a; 64]);
    hostile.stream.sock.write_all(&forged).unwrap();
    let reason = loop {
        if let LinkEvent::LinkDown(reason) = link.recv(PATIENCE).unwrap() {
            break reason;
        }
    };
    assert_eq!(reason, DownReason::Protocol("a TLS record was damaged or forged on its way".to_owned()));
}

#[test]
fn a_connection_that_is_cut_off_ends_its_link() {
    let cluster = Cluster::new();
    let listening = Listening::new(Some(cluster.tls("B")));
    let mut hostile = Hostile::isfc(listening.at, &cluster.member("A"));
    let binding = hostile.shake();
    hostile.say(&[hello(4), binding.to_vec()].concat());
    assert_eq!(hostile.refusal(), 0);
    let link = Link::start(listening.link().0, options("B")).unwrap();
    // Without TLS's closing alert.
    hostile.stream.sock.shutdown(std::net::Shutdown::Both).unwrap();
    loop {
        if let LinkEvent::LinkDown(_) = link.recv(PATIENCE).unwrap() {
            break;
        }
    }
}

#[test]
fn devices_that_were_cut_come_back_over_tls() {
    let cluster = Cluster::new();
    let (a, b) = pair(&cluster, 3, None);
    for end in [&a, &b] {
        end.cut_device(1);
        for link in [&a, &b] {
            until(link, |event| matches!(event, LinkEvent::DeviceDown(1, _)));
            until(link, |event| matches!(event, LinkEvent::DeviceUp(1)));
        }
        assert_eq!((a.devices_up(), b.devices_up()), (0b111, 0b111));
        a.send(SocketId::new(0).unwrap(), b"still here").unwrap();
        assert_eq!(message(&b), b"still here");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::new();
    let key = cluster.member("A").join("key.pem");
    for mode in [0o644, 0o640, 0o604] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Identity::load(&cluster.member("A")).unwrap_err().to_string();
        assert_says(&error, &format!("{} can be read by others (mode {mode:04o})", key.display()));
    }
}

#[test]
fn an_identity_that_does_not_fit_together_is_refused() {
    let cluster = Cluster::new();
    let a = cluster.member("A");
    std::fs::copy(cluster.member("B").join("key.pem"), a.join("key.pem")).unwrap();
    let error = Identity::load(&a).unwrap_err().to_string();
    assert_says(&error, "key.pem is not the key of the certificate beside it");
    std::fs::copy(Cluster::new().ca().join("ca.pem"), a.join("ca.pem")).unwrap();
    let error = Identity::load(&a).unwrap_err().to_string();
    assert_says(&error, "its certificate is not from this cluster's CA");
    std::fs::write(a.join("cert.pem"), "nothing").unwrap();
    assert_says(&Identity::load(&a).unwrap_err().to_string(), "cert.pem holds no certificate in PEM form");
    std::fs::remove_file(a.join("cert.pem")).unwrap();
    assert_says(&Identity::load(&a).unwrap_err().to_string(), "cannot read");
    // The CA itself is no member.
    std::fs::copy(cluster.ca().join("ca.pem"), a.join("cert.pem")).unwrap();
    assert_says(&Identity::load(&a).unwrap_err().to_string(), "names no member of a cluster");
}

#[test]
fn certificates_are_never_overwritten_and_say_who_they_are_for() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::new();
    let again = create_ca(&cluster.ca(), "TEST", Validity::days(1)).unwrap_err().to_string();
    assert_says(&again, "ca.key exists already, and nothing is overwritten");
    for file in ["key.pem", "cert.pem", "ca.pem"] {
        let dir = cluster.member("NEW");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(file), "mine").unwrap();
        let error = issue(&cluster.ca(), "NEW", Validity::days(1), &dir).unwrap_err().to_string();
        assert_says(&error, &format!("{file} exists already, and nothing is overwritten"));
        // Nothing but what was there is there.
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [file]);
        assert_eq!(std::fs::read_to_string(dir.join(file)).unwrap(), "mine");
        std::fs::remove_dir_all(&dir).unwrap();
    }
    for key in [cluster.ca().join("ca.key"), cluster.member("A").join("key.pem")] {
        assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    for name in ["A@#$_-9", "%/.~"] {
        let dir = cluster.dir.path().join(format!("odd{}", name.len()));
        issue(&cluster.ca(), name, Validity::days(1), &dir).unwrap();
        assert_eq!(Identity::load(&dir).unwrap().name().member(), name);
        let shown = show(&dir).unwrap();
        assert_eq!((shown.len(), shown[0].member.as_deref(), shown[0].state), (2, Some(name), "valid"));
        assert_eq!((shown[1].is_ca, shown[1].cluster.as_deref()), (true, Some("TEST")));
    }
    // A member's certificate does not outlive its CA.
    let long = cluster.member("LONG");
    issue(&cluster.ca(), "LONG", Validity::days(3000), &long).unwrap();
    let shown = show(&long).unwrap();
    assert_eq!(shown[0].not_after_unix_s, shown[1].not_after_unix_s);
}

#[test]
fn names_that_no_certificate_can_have_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for cluster in ["", "two words", "a/b", &"x".repeat(33)] {
        assert_says(
            &create_ca(dir.path(), cluster, Validity::days(1)).unwrap_err().to_string(),
            "for a cluster",
        );
    }
    create_ca(dir.path(), "C", Validity::days(1)).unwrap();
    for member in ["", "NINECHARS", "A B", "É"] {
        let error = issue(dir.path(), member, Validity::days(1), &dir.path().join("out")).unwrap_err();
        assert_says(&error.to_string(), "for a member");
    }
    let error = issue(dir.path(), "A", days_from_now(0, 4_000_000), &dir.path().join("out"));
    assert!(error.is_ok() || error.unwrap_err().to_string().contains("cannot be valid"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever a caller says in place of a handshake, or calls its handshake, the listener goes on.
    #[test]
    fn any_bytes_are_refused_and_nothing_hangs(
        start in prop_oneof![Just(vec![]), Just(vec![22, 3, 1]), Just(vec![21, 3, 3, 0, 2]), Just(vec![23, 3, 3])],
        rest in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let cluster = Cluster::new();
        let listening = Listening::new(Some(cluster.tls("B")));
        let mut caller = TcpStream::connect(listening.at).unwrap();
        caller.write_all(&[start, rest].concat()).unwrap();
        caller.shutdown(std::net::Shutdown::Write).unwrap();
        let reason = listening.reason();
        prop_assert!(!reason.contains("panick"), "{}", reason);
        let _ = caller.read_to_end(&mut Vec::new());
        isfc::connect_tls(&listening.address(), 1, &cluster.tls("A")).unwrap();
        listening.link();
    }

    /// The same behind a good handshake, in records and between them.
    #[test]
    fn any_bytes_behind_the_handshake_end_the_link(
        inside in proptest::collection::vec(any::<u8>(), 64..2000),
        raw in any::<bool>(),
    ) {
        let cluster = Cluster::new();
        let listening = Listening::new(Some(cluster.tls("B")));
        let mut hostile = Hostile::isfc(listening.at, &cluster.member("A"));
        let binding = hostile.shake();
        hostile.say(&[hello(4), binding.to_vec()].concat());
        prop_assert_eq!(hostile.refusal(), 0);
        let link = Link::start(listening.link().0, options("B")).unwrap();
        if raw {
            let _ = hostile.stream.sock.write_all(&inside);
        } else {
            hostile.say(&inside);
        }
        hostile.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let down = || matches!(link.recv(PATIENCE).unwrap(), LinkEvent::LinkDown(_));
        while !down() {}
    }
}
