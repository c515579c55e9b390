//! The wire between two ends of a link, frame by frame, with seeded faults.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isfc::Address;
use isfc::frame::{FLAG_DIGEST, HEADER_LEN_BYTES};
use isfc::hello::{HELLO_LEN_BYTES, WELCOME_LEN_BYTES};

/// So many devices are left alone by faults that end one: however fast frames go and devices come back, the link
/// has to stay up.
const SPARED: usize = 4;
/// Where a hello says which device it is of.
const HELLO_DEVICE: usize = 12;

/// splitmix64
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// What the wire has done.
#[derive(Default, Debug)]
pub(crate) struct Done {
    pub(crate) frames: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) doubled: AtomicU64,
    /// Went out behind frames that came after them, how far behind in all, and behind three or more of them: by
    /// then the sender takes a frame for lost.
    pub(crate) overtaken: AtomicU64,
    pub(crate) overtaken_by: AtomicU64,
    pub(crate) overtaken_far: AtomicU64,
    pub(crate) delayed: AtomicU64,
    /// For longer than a sender waits for an acknowledgement.
    pub(crate) delayed_long: AtomicU64,
    pub(crate) damaged_bodies: AtomicU64,
    pub(crate) damaged_headers: AtomicU64,
    pub(crate) cut: AtomicU64,
    /// Calls of devices that are refused.
    pub(crate) refused: AtomicU64,
}

impl Done {
    /// Every kind of fault has happened.
    pub(crate) fn check_all_happened(&self) {
        let kinds = [
            &self.dropped,
            &self.doubled,
            &self.overtaken,
            &self.overtaken_far,
            &self.delayed,
            &self.delayed_long,
            &self.damaged_bodies,
            &self.damaged_headers,
            &self.cut,
        ];
        assert!(kinds.iter().all(|count| count.load(Ordering::Relaxed) > 0), "no faults: {self:?}");
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert!(count(&self.overtaken_by) > count(&self.overtaken), "only neighbours were swapped: {self:?}");
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What all connections share.
struct Wire {
    target: SocketAddr,
    seed: u64,
    faults: bool,
    stop: AtomicBool,
    /// Bit `n`: device `n` is dead, and its calls are refused.
    refused: AtomicU16,
    /// Connections on which both ends have spoken.
    alive: Mutex<usize>,
    connections: Mutex<Vec<Arc<Connection>>>,
    done: Arc<Done>,
}

/// One connection of a device, with its two directions.
struct Connection {
    device: u8,
    ends: [TcpStream; 2],
    spoken: Mutex<[bool; 2]>,
    /// It counts among those alive.
    counted: AtomicBool,
}

impl Connection {
    fn cut(&self) {
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Wire {
    /// This end of the connection has said something after its greeting, so it believes that the device is up.
    fn spoke(&self, connection: &Connection, direction: usize) {
        let mut spoken = connection.spoken.lock().unwrap();
        if !std::mem::replace(&mut spoken[direction], true) && spoken[1 - direction] {
            *self.alive.lock().unwrap() += 1;
            connection.counted.store(true, Ordering::SeqCst);
        }
    }

    /// May a fault end this connection? If so, it counts no more.
    fn may_end(&self, connection: &Connection) -> bool {
        let mut alive = self.alive.lock().unwrap();
        let may = *alive > SPARED && connection.counted.swap(false, Ordering::SeqCst);
        *alive -= usize::from(may);
        may
    }

    fn ended(&self, connection: &Connection) {
        connection.cut();
        let mut alive = self.alive.lock().unwrap();
        *alive -= usize::from(connection.counted.swap(false, Ordering::SeqCst));
    }
}

/// Carries calls on to a listener, with faults.
pub(crate) struct FaultLayer {
    pub(crate) address: Address,
    pub(crate) done: Arc<Done>,
    wire: Arc<Wire>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FaultLayer {
    pub(crate) fn start(target: SocketAddr, seed: u64, faults: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
        let done = Arc::new(Done::default());
        let wire = Arc::new(Wire {
            target,
            seed,
            faults,
            stop: AtomicBool::new(false),
            refused: AtomicU16::new(0),
            alive: Mutex::new(0),
            connections: Mutex::default(),
            done: done.clone(),
        });
        let running = wire.clone();
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for number in 0u64.. {
                    if running.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    if let Ok((caller, _)) = listener.accept() {
                        let wire = &running;
                        scope.spawn(move || connect(wire, caller, number));
                    } else {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            });
        });
        Self { address, done, wire, thread: Some(thread) }
    }

    /// A device dies, and whoever calls it again is refused.
    pub(crate) fn kill(&self, device: u8) {
        self.wire.refused.fetch_or(1 << device, Ordering::SeqCst);
        let connections = self.wire.connections.lock().unwrap();
        connections.iter().filter(|connection| connection.device == device).for_each(|dead| dead.cut());
    }
}

impl Drop for FaultLayer {
    fn drop(&mut self) {
        self.wire.stop.store(true, Ordering::Relaxed);
        self.wire.connections.lock().unwrap().iter().for_each(|connection| connection.cut());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the fault layer panicked");
    }
}

/// One call: its hello, then both directions until either side hangs up.
fn connect(wire: &Wire, mut caller: TcpStream, number: u64) -> Option<()> {
    caller.set_nonblocking(false).ok()?;
    caller.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut hello = [0; HELLO_LEN_BYTES];
    caller.read_exact(&mut hello).ok()?;
    caller.set_read_timeout(None).ok()?;
    let device = hello[HELLO_DEVICE];
    let mut called = TcpStream::connect(wire.target).ok()?;
    let connection = Arc::new(Connection {
        device,
        ends: [caller.try_clone().ok()?, called.try_clone().ok()?],
        spoken: Mutex::default(),
        counted: AtomicBool::new(false),
    });
    {
        // Under the lock, so that a device that is killed now is either refused or found.
        let mut connections = wire.connections.lock().unwrap();
        if wire.refused.load(Ordering::SeqCst) & (1 << device) != 0 {
            count(&wire.done.refused);
            return None;
        }
        connections.push(connection.clone());
    }
    called.write_all(&hello).ok()?;
    let dice = |direction: u64| Dice(wire.seed ^ (number * 2 + direction) << 32);
    std::thread::scope(|scope| {
        let back = scope.spawn(|| {
            let mut welcome = [0; WELCOME_LEN_BYTES];
            let greeted = (&called).read_exact(&mut welcome).and_then(|()| (&caller).write_all(&welcome));
            let _ = greeted.ok().and_then(|()| carry(wire, &connection, 1, dice(1)));
            wire.ended(&connection);
        });
        let _ = carry(wire, &connection, 0, dice(0));
        wire.ended(&connection);
        let _ = back.join();
    });
    wire.connections.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &connection));
    Some(())
}

/// One direction of one connection, frame by frame. Ends when either side hangs up.
fn carry(wire: &Wire, connection: &Connection, direction: usize, mut dice: Dice) -> Option<()> {
    let (mut from, mut to) = (&connection.ends[direction], &connection.ends[1 - direction]);
    let done = &*wire.done;
    let _ = to.set_nodelay(true);
    let mut frame = Vec::new();
    // A frame that is held back, and how many may still overtake it.
    let mut held: Option<(Vec<u8>, u64, u64)> = None;
    loop {
        frame.resize(HEADER_LEN_BYTES, 0);
        from.read_exact(&mut frame).ok()?;
        let body = u64::from_le_bytes(frame[8..16].try_into().unwrap()) as usize;
        frame.resize(HEADER_LEN_BYTES + body, 0);
        from.read_exact(&mut frame[HEADER_LEN_BYTES..]).ok()?;
        wire.spoke(connection, direction);
        count(&done.frames);
        let (kind, flags) = (frame[4], frame[5]);
        // Content without a digest may change while it is sent: nobody could tell that it was damaged.
        let checked = body > 0 && (kind == 1 || flags & FLAG_DIGEST != 0);
        match if wire.faults { dice.roll(2048) } else { 2047 } {
            0..32 => {
                count(&done.dropped);
                continue;
            }
            32..64 => {
                count(&done.doubled);
                to.write_all(&frame).ok()?;
            }
            64..96 if held.is_none() => {
                held = Some((std::mem::take(&mut frame), 1 + dice.roll(8), 0));
                continue;
            }
            96..112 if checked => {
                count(&done.damaged_bodies);
                let extents = if kind == 2 { (usize::from(frame[30]).max(1) - 1) * 16 } else { 0 };
                let at = HEADER_LEN_BYTES + extents + dice.roll((body - extents) as u64) as usize;
                frame[at] ^= 1 << dice.roll(8);
            }
            112..116 if wire.may_end(connection) => {
                count(&done.damaged_headers);
                frame[dice.roll(HEADER_LEN_BYTES as u64) as usize] ^= 1 << dice.roll(8);
            }
            116..120 if wire.may_end(connection) => {
                count(&done.cut);
                return None;
            }
            120..160 => {
                count(&done.delayed);
                std::thread::sleep(Duration::from_millis(1 + dice.roll(5)));
            }
            160 => {
                count(&done.delayed_long);
                std::thread::sleep(isfc::link::PATIENCE + Duration::from_millis(dice.roll(200)));
            }
            _ => {}
        }
        to.write_all(&frame).ok()?;
        held = match held.take() {
            Some((late, left, by)) if left <= 1 => {
                to.write_all(&late).ok()?;
                count(&done.overtaken);
                done.overtaken_by.fetch_add(by + 1, Ordering::Relaxed);
                done.overtaken_far.fetch_add(u64::from(by >= 2), Ordering::Relaxed);
                None
            }
            held => held.map(|(late, left, by)| (late, left - 1, by + 1)),
        };
    }
}
