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
//!
//! What two members read in one file, and a cluster of four that lives through one random sequence of failures:
//!
//! ```
//! use ssi::SystemName;
//! use ssi::config::SystemConfig;
//! use ssi::sim::Simulation;
//! use ssi::source::{Limits, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "
//!     SYSTEM_IDENTIFIER LPAR L1 MEMBERA
//!     SYSTEM_IDENTIFIER LPAR L2 MEMBERB
//!     SSI CLUSTER1 PDR_VOLUME VMCOM1, SLOT 1 MEMBERA, SLOT 2 MEMBERB
//!     USER_VOLUME_LIST VMCOM1
//!     MEMBERA: ACTIVATE ISLINK 500 NODE MEMBERB
//!     MEMBERB: ACTIVATE ISLINK 500 NODE MEMBERA
//! ";
//! let source = Source::new("SYSTEM CONFIG", text.as_bytes(), Limits::CONFIG)?;
//! let (config, diagnostics) = SystemConfig::parse(&source);
//! assert!(!diagnostics.has_errors());
//! let effective = config.for_member(SystemName::new("MEMBERB")?);
//! assert_eq!(effective.slot().map(|slot| slot.number()), Some(2));
//!
//! // Any seed: the same one gives the same story.
//! let tally = Simulation::run(7).map_err(|violation| violation.to_string())?;
//! assert!(tally.events > 0);
//! # Ok(())
//! # }
//! ```

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
