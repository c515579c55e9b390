//! Operating a cluster: commands and who may give them, volumes, and what goes wrong around it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::Trial;
use common::cluster::{Cluster, NAMES};

fn up_one<'a>(trial: &'a Trial) -> Cluster<'a> {
    let cluster = Cluster::create(trial, "--members MEMBERA");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    cluster
}

#[test]
fn every_command_has_help_and_every_query_has_data() {
    let trial = Trial::new();
    let cluster = up_one(&trial);
    let help = cluster.said("MEMBERA", "HELP");
    for line in help.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let named = if words[0] == "Query" { words[..2].join(" ") } else { words[0].to_owned() };
        let text = cluster.said("MEMBERA", &format!("HELP {named}"));
        assert!(text.starts_with(line.trim()) && text.contains("Privilege class: "), "{text}");
        if words[0] == "Query" {
            let path = cluster.path("");
            let ended = trial.run(&format!("cp --json --cluster {} MEMBERA {named}", path.display()));
            let output: serde_json::Value = serde_json::from_str(&ended.out()).unwrap();
            assert!(output["code"] == 0 && !output["data"].is_null(), "{named}: {ended}");
        }
    }
    for command in ["QUERY", "SET", "AT", "DEACTIVATE", "ACTIVATE ISLINK", "SET SSI", "QUERY SSI", "#CP"] {
        cluster.said("MEMBERA", &format!("HELP {command}"));
    }
    assert_eq!(cluster.cp("MEMBERA", "HELP QUERY NOTHING").code(), Some(1));
    cluster.down();
}

#[test]
fn the_layout_of_query_ssi_is_that_of_zvm() {
    let trial = Trial::new();
    let cluster = up_one(&trial);
    let text = cluster.said("MEMBERA", "QUERY SSI");
    // Every digit of a date or a time becomes a 9, and then all is known.
    let (head, rows) = text.split_at(text.find("SLOT ").unwrap());
    let rows: String = rows
        .lines()
        .map(|row| {
            let (slot, rest) = row.split_at(5);
            let masked: String = rest.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
            format!("{slot}{masked}\n")
        })
        .collect();
    assert_eq!(
        head.to_owned() + &rows,
        "\
SSI Name: DEMOSSI
SSI Mode: Stable
Cross-System Timeouts: Enabled
SSI Persistent Data Record (PDR) device: VMCOM1 on 0200
SLOT SYSTEMID STATE     PDR HEARTBEAT       RECEIVED HEARTBEAT
   1 MEMBERA  Joined    99/99/99 99:99:99   99/99/99 99:99:99
   2 -------- Available
   3 -------- Available
   4 -------- Available
"
    );
    cluster.down();
}

#[test]
fn users_may_do_what_their_classes_and_entries_say() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA");
    let path = cluster.path("user.direct");
    let source = std::fs::read_to_string(&path).unwrap();
    let more = "USER GUEST1 AUTOONLY 1G 1G G\n  AUTOLOG LINUX01\nUSER ALLB AUTOONLY 1G 1G B\n";
    std::fs::write(&path, format!("{source}\n{more}")).unwrap();
    let dir = cluster.path("");
    assert_eq!(trial.run(&format!("directxa --cluster {}", dir.display())).code(), Some(0));
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let as_user = |user: &str, command: &str| {
        trial.run(&format!("cp --cluster {} --user {user} MEMBERA {command}", dir.display()))
    };
    // Class G: what names it in its AUTOLOG statement, and nothing else.
    assert_eq!(as_user("LINUX01", "XAUTOLOG GUEST1").code(), Some(0));
    let refused = as_user("LINUX01", "XAUTOLOG LINUX02");
    assert!(refused.out().contains("LINUX02 cannot be autologged by LINUX01"), "{refused}");
    for command in
        ["QUERY ISLINK", "QUERY CPOWNED", "FORCE GUEST1", "AT MEMBERA CMD QUERY SSI", "SET SSI TIMEOUTS OFF"]
    {
        assert_eq!(as_user("LINUX01", command).code(), Some(1), "{command}");
    }
    assert!(!as_user("LINUX01", "HELP").out().contains("SHUTDOWN"));
    // Class B has the links and the cluster, and may not stop anything.
    assert_eq!(as_user("ALLB", "QUERY SSI").code(), Some(0));
    assert_eq!(as_user("ALLB", "SHUTDOWN").out(), "HCP001E Unknown CP command: SHUTDOWN");
    assert_eq!(cluster.said("MEMBERA", "FORCE GUEST1 LOGOFF IMMED"), "GUEST1 forced at MEMBERA");
    cluster.down();
}

#[test]
fn devices_of_a_link_are_checked_before_anything_changes() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let refused = |command: &str, words: &str| {
        let ended = cluster.cp("MEMBERA", command);
        assert!(ended.code() == Some(1) && ended.out().contains(words), "{ended}");
    };
    refused("DEACTIVATE ISLINK 4480 4480", "HCP2721E Link unit address 4480 is a duplicate");
    refused("DEACTIVATE ISLINK 4480 9999", "HCP040E Device 9999 does not exist");
    refused("ACTIVATE ISLINK 4480 NODE MEMBERX", "leads to MEMBERB, not to MEMBERX");
    refused("ACTIVATE ISLINK 4480", "is active already");
    refused("ACTIVATE ISLINK NODE MEMBERB", "Invalid option - NODE");
    assert_eq!(cluster.view("MEMBERA"), "Stable Joined Joined Available Available");
    assert_eq!(cluster.said("MEMBERA", "DEACTIVATE ISLINK 4480"), "Link 4480 deactivated.");
    assert!(cluster.said("MEMBERA", "QUERY ISLINK 4480").contains("Deactivated: 4480"));
    let text = cluster.said("MEMBERA", "ACT ISLINK 4480 NODE MEMBERB BUFFERS 8");
    assert_eq!(text, "HCP2722I The BUFFERS operand is ignored\nLink 4480 activated.");
    cluster.down();
}

#[test]
fn a_volume_of_another_cluster_or_member_is_told_and_offline() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    let volume = |name: &str| cluster.path(&format!("volumes/{name}.dasd"));
    let cpfmtxa = |name: &str, words: &str| {
        let ended = trial.run(&format!("cpfmtxa {} {words}", volume(name).display()));
        assert_eq!(ended.code(), Some(0), "{ended}");
        ended.out()
    };
    trial
        .run(&format!("formssi create {} DEMOSSI MEMBERA MEMBERA", volume("USRVL1").display()))
        .refused(1, &["two members are called MEMBERA"]);
    cpfmtxa("M01P01", "--owner DEMOSSI.MEMBERB");
    let told = cpfmtxa("M02S01", "--owner OTHERSSI.MEMBERA");
    assert!(told.ends_with("3390 of 50 cylinders, owner OTHERSSI.MEMBERA, PERM:0-0 SPOL:1-49"), "{told}");
    std::fs::remove_file(volume("USRVL1")).unwrap();
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let log = cluster.log("MEMBERA");
    for part in [
        "HCPRDA6629I Ownership of DASD 0204, volume M01P01 was read as DEMOSSI.MEMBERB.",
        "volume M02S01 was read as OTHERSSI.MEMBERA.",
        "volume USRVL1: volume ./volumes/USRVL1.dasd: No such file",
    ] {
        assert!(log.contains(part), "{log}");
    }
    let text = cluster.said("MEMBERA", "QUERY CPOWNED");
    assert_eq!(
        text,
        "\
Slot  Vol-ID  Rdev  Type   Status
  10  M01S01  0201  Own    Online and attached
  11  M02S01  0202  Own    Offline
 255  M01P01  0204  Own    Offline"
    );
    cluster.down();
}

#[test]
fn what_runs_is_shut_down_although_its_configuration_was_spoilt() {
    let trial = Trial::new();
    let cluster = up_one(&trial);
    std::fs::write(cluster.path("system.config"), "FROBNICATE\n").unwrap();
    let ended = cluster.lgr("cluster down", "");
    assert!(ended.code() == Some(0) && ended.words().contains("MEMBERA: has left the cluster"), "{ended}");
    let ended = cluster.lgr("cluster up", "");
    assert!(ended.code() == Some(1) && ended.words().contains("no statement has this name"), "{ended}");
}

#[test]
fn two_who_start_a_cluster_at_once_both_see_it_up() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    let both = std::thread::scope(|scope| {
        let threads = [0, 1].map(|_| scope.spawn(|| cluster.lgr("cluster up", "")));
        threads.map(|thread| thread.join().unwrap())
    });
    for ended in both {
        assert_eq!(ended.code(), Some(0), "{ended}");
    }
    cluster.down();
}

#[test]
fn nothing_of_a_cluster_is_open_to_others() {
    let trial = Trial::new();
    let cluster = up_one(&trial);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
    let mut seen = 0;
    for dir in ["", "run", "log", "objects", "volumes"] {
        assert_eq!(mode(&cluster.path(dir)), 0, "{dir}");
        for entry in std::fs::read_dir(cluster.path(dir)).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 10);
    cluster.down();
}

#[test]
fn a_cluster_may_be_deeper_than_a_sockets_name_is_long() {
    let trial = Trial::new();
    let deep = trial.path(&"deep/".repeat(40));
    let run = |words: &str| {
        let ended = trial.run(words);
        assert_eq!(ended.code(), Some(0), "{ended}");
        ended.out()
    };
    run(&format!("cluster create {} --members MEMBERA,MEMBERB", deep.display()));
    run(&format!("cluster up {}", deep.display()));
    assert_eq!(run(&format!("cp --cluster {} MEMBERB QUERY USERID", deep.display())), "OPERATOR AT MEMBERB");
    run(&format!("cluster down {}", deep.display()));
}

#[test]
fn on_a_full_disk_nothing_half_made_is_left_and_what_runs_goes_on() {
    let trial = Trial::new();
    let may_mount = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        println!("skipped: a file system of a test's own (unshare)");
        return;
    }
    let room = trial.path("small");
    std::fs::create_dir(&room).unwrap();
    let script = r#"
        mount -t tmpfs -o size=600k none "$ROOM" && cd "$ROOM" || exit 90
        "$LGR" cluster create demo 2>err && exit 91
        grep -q 'No space left' err || exit 92
        [ ! -e demo ] || exit 93
        mkdir empty; "$LGR" cluster create empty 2>err && exit 94
        [ -d empty ] && [ -z "$(ls empty)" ] || exit 95
        mount -o remount,size=120m none "$ROOM" || exit 96
        "$LGR" cluster create demo --members MEMBERA,MEMBERB && "$LGR" cluster up demo || exit 97
        dd if=/dev/zero of=fill bs=64k 2>/dev/null; dd if=/dev/zero of=fill2 bs=1k 2>/dev/null
        "$LGR" directxa --cluster demo 2>/dev/null && exit 98
        "$LGR" cp --cluster demo MEMBERA XAUTOLOG LINUX01 || exit 99
        sleep 8
        "$LGR" cp --cluster demo MEMBERB QUERY SSI | grep -c ' Joined ' | grep -qx 2 || exit 100
        "$LGR" cluster down demo || exit 101
    "#;
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .env("ROOM", &room)
        .env("LGR", env!("CARGO_BIN_EXE_lgr"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn four_idle_members_have_little_memory() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    let resident_kib = |member: &str| {
        let pid = cluster.pid(member).unwrap();
        let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let all: u64 = NAMES.into_iter().map(resident_kib).sum();
    println!("four members: {all} KiB");
    assert!(all < 200 << 10, "{all} KiB");
    cluster.down();
}
