//! Guests and factories are anybody's to write: one that panics or gives less than was asked for ends the move with a reason.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use guest_mem::{DirtyTracker, PageNumber, SoftwareBitmap, SoftwareTracker, Storage, StorageOptions};
use lgr_engine::driver::{SourceOptions, relocate_in_process};
use lgr_engine::event::Silent;
use lgr_engine::guest::{Guest, GuestError, GuestFactory};
use lgr_engine::message::Offer;
use lgr_engine::owner::MemberName;
use lgr_engine::report::{FinishCode, Report, RunsOn};

const PAGES: u64 = 512;

/// Panics when it is asked for what `breaks` names.
struct Brittle {
    storage: Arc<Storage>,
    tracker: SoftwareTracker,
    breaks: &'static str,
    running: bool,
}

impl Brittle {
    fn new(len_bytes: u64, breaks: &'static str) -> Self {
        let storage = Arc::new(Storage::create(&StorageOptions::small(len_bytes)).unwrap());
        let tracker = SoftwareTracker::new(SoftwareBitmap::new(storage.pages()).unwrap());
        Self { storage, tracker, breaks, running: false }
    }

    fn may_break(&self, what: &str) {
        assert!(self.breaks != what, "broken {what}");
    }
}

impl Guest for Brittle {
    fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn tracker(&mut self) -> &mut dyn DirtyTracker {
        &mut self.tracker
    }

    fn quiesce(&mut self) -> Result<(), GuestError> {
        self.may_break("quiesce");
        self.running = false;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.running = true;
        Ok(())
    }

    fn save_state(&mut self) -> Result<Vec<u8>, GuestError> {
        self.may_break("save");
        Ok(Vec::new())
    }

    fn load_state(&mut self, _: &[u8]) -> Result<(), GuestError> {
        self.may_break("load");
        Ok(())
    }
}

/// Makes guests that break, or storage of another size.
struct Factory {
    breaks: &'static str,
    len_bytes: u64,
}

impl GuestFactory for Factory {
    fn skeleton(&mut self, _: &Offer, _: &(dyn Fn(u64, u64) + Sync)) -> Result<Box<dyn Guest>, GuestError> {
        assert!(self.breaks != "make", "broken make");
        Ok(Box::new(Brittle::new(self.len_bytes, self.breaks)))
    }
}

fn moved(here: &'static str, there: &'static str, len_bytes_there: u64) -> (Report, bool) {
    let mut guest = Brittle::new(PAGES * 4096, here);
    guest.running = true;
    (0..PAGES).for_each(|page| guest.storage.write_page(PageNumber(page), &[7; 4096]));
    let mut factory = Factory { breaks: there, len_bytes: len_bytes_there };
    let options = SourceOptions {
        verify: false,
        run_after: std::time::Duration::ZERO,
        ..SourceOptions::new(MemberName::new("HERE").unwrap())
    };
    let report = relocate_in_process(&mut guest, &mut factory, options, &Silent).unwrap();
    (report, guest.running)
}

#[test]
fn a_guest_that_is_whole_is_moved() {
    let (report, running) = moved("", "", PAGES * 4096);
    assert_eq!((report.runs_on, running), (RunsOn::Destination, false), "{:?}", report.finish);
}

#[test]
fn a_guest_that_panics_stays_and_runs_on() {
    for (here, there) in [("quiesce", ""), ("save", ""), ("", "load"), ("", "make")] {
        let (report, running) = moved(here, there, PAGES * 4096);
        let story = format!("{here}{there}: {:?}", report.finish);
        assert!(report.finish.reason.contains(&format!("panicked: broken {here}{there}")), "{story}");
        assert_eq!((report.runs_on, running), (RunsOn::Source, true), "{story}");
    }
}

#[test]
fn a_factory_that_gives_less_storage_than_was_offered_refuses_the_move() {
    let (report, running) = moved("", "", PAGES / 2 * 4096);
    let reason = &report.finish.reason;
    assert!(reason.contains("1048576 bytes of storage, the one on offer has 2097152"), "{reason}");
    assert_eq!((report.finish.code, report.runs_on), (FinishCode::NotEligible, RunsOn::Source));
    assert!(running);
}
