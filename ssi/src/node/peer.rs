//! One other member: keeps a link to it up, brings its messages to the core, and takes the core's messages to it.
//!
//! Three threads: the *keeper* calls, or waits for the call, again and again; the *receiver* tells the core when the link
//! is up, what comes, and when it is down; the *sender* waits for room, so that the core need not. A message belongs to
//! the link that was up when it was sent: on a later one nobody would expect it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use isfc::islink::Islink;
use isfc::link::Priority;
use isfc::socket::{Endpoint, Hub, RecvError, SendError, WaitError};
use isfc::tls::Tls;
use isfc::{Address, Link, LinkError, LinkEvent, LinkOptions, Listener, MediumError};

use super::console::Console;
use super::inbox::Handle;
use super::parcel::{self, Parcels};
use crate::member::{Input, Message};
use crate::name::{Slot, SystemName};
use crate::source::DeviceNumber;

/// Between two calls.
const CALL_AGAIN: Duration = Duration::from_millis(250);
/// How often threads look whether they are to stop.
const LOOK_UP: Duration = Duration::from_millis(500);
/// Messages that may wait for the sender; more, and the link is cut.
const WAITING_MAX: usize = 4_096;
/// Longest wait for room at the peer before the link is cut.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// Messages that may wait at the endpoint.
const WINDOW: u16 = 64;

/// How the link to a member comes about.
#[derive(Debug)]
pub(super) enum Door {
    Call(Address, Option<Tls>),
    Listen(Address, Option<Tls>),
}

#[derive(Debug)]
pub(super) struct PeerOptions {
    pub(super) slot: Slot,
    pub(super) partner: SystemName,
    pub(super) door: Door,
    pub(super) devices: Vec<DeviceNumber>,
    pub(super) link: LinkOptions,
}

/// Another member.
#[derive(Debug)]
pub struct Peer {
    inner: Arc<Inner>,
    outgoing: Sender<(u64, Vec<u8>)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    options: PeerOptions,
    hub: Hub,
    endpoint: Endpoint,
    handle: Handle,
    console: Arc<Console>,
    /// Odd while the link is up; counts on whenever that changes.
    epoch: AtomicU64,
    /// The same as far as the core has heard of it.
    epoch_of_core: AtomicU64,
    stop: AtomicBool,
    /// Devices that an operator has taken out.
    inactive: Mutex<Vec<DeviceNumber>>,
    /// Told when the keeper has something to look at.
    wake: Condvar,
}

/// What a command on a device does not find.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceRefused(pub String);

impl Peer {
    pub(super) fn start(
        options: PeerOptions,
        handle: &Handle,
        console: &Arc<Console>,
    ) -> std::io::Result<Self> {
        let hub = Hub::new()?;
        let name = "SSIMEMB".parse().expect("this is an endpoint's name");
        let endpoint = hub.open(name, Priority::High, WINDOW).map_err(std::io::Error::other)?;
        let inner = Arc::new(Inner {
            options,
            hub,
            endpoint,
            handle: handle.clone(),
            console: console.clone(),
            epoch: AtomicU64::new(0),
            epoch_of_core: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            inactive: Mutex::default(),
            wake: Condvar::new(),
        });
        let (outgoing, waiting) = bounded(WAITING_MAX);
        let peer = Self { inner, outgoing, threads: Mutex::default() };
        peer.spawn("ssi-keeper", Inner::keep)?;
        peer.spawn("ssi-receiver", Inner::receive)?;
        peer.spawn("ssi-sender", move |inner| inner.send(&waiting))?;
        Ok(peer)
    }

    fn spawn(&self, name: &str, run: impl FnOnce(&Inner) + Send + 'static) -> std::io::Result<()> {
        let inner = self.inner.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&inner))?;
        self.threads.lock().expect("no thread panics while it holds this").push(thread);
        Ok(())
    }

    /// Its slot.
    pub fn slot(&self) -> Slot {
        self.inner.options.slot
    }

    /// Its name.
    pub fn name(&self) -> SystemName {
        self.inner.options.partner
    }

    /// The devices of the link, ascending.
    pub fn devices(&self) -> &[DeviceNumber] {
        &self.inner.options.devices
    }

    /// The devices that are taken out.
    pub fn inactive(&self) -> Vec<DeviceNumber> {
        self.inner.inactive.lock().expect("no thread panics while it holds this").clone()
    }

    /// The hub of the link: services open their endpoints here.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// The link as it is, while it is up.
    pub fn islink(&self) -> Option<Islink> {
        self.inner.hub.link().map(|link| link.islink())
    }

    pub(super) fn send(&self, message: &[u8]) {
        let epoch = self.inner.epoch_of_core.load(Ordering::SeqCst);
        if epoch % 2 == 1 && self.outgoing.try_send((epoch, message.to_vec())).is_err() {
            self.inner.cut();
        }
    }

    /// The core is about to hear that the link is up, or down; what it sends from now on belongs to that.
    pub(super) fn core_hears(&self) {
        self.inner.epoch_of_core.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn stop(&self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        self.inner.wake.notify_all();
        // The process may end before its listener does.
        if let Door::Listen(Address::Unix(path) | Address::Shm(path), _) = &self.inner.options.door {
            let _ = std::fs::remove_file(path);
        }
    }

    /// ACTIVATE ISLINK: devices that were taken out belong to the link again.
    ///
    /// # Errors
    /// The device is active already, or the peer took it out.
    pub fn activate(&self, device: DeviceNumber) -> Result<(), DeviceRefused> {
        let mut inactive = self.inner.inactive.lock().expect("no thread panics while it holds this");
        let at = inactive.iter().position(|held| *held == device);
        let at = at.ok_or_else(|| self.not_taken_out(device))?;
        if let Some((link, index)) = self.inner.running(device) {
            link.activate_device(index).map_err(|error| DeviceRefused(error.to_string()))?;
        }
        inactive.remove(at);
        drop(inactive);
        self.inner.wake.notify_all();
        Ok(())
    }

    /// Why a device cannot be activated that this side has not taken out.
    fn not_taken_out(&self, device: DeviceNumber) -> DeviceRefused {
        // It asks for nothing: only a device that this side took out comes back for it.
        let refused = self.inner.running(device).map(|(link, index)| link.activate_device(index));
        DeviceRefused(match refused {
            Some(Err(LinkError::TakenOutByPeer(_))) => {
                format!(
                    "Link device {device} was deactivated by {}, and is to be activated there",
                    self.name()
                )
            }
            _ => format!("Link device {device} is active already"),
        })
    }

    /// DEACTIVATE ISLINK: takes a device out of the link; the last one takes the link with it.
    ///
    /// # Errors
    /// It is out already.
    pub fn deactivate(&self, device: DeviceNumber) -> Result<(), DeviceRefused> {
        {
            let mut inactive = self.inner.inactive.lock().expect("no thread panics while it holds this");
            if inactive.contains(&device) {
                return Err(DeviceRefused(format!("Link device {device} is not active")));
            }
            inactive.push(device);
        }
        if let Some((link, index)) = self.inner.running(device) {
            link.deactivate_device(index);
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.get_mut().expect("no thread panics while it holds this").drain(..) {
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// Whoever may speak no longer is cut off from here, though nobody has said so: the engine may hang.
    fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.handle.is_silent()
    }

    /// The link, and the device's number on it.
    fn running(&self, device: DeviceNumber) -> Option<(Arc<Link>, u8)> {
        let index = self.options.devices.iter().position(|held| *held == device)?;
        let link = self.hub.link()?;
        let index = u8::try_from(index).ok().filter(|index| *index < link.devices())?;
        Some((link, index))
    }

    fn cut(&self) {
        if let Some(link) = self.hub.link() {
            (0..link.devices()).for_each(|device| link.close_device(device));
        }
    }

    fn all_inactive(&self) -> bool {
        self.inactive.lock().expect("no thread panics while it holds this").len()
            == self.options.devices.len()
    }

    /// Waits a little, or until there is something to look at.
    fn rest(&self) {
        let inactive = self.inactive.lock().expect("no thread panics while it holds this");
        drop(self.wake.wait_timeout(inactive, CALL_AGAIN).expect("no thread panics while it holds this"));
    }

    // The keeper.

    fn keep(&self) {
        let mut last_words = String::new();
        while !self.stops() {
            if self.all_inactive() {
                self.rest();
                continue;
            }
            match self.link() {
                Ok(link) => {
                    last_words.clear();
                    self.run(link);
                }
                Err(MediumError::Stopped) => {}
                Err(error) => {
                    self.complain(&error, &mut last_words);
                    self.rest();
                }
            }
        }
    }

    /// Says what is wrong once, and nothing of a peer that is simply not there.
    fn complain(&self, error: &MediumError, last_words: &mut String) {
        let absent = matches!(error, MediumError::Connect { source, .. }
            if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused));
        let words = error.to_string();
        if !absent && words != *last_words {
            self.console.tell(&format!("Link {}: {words}", self.options.partner));
        }
        *last_words = words;
    }

    fn link(&self) -> Result<Link, MediumError> {
        let devices = self.options.devices.len();
        let endpoints = match &self.options.door {
            Door::Call(address, None) => isfc::connect(address, devices, &[])?,
            Door::Call(address, Some(tls)) => isfc::connect_tls(address, devices, tls)?,
            Door::Listen(address, tls) => {
                let mut listener = Listener::bind(address)?;
                if let Some(tls) = tls {
                    listener = listener.with_tls(tls.clone())?;
                }
                let stop = || self.stops() || self.all_inactive();
                let refused =
                    |why: String| self.console.tell(&format!("Link {}: {why}", self.options.partner));
                let endpoints = listener.accept(None, &stop, &refused)?;
                endpoints.rejoin_through(listener)
            }
        };
        Link::start(endpoints, self.options.link.clone())
    }

    /// Over this link until it is down.
    fn run(&self, link: Link) {
        // The core has to hear that the last link is down before it hears of this one.
        while self.epoch.load(Ordering::SeqCst) % 2 == 1 {
            if self.stops() {
                return;
            }
            self.rest();
        }
        let partner = self.options.partner;
        let link = Arc::new(link);
        for (device, number) in (0..).zip(&self.options.devices) {
            if device < link.devices() && self.inactive().contains(number) {
                link.deactivate_device(device);
            }
        }
        if self.hub.attach(link.clone()).is_err() {
            return;
        }
        self.console.tell(&format!("HCP2702I Link {partner} came up, {} devices", link.devices()));
        loop {
            match self.hub.recv(LOOK_UP) {
                Ok(LinkEvent::LinkDown(why)) => {
                    self.console.tell(&format!("Link {partner} is down: {why}"));
                    return;
                }
                Ok(LinkEvent::DeviceDown(device, why)) => {
                    self.tell_device(device, &format!("is down: {why}"))
                }
                Ok(LinkEvent::DeviceUp(device)) => self.tell_device(device, "is up"),
                Ok(_) => {}
                Err(_) if self.stops() => {
                    if !self.handle.is_silent() {
                        let _ = link.flush(Duration::from_millis(500));
                    }
                    self.cut();
                    return;
                }
                Err(_) => {}
            }
        }
    }

    fn inactive(&self) -> Vec<DeviceNumber> {
        self.inactive.lock().expect("no thread panics while it holds this").clone()
    }

    fn tell_device(&self, device: u8, what: &str) {
        let partner = self.options.partner;
        match self.options.devices.get(usize::from(device)) {
            Some(number) => self.console.tell(&format!("Link {partner}: device {number} {what}")),
            None => self.console.tell(&format!("Link {partner}: device {device} {what}")),
        }
    }

    // The receiver.

    fn receive(&self) {
        while !self.stops() {
            match self.endpoint.wait_for_peer(LOOK_UP) {
                Err(WaitError::TimedOut(_)) => continue,
                Err(WaitError::HubGone) => return,
                Ok(()) => {}
            }
            self.epoch.fetch_add(1, Ordering::SeqCst);
            let open = self.handle.bring(Input::Link(self.options.slot, true)) && self.receive_from_link();
            self.epoch.fetch_add(1, Ordering::SeqCst);
            self.wake.notify_all();
            if !open || !self.handle.bring(Input::Link(self.options.slot, false)) {
                return;
            }
        }
    }

    /// `false`: the member has stopped.
    fn receive_from_link(&self) -> bool {
        let mut parcels = Parcels::default();
        while !self.stops() {
            let body = match self.endpoint.recv(LOOK_UP) {
                Ok(received) => received.body,
                Err(RecvError::TimedOut(_)) => continue,
                Err(RecvError::PeerGone) => return true,
            };
            let message = match parcels.take(body) {
                Ok(None) => continue,
                Ok(Some(whole)) => Message::decode(&whole),
                Err(why) => Err(why),
            };
            match message {
                Ok(message) => {
                    if !self.handle.bring(Input::Message(self.options.slot, message)) {
                        return false;
                    }
                }
                Err(why) => {
                    self.console.tell(&format!("Link {}: {why}: cut", self.options.partner));
                    self.cut();
                    return true;
                }
            }
        }
        true
    }

    // The sender.

    fn send(&self, waiting: &Receiver<(u64, Vec<u8>)>) {
        while !self.stops() {
            let Ok((epoch, message)) = waiting.recv_timeout(LOOK_UP) else { continue };
            for parcel in parcel::wrap(&message) {
                if !self.send_parcel(epoch, &parcel) {
                    break;
                }
            }
        }
    }

    fn send_parcel(&self, epoch: u64, parcel: &[u8]) -> bool {
        let begun = Instant::now();
        while !self.stops() && self.epoch.load(Ordering::SeqCst) == epoch {
            match self.endpoint.send(parcel, LOOK_UP) {
                Ok(_) => return true,
                Err(SendError::WouldBlock) if begun.elapsed() < ROOM_PATIENCE => {}
                Err(_) => {
                    self.cut();
                    return false;
                }
            }
        }
        false
    }
}
