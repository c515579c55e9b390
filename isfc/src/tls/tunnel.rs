//! One TLS connection and the thread that carries its bytes: what the rest of the transport sees of it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ServerConfig};
use socket2::{Domain, Socket, Type};

use super::failure::TlsFailure;
use super::pump::Pump;
use super::{BINDING_LEN_BYTES, CertificateName, Session};

/// Send buffer of each end of the socket pair, in bytes; the kernel doubles it for its bookkeeping.
const PAIR_BUFFER_BYTES: usize = 512 << 10;
/// Stack of a tunnel's thread. Its buffers are on the heap.
const STACK_BYTES: usize = 512 << 10;

/// Which side of the handshake this is, how it is done, and by whom.
#[derive(Clone)]
pub(crate) enum Side {
    Calls(Arc<ClientConfig>, CertificateName),
    Listens(Arc<ServerConfig>, CertificateName),
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls(_, own) => write!(f, "Calls({own})"),
            Self::Listens(_, own) => write!(f, "Listens({own})"),
        }
    }
}

/// What a handshake has shown.
#[derive(Clone, Debug)]
pub(crate) struct Established {
    pub(crate) session: Session,
    /// Exported from the session, equal at both ends, and nowhere else.
    pub(crate) binding: [u8; BINDING_LEN_BYTES],
}

/// A tunnel as its user holds it. Dropping it leaves the thread, which ends when either end of it does.
#[derive(Debug)]
pub(crate) struct Tunnel {
    watch: Arc<Watch>,
    thread: JoinHandle<()>,
}

impl Tunnel {
    /// Starts the handshake over `tcp` in a thread of its own. The socket is the end for plain bytes; the other side of
    /// it closes when the handshake fails or the connection ends. `token` lives as long as the thread.
    pub(crate) fn open(
        tcp: Socket,
        side: &Side,
        patience: Duration,
        token: Option<Arc<()>>,
    ) -> std::io::Result<(Socket, Self)> {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        for end in [&near, &far] {
            end.set_send_buffer_size(PAIR_BUFFER_BYTES)?;
        }
        for end in [&tcp, &far] {
            end.set_nonblocking(true)?;
        }
        let watch = Arc::new(Watch::default());
        let pump = Pump::new(tcp, far, side).map_err(std::io::Error::other)?;
        let deadline = Instant::now() + patience;
        let told = watch.clone();
        let thread =
            std::thread::Builder::new().name("isfc-tls".into()).stack_size(STACK_BYTES).spawn(move || {
                // Marks the end even of a thread that panics.
                let _over = Over(&told);
                let _token = token;
                pump.run(deadline, patience, &told);
            })?;
        Ok((near, Self { watch, thread }))
    }

    /// Waits for the end of the handshake.
    ///
    /// # Errors
    /// Why it failed.
    pub(crate) fn wait(&self) -> Result<Established, TlsFailure> {
        let mut phase = self.watch.phase();
        // The thread has a deadline of its own.
        while phase.established.is_none() && phase.failure.is_none() && !phase.over {
            phase = self.watch.changed.wait(phase).expect("no thread panics while it holds this");
        }
        match (&phase.failure, &phase.established) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(established)) => Ok(established.clone()),
            (None, None) => Err(TlsFailure::HungUp),
        }
    }

    /// What the handshake has shown, if it is over.
    pub(crate) fn established(&self) -> Option<Established> {
        self.watch.phase().established.clone()
    }

    /// Why it ended, if it did so for a reason.
    pub(crate) fn failure(&self) -> Option<TlsFailure> {
        self.watch.phase().failure.clone()
    }

    /// The same, but waits until the thread has said so: to be asked when its end of the socket pair has closed.
    pub(crate) fn wait_failure(&self) -> Option<TlsFailure> {
        let phase = self.watch.phase();
        let ended = |phase: &mut Phase| phase.failure.is_none() && !phase.over;
        let (phase, _) = self
            .watch
            .changed
            .wait_timeout_while(phase, Duration::from_secs(1), ended)
            .expect("no thread panics while it holds this");
        phase.failure.clone()
    }

    /// Calls `hook` if the connection fails from now on, before the plain end closes.
    pub(crate) fn on_failure(&self, hook: Box<dyn Fn(&TlsFailure) + Send>) {
        let mut phase = self.watch.phase();
        if let Some(failure) = &phase.failure {
            hook(failure);
        } else {
            phase.hook = Some(hook);
        }
    }

    /// Nobody wants to hear of a failure any more.
    pub(crate) fn forget_hook(&self) {
        self.watch.phase().hook = None;
    }

    /// Waits for the thread to end. Close the plain end first; then that is a matter of a second at most.
    pub(crate) fn join(self) {
        let _ = self.thread.join();
    }
}

/// What a tunnel's thread tells.
#[derive(Default)]
pub(super) struct Watch {
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Default)]
struct Phase {
    established: Option<Established>,
    failure: Option<TlsFailure>,
    over: bool,
    hook: Option<Box<dyn Fn(&TlsFailure) + Send>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.phase();
        f.debug_struct("Watch")
            .field("established", &phase.established)
            .field("failure", &phase.failure)
            .finish()
    }
}

impl Watch {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().expect("no thread panics while it holds this")
    }

    pub(super) fn established(&self, established: Established) {
        self.phase().established = Some(established);
        self.changed.notify_all();
    }

    pub(super) fn failed(&self, failure: TlsFailure) {
        let mut phase = self.phase();
        if let Some(hook) = phase.hook.take() {
            hook(&failure);
        }
        phase.failure.get_or_insert(failure);
        drop(phase);
        self.changed.notify_all();
    }
}

/// Says at its end that the thread is over.
struct Over<'a>(&'a Watch);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.phase().over = true;
        self.0.changed.notify_all();
    }
}
