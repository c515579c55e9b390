//! `--flamegraph FILE`: where this process spent its processor time, pass by pass, without perf and without privileges.
//!
//! ```text
//!   SIGPROF at each kernel tick a thread has used ─▶ its stack, its name, the stage   (sampler)
//!   spans of the engine: prepare, pass, harvest … ─▶ the stage                        (stages)
//!   addresses ─▶ names ─▶ "source;pass 1 first;ctc-*;… 12" ─▶ picture                 (stacks, picture)
//! ```
//!
//! What is outside any stage is left out: making the guest, and comparing its memory afterwards. A file whose name ends in
//! `.folded` gets the lines themselves, for other tools. That is also how the two members of a relocation on one machine
//! hand theirs to the launcher, which draws both as one picture.

mod picture;
mod sampler;
mod stacks;
mod stages;

use std::path::{Path, PathBuf};

use anyhow::Context;
use lgr_engine::report::Side;

use crate::progress::complain;

pub(crate) use stages::Stages;

/// A profile that is being taken.
pub(crate) struct Profile {
    path: PathBuf,
    side: Side,
    sampler: sampler::Sampler,
}

/// Begins to profile this process, if there is a file for it.
///
/// # Errors
/// The stacks of this process cannot be read here.
pub(crate) fn start(path: Option<&Path>, side: Side) -> anyhow::Result<Option<Profile>> {
    let Some(path) = path else { return Ok(None) };
    let sampler = sampler::Sampler::start().context("--flamegraph")?;
    Ok(Some(Profile { path: path.to_owned(), side, sampler }))
}

/// Ends a profile, if there is one, and writes its file. What goes wrong is told and no more: the move has been made, and its
/// report is worth more than the picture.
pub(crate) fn finish(profile: Option<Profile>) {
    let Some(Profile { path, side, sampler }) = profile else { return };
    let stacks = stacks::fold(side, &sampler.finish());
    write_or_tell(&path, &stacks);
}

/// Draws what the members of one relocation have written to `parts` as one file; a part that a killed member never wrote
/// is left out.
pub(crate) fn merge(parts: &[PathBuf], path: &Path) {
    let stacks: String = parts.iter().filter_map(|part| std::fs::read_to_string(part).ok()).collect();
    write_or_tell(path, &stacks);
}

fn write_or_tell(path: &Path, stacks: &str) {
    if let Err(error) = write(path, stacks) {
        complain(&format!("lgr: --flamegraph: {error:#}"));
    }
}

fn write(path: &Path, stacks: &str) -> anyhow::Result<()> {
    let is_folded = path.extension().is_some_and(|extension| extension == "folded");
    let bytes = if is_folded { stacks.into() } else { picture::draw(stacks)? };
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
