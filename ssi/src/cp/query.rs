//! QUERY.

use serde::Serialize;

use super::words::Words;
use super::{Classes, Command, Cp, Issuer, Outcome, Refusal, Response, islink};
use crate::config::statement::Owned;
use crate::member::{MemberState, WhyDown};
use crate::name::{Slot, SystemName, UserId};
use crate::node::{self, Snapshot, Stamp};
use crate::service::UserKind;

/// A member that is well looks at the cluster more often than that.
const AGE_MS_MAX: u64 = 2_000;

/// What can be queried.
pub(super) static QUERIES: [Command; 6] = [
    Command {
        name: "CPLEVEL",
        classes: Classes::ANY,
        syntax: "Query CPLEVEL",
        help: "Shows the version of this program, and when this member started.",
        parts: &[],
        run: |cp, _, words| cp_level(cp, words),
    },
    Command {
        name: "CPOWNed",
        classes: Classes::of("B"),
        syntax: "Query CPOWNed",
        help: "Shows the CP-owned list, and whether each volume can be had.",
        parts: &[],
        run: |cp, _, words| cp_owned(cp, words),
    },
    Command {
        name: "ISLINK",
        classes: Classes::of("B"),
        syntax: "Query ISLINK [rdev]",
        help: "Shows the logical links to the other members, device by device.",
        parts: &[],
        run: |cp, _, words| islink::query(cp, words),
    },
    Command {
        name: "NAmes",
        classes: Classes::ANY,
        syntax: "Query NAmes [AT {ALL | member}]",
        help: "Shows who is logged on: here, and single-configuration users anywhere; or all at one member, or at each.",
        parts: &[],
        run: names,
    },
    Command {
        name: "SSI",
        classes: Classes::of("BE"),
        syntax: "Query SSI",
        help: "Shows the cluster: its mode, its members and their states, and their last heartbeats.",
        parts: &[],
        run: |cp, _, words| ssi(cp, words),
    },
    Command {
        name: "USERID",
        classes: Classes::ANY,
        syntax: "Query USERID",
        help: "Shows who asks, and at which member.",
        parts: &[],
        run: userid,
    },
];

pub(super) fn run(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let name = words.next().ok_or_else(|| Refusal::new(26, "Operand missing or invalid"))?;
    let unknown = || Refusal::new(3, format!("Invalid option - {name}"));
    let query = Command::find(&QUERIES, name, issuer).ok_or_else(unknown)?;
    (query.run)(cp, issuer, words)
}

fn userid(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    words.end()?;
    let data = serde_json::json!({ "user": issuer.user, "member": cp.member() });
    Ok(Response::line(format!("{} AT {}", issuer.user, cp.member())).with_data(&data))
}

/// `QUERY SSI` as data.
#[derive(Serialize)]
struct SsiData {
    name: String,
    mode: String,
    timeouts: bool,
    pdr_volume: String,
    pdr_device: String,
    slots: Vec<SlotData>,
    waits_for: Option<String>,
    /// How old all of this is.
    age_ms: u64,
}

#[derive(Serialize)]
struct SlotData {
    slot: Slot,
    system: Option<SystemName>,
    state: String,
    why_down: Option<&'static str>,
    pdr_heartbeat: Option<String>,
    received_heartbeat: Option<String>,
}

fn ssi(cp: &Cp, words: &mut Words<'_>) -> Outcome {
    words.end()?;
    let Some(ssi) = &cp.effective.ssi else {
        return Ok(Response::line("This system is not a member of an SSI cluster."));
    };
    let snapshot = cp.handle.snapshot()?;
    let pdr_volume = snapshot.record_volume.map_or_else(|| "------".to_owned(), |label| label.to_string());
    let data = SsiData {
        name: ssi.name.to_string(),
        mode: snapshot.mode.to_string(),
        timeouts: snapshot.record.is_none_or(|record| record.timeouts),
        pdr_volume,
        pdr_device: device(cp, &snapshot),
        slots: Slot::all().map(|slot| slot_data(cp, &snapshot, slot)).collect(),
        waits_for: snapshot.waits_for.clone(),
        age_ms: snapshot.age_ms,
    };
    let mut lines = vec![
        format!("SSI Name: {}", data.name),
        format!("SSI Mode: {}", data.mode),
        format!("Cross-System Timeouts: {}", if data.timeouts { "Enabled" } else { "Disabled" }),
        format!("SSI Persistent Data Record (PDR) device: {} on {}", data.pdr_volume, data.pdr_device),
        "SLOT SYSTEMID STATE     PDR HEARTBEAT       RECEIVED HEARTBEAT".to_owned(),
    ];
    lines.extend(data.slots.iter().map(slot_line));
    lines.extend(data.waits_for.iter().map(|what| format!("{} waits {what}", cp.member())));
    if data.age_ms > AGE_MS_MAX {
        lines.push(format!(
            "This was so {} s ago; the member has looked at nothing since.",
            data.age_ms / 1_000
        ));
    }
    Ok(Response::lines(lines).with_data(&data))
}

/// The device that the PDR's volume is on; a volume that the configuration does not list is on none.
fn device(cp: &Cp, snapshot: &Snapshot) -> String {
    let device = snapshot.record_volume.and_then(|label| cp.effective.volume_devices.get(&label));
    device.map_or_else(|| "----".to_owned(), ToString::to_string)
}

fn slot_data(cp: &Cp, snapshot: &Snapshot, slot: Slot) -> SlotData {
    let system = cp.member_in(slot);
    let state = snapshot.state(slot);
    let is_down = matches!(state, MemberState::Down);
    let entry = snapshot.record.map(|record| *record.entry(slot));
    let stamp = |time: Option<std::time::SystemTime>| {
        time.filter(|_| !is_down && system.is_some()).map(|time| Stamp::from(time).short())
    };
    let pdr_heartbeat = stamp(snapshot.stamps.systems[slot.index()].heartbeat);
    let received = if slot == snapshot.slot {
        pdr_heartbeat.clone()
    } else {
        stamp(snapshot.received_heartbeats[slot.index()])
    };
    SlotData {
        slot,
        system,
        state: if system.is_some() { state.to_string() } else { "Available".to_owned() },
        why_down: entry.filter(|_| is_down && system.is_some()).map(|entry| why(entry.why)),
        pdr_heartbeat,
        received_heartbeat: received,
    }
}

fn why(why: WhyDown) -> &'static str {
    match why {
        WhyDown::Undetermined => "not IPLed",
        WhyDown::Left => "shut down successfully",
        WhyDown::Stopped => "shut down abnormally",
        WhyDown::Declared => "declared down",
    }
}

fn slot_line(data: &SlotData) -> String {
    let Some(system) = data.system else { return format!("{:>4} -------- Available", data.slot) };
    if let Some(why) = data.why_down {
        return format!("{:>4} {system:<8} {} ({why})", data.slot, data.state);
    }
    if data.pdr_heartbeat.is_none() && data.received_heartbeat.is_none() {
        return format!("{:>4} {system:<8} {}", data.slot, data.state);
    }
    let none = "--/--/-- --:--:--".to_owned();
    let pdr = data.pdr_heartbeat.as_ref().unwrap_or(&none);
    let received = data.received_heartbeat.as_ref().unwrap_or(&none);
    format!("{:>4} {system:<8} {:<9} {pdr}   {received}", data.slot, data.state)
}

fn cp_owned(cp: &Cp, words: &mut Words<'_>) -> Outcome {
    #[derive(Serialize)]
    struct Row {
        slot: u8,
        volume: Option<String>,
        device: Option<String>,
        status: &'static str,
        why: Option<String>,
    }
    words.end()?;
    let row = |slot: u8, owned: Owned| {
        let Owned::Volume(label) = owned else {
            return Row { slot, volume: None, device: None, status: "Reserved", why: None };
        };
        let why = node::attach(&cp.dir, &cp.effective, label).err().map(|error| error.to_string());
        Row {
            slot,
            volume: Some(label.to_string()),
            device: cp.effective.volume_devices.get(&label).map(ToString::to_string),
            status: if why.is_none() { "Online and attached" } else { "Offline" },
            why,
        }
    };
    let owned = cp.effective.cp_owned.iter();
    let rows: Vec<Row> = owned.map(|(slot, volume)| row(*slot, volume.owned)).collect();
    let mut lines = vec!["Slot  Vol-ID  Rdev  Type   Status".to_owned()];
    lines.extend(rows.iter().map(|row| {
        let volume = row.volume.as_deref().unwrap_or("------");
        let device = row.device.as_deref().unwrap_or("----");
        format!("{:>4}  {volume:<6}  {device}  Own    {}", row.slot, row.status)
    }));
    Ok(Response::lines(lines).with_data(&rows))
}

fn cp_level(cp: &Cp, words: &mut Words<'_>) -> Outcome {
    words.end()?;
    let (version, started) = (env!("CARGO_PKG_VERSION"), Stamp::from(cp.started));
    let level = crate::member::LEVEL;
    let lines = vec![
        format!("LGR Version {version}, SSI protocol level {level}, {}", std::env::consts::ARCH),
        format!("IPL at {} UTC", started.short()),
    ];
    Ok(Response::lines(lines).with_data(&serde_json::json!({
        "version": version, "level": level, "started": started.to_string()
    })))
}

// NAMES.

/// A user in the list.
#[derive(Serialize)]
struct Name {
    user: UserId,
    member: SystemName,
    /// `DSC`: disconnected; `SSI`: on another member.
    at: &'static str,
}

fn names(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    if !words.accept("AT") {
        words.end()?;
        let names: Vec<Name> = here(cp)?.into_iter().chain(elsewhere(cp)?).collect();
        return Ok(Response::lines(table(&names)).with_data(&names));
    }
    if words.accept("ALL") {
        words.end()?;
        return Ok(names_everywhere(cp, issuer));
    }
    let member: SystemName = words.value("ALL or a member's name")?;
    words.end()?;
    names_at(cp, issuer, member)
}

fn here(cp: &Cp) -> Result<Vec<Name>, Refusal> {
    let users = cp.handle.snapshot()?.users;
    Ok(users
        .into_iter()
        .map(|(user, _): (UserId, UserKind)| Name { user, member: cp.member(), at: "DSC" })
        .collect())
}

fn elsewhere(cp: &Cp) -> Result<Vec<Name>, Refusal> {
    let users = cp.handle.snapshot()?.users_elsewhere;
    let name = |(user, slot)| Some(Name { user, member: cp.member_in(slot)?, at: "SSI" });
    Ok(users.into_iter().filter_map(name).collect())
}

/// Four to a line, as CP has it.
fn table(names: &[Name]) -> Vec<String> {
    let entry = |name: &Name| match name.at {
        "SSI" => format!("{:<8} -SSI ", name.user),
        at => format!("{:<8} - {at:<4}", name.user),
    };
    let entries: Vec<String> = names.iter().map(entry).collect();
    entries.chunks(4).map(|four| four.join(", ").trim_end().to_owned()).collect()
}

fn names_at(cp: &Cp, issuer: &Issuer, member: SystemName) -> Outcome {
    if member != cp.member() {
        return super::at::call(cp, issuer, member, &format!("QUERY NAMES AT {member}"));
    }
    let names = here(cp)?;
    let lines = table(&names).into_iter().map(|line| format!("{member:<8} : {line}")).collect();
    Ok(Response::lines(lines).with_data(&names))
}

fn names_everywhere(cp: &Cp, issuer: &Issuer) -> Response {
    let (mut lines, mut data) = (Vec::new(), Vec::new());
    for member in cp.effective.ssi.iter().flat_map(|ssi| ssi.members()).map(|(_, member)| member) {
        match names_at(cp, issuer, member) {
            Ok(response) => {
                lines.extend(response.lines);
                data.extend(
                    serde_json::from_str::<Vec<serde_json::Value>>(&response.data).unwrap_or_default(),
                );
            }
            Err(refusal) => lines.push(format!("{member:<8} : ({})", refusal.text)),
        }
    }
    Response::lines(lines).with_data(&data)
}
