//! What `lgr` measures, and how it is kept and shown.
//!
//! ```text
//!  lgr bench suite ─┐                       ┌─▶ bench-results/MACHINE/SCENARIO.json
//!                   ├─▶ ScenarioResult ─────┼─▶ SCENARIO-*.svg      (pictures)
//!  peer harness ────┘     (results)         └─▶ README.md           (index)
//!                             │
//!                             └─▶ lgr bench compare A B             (compare)
//!
//!  lgr relocate --json ─▶ Report ─▶ lgr report ─▶ report.html       (page)
//! ```
//!
//! - [`results`]: one documented struct is the exported schema, with the statistics it is summed up by.
//! - [`compare`]: what differs between two results, and whether it is noise.
//! - [`pictures`]: SVG pictures of a relocation and of results.
//! - [`index`]: the Markdown page over all results of a machine.
//! - [`slow_link`]: a slow link made of nothing but this process, to measure over.
//! - [`page`]: one relocation as a page of HTML that needs nothing else.
//!
//! The relocation itself is in the libraries below this one: `lgr-engine`, `isfc`, `guest-mem`.

pub mod compare;
pub mod index;
pub mod page;
pub mod pictures;
pub mod results;
pub mod slow_link;
