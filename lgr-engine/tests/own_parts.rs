//! Trackers and stop rules are anybody's to write: one that is wrong ends the move with a reason, and the guest runs on.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use guest_mem::{
    DirtyTracker, HarvestStats, PageNumber, Run, Runs, Storage, StorageOptions, TrackerError, TrackerKind,
};
use lgr_engine::driver::{SourceOptions, relocate_in_process};
use lgr_engine::event::Silent;
use lgr_engine::guest::{Guest, GuestError, InNewStorage};
use lgr_engine::owner::MemberName;
use lgr_engine::policy::{Limits, PassHistory, PassPolicy, Reason, Verdict};
use lgr_engine::report::{FinishCode, Report, RunsOn};

const PAGES: u64 = 512;

/// Says what it was told to say; the pages in `stray` from its `stray_at`-th harvest on.
struct Told {
    harvests: usize,
    stray_at: usize,
    stray: Vec<Run>,
}

impl DirtyTracker for Told {
    fn kind(&self) -> TrackerKind {
        TrackerKind::Software
    }

    fn granule_bytes(&self) -> u64 {
        4096
    }

    fn start(&mut self) -> Result<(), TrackerError> {
        Ok(())
    }

    fn harvest(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        self.harvests += 1;
        *out = Runs::from_run(Run::new(3, 2));
        if self.harvests >= self.stray_at {
            out.clear();
            self.stray.iter().for_each(|run| out.push(*run));
        }
        Ok(HarvestStats::default())
    }

    fn stop(&mut self) {}
}

struct Still {
    storage: Arc<Storage>,
    tracker: Told,
    running: bool,
}

impl Still {
    fn new(storage: Arc<Storage>, stray_at: usize, stray: &[Run]) -> Self {
        let tracker = Told { harvests: 0, stray_at, stray: stray.to_vec() };
        Self { storage, tracker, running: true }
    }
}

impl Guest for Still {
    fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn tracker(&mut self) -> &mut dyn DirtyTracker {
        &mut self.tracker
    }

    fn quiesce(&mut self) -> Result<(), GuestError> {
        self.running = false;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.running = true;
        Ok(())
    }

    fn save_state(&mut self) -> Result<Vec<u8>, GuestError> {
        Ok(Vec::new())
    }

    fn load_state(&mut self, _: &[u8]) -> Result<(), GuestError> {
        Ok(())
    }
}

/// The report, and whether the guest runs at the source.
fn moved(stray_at: usize, stray: &[Run], policy: Box<dyn PassPolicy>, max_passes: u32) -> (Report, bool) {
    let storage = Arc::new(Storage::create(&StorageOptions::small(PAGES * 4096)).unwrap());
    (0..PAGES).for_each(|page| storage.write_page(PageNumber(page), &[7; 4096]));
    let mut guest = Still::new(storage, stray_at, stray);
    let mut factory = InNewStorage(|storage| Ok(Still::new(storage, usize::MAX, &[])));
    let options = SourceOptions {
        verify: false,
        run_after: std::time::Duration::ZERO,
        limits: Limits { max_passes, ..Limits::default() },
        policy,
        ..SourceOptions::new(MemberName::new("HERE").unwrap())
    };
    let report = relocate_in_process(&mut guest, &mut factory, options, &Silent).unwrap();
    (report, guest.running)
}

/// Never decides.
struct Undecided;

impl PassPolicy for Undecided {
    fn name(&self) -> &'static str {
        "undecided"
    }

    fn judge(&self, _: &PassHistory) -> Verdict {
        Verdict::AnotherPass
    }
}

/// Decides at once.
struct AtOnce;

impl PassPolicy for AtOnce {
    fn name(&self) -> &'static str {
        "at-once"
    }

    fn judge(&self, history: &PassHistory) -> Verdict {
        let predicted_ms = self.predicted_quiesce_ms(history);
        Verdict::Quiesce(Reason::PassLimit { passes: 1, predicted_ms })
    }
}

#[test]
fn pages_outside_of_storage_end_the_move_and_the_guest_runs_on() {
    let strays: [&[Run]; 4] = [
        &[Run::new(PAGES, 1)],
        &[Run::new(0, 1), Run::new(PAGES - 1, 2)],
        &[Run::new(1 << 50, 1 << 13)],
        // Its end is beyond any number.
        &[Run::new(u64::MAX, 3)],
    ];
    // Before the first pass, after it, and of the stopped guest.
    for stray_at in 1..=3 {
        for stray in strays {
            let (report, running) = moved(stray_at, stray, Box::new(AtOnce), 30);
            let story = format!("{stray_at} {stray:?}: {:?}", report.finish);
            assert!(report.finish.reason.contains("guest storage has 512 pages"), "{story}");
            assert_eq!(
                (report.finish.code, report.runs_on),
                (FinishCode::InternalError, RunsOn::Source),
                "{story}"
            );
            assert!(running, "{story}");
        }
    }
}

#[test]
fn a_rule_that_never_stops_is_stopped_at_the_pass_limit() {
    for max_passes in [0, 1, 7] {
        let (report, running) = moved(usize::MAX, &[], Box::new(Undecided), max_passes);
        let passes = max_passes.max(1);
        assert!(
            matches!(report.finish.policy_reason, Some(Reason::PassLimit { passes: done, .. }) if done == passes),
            "{:?}",
            report.finish
        );
        assert_eq!((report.runs_on, running), (RunsOn::Destination, false));
        assert_eq!(report.passes.len() as u32, passes + 2);
    }
}
