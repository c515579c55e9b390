//! SSI, the cluster: up to four members that are of one mind about who may touch what.
//!
//! ```text
//!   operators, guests                                  other members
//!        │ commands, requests                               │ messages
//!        ▼                                                  ▼
//!   ┌─────────────────────────────────────────────────────────────┐
//!   │ member::Member   who is in, who may join or leave, when      │──▶ console
//!   │   service::…     what each service holds, grants, refuses    │
//!   └─────────────────────────────────────────────────────────────┘
//!        │ one atomic change at a time
//!        ▼
//!   member::Record  on the shared volume
//! ```
//!
//! Everything that decides has no I/O: parsers give typed values, cores take `(now, input)` and give effects. Two drivers
//! run the same cores: real members, and the simulator.

pub mod cluster;
pub mod config;
pub mod cp;
pub mod dasd;
pub mod directory;
pub mod member;
mod name;
pub mod node;
pub mod pdr;
pub mod service;
pub mod sim;
pub mod source;

pub use name::{ClusterName, MEMBERS_MAX, NameError, Slot, SystemName, UserId, VolumeLabel};
