//! Two members started by a test, and what must hold of them whatever happened.

use lgr_engine::report::{Report, RunsOn, Side};

use super::{Ended, Running, Trial};

/// `lgr receive` and the `lgr relocate --to` that calls it.
pub(crate) struct Pair {
    pub(crate) destination: Running,
    pub(crate) source: Running,
}

impl Pair {
    /// Starts both on one volume: the source as MEMBERA, the destination as MEMBERB. `both` are options of
    /// both, `source` those of the source alone.
    pub(crate) fn start(trial: &Trial, both: &str, source: &str) -> Self {
        let address = "tcp:127.0.0.1:0";
        Self::start_at(trial, address, both, source)
    }

    /// The same with the destination listening at `address`.
    pub(crate) fn start_at(trial: &Trial, address: &str, both: &str, source: &str) -> Self {
        let both = format!("--volume {} --progress json {both}", trial.volume().display());
        let mut destination = trial.start(&format!("receive {address} {both}"));
        let address = destination.address();
        let source = trial.start(&format!("relocate --to {address} {both} {source}"));
        Self { destination, source }
    }

    /// Waits for the end of both.
    pub(crate) fn wait(self) -> Aftermath {
        Aftermath { source: self.source.wait(), destination: self.destination.wait() }
    }
}

/// Both members at their end.
pub(crate) struct Aftermath {
    pub(crate) source: Ended,
    pub(crate) destination: Ended,
}

impl Aftermath {
    fn story(&self) -> String {
        format!("SOURCE {}\nDESTINATION {}", self.source, self.destination)
    }

    /// The guest ran on exactly the side that its record names, or on none if that side was killed; whoever
    /// lived to report says so, with a reason, and the guest is whole. Gives the side that the record names.
    pub(crate) fn assert_one_guest(&self, trial: &Trial) -> Side {
        let story = self.story();
        let owner = match trial.owner().as_str() {
            "MEMBERA" => Side::Source,
            "MEMBERB" => Side::Destination,
            other => panic!("owned by {other}: {story}"),
        };
        for (side, ended) in [(Side::Source, &self.source), (Side::Destination, &self.destination)] {
            let ran = ended.ran_the_guest(side);
            assert!(!ran || side == owner, "runs on {side:?}, owned by {owner:?}: {story}");
            if ended.was_killed() {
                continue;
            }
            let report = ended.report();
            assert_eq!(ran, side == owner, "{side:?} lives, owner is {owner:?}: {story}");
            self.assert_says(side, &report, owner);
        }
        owner
    }

    /// The report of `side`, which lived, is right about a guest that `owner` has.
    fn assert_says(&self, side: Side, report: &Report, owner: Side) {
        let story = self.story();
        let runs_on = match owner {
            Side::Source => RunsOn::Source,
            Side::Destination => RunsOn::Destination,
        };
        // A destination that lost its source before it heard of a guest cannot know of one.
        let knows_nothing = side == Side::Destination && report.runs_on == RunsOn::Unknown;
        if !knows_nothing || report.guest_memory_bytes > 0 {
            assert_eq!(report.runs_on, runs_on, "{side:?}: {story}");
        }
        assert!(!report.finish.reason.is_empty(), "{side:?}: {story}");
        if side == owner {
            assert_eq!(report.verified, Some(true), "{side:?}: {story}");
        }
        let completed = report.finish.code.number() == 0;
        assert_eq!(completed, owner == Side::Destination, "{side:?}: {story}");
    }
}
