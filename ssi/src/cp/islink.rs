//! ACTIVATE, DEACTIVATE and QUERY ISLINK.

use isfc::islink::Islink;
use serde::Serialize;

use super::words::Words;
use super::{Cp, Issuer, Outcome, Refusal, Response};
use crate::name::SystemName;
use crate::node::{DeviceRefused, Peer};
use crate::source::DeviceNumber;

pub(super) fn activate(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    change(cp, issuer, words, "activated", Peer::activate)
}

pub(super) fn deactivate(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    change(cp, issuer, words, "deactivated", Peer::deactivate)
}

fn change(
    cp: &Cp,
    issuer: &Issuer,
    words: &mut Words<'_>,
    done: &str,
    act: fn(&Peer, DeviceNumber) -> Result<(), DeviceRefused>,
) -> Outcome {
    if !words.accept("ISLINK") {
        return Err(Refusal::new(3, format!("Invalid option - {}", words.rest())));
    }
    let mut devices: Vec<DeviceNumber> = vec![words.value("a real device number")?];
    while !words.is_empty() {
        devices.push(words.value("a real device number")?);
    }
    let unknown = |device: &DeviceNumber| Refusal::new(40, format!("Device {device} does not exist"));
    for device in &devices {
        cp.mesh.peer_of(*device).ok_or_else(|| unknown(device))?;
    }
    let mut lines = Vec::new();
    for device in devices {
        let peer = cp.mesh.peer_of(device).ok_or_else(|| unknown(&device))?;
        act(peer, device).map_err(|why| Refusal::plain(why.0))?;
        cp.console.tell(&format!("Link device {device} to {} {done} by user {}", peer.name(), issuer.user));
        lines.push(format!("Link {device} {done}."));
    }
    Ok(Response::lines(lines))
}

#[derive(Serialize)]
struct Row {
    partner: SystemName,
    devices: Vec<DeviceNumber>,
    inactive: Vec<DeviceNumber>,
    link: Option<Islink>,
}

pub(super) fn query(cp: &Cp, words: &mut Words<'_>) -> Outcome {
    let device: Option<DeviceNumber> =
        if words.is_empty() { None } else { Some(words.value("a real device number")?) };
    words.end()?;
    let peers: Vec<&Peer> = match device {
        Some(device) => {
            let unknown = || Refusal::new(40, format!("Device {device} does not exist"));
            vec![cp.mesh.peer_of(device).ok_or_else(unknown)?]
        }
        None => cp.mesh.peers().iter().collect(),
    };
    let rows: Vec<Row> = peers
        .into_iter()
        .map(|peer| Row {
            partner: peer.name(),
            devices: peer.devices().to_vec(),
            inactive: peer.inactive(),
            link: peer.islink(),
        })
        .collect();
    let lines = rows.iter().flat_map(lines).collect();
    Ok(Response::lines(lines).with_data(&rows))
}

fn lines(row: &Row) -> Vec<String> {
    let devices = |list: &[DeviceNumber]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut lines = match &row.link {
        Some(link) => link.to_string().lines().map(str::to_owned).collect(),
        None => vec![format!("Link to: {}  State: down", row.partner)],
    };
    lines.push(format!("Real devices: {}", devices(&row.devices)));
    if !row.inactive.is_empty() {
        lines.push(format!("Deactivated: {}", devices(&row.inactive)));
    }
    lines
}
