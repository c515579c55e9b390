//! A guest is moved over a network: two network namespaces joined by a cable (veth), made and removed by the
//! test.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use std::process::{Command, Output, Stdio};

use common::pair::Aftermath;
use common::{Running, SMALL, Trial, assert_moved_whole, assert_stayed_whole};
use lgr_engine::report::Side;

const SOURCE_ADDRESS: &str = "192.0.2.1";
const DESTINATION_ADDRESS: &str = "192.0.2.2";
/// The destination behind a router.
const BEHIND_ADDRESS: &str = "192.0.2.129";

/// Two network namespaces with a cable between them; removed when this goes.
struct Cable<'a> {
    trial: &'a Trial,
    /// Where the destination is called.
    destination: &'static str,
}

impl<'a> Cable<'a> {
    /// `None`, and a line that says why, where this is not allowed.
    fn new(trial: &'a Trial) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: network namespaces (not root)");
            return None;
        }
        if ip("-V").is_err() {
            println!("skipped: network namespaces (there is no ip command)");
            return None;
        }
        let cable = Self { trial, destination: DESTINATION_ADDRESS };
        let [a, b] = [cable.space(Side::Source), cable.space(Side::Destination)];
        let made = ip(&format!("netns add {a}"))
            .and_then(|()| ip(&format!("netns add {b}")))
            .and_then(|()| ip(&format!("-n {a} link add cable type veth peer name cable netns {b}")));
        if let Err(why) = made {
            println!("skipped: network namespaces ({why})");
            return None;
        }
        for (space, address) in [(a, SOURCE_ADDRESS), (b, DESTINATION_ADDRESS)] {
            ip(&format!("-n {space} addr add {address}/24 dev cable")).unwrap();
            ip(&format!("-n {space} link set cable up")).unwrap();
        }
        Some(cable)
    }

    /// Two namespaces with a router between them. Everybody's interface takes 1500 bytes, but the router's to the destination
    /// takes 1000, and what it says of that (ICMP) reaches nobody.
    fn through_a_narrow_hop(trial: &'a Trial) -> Option<Self> {
        let mut cable = Self::new(trial)?;
        let [a, b, r] =
            [cable.space(Side::Source), cable.space(Side::Destination), format!("{}r", trial.mark())];
        let made = ip(&format!("netns add {r}"))
            .and_then(|()| ip(&format!("-n {a} link del cable")))
            .and_then(|()| ip(&format!("-n {a} link add cable type veth peer name left netns {r}")))
            .and_then(|()| ip(&format!("-n {b} link add cable type veth peer name right netns {r}")))
            .and_then(|()| ip(&format!("-n {a} addr add {SOURCE_ADDRESS}/25 dev cable")))
            .and_then(|()| ip(&format!("-n {b} addr add {BEHIND_ADDRESS}/25 dev cable")))
            .and_then(|()| ip(&format!("-n {r} addr add 192.0.2.126/25 dev left")))
            .and_then(|()| ip(&format!("-n {r} addr add 192.0.2.254/25 dev right")))
            .and_then(|()| ip(&format!("-n {a} link set cable up")))
            .and_then(|()| ip(&format!("-n {b} link set cable up")))
            .and_then(|()| ip(&format!("-n {r} link set left up")))
            .and_then(|()| ip(&format!("-n {r} link set right mtu 1000 up")))
            .and_then(|()| ip(&format!("-n {a} route add default via 192.0.2.126")))
            .and_then(|()| ip(&format!("-n {b} route add default via 192.0.2.254")))
            .and_then(|()| ip(&format!("-n {r} rule add ipproto icmp blackhole")))
            .and_then(|()| run("ip", &format!("netns exec {r} sysctl -qw net.ipv4.ip_forward=1")));
        match made {
            Ok(()) => {
                cable.destination = BEHIND_ADDRESS;
                Some(cable)
            }
            Err(why) => {
                println!("skipped: a router in a network namespace ({why})");
                None
            }
        }
    }

    /// Lets so many bits pass per second, from the source to the destination.
    fn shape(&self, rate: &str) -> bool {
        let space = self.space(Side::Source);
        let shaped = format!("-n {space} qdisc add dev cable root tbf rate {rate} burst 16kb latency 400ms");
        match run("tc", &shaped) {
            Ok(()) => true,
            Err(why) => {
                println!("skipped: a slow cable ({why})");
                false
            }
        }
    }

    fn space(&self, side: Side) -> String {
        format!("{}{}", self.trial.mark(), if side == Side::Source { "a" } else { "b" })
    }

    /// Starts `lgr` in the namespace of `side`.
    fn start(&self, side: Side, words: &str) -> Running {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(side), env!("CARGO_BIN_EXE_lgr")]);
        command.args(words.split_whitespace());
        self.trial.spawn(command)
    }

    /// Starts a destination, and a source that relocates to it.
    fn members(&self, both: &str, source: &str) -> (Running, Running) {
        let both = format!("--volume {} --progress json {both}", self.trial.volume().display());
        let listen = format!("receive tcp:0.0.0.0:0 --insecure-plaintext {both}");
        let mut destination = self.start(Side::Destination, &listen);
        let port = destination.address();
        let port = port.rsplit(':').next().unwrap();
        let words =
            format!("relocate --to tcp:{}:{port} --insecure-plaintext {both} {source}", self.destination);
        (self.start(Side::Source, &words), destination)
    }

    fn pull(&self) {
        ip(&format!("-n {} link set cable down", self.space(Side::Source))).unwrap();
    }
}

impl Drop for Cable<'_> {
    fn drop(&mut self) {
        for side in [Side::Source, Side::Destination] {
            // Not there if making it was refused.
            let _ = ip(&format!("netns del {}", self.space(side)));
        }
        let _ = ip(&format!("netns del {}r", self.trial.mark()));
    }
}

fn ip(words: &str) -> Result<(), String> {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Result<(), String> {
    let run = Command::new(program).args(words.split(' ')).stdin(Stdio::null()).output();
    let Output { status, stderr, .. } = run.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&stderr).trim().to_owned();
    if status.success() { Ok(()) } else { Err(format!("{program} {words}: {said}")) }
}

#[test]
fn a_guest_crosses_a_network_whole() {
    let trial = Trial::new();
    let Some(cable) = Cable::new(&trial) else { return };
    let words = format!("--rate-limit 64M --compress never --dirty-rate 4M {SMALL}");
    let (source, destination) = cable.members("", &words);
    let aftermath = Aftermath { source: source.wait(), destination: destination.wait() };
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Destination);
    let report = aftermath.source.report();
    assert_moved_whole(&aftermath.source, &report);
    assert_eq!(aftermath.destination.code(), Some(0));
    let used = report.queues.iter().filter(|queue| queue.side == Side::Source && queue.transfers > 0);
    // The write rule leaves two of sixteen to the other side; how many of the rest it takes depends on how fast they are.
    assert!((2..=14).contains(&used.count()), "{:#?}", report.queues);
    assert_eq!(report.medium, "tcp");
    assert_eq!(report.sides_known, [Side::Source, Side::Destination]);
}

#[test]
fn a_guest_stays_when_the_cable_is_pulled() {
    let trial = Trial::new();
    let Some(cable) = Cable::new(&trial) else { return };
    let (mut source, destination) =
        cable.members("--peer-timeout 1", &format!("--rate-limit 4M --compress never {SMALL}"));
    source.in_first_pass();
    cable.pull();
    let aftermath = Aftermath { source: source.wait(), destination: destination.wait() };
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Source);
    assert_stayed_whole(&aftermath.source, &aftermath.source.report(), 3);
    assert_eq!(aftermath.destination.report().finish.code.number(), 3);
    assert_eq!(aftermath.destination.code(), Some(1));
}

#[test]
fn a_guest_crosses_a_cable_of_5_megabits_and_nothing_is_sent_twice() {
    let trial = Trial::new();
    let Some(cable) = Cable::new(&trial) else { return };
    if !cable.shape("5mbit") {
        return;
    }
    let words = format!("--workload idle --content random --compress never {SMALL}");
    let (source, destination) = cable.members("", &words);
    let aftermath = Aftermath { source: source.wait(), destination: destination.wait() };
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Destination);
    let report = aftermath.source.report();
    assert_moved_whole(&aftermath.source, &report);
    let (wire, memory) = (report.bytes_wire.unwrap(), report.bytes_logical.unwrap());
    assert!(wire as f64 <= memory as f64 * 1.2, "{wire} bytes for {memory}: {}", aftermath.source);
    assert!(!aftermath.source.to_string().contains(" is down"), "{}", aftermath.source);
}

#[test]
fn a_hop_that_takes_no_long_packets_ends_the_move_with_a_reason() {
    let trial = Trial::new();
    let Some(cable) = Cable::through_a_narrow_hop(&trial) else { return };
    let words = format!("--workload idle --content random --compress never {SMALL}");
    let (source, destination) = cable.members("--peer-timeout 2", &words);
    let aftermath = Aftermath { source: source.wait(), destination: destination.wait() };
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Source);
    let report = aftermath.source.report();
    assert_stayed_whole(&aftermath.source, &report, 3);
    assert!(report.finish.reason.contains("MTU"), "{}", report.finish.reason);
    assert!(report.total_ms.unwrap() < 10_000.0, "{:?} ms", report.total_ms);
}
