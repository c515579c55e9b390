//! ISFC, the transport: a **logical link** of 1 to 16 device queues between two members.
//!
//! It offers its callers two things and knows nothing of guests:
//! - **sockets**: ordered messages with priorities ([`Link::send`], [`Link::recv`]);
//! - **placed transfers**: write these bytes at this offset of the peer's region, as an RDMA write
//!   does ([`TransferSource`], [`TransferSink`]).
//!
//! On the sockets stand the named endpoints of [`socket`], which tell a sender what became of each message.
//!
//! ```text
//!        member A                                              member B
//!  ┌──────────────────┐   device 0   io_uring ═══════ io_uring   ┌──────────────────┐
//!  │ TransferSource   │   device 1   io_uring ═══════ io_uring   │     TransferSink │
//!  │ sockets          │      …                                   │          sockets │
//!  │ region (memory)  │   device 15  io_uring ═══════ io_uring   │  (memory) region │
//!  └──────────────────┘           tcp | unix | shm               └──────────────────┘
//! ```
//!
//! Everything that decides has no I/O: [`hello::negotiate`], [`frame::Header::decode`] and the link's
//! [`link::Core`]. A device's thread only moves bytes between them and the kernel.
//!
//! A link that leaves the machine is encrypted and mutually authenticated, see [`tls`].
//!
//! The names are those of z/VM's Inter-System Facility for Communications. [`write_rule`] is its rule for who writes
//! where, [`ficon`] the timing of the channels it runs on, and [`ctc`] the adapter at each end of a device, as the
//! hardware has it. What a device sends is one [`ctc::WriteProgram`] per start-subchannel, executed on its ring.
//!
//! Two members, here in one process, and a message over a link of four devices:
//!
//! ```
//! use std::time::Duration;
//! use isfc::{Link, LinkEvent, LinkOptions, Listener, SocketId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let patience = Duration::from_secs(10);
//! let listener = Listener::bind(&"tcp:127.0.0.1:0".parse()?)?;
//! let address = listener.address().clone();
//! let caller = std::thread::spawn(move || isfc::connect(&address, 4, &[]));
//! let there = Link::start(listener.accept(Some(patience), &|| false, &|_| ())?, LinkOptions::default())?;
//! let here = Link::start(caller.join().expect("the caller does not panic")?, LinkOptions::default())?;
//!
//! // Sockets 0 to 15 go before everything else, 16 to 31 before transfers, the rest when nothing else waits.
//! let socket = SocketId::new(3).expect("one of 64");
//! here.send(socket, b"LOGON LINUX1")?;
//! match there.recv(patience)? {
//!     LinkEvent::Message(from, body) => assert_eq!((from, &body[..]), (socket, &b"LOGON LINUX1"[..])),
//!     other => panic!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod address;
pub mod copy;
mod counters;
pub mod ctc;
mod device;
mod dial;
pub mod ficon;
mod forming;
pub mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod hello;
pub mod islink;
pub mod link;
mod listener;
mod medium;
mod panics;
mod region;
mod rejoin;
mod slice;
pub mod socket;
pub mod timeline;
pub mod tls;
mod transfer;
pub mod write_rule;

pub use address::{Address, AddressError, Medium};
pub use counters::{DeviceCounters, LatencyPercentiles};
pub use device::uring::probe as probe_io_uring;
pub use dial::{connect, connect_tls};
pub use frame::{Extent, ExtentClass, FrameError};
pub use link::{DownReason, Engine, Link, LinkError, LinkEvent, LinkOptions, Notifier, SocketId};
pub use listener::Listener;
pub use medium::{Endpoints, HELLO_DEADLINE, MediumError, Share};
pub use region::{Region, RemoteRegionError, SharedRegion};
pub use slice::prefer_latency;
pub use transfer::{
    Admission, Next, Placed, Transfer, TransferSink, TransferSource, len_bytes_of, raw_len_bytes,
};
