//! A stop rule of your own: first against others on the same recorded guest, then in a relocation.
//!
//! Run it: `cargo run --release --example own_policy`

#![allow(clippy::print_stdout)]

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use guest_mem::{ContentMix, Pattern, Storage, StorageOptions, TrackerChoice, WorkloadOptions};
use lgr_engine::driver::{Cancel, SourceOptions, relocate_in_process};
use lgr_engine::event::Silent;
use lgr_engine::guest::Guest;
use lgr_engine::owner::{GuestName, MemberName};
use lgr_engine::policy::{Limits, PassHistory, PassPolicy, PolicyChoice, Reason, Verdict};
use lgr_engine::replay::{Model, replay};
use lgr_engine::report::{RunsOn, table};
use lgr_engine::trace::{RecordOptions, Trace, record};
use lgr_engine::workload::{Workload, WorkloadFactory};

/// Go on for as long as a pass halves what is left: beyond that, another one buys little.
struct WhileItHalves;

impl PassPolicy for WhileItHalves {
    fn name(&self) -> &'static str {
        "while-it-halves"
    }

    fn judge(&self, history: &PassHistory) -> Verdict {
        let Some(last) = history.passes.last() else { return Verdict::AnotherPass };
        let halved = last.dirty_pages_after > 0 && last.dirty_pages_after * 2 <= last.pages;
        if halved && history.passes.len() < history.limits.max_passes as usize {
            return Verdict::AnotherPass;
        }
        let text = format!("pass {} left {} of {} pages", last.number, last.dirty_pages_after, last.pages);
        let reason = Reason::Other { policy: self.name().to_owned(), text };
        // Keeps MAXQUIESCE and MAXTOTAL, whatever the rule above says.
        history.quiesce_or_give_up(history.predicted_quiesce_ms(1.0), reason)
    }
}

fn main() -> anyhow::Result<()> {
    let workload = WorkloadOptions {
        pattern: Pattern::Uniform,
        dirty_rate_bytes_per_s: 40 << 20,
        working_set_bytes: Some(16 << 20),
        touched_bytes: 64 << 20,
        content: ContentMix::Random,
        seed: 1,
        vcpus: 1,
    };
    let storage = Storage::create(&StorageOptions::small(64 << 20))?;
    let mut guest = Workload::build(Arc::new(storage), workload, TrackerChoice::Auto, &|_| ())?;
    guest.resume()?;

    // `lgr record` and `lgr replay --policy` do the same with files.
    let options = RecordOptions {
        guest: GuestName::new("GUEST")?,
        every: Duration::from_millis(2),
        duration: Duration::from_secs(1),
        description: String::new(),
    };
    let mut file = Vec::new();
    record(&mut guest, &options, &mut file, &Cancel::new())?;
    let trace = Trace::read(&file[..])?;
    let rate = NonZeroU64::new(200 << 20).unwrap_or(NonZeroU64::MAX);
    let model = Model { rate_bytes_per_s: rate, fixed_cost: Duration::from_millis(3) };
    println!("{:<16} passes   total ms  quiesce ms  finish", "rule");
    let others = ["default", "fixed-passes:3", "threshold:30"].map(|name| name.parse::<PolicyChoice>());
    let others = others.into_iter().map(|choice| choice.map(|choice| choice.build()));
    for policy in others.chain([Ok(Box::new(WhileItHalves) as Box<dyn PassPolicy>)]) {
        let report = replay(&trace, &model, Limits::default(), policy?);
        let (total_ms, quiesce_ms) = (report.total_ms.unwrap_or(0.0), report.quiesce_ms.unwrap_or(0.0));
        let (rule, passes, finish) = (&report.policy, report.passes.len(), &report.finish.name);
        println!("{rule:<16} {passes:>6} {total_ms:>10.1} {quiesce_ms:>11.1}  {finish}");
    }

    let here = SourceOptions::new(MemberName::new("HERE")?);
    let options = SourceOptions { policy: Box::new(WhileItHalves), ..here };
    let report = relocate_in_process(&mut guest, &mut WorkloadFactory::new(false), options, &Silent)?;
    print!("\n{}", table::render(&report));
    anyhow::ensure!(report.runs_on == RunsOn::Destination, "the guest did not move");
    Ok(())
}
