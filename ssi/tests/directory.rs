//! USER DIRECT: what is read, what is refused and how, and what a member makes of it.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::select;
use ssi::cluster::Plan;
use ssi::directory::{DiskPassword, HashCost, Object, Password, Scope, UserDirect, Where, maps};
use ssi::service::UserKind;
use ssi::source::{Limits, Source};
use ssi::{ClusterName, SystemName, UserId};

const SAMPLE: &str = include_str!("samples/four.direct");

fn source(text: &str) -> Source {
    Source::new("user.direct", text.as_bytes(), Limits::DIRECTORY).unwrap()
}

fn findings(text: &str) -> Vec<String> {
    let source = source(text);
    let (_, diagnostics) = UserDirect::parse(&source);
    diagnostics.findings(&source).iter().map(|finding| finding.to_string()).collect()
}

fn member(name: &str) -> SystemName {
    SystemName::new(name).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn objects(text: &str) -> Vec<Object> {
    let (directory, _) = UserDirect::parse(&source(text));
    Object::compile(&directory, &[member("MEMBERA"), member("MEMBERB")], 1, HashCost::LEAST).unwrap()
}

#[test]
fn the_sample_and_every_new_clusters_directory_have_nothing_wrong() {
    assert_eq!(findings(SAMPLE), Vec::<String>::new());
    for count in 1..=4 {
        let members = ["MEMBERA", "B", "C", "D"][..count].iter().map(|name| member(name)).collect::<Vec<_>>();
        let plan = Plan::new(ClusterName::new("X").unwrap(), members.clone(), 1).unwrap();
        let text = plan.user_direct(|| "SECRET".to_owned());
        assert_eq!(findings(&text), Vec::<String>::new());
        let (directory, _) = UserDirect::parse(&source(&text));
        assert!(directory.is_ssi() && directory.check_members(&members).is_empty());
    }
}

#[test]
fn a_member_has_the_profile_its_own_statements_and_its_subconfigurations() {
    let [first, second] = objects(SAMPLE).try_into().unwrap();
    let linux = first.find(user("LINUX01")).unwrap();
    assert_eq!((linux.kind, linux.classes.to_string().as_str()), (UserKind::Single, "G"));
    assert_eq!(linux.storage, [Some("1G".to_owned()), Some("4G".to_owned())]);
    assert_eq!(linux.relocation, Some((true, Some(member("NEWER")))));
    assert!(linux.others.contains(&"OPTION CHPIDVIRTUALIZATION ONE".to_owned()));
    assert!(linux.others.contains(&"NICDEF 0600 TYPE QDIO LAN SYSTEM VSW1 MACID 000001".to_owned()));
    let scopes: Vec<Scope> = linux.disks.iter().map(|disk| disk.scope).collect();
    assert_eq!(scopes, [Scope::Global, Scope::Local, Scope::Local, Scope::Global]);
    let volume_of = |object: &Object| {
        let maint = object.find(user("MAINT")).unwrap();
        assert_eq!(maint.kind, UserKind::Multi);
        let own = maint.disks.iter().find(|disk| disk.vdev.0 == 0x191).unwrap();
        assert_eq!(own.scope, Scope::Local);
        match own.at {
            Where::Volume(_, label) => label.unwrap().to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((volume_of(&first), volume_of(&second)), ("M01RES".to_owned(), "M02RES".to_owned()));
    let maint = first.find(user("MAINT")).unwrap();
    let own = maint.disks.iter().find(|disk| disk.vdev.0 == 0x191).unwrap();
    assert!(matches!(own.passwords[..], [DiskPassword::NotNeeded, DiskPassword::Needed(_)]));
}

#[test]
fn who_is_let_in_is_let_in_by_his_password_or_by_another_who_may() {
    let object = &objects(SAMPLE)[0];
    assert!(object.lets_in(user("MAINT"), "password") && !object.lets_in(user("MAINT"), "other"));
    assert!(object.lets_in(user("LINUX01"), "PASSWORD"), "MAINT is in its LOGONBY list");
    assert!(!object.lets_in(user("LINUX01"), "LBYONLY") && !object.lets_in(user("NOBODY"), "password"));
    assert!(!object.lets_in(user("PMAINT"), "NOLOG") && !object.lets_in(user("OPERATNS"), "AUTOONLY"));
    assert_eq!(object.find(user("PMAINT")).unwrap().password, Password::NoLog);
}

#[test]
fn what_is_wrong_is_shown_in_its_place() {
    let one = |text: &str| {
        let found = findings(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found[0].clone()
    };
    for (text, wanted) in [
        ("USER A B\nUSER A B", "user.direct:2:6: error: A is there twice, first as USER"),
        ("USER A B\nIDENTITY A B", "2:10: error: A is there twice"),
        ("IDENTITY A B\n BUILD ON M USING SUBCONFIG C", "2:2: error: there is no SUBCONFIG C"),
        ("SUBCONFIG C", "1:11: warning: no IDENTITY uses SUBCONFIG C"),
        (
            "IDENTITY A B\n BUILD ON M USING SUBCONFIG C\n BUILD ON M USING SUBCONFIG D\nSUBCONFIG C\nSUBCONFIG D",
            "3:2: error: a second BUILD ON M",
        ),
        (
            "IDENTITY A B\n BUILD ON M USING SUBCONFIG C\n BUILD ON N USING SUBCONFIG C\nSUBCONFIG C",
            "3:2: error: SUBCONFIG C is used by A already",
        ),
        (
            "IDENTITY A B\n BUILD ON M USING SUBCONFIG LOGN0123\nSUBCONFIG LOGN0123",
            "LOGN0123 is reserved for CP",
        ),
        (
            "USER A B\n BUILD ON M USING SUBCONFIG C\nIDENTITY D E\n BUILD ON M USING SUBCONFIG C\nSUBCONFIG C",
            "2:2: error: BUILD in USER",
        ),
        ("USER A B\n INCLUDE P", "2:2: error: there is no PROFILE P"),
        ("PROFILE P\nUSER A B\n CLASS G\n INCLUDE P", "4:2: error: INCLUDE is not the first statement"),
        ("USER A B\nPROFILE P", "2:1: error: PROFILE behind USER"),
        ("USER A B\n LINK C 191", "2:2: warning: C is not in this directory"),
        (
            "USER A B\n SPOOL 00C 2540 READER\n CONSOLE C 3215",
            "3:2: error: virtual device 000C is there twice",
        ),
        ("CONSOLE 9 3215", "1:1: error: a CONSOLE statement outside of any entry"),
        ("USER A B\n FROBNICATE X", "2:2: error: 'FROBNICATE' is no statement of a directory"),
        ("USER A B 1X", "1:10: error: '1X' is no storage size"),
        ("USER A B 1G 1G G7", "1:16: error: '7' is no privilege class"),
        ("USER TOOLONGNAME B", "1:6: error: 'TOOLONGNAME': a user id has 1 to 8 characters"),
        ("USER A", "1:7: error: the statement ends too early"),
        ("USER A B\n MDISK 191 3390 1 2 VOLSER1 MR", "2:21: error: 'VOLSER1': a volume label"),
        ("USER A B\n MDISK 191 3390 1 2 VOLSER XR", "2:28: error: 'XR' is no link mode"),
        ("USER A B\n MDISK 191 3390 1 0 VOLSER", "'0' is not how many"),
        ("USER A B\n MDISK 191 3390 1 2 V MR TOOLONGPW", "the password is too long"),
        (
            "USER A B\n MDISK 191 3390 1 10 V MR\nUSER C D\n MDISK 192 3390 10 5 V MR",
            "4:2: error: the minidisk overlaps 1-10 0191 of A on volume V",
        ),
        ("USER A B\n MDISK 191 3390 0 9 V MR", "2:2: warning: the minidisk has cylinder 0"),
        ("USER A B\nDIRECTORY SSI", "2:1: error: a DIRECTORY statement after an entry"),
    ] {
        let found = one(text);
        assert!(found.contains(wanted), "{text}: {found}");
    }
    let (directory, _) = UserDirect::parse(&source(SAMPLE));
    assert_eq!(directory.check_members(&[member("MEMBERA")])[0].message, "no member is called MEMBERB");
}

#[test]
fn a_volume_is_mapped_with_its_gaps_and_overlaps() {
    let (directory, _) = UserDirect::parse_statements(&source(
        "USER A B\n MDISK 1 3390 10 10 V\n MDISK 2 3390 0 END V\nUSER C D\n MDISK 1 3390 15 2 V\n MDISK 2 3390 18 10 V\n MDISK 3 3390 30 END V",
    ));
    let [map] = maps(&directory).try_into().unwrap();
    assert_eq!(map.gaps(), [(0, 9), (28, 29)]);
    let overlaps: Vec<(String, String)> =
        map.overlaps().iter().map(|overlap| (overlap.first.range(), overlap.second.range())).collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(overlaps, [pair("10-19", "15-16"), pair("10-19", "18-27")]);
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z][A-Za-z0-9]{0,7}"
}

fn statement() -> impl Strategy<Value = String> {
    let device = || "[0-9A-Fa-f]{1,4}";
    let size = prop_oneof![
        (0..9_999_u32, 1..999_u32, "[A-Z0-9]{1,6}")
            .prop_map(|(first, count, label)| format!("{first} {count} {label}")),
        (0..9_999_u32).prop_map(|first| format!("{first:05} end &sysres")),
        (1..999_u32).prop_map(|size| format!("T-DISK {size}")),
        (1..999_u32).prop_map(|size| format!("v-disk {size}")),
        device().prop_map(|device| format!("DEVNO {device}")),
    ];
    let mode = select(vec!["", "R", "mr", "MWV", "RR ALL", "MR ALL secret", "W a b c d"]);
    prop_oneof![
        (device(), size, mode).prop_map(|(device, size, mode)| format!("MDISK {device} 3390 {size} {mode}")),
        (name(), device(), proptest::option::of((device(), "(RR|MR)?"))).prop_map(|(user, theirs, mine)| {
            let mine = mine.map(|(mine, mode)| format!("{mine} {mode}")).unwrap_or_default();
            format!("link {user} {theirs} {mine}")
        }),
        (device(), name()).prop_map(|(device, word)| format!("CONS {device} 3215 {word}")),
        (name(), name()).prop_map(|(a, b)| format!("OPTION {a},\n   {b}")),
        proptest::collection::vec(name(), 1..4).prop_map(|users| format!("LOGONBY {}", users.join(" "))),
        "[A-Ga-g]{1,7}".prop_map(|classes| format!("CLASS {classes}")),
        name().prop_map(|domain| format!("VMRELOCATE ON DOMAIN {domain}")),
        name().prop_map(|profile| format!("INCLUDE {profile}")),
        (name(), name()).prop_map(|(member, part)| format!("BUILD ON {member} USING SUBCONFIG {part}")),
    ]
}

fn entry() -> impl Strategy<Value = String> {
    let header = prop_oneof![
        (name(), name(), select(vec!["", "64M", "64M 1G", "1g 2G ABG"]))
            .prop_map(|(user, password, rest)| format!("USER {user} {password} {rest}")),
        (name(), name()).prop_map(|(user, password)| format!("IDENTITY {user} {password}")),
        name().prop_map(|profile| format!("PROFILE {profile}")),
        name().prop_map(|part| format!("SUBCONFIG {part}")),
        Just("GLOBALDEFS".to_owned()),
    ];
    (header, proptest::collection::vec(statement(), 0..6))
        .prop_map(|(header, lines)| format!("{header}\n  {}", lines.join("\n  * a comment\n  ")))
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_the_same(entries in proptest::collection::vec(entry(), 0..6)) {
        let (directory, diagnostics) = UserDirect::parse_statements(&source(&entries.join("\n")));
        prop_assert!(!diagnostics.has_errors(), "{:?}", diagnostics);
        let printed = directory.to_string();
        let (again, diagnostics) = UserDirect::parse_statements(&source(&printed));
        prop_assert!(!diagnostics.has_errors(), "{printed}\n{:?}", diagnostics);
        prop_assert_eq!(directory, again, "{}", printed);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n]{0,300}") {
        let source = source(&text);
        let (directory, diagnostics) = UserDirect::parse(&source);
        let _ = diagnostics.findings(&source);
        let _ = Object::compile(&directory, &[member("M")], 1, HashCost::LEAST);
    }
}
