//! The guest that QEMU runs: a boot sector.

pub(crate) mod assembler;
mod parameters;
pub(crate) mod program;

pub(crate) use parameters::{Fill, LOW_BYTES_MAX, Parameters, STATUS_AT, Status};
