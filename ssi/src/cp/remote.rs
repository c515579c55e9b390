//! Commands that travel to another member, and responses that come back.
//!
//! Each peer has an endpoint `SSICMD`. A call has a number, its answer has the same; a call without an answer within
//! [`CALL_PATIENCE`] is given up, and a late answer is dropped. The called member checks the classes of the issuer that
//! the caller vouches for: members trust each other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use isfc::link::Priority;
use isfc::socket::{BODY_LEN_BYTES_MAX, Endpoint, RecvError, WaitError};
use serde::{Deserialize, Serialize};

use super::{Cp, Issuer, Outcome, Refusal, Response};
use crate::name::{Slot, SystemName};
use crate::node::Mesh;

/// How long a member may take to answer. Longer than any command waits.
const CALL_PATIENCE: Duration = Duration::from_secs(70);
const LOOK_UP: Duration = Duration::from_secs(1);
/// Commands of other members that are carried out at once.
const CALLS_MAX: usize = 32;
/// Lines of a response that travel; the rest is left out, and that is said.
const LINES_LEN_BYTES_MAX: usize = BODY_LEN_BYTES_MAX / 4;

#[derive(Debug, Serialize, Deserialize)]
enum Parcel {
    Call { number: u64, issuer: Issuer, command: String },
    Answer { number: u64, response: Response },
}

#[derive(Debug)]
pub(super) struct Remote {
    endpoints: Vec<(Slot, SystemName, Arc<Endpoint>)>,
    numbers: AtomicU64,
    waiting: Mutex<BTreeMap<u64, (Slot, Sender<Response>)>>,
    running: AtomicUsize,
}

impl Remote {
    pub(super) fn open(mesh: &Mesh) -> std::io::Result<Arc<Self>> {
        let name = "SSICMD".parse().expect("this is an endpoint's name");
        let mut endpoints = Vec::new();
        for peer in mesh.peers() {
            let endpoint = peer.hub().open(name, Priority::Normal, 32).map_err(std::io::Error::other)?;
            endpoints.push((peer.slot(), peer.name(), Arc::new(endpoint)));
        }
        let (waiting, running) = (Mutex::default(), AtomicUsize::new(0));
        Ok(Arc::new(Self { endpoints, numbers: AtomicU64::new(1), waiting, running }))
    }

    /// Reads what peers send, a thread for each, until the hub is gone.
    pub(super) fn serve(&self, cp: &Cp) -> std::io::Result<()> {
        for (slot, _, endpoint) in &self.endpoints {
            let (slot, endpoint, cp) = (*slot, endpoint.clone(), cp.clone());
            let thread = std::thread::Builder::new().name("ssi-remote".into());
            thread.spawn(move || read(slot, &endpoint, &cp))?;
        }
        Ok(())
    }

    pub(super) fn call(&self, issuer: &Issuer, member: SystemName, command: &str) -> Outcome {
        let gone = || Refusal::plain(format!("{member} cannot be reached"));
        let (slot, _, endpoint) =
            self.endpoints.iter().find(|(_, name, _)| *name == member).ok_or_else(gone)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (answer, answers) = bounded(1);
        self.lock().insert(number, (*slot, answer));
        let call = Parcel::Call { number, issuer: issuer.clone(), command: command.to_owned() };
        let sent = endpoint.wait_for_peer(Duration::from_millis(100)).is_ok()
            && endpoint.send(&encode(&call), LOOK_UP).is_ok();
        if !sent {
            self.lock().remove(&number);
            return Err(gone());
        }
        let begun = std::time::Instant::now();
        let response = loop {
            match answers.recv_timeout(LOOK_UP) {
                Ok(response) => break Some(response),
                // The link went down, and the answer with it.
                Err(crossbeam::channel::RecvTimeoutError::Disconnected) => break None,
                Err(_) if begun.elapsed() > CALL_PATIENCE => break None,
                Err(_) => {}
            }
        };
        self.lock().remove(&number);
        response.ok_or_else(|| {
            Refusal::plain(format!("{member} does not answer; it may still carry the command out"))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (Slot, Sender<Response>)>> {
        self.waiting.lock().expect("no thread panics while it holds this")
    }

    /// Nothing that was asked of this member will be answered.
    fn forget(&self, slot: Slot) {
        self.lock().retain(|_, (of, _)| *of != slot);
    }
}

fn read(slot: Slot, endpoint: &Arc<Endpoint>, cp: &Cp) {
    while !cp.mesh.is_stopped() {
        match endpoint.wait_for_peer(LOOK_UP) {
            Ok(()) => {}
            Err(WaitError::TimedOut(_)) => continue,
            Err(WaitError::HubGone) => return,
        }
        while !cp.mesh.is_stopped() {
            match endpoint.recv(LOOK_UP) {
                Ok(received) => take(slot, endpoint, cp, &received.body),
                Err(RecvError::TimedOut(_)) => {}
                Err(RecvError::PeerGone) => break,
            }
        }
        cp.remote.forget(slot);
    }
}

fn take(slot: Slot, endpoint: &Arc<Endpoint>, cp: &Cp, body: &[u8]) {
    match postcard::from_bytes(body) {
        Ok(Parcel::Call { number, issuer, command }) => carry_out(endpoint, cp, number, issuer, command),
        Ok(Parcel::Answer { number, response }) => {
            let mut waiting = cp.remote.lock();
            if waiting.get(&number).is_some_and(|(of, _)| *of == slot)
                && let Some((_, answer)) = waiting.remove(&number)
            {
                let _ = answer.send(response);
            }
        }
        Err(error) => cp.console.tell(&format!("{}: not a command: {error}", cp.member_text(slot))),
    }
}

/// In a thread of its own: a command may wait for the cluster.
fn carry_out(endpoint: &Arc<Endpoint>, cp: &Cp, number: u64, issuer: Issuer, command: String) {
    if cp.remote.running.fetch_add(1, Ordering::SeqCst) >= CALLS_MAX {
        cp.remote.running.fetch_sub(1, Ordering::SeqCst);
        let response = Response { code: 1, ..Response::line("too many commands at once") };
        return answer(endpoint, number, response);
    }
    let (of_thread, cp) = (endpoint.clone(), cp.clone());
    let thread = std::thread::Builder::new().name("ssi-at".into());
    let running = cp.remote.clone();
    let started = thread.spawn(move || {
        let response = cp.execute(&issuer, &command);
        answer(&of_thread, number, response);
        cp.remote.running.fetch_sub(1, Ordering::SeqCst);
    });
    if started.is_err() {
        running.running.fetch_sub(1, Ordering::SeqCst);
        answer(endpoint, number, Response { code: 1, ..Response::line("no thread for the command") });
    }
}

fn answer(endpoint: &Endpoint, number: u64, response: Response) {
    let _ = endpoint.send(&encode(&Parcel::Answer { number, response: cut(response) }), LOOK_UP);
}

/// As much as fits into one message.
fn cut(mut response: Response) -> Response {
    let mut room = LINES_LEN_BYTES_MAX;
    let fits = response.lines.iter().take_while(|line| {
        room = room.saturating_sub(line.len() + 8);
        room > 0
    });
    let count = fits.count();
    if count < response.lines.len() {
        let left = response.lines.len() - count;
        response.lines.truncate(count);
        response.lines.push(format!("({left} more lines)"));
    }
    if response.data.len() > 2 * LINES_LEN_BYTES_MAX {
        response.data = "null".to_owned();
    }
    response
}

fn encode(parcel: &Parcel) -> Vec<u8> {
    postcard::to_allocvec(parcel).expect("parcels have no lengths unknown")
}
