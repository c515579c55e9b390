//! A slow link made of nothing but this process: it takes calls on loopback, calls the target for each, and lets bytes
//! through at a rate, all connections of a direction together.
//!
//! It is no rate limit of the sender's: the sender hears of it only by what the peer acknowledges, as of a real one.
//! Little waits inside: its sockets take few bytes ahead.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Bytes that pass at a time: as a packet of a slow link, so that connections take turns.
const PACKET_BYTES: usize = 2 << 10;
/// Time of the link that is made good when its threads were not called in time, as a queue before a link would.
const CATCH_UP: Duration = Duration::from_millis(10);
/// Bytes a socket takes ahead.
const AHEAD_BYTES: usize = 16 << 10;

/// What the link does to what goes over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes per second, each way.
    pub bytes_per_s: u64,
    /// Of each connection only so many bytes from the caller pass; the rest vanishes, and the connection stays.
    pub swallow_after_bytes: Option<u64>,
}

/// One direction of the link.
#[derive(Debug)]
struct Way {
    bytes_per_s: u64,
    /// When all that was let through has left.
    free: Mutex<Instant>,
    passed_bytes: AtomicU64,
}

impl Way {
    fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, free: Mutex::new(Instant::now()), passed_bytes: AtomicU64::new(0) }
    }

    /// Waits until `count` bytes have crossed.
    fn cross(&self, count: usize) {
        let time = Duration::from_secs_f64(count as f64 / self.bytes_per_s as f64);
        let at = {
            let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let earliest = Instant::now().checked_sub(CATCH_UP).unwrap_or(*free);
            *free = (*free).max(earliest) + time;
            *free
        };
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        self.passed_bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A running link; it ends when this goes.
#[derive(Debug)]
pub struct SlowLink {
    address: SocketAddr,
    there: Arc<Way>,
    stop: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl SlowLink {
    /// A link to `target`.
    ///
    /// # Errors
    /// No port on loopback, or no thread.
    pub fn start(target: SocketAddr, shape: Shape) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        SockRef::from(&listener).set_recv_buffer_size(AHEAD_BYTES)?;
        let address = listener.local_addr()?;
        let stop = Arc::<AtomicBool>::default();
        let there = Arc::new(Way::new(shape.bytes_per_s));
        let ways = [there.clone(), Arc::new(Way::new(shape.bytes_per_s))];
        let ends = stop.clone();
        let listening = std::thread::Builder::new().name("slow-link".into()).spawn(move || {
            for caller in listener.incoming() {
                if ends.load(Ordering::Acquire) {
                    return;
                }
                // A call that fails is the caller's to notice: its connection closes.
                let _ = caller.and_then(|caller| join(caller, target, &ways, shape.swallow_after_bytes));
            }
        })?;
        Ok(Self { address, there, stop, listening: Some(listening) })
    }

    /// Where it takes calls.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of callers that have crossed so far.
    pub fn passed_bytes(&self) -> u64 {
        self.there.passed_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes it out of its wait for calls; those it has joined end with their ends.
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

/// Calls the target for a caller, and carries both ways until either ends.
fn join(
    caller: TcpStream,
    target: SocketAddr,
    ways: &[Arc<Way>; 2],
    swallow_after_bytes: Option<u64>,
) -> io::Result<()> {
    let called = TcpStream::connect(target)?;
    for end in [&caller, &called] {
        end.set_nodelay(true)?;
        SockRef::from(end).set_send_buffer_size(AHEAD_BYTES)?;
    }
    SockRef::from(&called).set_recv_buffer_size(AHEAD_BYTES)?;
    let ends = [(caller.try_clone()?, called.try_clone()?), (called, caller)];
    for ((from, to), (way, limit)) in ends.into_iter().zip(ways.iter().zip([swallow_after_bytes, None])) {
        let way = way.clone();
        std::thread::Builder::new().stack_size(64 << 10).spawn(move || carry(from, to, &way, limit))?;
    }
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream, way: &Way, swallow_after_bytes: Option<u64>) {
    let mut bytes = [0; PACKET_BYTES];
    let mut left = swallow_after_bytes.unwrap_or(u64::MAX);
    while let Ok(count) = from.read(&mut bytes)
        && count > 0
    {
        way.cross(count);
        let passing = left.min(count as u64) as usize;
        left -= passing as u64;
        if to.write_all(&bytes[..passing]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    #[test]
    fn bytes_come_as_they_went_and_no_faster_than_the_link() {
        let (listener, address) = listener();
        let shape = Shape { bytes_per_s: 1 << 20, swallow_after_bytes: None };
        let link = SlowLink::start(address, shape).expect("a link");
        let began = Instant::now();
        let sent: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        let mut caller = TcpStream::connect(link.address()).expect("a call");
        let copy = sent.clone();
        let writer = std::thread::spawn(move || {
            caller.write_all(&copy).expect("written");
            caller
        });
        let mut came = vec![0; sent.len()];
        listener.accept().expect("a caller").0.read_exact(&mut came).expect("read");
        assert!(came == sent && began.elapsed() >= Duration::from_millis(180));
        assert_eq!(link.passed_bytes(), sent.len() as u64);
        drop(writer.join());
    }

    #[test]
    fn what_is_swallowed_never_comes_and_the_connection_stays() {
        let (listener, address) = listener();
        let shape = Shape { bytes_per_s: 1 << 30, swallow_after_bytes: Some(100) };
        let link = SlowLink::start(address, shape).expect("a link");
        let mut caller = TcpStream::connect(link.address()).expect("a call");
        caller.write_all(&[1; 5000]).expect("written");
        let (mut called, _) = listener.accept().expect("a caller");
        let mut came = vec![0; 100];
        called.read_exact(&mut came).expect("read");
        called.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        assert_eq!(called.read(&mut came).expect_err("nothing more").kind(), io::ErrorKind::WouldBlock);
        called.write_all(&[2; 10]).expect("written");
        let mut answer = [0; 10];
        caller.read_exact(&mut answer).expect("read");
    }
}
