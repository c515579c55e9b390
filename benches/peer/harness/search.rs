//! QEMU's best setting for a load: one thing is turned at a time, what is better is kept, and the best few are
//! tried again before one is chosen.

use std::time::{Duration, Instant};

use lgr::results::statistics::median;

use super::figures::blackout_ms;
use super::qemu::{Carrier, Guest, Memory, Migration, Outcome, Setting, ZeroPages};

/// How many settings are tried again, and how often.
const FINALISTS: usize = 3;
const FINAL_TRIES: usize = 2;
/// The guest runs for so long before each migration.
pub(crate) const RUN_BEFORE: Duration = Duration::from_millis(200);

/// One thing that can be turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Channels of multifd; 0 is the single stream.
    Channels(u8),
    ZeroPages(ZeroPages),
    Memory(Memory),
    ZstdLevel(u8),
}

impl Change {
    fn apply(self, setting: Setting) -> Setting {
        match self {
            Self::Channels(channels) => Setting { channels, ..setting },
            Self::ZeroPages(zero_pages) => Setting { zero_pages, ..setting },
            Self::Memory(memory) => Setting { memory, ..setting },
            Self::ZstdLevel(level) => Setting { zstd_level: Some(level), ..setting },
        }
    }
}

/// What makes a setting the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    ShortMove,
    ShortBlackout,
}

impl Goal {
    fn score(self, migration: &Migration, setting: &Setting) -> f64 {
        match self {
            // QEMU sends more than it is told to: what counts is what its bytes take on the link.
            Self::ShortMove => {
                let link = setting.bandwidth_bytes_per_s.map_or(f64::INFINITY, |rate| rate as f64);
                migration.total_ms.max(migration.wire_bytes / link * 1e3)
            }
            // Equal in whole milliseconds, the shorter move wins.
            Self::ShortBlackout => blackout_ms(migration) + migration.total_ms / 1e6,
        }
    }
}

/// Settings to look through.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub(crate) start: Setting,
    pub(crate) stages: Vec<Vec<Change>>,
    pub(crate) goal: Goal,
}

impl Space {
    /// Through the channels of multifd, then where zero pages are looked for, then what is behind memory.
    pub(crate) fn wide(start: Setting) -> Self {
        let mut stages = Self::without_memfd(start).stages;
        stages.push(vec![Change::Memory(Memory::Memfd)]);
        Self { start, stages, goal: Goal::ShortMove }
    }

    /// The same without memory files: reading such memory where it was never touched allocates it.
    pub(crate) fn without_memfd(start: Setting) -> Self {
        let channels = [0, 1, 2, 8, 16].map(Change::Channels).to_vec();
        let zero_pages = [ZeroPages::None, ZeroPages::Legacy].map(Change::ZeroPages).to_vec();
        Self { start, stages: vec![channels, zero_pages], goal: Goal::ShortMove }
    }

    /// Levels of zstd, and channels.
    pub(crate) fn zstd(start: Setting) -> Self {
        let start = Setting { zstd_level: Some(1), ..start };
        let channels = [2, 8].map(Change::Channels).to_vec();
        let levels = [3, 6].map(Change::ZstdLevel).to_vec();
        Self { start, stages: vec![channels, levels], goal: Goal::ShortMove }
    }

    /// What it is, and nothing to choose.
    pub(crate) fn fixed(start: Setting) -> Self {
        Self { start, stages: Vec::new(), goal: Goal::ShortMove }
    }

    pub(crate) fn for_blackout(self) -> Self {
        Self { goal: Goal::ShortBlackout, ..self }
    }

    pub(crate) fn over(self, carrier: Carrier) -> Self {
        Self { start: Setting { carrier, ..self.start }, ..self }
    }
}

/// A setting that was tried.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) setting: Setting,
    /// Of each try; infinite where the migration did not converge.
    scores: Vec<f64>,
    /// Why it cannot be used, in QEMU's words.
    refused: Option<String>,
}

impl Trial {
    fn score(&self) -> f64 {
        if self.refused.is_some() { f64::INFINITY } else { median(&self.scores).unwrap_or(f64::INFINITY) }
    }

    /// In words, with every try.
    pub(crate) fn describe(&self) -> String {
        let scores = self.scores.iter().map(|score| match score.is_finite() {
            true => format!("{score:.1} ms"),
            false => "does not converge".to_owned(),
        });
        let results = scores.chain(self.refused.clone()).collect::<Vec<_>>().join(", ");
        format!("{}: {results}", self.setting.describe())
    }
}

/// A search under way.
pub(crate) struct Search<'a> {
    guest: &'a mut Guest,
    patience: Duration,
    goal: Goal,
    until: Instant,
    trials: Vec<Trial>,
}

impl<'a> Search<'a> {
    /// Looks through the space, until `until` at the latest; gives what was tried, the best first.
    pub(crate) fn run(
        guest: &'a mut Guest,
        space: &Space,
        patience: Duration,
        until: Instant,
    ) -> anyhow::Result<Vec<Trial>> {
        let mut search = Self { guest, patience, goal: space.goal, until, trials: Vec::new() };
        if space.stages.is_empty() {
            return Ok(vec![Trial { setting: space.start, scores: Vec::new(), refused: None }]);
        }
        search.try_setting(space.start)?;
        for stage in &space.stages {
            let best = search.best();
            for change in stage {
                search.try_setting(change.apply(best))?;
            }
        }
        search.rank();
        for place in 0..FINALISTS.min(search.trials.len()) {
            for _ in 0..FINAL_TRIES {
                search.try_again(place)?;
            }
        }
        search.rank();
        Ok(search.trials)
    }

    fn best(&self) -> Setting {
        let best = self.trials.iter().min_by(|a, b| a.score().total_cmp(&b.score()));
        best.expect("the first setting was tried").setting
    }

    fn rank(&mut self) {
        self.trials.sort_by(|a, b| a.score().total_cmp(&b.score()));
    }

    fn try_setting(&mut self, setting: Setting) -> anyhow::Result<()> {
        let known = self.trials.iter().any(|trial| trial.setting == setting);
        let late = Instant::now() >= self.until && !self.trials.is_empty();
        if !known && !late {
            self.trials.push(Trial { setting, scores: Vec::new(), refused: None });
            self.try_again(self.trials.len() - 1)?;
        }
        Ok(())
    }

    fn try_again(&mut self, place: usize) -> anyhow::Result<()> {
        let trial = &mut self.trials[place];
        // The source's memory should be of the kind that is tried, too.
        if self.guest.memory() != trial.setting.memory {
            self.guest.migrate(&trial.setting, RUN_BEFORE, self.patience)?;
        }
        match self.guest.migrate(&trial.setting, RUN_BEFORE, self.patience) {
            Ok(Outcome::Moved(migration)) => trial.scores.push(self.goal.score(&migration, &trial.setting)),
            Ok(Outcome::NotConverged { .. }) => trial.scores.push(f64::INFINITY),
            // An older QEMU may not know a setting. If the guest is gone, the next try says so.
            Err(error) => {
                super::child::check()?;
                trial.refused = Some(format!("{error:#}"));
            }
        }
        Ok(())
    }
}
