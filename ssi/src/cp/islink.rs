//! ACTIVATE, DEACTIVATE and QUERY ISLINK.

use isfc::islink::Islink;
use serde::Serialize;

use super::words::Words;
use super::{Cp, Issuer, Outcome, Refusal, Response};
use crate::name::SystemName;
use crate::node::{DeviceRefused, Peer};
use crate::source::DeviceNumber;

/// Most devices of one command, as of a link.
const DEVICES_MAX: usize = 16;

pub(super) fn activate(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let devices = devices(words)?;
    let node: Option<SystemName> =
        if words.accept("NODe") { Some(words.value("a member's name")?) } else { None };
    let has_buffers = words.accept("BUffers");
    if has_buffers {
        let _: u32 = words.value("a number of buffers")?;
    }
    words.end()?;
    let mut response = change(cp, issuer, &devices, node, "activated", Peer::activate)?;
    if has_buffers {
        response.lines.insert(0, "HCP2722I The BUFFERS operand is ignored".to_owned());
    }
    Ok(response)
}

pub(super) fn deactivate(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let devices = devices(words)?;
    words.end()?;
    change(cp, issuer, &devices, None, "deactivated", Peer::deactivate)
}

/// `ISLINK` and its devices, up to the first word that is none.
fn devices(words: &mut Words<'_>) -> Result<Vec<DeviceNumber>, Refusal> {
    if !words.accept("ISLINK") {
        return Err(Refusal::new(3, format!("Invalid option - {}", words.rest())));
    }
    let mut devices: Vec<DeviceNumber> = vec![words.value("a real device number")?];
    while words.peek().is_some_and(|word| word.parse::<DeviceNumber>().is_ok()) {
        devices.push(words.value("a real device number")?);
    }
    if devices.len() > DEVICES_MAX {
        return Err(Refusal::plain(format!(
            "{} devices are too many: a link has {DEVICES_MAX} at most",
            devices.len()
        )));
    }
    let twin = devices.iter().enumerate().find(|(at, device)| devices[..*at].contains(device));
    match twin {
        Some((_, device)) => Err(Refusal::new(2721, format!("Link unit address {device} is a duplicate"))),
        None => Ok(devices),
    }
}

/// Nothing is changed unless all of the devices are there and lead to `node`.
fn change(
    cp: &Cp,
    issuer: &Issuer,
    devices: &[DeviceNumber],
    node: Option<SystemName>,
    done: &str,
    act: fn(&Peer, DeviceNumber) -> Result<(), DeviceRefused>,
) -> Outcome {
    let peer = |device: &DeviceNumber| {
        let unknown = || Refusal::new(40, format!("Device {device} does not exist"));
        let peer = cp.mesh.peer_of(*device).ok_or_else(unknown)?;
        match node.filter(|node| *node != peer.name()) {
            Some(node) => {
                Err(Refusal::plain(format!("Link device {device} leads to {}, not to {node}", peer.name())))
            }
            None => Ok((*device, peer)),
        }
    };
    let found = devices.iter().map(peer).collect::<Result<Vec<_>, _>>()?;
    let mut response = Response::lines(Vec::new());
    for (device, peer) in found {
        match act(peer, device) {
            Ok(()) => {
                let name = peer.name();
                cp.console
                    .tell(&format!("HCP2706I Link {name} device {device} {done} by user {}", issuer.user));
                response.lines.push(format!("Link {device} {done}."));
            }
            Err(why) => {
                response.code = 1;
                response.lines.push(why.0);
            }
        }
    }
    Ok(response)
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
