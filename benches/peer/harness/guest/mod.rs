//! The guest that QEMU runs: a boot sector.

mod assembler;
mod parameters;
mod program;

pub(crate) use assembler::{Field, Line, Mode, Program};
pub(crate) use parameters::{Fill, LOW_BYTES_MAX, Parameters, STATUS_AT, Status};
pub(crate) use program::assemble;
