//! DASD: volumes as files, with tracks and records of count, key and data.
//!
//! A volume is a file in the public layout of uncompressed CKD images, so that other tools for such images take it:
//!
//! ```text
//! file    │ header, 512 bytes │ cylinder 0 head 0 │ cylinder 0 head 1 │ …         15 heads, 56,832 bytes each
//! header  │ "CKD_P370" │ heads, LE u32 │ bytes per track, LE u32 │ 90: a 3390 │ 0 …
//! track   │ 00 CC CC HH HH │ record 0 │ record 1 │ … │ FF × 8 │ not used
//! record  │ CC CC HH HH │ R │ KL │ DL DL │ key, KL bytes │ data, DL bytes          big-endian
//! ```
//!
//! Cylinder 0 head 0 of a volume that [`format`](format()) made has its label, allocation and ownership:
//!
//! | Record | Key | Holds |
//! |---|---|---|
//! | 1, 2 | `IPL1`, `IPL2` | what an IPL of it would find: a wait |
//! | 3 | `VOL1` | label; `CPVOL` at X'2E' (EBCDIC) |
//! | 4 | none | allocation map and owner, see [`Allocation`] |
//!
//! Files are sparse: a formatted track without records takes one page. Channel programs ([`Ccw`]) are carried out one at a
//! time per volume, whichever process or host executes them, as long as the file system has working locks. A process
//! that is killed leaves whole each write that does not cross a page of 4,096 bytes of the file; who needs more than that
//! writes a copy and switches, as [`crate::pdr`] does.

mod allocation;
mod ebcdic;
mod format;
mod geometry;
mod program;
mod track;
mod volume;

pub use allocation::{Allocation, AllocationError, Extent, Owner, Use};
pub use format::{Label, attach, format, label, reformat, relabel};
pub use geometry::{CYLINDERS_MAX, Geometry, HEADS, Model, TRACK_LEN_BYTES, space_cells};
pub use program::{Ccw, Outcome};
pub use track::NewRecord;
pub use volume::{Access, DasdError, Volume};
