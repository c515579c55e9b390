//! Who runs a guest right now: a lock that lasts as long as the process that runs it, or may.
//!
//! The owner record says who *may* run a guest, and says so after a crash, too. It cannot say that a process of that member
//! still does: a second one of the same name, or an operator's `--claim`, would make a second guest. So beside the record lies
//! `<GUEST>.running`, never removed, on which a process holds a lock from before the guest's first step until it is stopped
//! for good. The kernel ends the lock with the process, however that ends; over NFS the server does.
//!
//! ```text
//!        0        64       128                                  1024
//!        ┌────────┬────────┬────────┬─ ─ ─┬────────┐
//!        │ seat 0 │ seat 1 │ seat 2 │     │ seat 15│   "MEMBERA 4711 HOST\n", zero-filled: for people
//!        └────────┴────────┴────────┴─ ─ ─┴────────┘
//! ```
//!
//! - Whoever **starts** a guest must have all the file locked for a moment: nobody else sits. It keeps seat 0.
//! - Whoever **receives** it takes any free seat when the guest is offered, and refuses the offer without one. From then on
//!   two seats are taken, the source's and the destination's, so no third can start the guest while it moves; nothing is
//!   locked or waited for at the commit. The side that lets go of the guest leaves its seat.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::lock::{self, Stretch, WHOLE};
use super::{GuestName, MemberName, OwnerError, OwnerRecord, OwnerVolume};

const SEAT_LEN_BYTES: i64 = 64;
const SEATS: i64 = 16;
/// Another starter has all of the file for an instant only.
const SEAT_PATIENCE: Duration = Duration::from_millis(500);

/// The lock of a process that runs a guest; dropped when it no longer may.
#[derive(Debug)]
#[must_use = "the guest may run only for as long as this is held"]
pub struct Running {
    file: File,
}

impl Running {
    /// Lets go of the guest while this is still around.
    pub fn leave(&self) {
        // The lock of a file that is open cannot fail to go; and it goes with the process.
        let _ = lock::unlock_stretch(&self.file, WHOLE);
    }
}

/// Who runs a guest, as it wrote itself down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner(String);

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OwnerVolume {
    /// Claims a guest, as [`Self::create`] does or with `claim` as [`Self::replace`] does, for a process that is to run it.
    ///
    /// # Errors
    /// [`OwnerError::Runs`] if a process runs it already, and those of the two.
    pub fn start(
        &self,
        guest: GuestName,
        owner: MemberName,
        claim: bool,
    ) -> Result<(OwnerRecord, Running), OwnerError> {
        let file = self.open_seats(guest)?;
        self.patiently(guest, &file, || Ok(lock::try_lock_stretch(&file, WHOLE)?.then_some(())))?;
        let record = if claim { self.replace(guest, owner)? } else { self.create(guest, owner)? };
        let rest = (SEAT_LEN_BYTES, 0);
        let kept = self.write_down(&file, 0, owner).and_then(|()| lock::unlock_stretch(&file, rest));
        kept.map_err(|source| self.seats_fault("lock", guest, source))?;
        Ok((record, Running { file }))
    }

    /// Takes a seat beside the process that runs the guest now, for one that is to receive it.
    ///
    /// # Errors
    /// [`OwnerError::Runs`] if there is none.
    pub fn join(&self, guest: GuestName, member: MemberName) -> Result<Running, OwnerError> {
        let file = self.open_seats(guest)?;
        let seat = self.patiently(guest, &file, || {
            for seat in 0..SEATS {
                if lock::try_lock_stretch(&file, stretch_of(seat))? {
                    return Ok(Some(seat));
                }
            }
            Ok(None)
        })?;
        self.write_down(&file, seat, member).map_err(|source| self.seats_fault("write", guest, source))?;
        Ok(Running { file })
    }

    /// Who runs the guest now, if a process does.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn runner(&self, guest: GuestName) -> Result<Option<Runner>, OwnerError> {
        match File::open(self.seats_path(guest)) {
            Ok(file) => Ok(runner_in(&file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.seats_fault("open", guest, source)),
        }
    }

    fn seats_path(&self, guest: GuestName) -> PathBuf {
        self.dir.join(format!("{guest}.running"))
    }

    fn seats_fault(&self, action: &'static str, guest: GuestName, source: std::io::Error) -> OwnerError {
        OwnerError::Io { action, path: self.seats_path(guest), source }
    }

    fn open_seats(&self, guest: GuestName) -> Result<File, OwnerError> {
        let path = self.seats_path(guest);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o660)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
            .open(&path);
        let file = opened.map_err(|source| self.seats_fault("open", guest, source))?;
        match file.metadata() {
            Ok(found) if found.is_file() => Ok(file),
            Ok(_) => Err(OwnerError::NotAFile { path }),
            Err(source) => Err(self.seats_fault("look at", guest, source)),
        }
    }

    /// Tries `attempt` until it gives something, for a moment.
    fn patiently<T>(
        &self,
        guest: GuestName,
        file: &File,
        attempt: impl Fn() -> std::io::Result<Option<T>>,
    ) -> Result<T, OwnerError> {
        let began = Instant::now();
        loop {
            if let Some(found) = attempt().map_err(|source| self.seats_fault("lock", guest, source))? {
                return Ok(found);
            }
            if began.elapsed() > SEAT_PATIENCE {
                let runner = runner_in(file).unwrap_or_else(|| Runner("another process".to_owned()));
                return Err(OwnerError::Runs { path: self.seats_path(guest), guest, runner });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn write_down(&self, file: &File, seat: i64, member: MemberName) -> std::io::Result<()> {
        let host = rustix::system::uname();
        let host: String = host.nodename().to_string_lossy().chars().take(24).collect();
        let text = format!("{member} {} {host}\n", std::process::id());
        let mut bytes = [0; SEAT_LEN_BYTES as usize];
        let len = text.len().min(bytes.len());
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        file.write_all_at(&bytes, (seat * SEAT_LEN_BYTES) as u64)
    }
}

fn stretch_of(seat: i64) -> Stretch {
    // The last seat has the rest of the file, so that no part of it is nobody's.
    (seat * SEAT_LEN_BYTES, if seat + 1 == SEATS { 0 } else { SEAT_LEN_BYTES })
}

/// Whoever has a lock in `file`, by what its seat says.
fn runner_in(file: &File) -> Option<Runner> {
    let (start, id) = lock::conflict(file)?;
    let mut bytes = [0; SEAT_LEN_BYTES as usize];
    let read = file.read_at(&mut bytes, start.max(0) as u64).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..read]);
    let mut words = text.trim_end_matches('\0').split_whitespace();
    let member = words.next().and_then(|word| MemberName::new(word).ok());
    let number = words.next().and_then(|word| word.parse::<u32>().ok());
    let host: Option<String> =
        words.next().map(|word| word.chars().filter(|letter| !letter.is_control()).collect());
    Some(Runner(match (member, number, host) {
        (Some(member), Some(number), Some(host)) => format!("{member} (process {number} on {host})"),
        _ => id.map_or_else(|| "another process".to_owned(), |id| format!("process {id}")),
    }))
}
