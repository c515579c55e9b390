//! Both members in one process: for examples, tests and first steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use isfc::{Address, Link, LinkOptions, Listener, MediumError, Share};

use super::{Cancel, DestinationOptions, SourceOptions, receive, relocate};
use crate::event::{Observer, Silent};
use crate::guest::{Guest, GuestFactory};
use crate::owner::{GuestName, MemberName, OwnerError, OwnerVolume};
use crate::report::Report;

/// Device queues of the link between the two.
const QUEUES: usize = 4;
/// A member of the same process answers at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there was no relocation to report on.
#[derive(Debug, thiserror::Error)]
pub enum InProcessError {
    /// The directory of the owner record and the link cannot be made.
    #[error("no directory for the owner record: {0}")]
    Room(#[from] std::io::Error),
    /// The owner record cannot be made.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The link cannot be made.
    #[error(transparent)]
    Link(#[from] MediumError),
    /// A guest or a factory of the caller's has panicked.
    #[error("the destination's thread panicked")]
    Panicked,
}

/// Moves `guest`, which runs, to a member `THERE` in another thread of this process, over a link of four queues, and
/// reports what happened; `options.verify` needs a guest that has a verifier.
///
/// Everything is as between two machines but for the address: the messages, the passes, the owner record. At the end the
/// moved guest has run for `options.run_after`, is stopped and dropped.
///
/// # Errors
/// Only if there is no link or no owner record; a relocation that failed is told in the report.
pub fn relocate_in_process(
    guest: &mut dyn Guest,
    factory: &mut (dyn GuestFactory + Send),
    options: SourceOptions,
    observer: &dyn Observer,
) -> Result<Report, InProcessError> {
    let room = tempfile::Builder::new().prefix("lgr-in-process-").tempdir()?;
    let volume = OwnerVolume::open(room.path())?;
    let name = GuestName::new("GUEST").expect("a valid name");
    let there =
        DestinationOptions { member: MemberName::new("THERE").expect("a valid name"), faults: Vec::new() };
    let record = volume.create(name, options.member)?;
    let address = Address::Unix(room.path().join("link"));
    let listener = Listener::bind(&address)?;
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let destination = scope.spawn(|| -> Result<(), MediumError> {
            let is_over = || failed.load(Ordering::Acquire);
            let endpoints = listener.accept(Some(PATIENCE), &is_over, &|_| ())?;
            let link = Link::start(endpoints, LinkOptions::default())?;
            receive(factory, &link, &volume, &there, &Silent, &Cancel::new());
            Ok(())
        });
        let moved = (|| -> Result<Report, InProcessError> {
            let shares = [Share { number: 0, memfd: guest.storage().fd() }];
            let link = Link::start(isfc::connect(&address, QUEUES, &shares)?, LinkOptions::default())?;
            Ok(relocate(guest, &link, &volume, &record, options, observer, &Cancel::new()))
        })();
        failed.store(moved.is_err(), Ordering::Release);
        let ended = destination.join().map_err(|_| InProcessError::Panicked)?;
        let report = moved?;
        ended?;
        Ok(report)
    })
}
