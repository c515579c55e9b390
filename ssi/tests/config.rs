//! System configuration files: samples that can be used, and what must be refused, by its name and place.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use ssi::config::{Endpoint, Hardware, Statement, SystemConfig};
use ssi::source::{Diagnostics, Limits, Source};
use ssi::{Slot, SystemName};

const LAB: &str = include_str!("samples/lab.config");
const FOUR: &str = include_str!("samples/four.config");
/// Enough for a cluster of two without any warning.
const TWO: &str = "SYSTEM_IDENTIFIER LPAR L1 MEMBERA\nSYSTEM_IDENTIFIER LPAR L2 MEMBERB\n\
    SSI C1 PDR_VOLUME VMCOM1, SLOT 1 MEMBERA, SLOT 2 MEMBERB\nUSER_VOLUME_LIST VMCOM1\n\
    MEMBERA: ACTIVATE ISLINK 500 NODE MEMBERB\nMEMBERB: ACTIVATE ISLINK 500 NODE MEMBERA\n";

fn source(text: &str) -> Source {
    Source::new("SYSTEM CONFIG", text.as_bytes(), Limits::CONFIG).unwrap()
}

fn parse(text: &str) -> (SystemConfig, Diagnostics) {
    SystemConfig::parse(&source(text))
}

fn messages(text: &str) -> Vec<String> {
    parse(text).1.findings(&source(text)).iter().map(ToString::to_string).collect()
}

fn name(text: &str) -> SystemName {
    SystemName::new(text).unwrap()
}

/// The only thing said about the file, and where.
#[track_caller]
fn refused(text: &str, line: usize, place: &str, message: &str) {
    let (_, diagnostics) = parse(text);
    let findings = diagnostics.findings(&source(text));
    assert!(diagnostics.has_errors(), "{findings:?}");
    let found = findings.iter().any(|finding| {
        (finding.line, finding.text.as_str()) == (line, place) && finding.message.contains(message)
    });
    assert!(found, "no '{message}' at line {line}, '{place}' in {findings:#?}");
}

#[test]
fn the_samples_can_be_used() {
    assert_eq!(messages(LAB), Vec::<String>::new());
    assert_eq!(messages(FOUR), Vec::<String>::new());
    assert_eq!(messages(TWO), Vec::<String>::new());
}

#[test]
fn a_lab_member_has_what_its_file_says() {
    let (config, _) = parse(LAB);
    let member = config.identify(&Hardware { lpar: "ANY".into(), ..Hardware::default() }).unwrap();
    let effective = config.for_member(member);
    assert_eq!(effective.slot(), Slot::new(1));
    assert_eq!(effective.ssi.as_ref().unwrap().name.as_str(), "CLUSTER1");
    let checkpoint = effective.system_residence.checkpoint.as_ref().unwrap();
    assert_eq!((checkpoint.volume.as_str(), checkpoint.from, checkpoint.len), ("M01RES", 21, 9));
    assert_eq!(effective.cp_owned.keys().copied().collect::<Vec<_>>(), [1, 5, 10, 255]);
    assert_eq!(effective.features.enabled, ["AUTO_WARM_IPL", "CLEAR_TDISK"]);
    assert_eq!(effective.features.disabled, ["SET_PRIVCLASS"]);
    assert_eq!(effective.features.settings.len(), 7);
    assert_eq!(effective.kept, ["EMERGENCY_MESSAGE_CONSOLES", "TOLERATE_CONFIG_ERRORS"]);
    for (volume, is_attached) in [("LNX001", true), ("VMCOM2", true), ("M01P01", true), ("XXX001", false)] {
        assert_eq!(effective.attaches(ssi::VolumeLabel::new(volume).unwrap()), is_attached, "{volume}");
    }
}

#[test]
fn qualifiers_blocks_and_groups_say_for_whom_a_statement_is() {
    let (config, _) = parse(FOUR);
    let slots = |member: &str| config.for_member(name(member)).cp_owned.keys().copied().collect::<Vec<_>>();
    assert_eq!(slots("MEMBERA"), [10, 11, 254, 255]);
    assert_eq!(slots("MEMBERB"), [10, 11, 255]);
    assert_eq!(slots("MEMBERC"), [10, 11, 253]);
    let a = config.for_member(name("MEMBERA"));
    assert_eq!(a.mac_prefix().unwrap().to_string(), "02000A");
    assert_eq!(config.for_member(name("MEMBERC")).mac_prefix().unwrap().to_string(), "020003");
    let partners: Vec<_> =
        a.links.iter().map(|link| (link.partner.as_str().to_owned(), link.devices.len())).collect();
    assert_eq!(partners, [("MEMBERB".to_owned(), 2), ("MEMBERC".to_owned(), 2), ("MEMBERD".to_owned(), 1)]);
    let both = "A*: BEGIN\n *B: SAY 'x'\nEND\n".to_owned() + "SYSTEM_IDENTIFIER_DEFAULT AB";
    let (config, _) = parse(&both);
    let kept = |member: &str| config.for_member(name(member)).kept.len();
    assert_eq!((kept("AB"), kept("AC"), kept("BB")), (1, 0, 0));
}

#[test]
fn without_endpoints_members_meet_in_the_directory_of_the_cluster() {
    let (config, _) = parse(FOUR);
    let a = config.for_member(name("MEMBERA"));
    assert_eq!(a.listens_at, [Endpoint::default_of(name("MEMBERA"))]);
    assert_eq!(a.places_of(name("MEMBERB")), [Endpoint::Unix("MEMBERB.islink".into())]);
}

#[test]
fn endpoints_put_a_cluster_on_several_machines() {
    let text = TWO.to_owned()
        + "ISLINK_ENDPOINT * MEMBERA tcp:10.0.0.1:7001\nISLINK_ENDPOINT * MEMBERB tcp:10.0.0.2:7001\n\
           ISLINK_ENDPOINT 600-603 MEMBERB 'shm:/run/a b'\nMEMBERA: ACTIVATE ISLINK 600\n\
           MEMBERB: ACTIVATE ISLINK 600 NODE MEMBERA";
    assert_eq!(messages(&text), Vec::<String>::new());
    let (config, _) = parse(&text);
    let a = config.for_member(name("MEMBERA"));
    let places: Vec<_> = a.links[0].devices.values().map(ToString::to_string).collect();
    assert_eq!(places, ["tcp:10.0.0.2:7001", "shm:/run/a b"]);
    assert_eq!(a.listens_at.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tcp:10.0.0.1:7001"]);
    assert_eq!(config.for_member(name("MEMBERB")).listens_at.len(), 2);
}

#[test]
fn two_members_of_one_name_are_refused() {
    let text = TWO.replace("SLOT 2 MEMBERB", "SLOT 2 MEMBERA");
    refused(&text, 3, "MEMBERA", "two members are called MEMBERA");
}

#[test]
fn a_fifth_slot_is_refused() {
    refused(&TWO.replace("SLOT 2", "SLOT 5"), 3, "5", "'5' is no slot");
    refused(&TWO.replace("SLOT 2", "SLOT 1"), 3, "1", "slot 1 is named twice");
}

#[test]
fn a_pdr_volume_that_is_in_no_list_is_refused() {
    let text = TWO.replace("LIST VMCOM1", "LIST VMCOM2");
    refused(&text, 3, "VMCOM1", "PDR volume VMCOM1 is in no volume list of MEMBERA");
    refused(&TWO.replace("USER_VOL", "MEMBERA: USER_VOL"), 3, "VMCOM1", "no volume list of MEMBERB");
}

#[test]
fn the_system_needs_a_name_before_the_cluster() {
    let text = "SSI C1 PDR_VOLUME V SLOT 1 A\nSYSTEM_IDENTIFIER_DEFAULT A\nUSER_VOLUME_LIST V";
    refused(text, 1, "SSI C1 PDR_VOLUME V SLOT 1 A", "before the system's name is known");
    refused("SSI C1 SLOT 1 A", 1, "SSI C1 SLOT 1 A", "what the system is called");
    refused(
        &(TWO.to_owned() + "SYSTEM_IDENTIFIER LPAR L3 MEMBERX"),
        7,
        "MEMBERX",
        "in no slot of cluster C1",
    );
    refused(
        &(TWO.to_owned() + "SSI C2 SLOT 1 MEMBERA"),
        7,
        "SSI C2 SLOT 1 MEMBERA",
        "a second SSI statement",
    );
}

#[test]
fn unknown_words_are_errors_with_their_place() {
    refused(&(TWO.to_owned() + "SLOTS 1"), 7, "SLOTS", "no statement has this name");
    refused(&(TWO.to_owned() + "DEFINE THING X"), 7, "THING", "no statement has this name");
    refused(&(TWO.to_owned() + "FEATURES ENABLE FLYING"), 7, "FLYING", "no feature is called");
    refused(&(TWO.to_owned() + "CP_OWNED SLOT 256 X"), 7, "256", "is not a slot of the CP-owned list");
    refused(&(TWO.to_owned() + "CP_OWNED SLOT 20 X y"), 7, "y", "'y' is not known here");
    refused(&(TWO.to_owned() + "SYSTEM_RESIDENCE CHECKPOINT"), 7, "", "ends too early");
    refused(&(TWO.to_owned() + "MEMBERA:"), 7, "MEMBERA:", "a qualifier without a statement");
    refused(&(TWO.to_owned() + "MEMBERA: BEGIN"), 7, "BEGIN", "the block is not closed");
    refused(&(TWO.to_owned() + "MEMBERA: BEGIN\nMEMBERB: END"), 8, "END", "not the block that is open");
    refused(&(TWO.to_owned() + "END"), 7, "END", "no block is open");
    refused(&(TWO.to_owned() + "BEGIN"), 7, "BEGIN", "a block for nobody");
}

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let text = "SYSTEM_IDENTIFIER * *\nCP_OWNED SLOT x V\nFOO\nSSI C1 SLOT 9 A\n";
    let lines: Vec<_> = parse(text).1.findings(&source(text)).iter().map(|finding| finding.line).collect();
    assert_eq!(lines[..4], [1, 2, 3, 4]);
}

#[test]
fn links_that_cannot_be_are_refused_and_missing_ones_are_told() {
    refused(&(TWO.to_owned() + "MEMBERA: ACTIVATE ISLINK 500 NODE MEMBERB"), 7, "500", "is a duplicate");
    refused(&(TWO.to_owned() + "MEMBERA: ACTIVATE ISLINK 600-610"), 7, "600-610", "more than 16 devices");
    refused(&(TWO.to_owned() + "MEMBERA: ACTIVATE ISLINK 600"), 7, "600", "nothing says where");
    refused(
        &(TWO.to_owned() + "MEMBERA: ACTIVATE ISLINK 600 NODE MEMBERA"),
        7,
        "600",
        "leads to MEMBERA itself",
    );
    let text = TWO.to_owned() + "MEMBERA: ACTIVATE ISLINK 501-510 NODE MEMBERB\n";
    refused(&text, 7, "501-510", "has 17 devices");
    let missing =
        messages(&TWO.replace("MEMBERB: ACT", "MEMBERA: ACT").replace("NODE MEMBERA", "NODE MEMBERB"));
    assert!(
        missing.iter().any(|message| message.contains("MEMBERA and MEMBERB have no link")),
        "{missing:?}"
    );
    let text = TWO.to_owned() + "ISLINK_ENDPOINT 1-5 MEMBERA unix:a\nISLINK_ENDPOINT 5 MEMBERA unix:b";
    refused(&text, 8, "ISLINK_ENDPOINT 5 MEMBERA unix:b", "another statement says where");
}

#[test]
fn spool_volumes_have_the_same_slot_everywhere() {
    let text = TWO.to_owned() + "MEMBERA: CP_OWNED SLOT 10 S1\nMEMBERB: CP_OWNED SLOT 11 S1\n";
    refused(&text, 8, "CP_OWNED SLOT 11 S1", "CP_OWNED volume S1: slot 10 on MEMBERA, slot 11 on MEMBERB");
    let page = TWO.to_owned() + "MEMBERA: CP_OWNED SLOT 255 P1\nMEMBERB: CP_OWNED SLOT 255 P2\n";
    assert_eq!(messages(&page), Vec::<String>::new());
    refused(&(TWO.to_owned() + "CP_OWNED SLOT 1 A\nCP_OWNED SLOT 1 B"), 8, "1", "is named twice");
    refused(&(TWO.to_owned() + "CP_OWNED SLOT 1 A\nCP_OWNED SLOT 2 A"), 8, "A", "in slot 1 of MEMBERA, too");
}

#[test]
fn switches_domains_and_mac_prefixes_are_checked() {
    refused(&(TWO.to_owned() + "MODIFY VSWITCH V1 GRANT U"), 7, "V1", "not defined before");
    refused(&(TWO.to_owned() + "DEFINE VSWITCH V\nDEFINE VSWITCH V"), 8, "V", "defined twice");
    refused(&(TWO.to_owned() + "RELOCATION_DOMAIN SSI MEMBERS MEMBERA"), 7, "SSI", "exists already");
    refused(&(TWO.to_owned() + "RELOCATION_DOMAIN D MEMBERS MEMBERX"), 7, "MEMBERX", "not a member");
    refused(&(TWO.to_owned() + "VMLAN MACPREFIX 020000"), 7, "020000", "are both 020000");
    refused(&(TWO.to_owned() + "VMLAN MACPREFIX 020009"), 7, "VMLAN MACPREFIX 020009", "020009 on both");
    refused(&(TWO.to_owned() + "VMLAN MACPREFIX 010000"), 7, "010000", "no prefix of locally administered");
    refused(
        &(TWO.to_owned() + "MEMBERA: VMLAN USERPREFIX 0A0000"),
        7,
        "VMLAN USERPREFIX 0A0000",
        "USERPREFIX: 0A0000 on",
    );
}

#[test]
fn what_differs_at_join_is_named() {
    let of = |text: &str, member: &str| parse(text).0.for_member(name(member));
    let (a, b) = (of(FOUR, "MEMBERA"), of(FOUR, "MEMBERB"));
    assert_eq!(a.differences(&b), Vec::<String>::new());
    assert_eq!(a.shared_digest(), b.shared_digest());
    let changed =
        FOUR.replace("SLOT 4 MEMBERD", "SLOT 4 AVAILABLE").replace("Slot 11 M02S01", "Slot 11 M02S02");
    let b = of(&changed, "MEMBERB");
    assert_ne!(a.shared_digest(), b.shared_digest());
    assert_eq!(
        a.differences(&b),
        [
            "CP_OWNED slot 11: M02S01 on MEMBERA, M02S02 on MEMBERB",
            "slot 4: MEMBERD on MEMBERA, AVAILABLE on MEMBERB"
        ]
    );
}

#[test]
fn what_is_written_reads_back_the_same() {
    for text in [LAB, FOUR, TWO] {
        let (config, _) = parse(text);
        let (again, diagnostics) = parse(&config.to_string());
        assert!(diagnostics.is_empty(), "{config}\n{diagnostics:?}");
        assert_eq!(again, config);
        assert!(config.to_string().lines().all(|line| line.len() <= 72), "{config}");
    }
    let (config, _) = parse(FOUR);
    assert!(config.records().iter().any(|record| matches!(record.statement, Statement::Equate(_))));
}
