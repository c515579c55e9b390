//! How long a control message and its answer take over a loopback TCP link of 16 devices: idle, and while every device
//! that may write pages does so as fast as it can.
//!
//! ```sh
//! cargo run --release -p isfc --example round_trip
//! ```
#![allow(clippy::print_stdout)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use isfc::frame::PROGRAM_PAYLOAD_BYTES;
use isfc::{
    Address, Admission, Extent, ExtentClass, Link, LinkEvent, LinkOptions, Listener, Next, Placed, Region,
    SocketId, Transfer, TransferSink, TransferSource,
};
use memmap2::MmapMut;

const CHUNKS: u64 = 256;
const ROUNDS: u64 = 2_000;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Gives out the same memory for ever, while it is on.
#[derive(Default)]
struct Flood {
    on: AtomicBool,
    next: AtomicU64,
}

impl TransferSource for Flood {
    fn next(&self, _: u8, transfer: &mut Transfer) -> Next {
        if !self.on.load(Ordering::Relaxed) {
            return Next::Nothing;
        }
        transfer.tag = self.next.fetch_add(1, Ordering::Relaxed);
        transfer.epoch = 1;
        let offset_bytes = transfer.tag % CHUNKS * PROGRAM_PAYLOAD_BYTES;
        let len_bytes = PROGRAM_PAYLOAD_BYTES as u32;
        transfer.extents.push(Extent { offset_bytes, len_bytes, class: ExtentClass::Raw });
        Next::Ready
    }

    fn sent(&self, _: u8, _: u32, _: u64, _: u64) {}
    fn lost(&self, _: u8, _: u32, _: u64) {}
    fn device_down(&self, _: u8) {}
}

#[derive(Default)]
struct Sink(AtomicU64);

impl TransferSink for Sink {
    fn admit(&self, _: u8, _: u32, _: u64, _: &[Extent]) -> Result<Admission, String> {
        Ok(Admission::Place)
    }

    fn placed(&self, _: u8, _: &Placed<'_>) {
        self.0.fetch_add(PROGRAM_PAYLOAD_BYTES, Ordering::Relaxed);
    }

    fn damaged(&self, _: u8) {}
    fn device_down(&self, _: u8) {}
}

fn region() -> Result<Region, Failure> {
    let mut memory = MmapMut::map_anon((CHUNKS * PROGRAM_PAYLOAD_BYTES) as usize)?;
    memory.fill(7);
    let base = NonNull::new(memory.as_mut_ptr()).ok_or("a mapping at address zero")?;
    let len_bytes = memory.len() as u64;
    // SAFETY: the region keeps the mapping, and nobody else uses it.
    Ok(unsafe { Region::new(0, base, len_bytes, Arc::new(memory)) })
}

fn pair() -> Result<(Link, Link), Failure> {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse::<Address>()?)?;
    let target = listener.address().clone();
    let options = |name: &str| LinkOptions { name: name.to_owned(), ..LinkOptions::default() };
    let (called, taken) = std::thread::scope(|scope| {
        let taken = scope.spawn(|| listener.accept(Some(Duration::from_secs(10)), &|| false, &|_| ()));
        (isfc::connect(&target, 16, &[]), taken.join())
    });
    let taken = taken.map_err(|_| "the listener panicked")??;
    Ok((Link::start(called?, options("ALPHA"))?, Link::start(taken, options("BETA"))?))
}

fn measure(a: &Link, socket: SocketId) -> Result<Histogram<u64>, Failure> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        a.send(socket, b"heartbeat")?;
        while !matches!(a.recv(Duration::from_secs(10))?, LinkEvent::Message(..)) {}
        histogram.record(started.elapsed().as_nanos() as u64)?;
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(histogram)
}

fn show(what: &str, histogram: &Histogram<u64>) {
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    println!("{what:<8} p50 {:8.1} us   p99 {:8.1} us   largest {:8.1} us", us(0.5), us(0.99), us(1.0));
}

fn main() -> Result<(), Failure> {
    let (a, b) = pair()?;
    let (flood, sink) = (Arc::new(Flood::default()), Arc::new(Sink::default()));
    a.register(region()?)?;
    b.register(region()?)?;
    b.set_sink(sink.clone());
    a.set_source(flood.clone());
    let socket = SocketId::new(0).ok_or("socket 0 exists")?;
    isfc::prefer_latency();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<(), Failure> {
        scope.spawn(|| {
            isfc::prefer_latency();
            while !done.load(Ordering::Relaxed) {
                if let Ok(LinkEvent::Message(socket, body)) = b.recv(Duration::from_millis(20)) {
                    let _ = b.send(socket, &body);
                }
            }
        });
        let measured = measure(&a, socket).and_then(|idle| {
            flood.on.store(true, Ordering::Relaxed);
            a.kick(16);
            std::thread::sleep(Duration::from_millis(300));
            let (began, before) = (Instant::now(), sink.0.load(Ordering::Relaxed));
            let loaded = measure(&a, socket)?;
            let bytes = sink.0.load(Ordering::Relaxed) - before;
            show("idle", &idle);
            show("loaded", &loaded);
            println!("beside   {:.2} GB/s of pages", bytes as f64 / began.elapsed().as_secs_f64() / 1e9);
            Ok(())
        });
        flood.on.store(false, Ordering::Relaxed);
        done.store(true, Ordering::Relaxed);
        measured
    })
}
