//! The links to the other members: a peer each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isfc::islink::Islink;
use isfc::tls::{Identity, Tls};
use isfc::{Address, LinkOptions};

use super::console::Console;
use super::inbox::Handle;
use super::peer::{Door, Peer, PeerOptions};
use crate::config::{Effective, Endpoint};
use crate::member::Message;
use crate::name::{Slot, SystemName};
use crate::source::DeviceNumber;

/// Why a member's links cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The configuration has no link to another member.
    #[error("there is no ACTIVATE ISLINK to {0}: members need a direct link to each other")]
    NoLink(SystemName),
    /// The link's devices lead to several places.
    #[error("the devices of the link to {partner} lead to {}: they have to lead to one place", places.join(" and "))]
    Places {
        /// To whom.
        partner: SystemName,
        /// Where.
        places: Vec<String>,
    },
    /// An address that is none.
    #[error("the link to {partner}: {source}")]
    Address {
        /// To whom.
        partner: SystemName,
        /// Why.
        source: isfc::AddressError,
    },
    /// The address leaves the machine, and the link would not be protected.
    #[error(
        "the link to {partner} at {address} leaves this machine: make certificates (lgr pki) and put this member's \
         into {}, or say --insecure-plaintext", dir.display()
    )]
    Plaintext {
        /// To whom.
        partner: SystemName,
        /// Where.
        address: String,
        /// Where the certificate would be.
        dir: PathBuf,
    },
    /// This member's certificate is not to be had, or is another's.
    #[error("{}: {reason}", dir.display())]
    Certificate {
        /// Where.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel gives no thread, or no random number.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Where links start, and how they are protected.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// Sockets are in here.
    pub run_dir: PathBuf,
    /// Certificates, a directory for each member; TLS is used where this member's is.
    pub pki_dir: PathBuf,
    /// Links may leave the machine unprotected.
    pub insecure_plaintext: bool,
    /// How the links are run.
    pub link: LinkOptions,
}

/// All links of a member.
#[derive(Debug)]
pub struct Mesh {
    peers: Vec<Peer>,
    stopped: AtomicBool,
}

impl Mesh {
    /// Starts a link to each other member of the cluster, in the way the configuration says.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub(super) fn start(
        effective: &Effective,
        options: &MeshOptions,
        handle: &Handle,
        console: &Arc<Console>,
    ) -> Result<Self, MeshError> {
        let members: Vec<_> = effective.ssi.iter().flat_map(|ssi| ssi.members()).collect();
        let me = effective.member;
        let mut peers = Vec::new();
        for (slot, partner) in members.iter().copied().filter(|(_, member)| *member != me) {
            let my_slot = handle.slot();
            let door = door(effective, options, (my_slot, me), (slot, partner))?;
            let devices = devices(effective, partner)?;
            let link = LinkOptions {
                name: me.to_string(),
                peer_name: Some(partner.to_string()),
                ..options.link.clone()
            };
            let start = PeerOptions { slot, partner, door, devices, link };
            peers.push(Peer::start(start, handle, console)?);
        }
        Ok(Self { peers, stopped: AtomicBool::new(false) })
    }

    /// Sends to a member if its link is up; else the message is gone, as the core expects.
    pub(super) fn send(&self, to: Slot, message: &Message) {
        if let Some(peer) = self.peers.iter().find(|peer| peer.slot() == to) {
            peer.send(&message.encode());
        }
    }

    /// The core is about to hear of a change of this link.
    pub(super) fn core_hears(&self, slot: Slot) {
        self.peers.iter().filter(|peer| peer.slot() == slot).for_each(Peer::core_hears);
    }

    /// The peers, by slot.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The peer whose link has this device.
    pub fn peer_of(&self, device: DeviceNumber) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.devices().contains(&device))
    }

    /// All links that are up, as `QUERY ISLINK` tells them.
    pub fn islinks(&self) -> Vec<Islink> {
        self.peers.iter().filter_map(Peer::islink).collect()
    }

    /// Ends all links; the peers see them go down.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.peers.iter().for_each(Peer::stop);
    }

    /// The member has stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

fn devices(effective: &Effective, partner: SystemName) -> Result<Vec<DeviceNumber>, MeshError> {
    let link = effective.links.iter().find(|link| link.partner == partner);
    link.map(|link| link.devices.keys().copied().collect()).ok_or(MeshError::NoLink(partner))
}

/// Of two members the one with the lesser name calls. Each caller has a door of its own: the listener's socket with the
/// caller's name behind it, or the port as many behind it as the caller's slot.
fn door(
    effective: &Effective,
    options: &MeshOptions,
    (my_slot, me): (Slot, SystemName),
    (slot, partner): (Slot, SystemName),
) -> Result<Door, MeshError> {
    let calls = me < partner;
    let place = if calls {
        one_place(effective, partner)?
    } else {
        let device = devices(effective, partner)?.into_iter().min().ok_or(MeshError::NoLink(partner))?;
        effective.endpoint(device, me)
    };
    let (caller, caller_slot) = if calls { (me, my_slot) } else { (partner, slot) };
    let address = address(&place, &options.run_dir, caller, caller_slot)
        .map_err(|source| MeshError::Address { partner, source })?;
    let tls = protection(options, me, partner, &address)?;
    Ok(if calls { Door::Call(address, tls) } else { Door::Listen(address, tls) })
}

fn one_place(effective: &Effective, partner: SystemName) -> Result<Endpoint, MeshError> {
    match effective.places_of(partner).as_slice() {
        [] => Err(MeshError::NoLink(partner)),
        [place] => Ok(place.clone()),
        several => {
            let places = several.iter().map(ToString::to_string).collect();
            Err(MeshError::Places { partner, places })
        }
    }
}

fn address(
    place: &Endpoint,
    run_dir: &Path,
    caller: SystemName,
    caller_slot: Slot,
) -> Result<Address, isfc::AddressError> {
    match place {
        Endpoint::Tcp { host, port } => {
            let port = u32::from(*port) + u32::from(caller_slot.number()) - 1;
            format!("tcp:{host}:{port}").parse()
        }
        path => format!("{}.{caller}", path.in_directory(run_dir)).parse(),
    }
}

fn protection(
    options: &MeshOptions,
    me: SystemName,
    partner: SystemName,
    address: &Address,
) -> Result<Option<Tls>, MeshError> {
    let Address::Tcp(at) = address else { return Ok(None) };
    let dir = options.pki_dir.join(me.as_str());
    if !dir.is_dir() {
        if at.ip().to_canonical().is_loopback() || options.insecure_plaintext {
            return Ok(None);
        }
        return Err(MeshError::Plaintext { partner, address: address.to_string(), dir });
    }
    let failed = |reason: String| MeshError::Certificate { dir: dir.clone(), reason };
    let identity = Identity::load(&dir).map_err(|error| failed(error.to_string()))?;
    let certified = identity.name().member().to_owned();
    if certified != me.as_str() {
        return Err(failed(format!("the certificate is that of {certified}, and this member is {me}")));
    }
    Ok(Some(Tls::new(identity).expecting(partner.as_str())))
}
