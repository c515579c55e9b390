//! A cluster of real processes: members start, leave, die, sleep and lose each other, and all that are left agree.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use common::Trial;
use common::cluster::{Cluster, NAMES};
use rustix::process::{Pid, Signal, kill_process};

const ALL_JOINED: &str = "Stable Joined Joined Joined Joined";
const ABC: [&str; 3] = ["MEMBERA", "MEMBERB", "MEMBERC"];

#[test]
fn four_members_start_together_answer_and_leave() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    for member in NAMES {
        assert_eq!(cluster.view(member), ALL_JOINED);
    }
    let text = cluster.said("MEMBERA", "QUERY SSI");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["SSI Name: DEMOSSI", "SSI Mode: Stable", "Cross-System Timeouts: Enabled"]);
    assert!(lines[3].starts_with("SSI Persistent Data Record (PDR) device: VMCOM1 on "), "{text}");
    assert_eq!(lines[4], "SLOT SYSTEMID STATE     PDR HEARTBEAT       RECEIVED HEARTBEAT");
    for (row, member) in lines[5..].iter().zip(NAMES) {
        // Slot, name, state, and two times of date and time of day.
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!((words.len(), words[1], words[2]), (7, member, "Joined"), "{text}");
    }
    let ended = cluster.lgr("cluster down", "");
    assert_eq!(ended.code(), Some(0), "{ended}");
    // Nothing is left of those who left but the files that they lock.
    let names = std::fs::read_dir(cluster.path("run")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_user_is_logged_on_once_in_the_cluster() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    cluster.said("MEMBERB", "AT MEMBERA CMD XAUTOLOG LINUX01");
    let again = cluster.cp("MEMBERC", "XAUTOLOG LINUX01");
    assert_eq!(
        (again.code(), again.out().as_str()),
        (Some(1), "HCP054E LINUX01 is already logged on at MEMBERA")
    );
    assert_eq!(cluster.said("MEMBERC", "QUERY NAMES"), "LINUX01  -SSI");
    assert_eq!(cluster.said("MEMBERD", "QUERY NAMES AT ALL"), "MEMBERA  : LINUX01  - DSC");
    // A multiconfiguration user is on once at each.
    cluster.said("MEMBERA", "XAUTOLOG MAINT");
    cluster.said("MEMBERB", "XAUTOLOG MAINT");
    assert_eq!(cluster.cp("MEMBERB", "XAUTOLOG MAINT").code(), Some(1));
    // It is forced off from anywhere, and is free then.
    assert_eq!(cluster.said("MEMBERD", "FORCE LINUX01"), "LINUX01 forced at MEMBERA");
    cluster.said("MEMBERC", "XAUTOLOG LINUX01");
    cluster.down();
}

#[test]
fn of_attempts_at_once_one_is_granted_and_the_others_name_the_winner() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    for user in ["LINUX01", "LINUX02", "LINUX03"] {
        let attempts = std::thread::scope(|scope| {
            let threads = NAMES.map(|member| {
                let cluster = &cluster;
                scope.spawn(move || cluster.cp(member, &format!("XAUTOLOG {user}")))
            });
            threads.map(|thread| thread.join().unwrap())
        });
        let winners: Vec<&str> = NAMES
            .into_iter()
            .zip(&attempts)
            .filter(|(_, ended)| ended.code() == Some(0))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(winners.len(), 1, "{user}");
        let refusal = format!("HCP054E {user} is already logged on at {}", winners[0]);
        for ended in attempts.iter().filter(|ended| ended.code() != Some(0)) {
            // Two that lost may have met each other first.
            assert!(ended.out().starts_with(&refusal[..refusal.len() - 1]), "{ended}");
        }
    }
    cluster.down();
}

#[test]
fn a_killed_member_is_declared_down_and_what_it_held_is_free() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    cluster.said("MEMBERD", "XAUTOLOG LINUX01");
    cluster.signal("MEMBERD", Signal::KILL);
    cluster.wait_for(&ABC, "Safe Joined Joined Joined Suspended");
    let refused = cluster.cp("MEMBERA", "XAUTOLOG LINUX02");
    assert!(refused.out().contains("SAFE"), "{refused}");
    cluster.wait_for(&ABC, "Stable Joined Joined Joined Down");
    assert!(cluster.said("MEMBERA", "QUERY SSI").contains("   4 MEMBERD  Down (declared down)"));
    cluster.said("MEMBERA", "XAUTOLOG LINUX01");
    cluster.start("MEMBERD");
    cluster.wait_for(&NAMES, ALL_JOINED);
    assert!(cluster.said("MEMBERD", "QUERY NAMES").contains("LINUX01  -SSI"));
    cluster.down();
}

#[test]
fn a_member_that_slept_for_long_stops_when_it_wakes() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    cluster.said("MEMBERB", "XAUTOLOG LINUX01");
    cluster.signal("MEMBERB", Signal::STOP);
    let asleep = Instant::now();
    let others = ["MEMBERA", "MEMBERC", "MEMBERD"];
    cluster.wait_for(&others, "Stable Joined Down Joined Joined");
    cluster.said("MEMBERA", "XAUTOLOG LINUX01");
    // Longer than each time-out that a member or a link has.
    let long = Duration::from_secs(if std::env::var_os("LGR_LONG").is_some() { 60 } else { 15 });
    std::thread::sleep(long.saturating_sub(asleep.elapsed()));
    cluster.signal("MEMBERB", Signal::CONT);
    cluster.wait_ended("MEMBERB");
    let log = cluster.log("MEMBERB");
    assert!(log.contains("stops: "), "{log}");
    // It was not joined again for a moment, nor did the others think so.
    for member in others {
        assert_eq!(cluster.view(member), "Stable Joined Down Joined Joined");
    }
    cluster.start("MEMBERB");
    cluster.wait_for(&NAMES, ALL_JOINED);
    cluster.down();
}

#[test]
fn members_leave_and_come_back_one_by_one() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    cluster.said("MEMBERC", "XAUTOLOG LINUX01");
    cluster.said("MEMBERC", "SHUTDOWN");
    cluster.wait_ended("MEMBERC");
    cluster.wait_for(&["MEMBERA", "MEMBERB", "MEMBERD"], "Stable Joined Joined Down Joined");
    assert!(cluster.said("MEMBERB", "QUERY SSI").contains("   3 MEMBERC  Down (shut down successfully)"));
    assert_eq!(cluster.said("MEMBERA", "QUERY NAMES"), "");
    let ended = cluster.lgr("cluster up", "");
    assert_eq!(ended.code(), Some(0), "{ended}");
    for member in NAMES {
        assert_eq!(cluster.view(member), ALL_JOINED);
    }
    // By a signal, too: the first lets a member leave.
    cluster.signal("MEMBERA", Signal::INT);
    cluster.wait_ended("MEMBERA");
    cluster.wait_for(&["MEMBERB"], "Stable Down Joined Joined Joined");
    cluster.down();
}

#[test]
fn a_member_that_stops_without_leaving_marks_itself_down() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    let begun = Instant::now();
    cluster.cp("MEMBERD", "ABEND");
    cluster.wait_ended("MEMBERD");
    cluster.wait_for(&ABC, "Stable Joined Joined Joined Down");
    assert!(cluster.said("MEMBERA", "QUERY SSI").contains("   4 MEMBERD  Down (shut down abnormally)"));
    println!("all knew after {:?}", begun.elapsed());
    cluster.down();
}

#[test]
fn a_cut_link_makes_both_sides_safe_until_it_is_healed() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    cluster.said("MEMBERA", "XAUTOLOG LINUX01");
    // One device of two: the link goes on.
    cluster.said("MEMBERA", "DEACTIVE ISLINK 4480");
    assert_eq!(cluster.view("MEMBERA"), ALL_JOINED);
    let refused = cluster.cp("MEMBERB", "ACTIVATE ISLINK 4480");
    assert!(refused.code() == Some(1) && refused.out().contains("deactivated by MEMBERA"), "{refused}");
    cluster.said("MEMBERA", "DEACTIVATE ISLINK 4481");
    cluster.wait_for(&["MEMBERA"], "Safe Joined Suspended Joined Joined");
    cluster.wait_for(&["MEMBERB"], "Safe Suspended Joined Joined Joined");
    // Those between them know.
    cluster.wait_for(&["MEMBERC", "MEMBERD"], "Safe Joined Joined Joined Joined");
    // What each lets go of meanwhile, the other hears of when they meet again.
    cluster.said("MEMBERA", "FORCE LINUX01");
    cluster.said("MEMBERA", "ACTIVATE ISLINK 4480 4481");
    cluster.wait_for(&NAMES, ALL_JOINED);
    assert_eq!(cluster.said("MEMBERB", "QUERY NAMES"), "");
    cluster.said("MEMBERB", "XAUTOLOG LINUX01");
    cluster.down();
}

#[test]
fn a_member_that_waits_for_a_link_in_order_to_join_is_shut_down_and_so_is_the_cluster() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    assert_eq!(cluster.lgr("cluster up", "--member MEMBERA").code(), Some(0));
    cluster.said("MEMBERA", "DEACTIVATE ISLINK 4480 4481");
    let waiting = || {
        // What it was told in an earlier life says nothing of this one.
        let _ = std::fs::remove_file(cluster.path("log/MEMBERB.log"));
        cluster.start("MEMBERB");
        cluster.wait_until_told("MEMBERB", "SSI system MEMBERB does not reach MEMBERA: no link is up");
    };
    waiting();
    cluster.signal("MEMBERB", Signal::TERM);
    cluster.wait_ended("MEMBERB");
    cluster.wait_for(&["MEMBERA"], "Stable Joined Down Available Available");
    waiting();
    cluster.down();
}

#[test]
fn a_member_that_does_not_reach_another_waits_while_the_cluster_goes_on_and_joins_when_it_does() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "");
    for member in ABC {
        assert_eq!(cluster.lgr("cluster up", &format!("--member {member}")).code(), Some(0));
    }
    cluster.said("MEMBERC", "DEACTIVATE ISLINK 4D00 4D01");
    let changes = || ABC.map(|member| cluster.log(member).matches("IN-FLUX").count());
    let before = changes();
    cluster.start("MEMBERD");
    cluster.wait_until_told("MEMBERD", "SSI system MEMBERD does not reach MEMBERC: no link is up");
    // Nobody is held up by it, for as long as it waits.
    let begun = Instant::now();
    let mut logons = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        for member in ABC {
            assert_eq!(cluster.view(member), "Stable Joined Joined Joined Down", "{}", cluster.log(member));
        }
        cluster.said("MEMBERA", "XAUTOLOG LINUX01");
        cluster.said("MEMBERA", "FORCE LINUX01");
        logons += 1;
    }
    let asked = cluster.said("MEMBERD", "QUERY SSI");
    assert!(asked.contains("MEMBERD waits for a link to MEMBERC: no link is up"), "{asked}");
    assert_eq!(changes(), before, "{logons} logons: {}", cluster.log("MEMBERA"));
    cluster.said("MEMBERC", "ACTIVATE ISLINK 4D00 4D01");
    cluster.wait_for(&NAMES, ALL_JOINED);
    cluster.down();
}

#[test]
fn without_timeouts_an_operator_declares_a_member_down_that_has_stopped() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    cluster.said("MEMBERA", "SET SSI TIMEOUTS OFF");
    let refused = cluster.cp("MEMBERA", "SET SSI MEMBERD DOWN");
    assert!(refused.code() == Some(1) && refused.out().contains("signs of life"), "{refused}");
    cluster.signal("MEMBERD", Signal::KILL);
    cluster.wait_for(&ABC, "Safe Joined Joined Joined Suspended");
    // Not while its heartbeat may still move; and nobody else does it.
    let begun = Instant::now();
    while cluster.cp("MEMBERA", "SET SSI MEMBERD DOWN").code() != Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.wait_for(&ABC, "Stable Joined Joined Joined Down");
    let down = cluster.cp("MEMBERA", "SET SSI MEMBERD DOWN");
    assert!(down.code() == Some(1) && down.out().contains("MEMBERD is Down"), "{down}");
    cluster.down();
}

#[test]
fn commands_are_for_those_who_have_their_class() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let as_user = |words: &str| trial.run(&format!("cp --cluster {} {words}", cluster.path("").display()));
    assert_eq!(as_user("--user LINUX01 MEMBERA QUERY USERID").out(), "LINUX01 AT MEMBERA");
    assert_eq!(as_user("--user LINUX01 MEMBERA SHUTDOWN").out(), "HCP001E Unknown CP command: SHUTDOWN");
    assert_eq!(as_user("--user LINUX01 MEMBERA QUERY SSI").code(), Some(1));
    as_user("--user NOBODY MEMBERA QUERY NAMES").refused(1, &["NOBODY not in CP directory"]);
    assert_eq!(as_user("MEMBERA FROBNICATE").out(), "HCP001E Unknown CP command: FROBNICATE");
    as_user("MEMBERB QUERY SSI").refused(1, &["MEMBERB does not run"]);
    cluster.down();
}

#[test]
fn a_volume_that_is_gone_for_a_moment_is_no_harm_and_for_long_stops_all() {
    let trial = Trial::new();
    let cluster = Cluster::up(&trial);
    let pids = NAMES.map(|member| cluster.pid(member));
    let (volume, away) = (cluster.path("volumes/VMCOM1.dasd"), cluster.path("volumes/away"));
    std::fs::rename(&volume, &away).unwrap();
    let begun = Instant::now();
    while !cluster.log("MEMBERA").contains("Persistent data record: volume ") {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::rename(&away, &volume).unwrap();
    cluster.wait_for(&NAMES, ALL_JOINED);
    assert_eq!(NAMES.map(|member| cluster.pid(member)), pids);
    // Without it nobody can show that he lives: each has to expect that the others take him for dead.
    std::fs::rename(&volume, &away).unwrap();
    for member in NAMES {
        cluster.wait_ended(member);
        let log = cluster.log(member);
        assert!(log.contains("stops: could not write its heartbeat for "), "{log}");
    }
    std::fs::rename(&away, &volume).unwrap();
    let ended = cluster.lgr("cluster up", "--patience 100");
    assert_eq!(ended.code(), Some(0), "{ended}");
    cluster.down();
}

#[test]
fn a_member_runs_once_and_only_if_its_cluster_has_it() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB --name TWO");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    cluster.lgr("member", "MEMBERA").refused(1, &["MEMBERA runs already, as process ", "MEMBERA.lock"]);
    cluster.lgr("member", "MEMBERX").refused(1, &["no slot is MEMBERX's", "MEMBERA, MEMBERB"]);
    cluster.lgr("cluster up", "--member MEMBERX").refused(1, &["no member is called MEMBERX"]);
    // A member that is up already is left alone.
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let nowhere = trial.path("nowhere");
    trial
        .run(&format!("cluster up {}", nowhere.display()))
        .refused(1, &["nowhere", "not the directory of a cluster"]);
    trial.run(&format!("cluster create {}", cluster.path("").display())).refused(1, &["is not empty"]);
    trial
        .run(&format!("cluster create {} --members A,B,A", nowhere.display()))
        .refused(1, &["two members are called A"]);
    trial
        .run(&format!("cluster create {} --members A,B,C,D,E", nowhere.display()))
        .refused(1, &["1 to 4 members"]);
    cluster.down();
}

#[test]
fn a_cluster_whose_making_is_interrupted_leaves_nothing_behind() {
    let trial = Trial::new();
    for after_ms in [0, 20, 50, 100, 200] {
        let words = format!("cluster create {}", trial.path(&format!("after{after_ms}")).display());
        let mut first = trial.lgr(&words).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after_ms));
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&first), Signal::INT);
        let made = first.wait().unwrap().success();
        let again = trial.run(&words);
        assert_eq!(again.code(), Some(i32::from(made)), "after {after_ms} ms: {again}");
    }
}

#[test]
fn a_volume_of_another_cluster_is_not_used() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA");
    let volume = cluster.path("volumes/VMCOM1.dasd");
    let refused = |words: &[&str]| cluster.lgr("member", "MEMBERA").refused(1, words);
    let format = |words: &str| {
        let words = format!("cpfmtxa {} --force --model 50 --label VMCOM1 {words}", volume.display());
        let ended = trial.run(&words);
        assert_eq!(ended.code(), Some(0), "{ended}");
    };
    format("--owner DEMOSSI.NOSYS");
    refused(&["VMCOM1.dasd has no persistent data record"]);
    let formssi = |words: &str| trial.run(&format!("formssi {words}"));
    let made = formssi(&format!("create {} OTHERSSI MEMBERA", volume.display()));
    made.refused(1, &["VMCOM1.dasd belongs to cluster DEMOSSI, not to OTHERSSI"]);
    format("--owner OTHERSSI.NOSYS");
    assert_eq!(formssi(&format!("create {} OTHERSSI MEMBERA", volume.display())).code(), Some(0));
    refused(&["VMCOM1.dasd belongs to OTHERSSI.NOSYS, not to DEMOSSI.MEMBERA"]);
    format("");
    assert_eq!(formssi(&format!("create {} OTHERSSI MEMBERA", volume.display())).code(), Some(0));
    refused(&["VMCOM1.dasd is that of cluster OTHERSSI, not of DEMOSSI"]);
    formssi(&format!("create {} OTHERSSI MEMBERA", volume.display())).refused(1, &["OTHERSSI"]);
    std::fs::write(&volume, "FBA_C370").unwrap();
    refused(&["VMCOM1.dasd", "too few"]);
    std::fs::remove_file(&volume).unwrap();
    refused(&["VMCOM1.dasd", "No such file"]);
    let config = std::fs::read_to_string(cluster.path("system.config")).unwrap();
    std::fs::write(cluster.path("system.config"), config.replace("SLOT 1", "SLOT 5")).unwrap();
    refused(&["system.config", "line 7", "5"]);
}

#[test]
fn hercules_takes_our_volumes() {
    let trial = Trial::new();
    let has_hercules = std::process::Command::new("ckd2cckd").output().is_ok();
    if !has_hercules {
        println!("skipped: ckd2cckd (Debian package hercules) is not installed");
        return;
    }
    let cluster = Cluster::create(&trial, "--members MEMBERA");
    for volume in ["VMCOM1", "M01S01"] {
        let file = cluster.path(&format!("volumes/{volume}.dasd"));
        let ended =
            std::process::Command::new("ckd2cckd").arg(file).arg(trial.path(volume)).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        let checked =
            std::process::Command::new("cckdcdsk").arg("-3").arg(trial.path(volume)).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn the_record_is_moved_while_members_run_and_members_start_with_either_configuration() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let both = "Stable Joined Joined Available Available";
    cluster.said("MEMBERA", "SET SSI PDR_VOLUME USRVL1");
    cluster.wait_for(&NAMES[..2], both);
    let restart = || {
        cluster.said("MEMBERB", "SHUTDOWN");
        cluster.wait_ended("MEMBERB");
        let ended = cluster.lgr("cluster up", "");
        assert_eq!(ended.code(), Some(0), "{ended}");
        let text = cluster.said("MEMBERB", "QUERY SSI");
        assert!(text.contains("(PDR) device: USRVL1 on "), "{text}");
    };
    // The old volume says where the record is.
    restart();
    let path = cluster.path("system.config");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("PDR_VOLUME VMCOM1", "PDR_VOLUME USRVL1")).unwrap();
    restart();
    cluster.wait_for(&NAMES[..2], both);
    cluster.down();
}

#[test]
fn a_second_record_does_not_make_a_second_cluster_of_members_that_are_linked() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    assert_eq!(cluster.lgr("cluster up", "--member MEMBERA").code(), Some(0));
    cluster.said("MEMBERA", "XAUTOLOG LINUX01");
    let volume = cluster.path("volumes/USRVL1.dasd");
    let made = trial.run(&format!("formssi create {} DEMOSSI MEMBERA MEMBERB", volume.display()));
    assert_eq!(made.code(), Some(0), "{made}");
    let path = cluster.path("system.config");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("PDR_VOLUME VMCOM1", "PDR_VOLUME USRVL1")).unwrap();
    cluster.start("MEMBERB");
    // It finds that out before it joins, or soon after, when its link comes up.
    let begun = Instant::now();
    while !cluster.log("MEMBERB").contains("MEMBERA has joined by another persistent data record") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", cluster.log("MEMBERB"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = cluster.cp("MEMBERB", "XAUTOLOG LINUX01");
    assert!(refused.code() == Some(1) && refused.out().contains("SAFE"), "{refused}");
    cluster.said("MEMBERB", "SHUTDOWN");
    cluster.wait_ended("MEMBERB");
    cluster.wait_for(&["MEMBERA"], "Stable Joined Down Available Available");
    std::fs::write(&path, config).unwrap();
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    cluster.down();
}

#[test]
fn a_member_whose_configuration_differs_is_isolated_and_told_why() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    assert_eq!(cluster.lgr("cluster up", "--member MEMBERA").code(), Some(0));
    let path = cluster.path("system.config");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("CP_Owned Slot 10 M01S01", "CP_Owned Slot 12 M01S01")).unwrap();
    let ended = cluster.lgr("cluster up", "--member MEMBERB");
    assert_eq!(ended.code(), Some(1), "{ended}");
    for part in [
        "MEMBERB is isolated",
        "service Configuration",
        "CP_OWNED slot 10",
        "M01S01 on MEMBERA",
        "nothing on MEMBERB",
    ] {
        assert!(ended.words().contains(part), "{ended}");
    }
    cluster.wait_for(&["MEMBERA"], "Stable Joined Isolated Available Available");
    let refused = cluster.cp("MEMBERB", "XAUTOLOG LINUX01");
    assert_eq!(refused.code(), Some(1), "{refused}");
    cluster.said("MEMBERB", "SHUTDOWN");
    cluster.wait_ended("MEMBERB");
    std::fs::write(&path, config).unwrap();
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    cluster.down();
}

#[test]
fn a_new_directory_is_taken_by_all_members_and_a_bad_one_by_none() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA,MEMBERB");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let path = cluster.path("user.direct");
    let source = std::fs::read_to_string(&path).unwrap();
    let directxa = || trial.run(&format!("directxa --cluster {}", cluster.path("").display()));
    std::fs::write(&path, format!("{source}\nUSER NEWUSER SECRET12 1G 1G G\n")).unwrap();
    let ended = directxa();
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(ended.out().contains("serial 2, 11 users, for MEMBERA MEMBERB"), "{ended}");
    for member in ["MEMBERA", "MEMBERB"] {
        let wrong = cluster.cp(member, "LOGON NEWUSER WRONG");
        assert!(wrong.out().starts_with("HCP050E"), "{wrong}");
    }
    assert_eq!(cluster.said("MEMBERB", "LOGON NEWUSER SECRET12"), "LOGON of NEWUSER at MEMBERB");
    std::fs::write(&path, format!("{source}\nUSER LINUX01 TWICE\n")).unwrap();
    let ended = directxa();
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert!(
        ended.words().contains("LINUX01 is there twice") && ended.out().contains("NOT UPDATED"),
        "{ended}"
    );
    // A file that something else has damaged: the directory in use stays.
    for member in ["MEMBERA", "MEMBERB"] {
        std::fs::write(cluster.path(&format!("objects/{member}.directory")), "rubbish").unwrap();
        cluster.said(member, "FORCE NEWUSER");
        cluster.said(member, "XAUTOLOG NEWUSER");
        assert!(cluster.log(member).contains("the directory in use stays"));
        cluster.said(member, "FORCE NEWUSER");
        cluster.said("MEMBERB", "XAUTOLOG NEWUSER");
    }
    let map = trial.run(&format!("diskmap {}", path.display()));
    assert!(map.code() == Some(0) && map.out().contains("LINUX02  0100      51-100"), "{map}");
    cluster.down();
}

#[test]
fn a_console_shows_what_was_told_and_takes_commands() {
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let mut command = trial.lgr(&format!("console MEMBERA --cluster {}", cluster.path("").display()));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut console = command.spawn().unwrap();
    let mut input = console.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"QUERY USERID\n\nXAUTOLOG LINUX01\nFROBNICATE\n").unwrap();
    drop(input);
    let ended = console.wait_with_output().unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "the last command was refused: {text}");
    for part in [
        "HCPPLM1698I The mode of the SSI cluster is STABLE",
        "OPERATOR AT MEMBERA",
        "AUTO LOGON  ***       LINUX01  BY OPERATOR",
        "HCP001E Unknown CP command: FROBNICATE",
    ] {
        assert!(text.contains(part), "{text}");
    }
    cluster.down();
}

#[test]
fn a_control_socket_takes_no_garbage_and_no_flood() {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let trial = Trial::new();
    let cluster = Cluster::create(&trial, "--members MEMBERA");
    assert_eq!(cluster.lgr("cluster up", "").code(), Some(0));
    let path = cluster.path("run/MEMBERA.cp");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    };
    assert!(answer(b"[]\n").contains("not a request"));
    assert!(answer(&[0xFF; 100_000]).contains("a line longer than 8192 bytes"));
    assert!(
        answer(b"{\"command\":{\"user\":\"OPERATOR\",\"text\":\"Q \\u001b[2J\"}}\n")
            .contains("control characters")
    );
    assert_eq!(answer(b"half a line"), "");
    // Listeners that are gone leave nothing behind, though nothing more is told.
    let threads = || {
        let pid = cluster.pid("MEMBERA").unwrap().as_raw_nonzero();
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
    };
    let before = threads();
    for _ in 0..100 {
        let told = answer(b"{\"listen\":{\"history\":1}}\n");
        assert!(told.contains("\"told\""), "{told}");
    }
    let begun = Instant::now();
    while threads() > before + 10 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} threads, {before} before", threads());
    }
    let flood: Vec<UnixStream> = (0..80).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut last = flood.last().unwrap();
    let mut text = [0; 100];
    let len = last.read(&mut text).unwrap();
    assert!(String::from_utf8_lossy(&text[..len]).contains("64 connections are open"), "{text:?}");
    drop(flood);
    let begun = Instant::now();
    while cluster.ssi("MEMBERA").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not recover");
    }
    cluster.down();
}
