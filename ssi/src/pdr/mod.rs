//! The persistent data record on its volume: what all members read and write in one place.
//!
//! It is on an ECKD volume, cylinder 0, three tracks. **The key of the lock record is the lock**; the record's data says
//! which of two copies of the contents counts:
//!
//! ```text
//! head 1  record 1   key, 64 bytes:  00 "PDR" │ 08 cluster │ 10 state: blank, or who has it │ 18 ticket │ 30 stamp
//!                    data, 64 bytes: 00 magic │ 08 generation │ 10 copy in use │ 14 its CRC32C │ 18 steals
//! head 2  record 1   copy 0   ┐  header, replacement PDR, 32 systems of 704 bytes: the layout of CP's PDRBK
//! head 3  record 1   copy 1   ┘  (see `layout`)
//! ```
//!
//! Four channel programs work on it, each carried out whole or not at all as others see it. No key comes twice, since its
//! ticket does not: who finds the key that he has read knows that nothing has changed in between.
//!
//! | Program | Does | Fails |
//! |---|---|---|
//! | read key | reads the lock record | |
//! | lock | finds the key that was read, and writes "locked by me, ticket t" | another was faster |
//! | write and unlock | finds the key "locked by me, ticket t", writes the other copy, then that it counts and "unlocked, ticket t" | the lock was stolen |
//! | format | writes the three tracks | |
//!
//! An upgrade is a write and unlock that searches for the unlocked key that was read: it takes no lock at all.
//!
//! # What can go wrong
//!
//! - *A member dies between any two instructions.* The copy that counts is never written to; the switch to the other one is
//!   one write within one page. What was being written is not seen, or is there whole.
//! - *It dies with the lock.* Its process and boot are in the ticket: if it is gone from this machine, the next one takes
//!   the lock at once. If it ran elsewhere, the lock is taken when it has not changed for [`STEAL_AFTER`].
//! - *It is only slow.* Then its lock may be taken as well, which does no harm: "write and unlock" does not find its ticket
//!   any more, nothing is written, and it tries again.
//! - *The record is moved* to another volume (SET SSI PDR_VOLUME). A copy is put there that says from where it is; then one
//!   change of the record here says that it is there. Who finds a copy asks the volume it is from: until that says so, the
//!   record is where it was, whatever died. Who has the old volume in his configuration follows.
//! - *The machine dies* between writes. The copy that counts may then be older than the lock record says: its CRC tells, and
//!   the other copy is taken if it is the one before.

mod layout;
mod store;
mod ticket;
mod tool;

pub use layout::{CONTENTS_LEN_BYTES, Contents, Stamps, SystemStamps};
pub use store::{PdrError, PdrStore, Places, STEAL_AFTER, View, check_room, view};
pub use tool::{create, unlock, upgrade};
