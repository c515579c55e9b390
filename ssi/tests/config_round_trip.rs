//! Whatever statements a file holds: what is written after reading reads back the same.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::select;
use ssi::config::SystemConfig;
use ssi::source::{Limits, Source};

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9]{0,7}"
}

fn volume() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9]{1,6}"
}

fn device() -> impl Strategy<Value = String> {
    "[0-9a-fA-F]{1,4}"
}

fn range() -> impl Strategy<Value = String> {
    (0..=u16::MAX, 0u16..16)
        .prop_map(|(first, more)| format!("{first:04x}-{:04X}", first.saturating_add(more)))
}

fn many(one: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = String> {
    (proptest::collection::vec(one, 1..=most), select(vec![" ", "  ", ", ", ",", " ,\n  ", " /* , */ "]))
        .prop_map(|(words, between)| words.join(between))
}

fn optional(one: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::option::of(one).prop_map(Option::unwrap_or_default)
}

fn cluster() -> impl Strategy<Value = String> {
    let slot = (1..=4u8, prop_oneof![name(), Just("AVAILABLE".to_owned())])
        .prop_map(|(slot, member)| format!("SLOT {slot} {member}"));
    let pdr = prop_oneof![
        volume().prop_map(|volume| format!("PDR_Volume {volume}")),
        Just("pdr_vol &sysparm".into())
    ];
    (name(), optional(pdr), many(slot, 5)).prop_map(|(name, pdr, slots)| format!("SSI {name} {pdr} {slots}"))
}

fn links() -> impl Strategy<Value = String> {
    let endpoint = prop_oneof![
        (name(), 1..=u16::MAX).prop_map(|(host, port)| format!("tcp:{host}:{port}")),
        "(unix|SHM):[a-z/]{1,20}",
        "'(unix|shm):[a-zA-Z ,\"]{0,8}x'",
    ];
    let devices = proptest::collection::btree_set(0..=u16::MAX, 1..=16)
        .prop_map(|devices| devices.iter().map(|device| format!("{device:X}")).collect::<Vec<_>>().join(" "));
    prop_oneof![
        (devices, optional(name().prop_map(|node| format!("NODE {node} BU 7"))))
            .prop_map(|(devices, node)| format!("ACTIVATE islink {devices} {node}")),
        (prop_oneof![Just("*".to_owned()), device(), range()], name(), endpoint)
            .prop_map(|(devices, member, endpoint)| format!("ISLINK_ENDPOINT {devices} {member} {endpoint}")),
    ]
}

fn volumes() -> impl Strategy<Value = String> {
    let area = |kind: &'static str| {
        (volume(), any::<u32>(), 1..=u32::MAX, select(vec!["", "CYL", "PAGE"]))
            .prop_map(move |(label, from, len, unit)| format!("{kind} {label} FROM {unit} {from} FOR {len}"))
    };
    prop_oneof![
        many(volume(), 20).prop_map(|list| format!("USER_VOL_LIST {list}")),
        many("[a-z0-9*%]{1,8}", 20).prop_map(|list| format!("User_Volume_Include {list}")),
        many("[a-z0-9*%]{1,8}", 20).prop_map(|list| format!("User_Volume_Exclude {list}")),
        (1..=255u8, volume(), select(vec!["", "OWN", "SHARED"]))
            .prop_map(|(slot, label, share)| format!("CP_OWNED SLOT {slot} {label} {share}")),
        (1..=255u8).prop_map(|slot| format!("CP_OWNED SLOT {slot} RESERVED")),
        (area("CHECKPOINT VOLID"), area("WARMSTART"))
            .prop_map(|(one, two)| format!("SYSTEM_RES {one}, {two}")),
    ]
}

fn network() -> impl Strategy<Value = String> {
    let vlan = || {
        prop_oneof![
            Just("AWARE".to_owned()),
            Just("unaware".to_owned()),
            (1..=4094u16).prop_map(|id| id.to_string())
        ]
    };
    let uplink = (device(), 0..=99u8).prop_map(|(device, port)| format!("{device}.P{port:02}"));
    let grant = (name(), many((1..=4094u16).prop_map(|id| id.to_string()), 9), any::<bool>()).prop_map(
        |(user, vlans, seen)| format!("GRANT {user} VLAN {vlans} {}", if seen { "PROM" } else { "" }),
    );
    prop_oneof![
        (name(), many(uplink, 3), vlan(), select(vec!["IP", "ETH", "ETHERNET PORTTYPE trunk CONTROLLER *"]))
            .prop_map(|(name, uplinks, vlan, more)| format!("DEF VSWITCH {name} RDEV {uplinks} VLAN {vlan} {more}")),
        (name(), grant).prop_map(|(name, grant)| format!("MODIFY VSWITCH {name} {grant}")),
        (0..=0xffffu32, 0..=0xffffu32, 0..=0xff_ffffu32).prop_map(|(mac, user, id)| {
            format!("VMLAN MACPREFIX 02{mac:04x} USERPREFIX 0A{user:04X} MACIDRANGE SYSTEM 000000-{id:06x} MACPROT ON")
        }),
        (many(range(), 5), name(), select(vec!["TYPE OSA", "TYP FCP MDC OFF", ""]))
            .prop_map(|(devices, eqid, more)| format!("RDEVICE {devices} EQID {eqid} {more}")),
    ]
}

fn other() -> impl Strategy<Value = String> {
    let word = || prop_oneof![5 => "[!#-&(-+.;-~-]{1,12}", 1 => "'[ -&(-~]{0,12}'"];
    let system = prop_oneof![name().prop_map(|lpar| format!("LPAR {lpar}")), Just("* *".to_owned())];
    prop_oneof![
        (system, name()).prop_map(|(machine, name)| format!("SYSTEM_IDENTIFIER {machine} {name}")),
        name().prop_map(|name| format!("SYSTEM_ID_DEF {name}")),
        (name(), many("[a-z*]{1,8}", 9)).prop_map(|(name, list)| format!("EQUATE {name} {list}")),
        name().prop_map(|name| format!("RELOCATION_DOMAIN {name} MEMBERS A B MEMBERC")),
        select(vec![
            "FEATURES ENABLE AUTO_WARM_IPL DISABLE CLEAR_TD, STP_TZ VDISK USERLIM 12 BLOCKS MAXUSERS NOLIMIT"
        ])
        .prop_map(str::to_owned),
        ("[A-Z0-9]{1,8}", "[ -&(-~]{0,40}")
            .prop_map(|(id, text)| format!("PRODUCT PRODID {id} DESC '{text}'")),
        many(device(), 9).prop_map(|devices| format!("OPERATOR_CONSOLES {devices} System_3270")),
        (select(vec!["SAY", "Timezone_Definition", "DEFINE LAN", "xlink_volume_include"]), many(word(), 12))
            .prop_map(|(name, words)| format!("{name} {words}")),
    ]
}

fn file() -> impl Strategy<Value = String> {
    let statement = || prop_oneof![cluster(), links(), volumes(), network(), other()];
    let qualifier = || many("[a-z*]{1,7}:", 3).prop_map(|names| names.replace([','], " ").replace('\n', " "));
    let line = || {
        (optional(qualifier()), statement()).prop_map(|(scope, statement)| format!("{scope} {statement}\n"))
    };
    let block = (qualifier(), proptest::collection::vec(line(), 0..4))
        .prop_map(|(scope, lines)| format!("{scope} BEGIN /* x */\n{}END\n", lines.concat()));
    proptest::collection::vec(prop_oneof![4 => line(), 1 => block], 0..10).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_after_reading_reads_back_the_same(text in file()) {
        let read = |text: &str| {
            let source = Source::new("f", text.as_bytes(), Limits::CONFIG).unwrap();
            let (config, diagnostics) = SystemConfig::parse_statements(&source);
            (config, diagnostics.findings(&source))
        };
        let (config, findings) = read(&text);
        prop_assert!(findings.is_empty(), "{text}\n{findings:#?}");
        let written = config.to_string();
        let (again, findings) = read(&written);
        prop_assert!(findings.is_empty(), "{written}\n{findings:#?}");
        prop_assert_eq!(&again, &config, "{}", written);
        // The checks take whatever can be read.
        config.check();
        for member in config.members() {
            config.for_member(member).shared_digest();
        }
    }
}
