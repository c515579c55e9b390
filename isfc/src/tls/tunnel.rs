//! One TLS connection and the thread that carries its bytes: what the rest of the transport sees of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
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

/// What is called when a connection fails.
pub(crate) type FailureHook = Box<dyn Fn(&TlsFailure) + Send>;

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
    /// The connection, for as long as the thread has it.
    network: Weak<Socket>,
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
        let tcp = Arc::new(tcp);
        let network = Arc::downgrade(&tcp);
        let pump = Pump::new(tcp, far, side).map_err(std::io::Error::other)?;
        let deadline = Instant::now() + patience;
        let told = watch.clone();
        let thread =
            std::thread::Builder::new().name("isfc-tls".into()).stack_size(STACK_BYTES).spawn(move || {
                // Marks the end even of a thread that panics.
                let _over = Over(&told);
                let _token = token;
                let carried = catch_unwind(AssertUnwindSafe(|| pump.run(deadline, patience, &told)));
                if let Err(panic) = carried {
                    told.failed(TlsFailure::Panicked(crate::panics::text_of(&*panic)));
                }
            })?;
        Ok((near, Self { watch, thread, network }))
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

    /// The connection that the bytes go over, while it is there.
    pub(crate) fn network(&self) -> Weak<Socket> {
        self.network.clone()
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
    pub(crate) fn on_failure(&self, hook: FailureHook) {
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
    hook: Option<FailureHook>,
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;

    use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
    use rustls::{SupportedCipherSuite, Tls13CipherSuite};

    use super::super::{Identity, config, pki};
    use super::*;

    /// A provider whose keys may encrypt only so many records.
    fn short_lived_keys(records: u64) -> Arc<CryptoProvider> {
        let provider = config::provider();
        let suite = provider.cipher_suites[0].tls13().unwrap();
        let common = CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: records,
        };
        let (hkdf_provider, aead_alg) = (suite.hkdf_provider, suite.aead_alg);
        // Suites are static; this one is for the rest of the test's life.
        let suite = Box::leak(Box::new(Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: None }));
        let cipher_suites = vec![SupportedCipherSuite::Tls13(suite)];
        Arc::new(CryptoProvider { cipher_suites, ..(*provider).clone() })
    }

    fn tunnels(provider: &Arc<CryptoProvider>) -> [(Socket, Tunnel); 2] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("A");
        pki::create_ca(dir.path(), "TEST", pki::Validity::days(1)).unwrap();
        pki::issue(dir.path(), "A", pki::Validity::days(1), &out).unwrap();
        let identity = Identity::load(&out).unwrap();
        let calls = config::client(provider.clone(), &identity, Some("A")).unwrap();
        let listens = config::server(provider.clone(), &identity, Some("A")).unwrap();
        // The network of this test: any stream of bytes will do.
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        let patience = Duration::from_secs(5);
        let name = identity.name.clone();
        [(one, Side::Calls(calls, name.clone())), (other, Side::Listens(listens, name))]
            .map(|(network, side)| Tunnel::open(network, &side, patience, None).unwrap())
    }

    /// Sends `len_bytes` into one end while the other is read to its end; gives what came.
    fn through(from: &Socket, to: &Socket, bytes: &[u8]) -> Vec<u8> {
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut here = vec![0; bytes.len()];
                let mut to = to;
                to.read_exact(&mut here).unwrap();
                here
            });
            let mut from = from;
            from.write_all(bytes).unwrap();
            reader.join().unwrap()
        })
    }

    #[test]
    fn keys_that_have_done_their_share_are_changed_on_the_way() {
        let [(a, tunnel_a), (b, tunnel_b)] = tunnels(&short_lived_keys(16));
        assert_eq!(tunnel_a.wait().unwrap().binding, tunnel_b.wait().unwrap().binding);
        let bytes: Vec<u8> = (0..4u32 << 20).map(|at| (at ^ at >> 9) as u8).collect();
        assert!(through(&a, &b, &bytes) == bytes);
        assert!(through(&b, &a, &bytes) == bytes);
        a.shutdown(Shutdown::Both).unwrap();
        tunnel_a.join();
        assert_eq!((&b).read(&mut [0]).unwrap(), 0);
        assert_eq!(tunnel_b.failure(), None);
        tunnel_b.join();
    }

    #[test]
    fn what_was_sent_before_the_end_arrives() {
        let [(a, tunnel_a), (b, tunnel_b)] = tunnels(&config::provider());
        tunnel_a.wait().unwrap();
        tunnel_b.wait().unwrap();
        let bytes = vec![0x5a; 100_000];
        let here = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut here = Vec::new();
                let mut b = &b;
                b.read_to_end(&mut here).unwrap();
                here
            });
            let mut a = &a;
            a.write_all(&bytes).unwrap();
            a.shutdown(Shutdown::Both).unwrap();
            reader.join().unwrap()
        });
        assert!(here == bytes, "{} bytes", here.len());
    }

    /// Prints what each costs. The figures in docs/security.md: `LGR_SUITE_MIB=1024 cargo test --release -p isfc --lib --
    /// --nocapture suite`.
    #[test]
    #[allow(clippy::print_stdout)]
    fn each_suite_carries_what_is_written() {
        let mib = std::env::var("LGR_SUITE_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(8);
        let bytes = vec![0x5a; mib << 20];
        for suite in config::provider().cipher_suites.clone() {
            let provider =
                Arc::new(CryptoProvider { cipher_suites: vec![suite], ..(*config::provider()).clone() });
            let [(a, tunnel_a), (b, tunnel_b)] = tunnels(&provider);
            tunnel_a.wait().unwrap();
            tunnel_b.wait().unwrap();
            let cpu = || {
                let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
                used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
            };
            let (started, used) = (Instant::now(), cpu());
            let here = through(&a, &b, &bytes);
            let (wall_s, cpu_s) = (started.elapsed().as_secs_f64(), cpu() - used);
            assert!(here == bytes, "{:?}", suite.suite());
            println!("{:?}: {mib} MiB in {wall_s:.2} s, {cpu_s:.2} s of processor time", suite.suite());
        }
    }

    /// The reader takes nothing: the writer feels it, and the tunnels still end at once when they are told to.
    #[test]
    fn a_reader_that_takes_nothing_holds_the_writer_and_not_the_end() {
        let [(a, tunnel_a), (b, tunnel_b)] = tunnels(&config::provider());
        tunnel_a.wait().unwrap();
        tunnel_b.wait().unwrap();
        a.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut sent = 0;
        while let Ok(count) = (&a).write(&[0; 64 << 10]) {
            sent += count;
            assert!(sent < 64 << 20, "nothing holds the writer");
        }
        let started = Instant::now();
        a.shutdown(Shutdown::Both).unwrap();
        tunnel_a.join();
        b.shutdown(Shutdown::Both).unwrap();
        tunnel_b.join();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}
