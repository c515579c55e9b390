//! The sending process: a child that does what it is ordered, until its standard input ends.
//!
//! It must not outlive the process that measures, whatever ends that one: the kernel kills it when its parent dies.

use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use anyhow::{Context, bail};
use isfc::{
    Address, Extent, ExtentClass, Link, LinkEvent, LinkOptions, Next, Share, Transfer, TransferSource,
};
use lgr_engine::report::ProcessUsage;

use super::order::{Answer, Order, Way};
use super::plain;
use crate::bench::region::{CHUNK_BYTES, Memory};
use crate::progress::print;
use crate::signals::follow_parent;

const TICK: Duration = Duration::from_millis(100);

/// Serves orders until there are no more.
///
/// # Errors
/// Only if orders cannot be read or answered; what goes wrong with one is its answer.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    follow_parent(true)?;
    let mut member = Sending::default();
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?).context("orders come from lgr bench link itself")?;
        let before = ProcessUsage::probe().cpu_s;
        let answer = match member.obey(order) {
            Ok(()) => Answer::Done { cpu_s: ProcessUsage::probe().cpu_s - before },
            Err(error) => Answer::Failed { reason: format!("{error:#}") },
        };
        print(&format!("{}\n", serde_json::to_string(&answer)?));
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Sending {
    memory: Option<Memory>,
    plain: Option<PlainSender>,
    links: Vec<(Way, LinkSender)>,
}

struct PlainSender {
    sockets: Vec<OwnedFd>,
    next: u64,
}

struct LinkSender {
    link: Link,
    chunks: Arc<Chunks>,
    all_sent: Receiver<()>,
}

impl Sending {
    fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Prepare { region_bytes } => {
                let memory = Memory::create(region_bytes)?;
                memory.fill(2);
                self.memory = Some(memory);
                Ok(())
            }
            Order::Connect { way, address, queues } => self.connect(way, &address.parse()?, queues),
            Order::Stream { way, chunks } => self.stream(way, chunks),
            Order::Disconnect => {
                self.plain = None;
                self.links.clear();
                Ok(())
            }
        }
    }

    fn memory(&self) -> anyhow::Result<&Memory> {
        self.memory.as_ref().context("no memory was prepared")
    }

    fn connect(&mut self, way: Way, address: &Address, queues: u8) -> anyhow::Result<()> {
        let Some(engine) = way.engine() else {
            self.plain = Some(PlainSender { sockets: plain::connect(address, queues)?, next: 0 });
            return Ok(());
        };
        let memory = self.memory()?.clone();
        let shares = [Share { number: 0, memfd: memory.storage().fd() }];
        let endpoints = isfc::connect(address, usize::from(queues), &shares)?;
        let link = Link::start(endpoints, LinkOptions { engine: Some(engine), ..LinkOptions::default() })?;
        link.register(memory.region())?;
        let (sender, all_sent) = mpsc::channel();
        let chunks = Arc::new(Chunks::new(memory, sender));
        link.set_source(chunks.clone());
        self.links.push((way, LinkSender { link, chunks, all_sent }));
        Ok(())
    }

    fn stream(&mut self, way: Way, chunks: u64) -> anyhow::Result<()> {
        if way == Way::Plain {
            let memory = self.memory()?.clone();
            let plain = self.plain.as_mut().context("no plain sockets were connected")?;
            plain::stream(&plain.sockets, &memory, plain.next, chunks)?;
            plain.next += chunks;
            return Ok(());
        }
        let link = self.links.iter().find(|(known, _)| *known == way);
        link.context("no such link was connected")?.1.stream(chunks)
    }
}

impl LinkSender {
    fn stream(&self, chunks: u64) -> anyhow::Result<()> {
        self.chunks.offer(chunks);
        self.link.kick(usize::from(self.link.devices()));
        loop {
            match self.all_sent.recv_timeout(TICK) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("the link is gone"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            while let Ok(event) = self.link.recv(Duration::ZERO) {
                if let LinkEvent::DeviceDown(device, reason) = event {
                    bail!("device {device}: {reason}");
                }
            }
        }
    }
}

/// Gives out chunks of memory as single placed transfers, as many as were offered.
struct Chunks {
    memory: Memory,
    left: AtomicU64,
    next: AtomicU64,
    unsent: AtomicU64,
    all_sent: Sender<()>,
}

impl Chunks {
    fn new(memory: Memory, all_sent: Sender<()>) -> Self {
        let zero = || AtomicU64::new(0);
        Self { memory, left: zero(), next: zero(), unsent: zero(), all_sent }
    }

    fn offer(&self, chunks: u64) {
        self.unsent.store(chunks, Ordering::Relaxed);
        self.left.store(chunks, Ordering::Release);
    }
}

impl TransferSource for Chunks {
    fn next(&self, _: u8, transfer: &mut Transfer) -> Next {
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| left.checked_sub(1));
        if taken.is_err() {
            return Next::Nothing;
        }
        transfer.tag = self.next.fetch_add(1, Ordering::Relaxed);
        transfer.epoch = 1;
        transfer.region = 0;
        transfer.extents.push(Extent {
            offset_bytes: self.memory.offset_bytes(transfer.tag),
            len_bytes: CHUNK_BYTES as u32,
            class: ExtentClass::Raw,
        });
        Next::Ready
    }

    fn sent(&self, _: u8, _: u32, _: u64, _: u64) {
        if self.unsent.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.all_sent.send(());
        }
    }

    /// Another chunk goes in place of the lost one: they are all alike.
    fn lost(&self, _: u8, _: u32, _: u64) {
        self.unsent.fetch_add(1, Ordering::AcqRel);
        self.left.fetch_add(1, Ordering::Release);
    }

    fn device_down(&self, _: u8) {}
}
