//! SSI, the cluster: up to four members that are of one mind about who may touch what.
//!
//! Everything that decides has no I/O: parsers give typed values, cores take `(now, input)` and give effects. Two drivers
//! run the same cores: real members, and the simulator.

pub mod config;
mod name;
pub mod source;

pub use name::{ClusterName, MEMBERS_MAX, NameError, Slot, SystemName, UserId, VolumeLabel};
