//! Faults on purpose: kill a member, cut or hold a device, at a named step of a relocation.
//!
//! Written `ACTION@STEP`: `kill-source@pass2`, `kill-destination@committed`, `cut:3@pass1`,
//! `cut:all@final`, `hold:5:200ms@pass2`. Each side acts on those that name it; cuts and holds are the
//! source's.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use isfc::Link;

use crate::report::Side;

/// A point in a relocation where a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The guest has been offered.
    Offer,
    /// The destination is ready (its side), or has said so (the source's).
    Accepted,
    /// Pass `n` begins (source) or is about to be confirmed (destination).
    Pass(u32),
    /// The guest has been stopped.
    Quiesce,
    /// The guest's state has been sent (source) or loaded (destination).
    State,
    /// The penultimate pass begins, or is about to be confirmed.
    Penultimate,
    /// The final pass begins.
    Final,
    /// The commit has been asked for (source), or the owner record is about to be changed (destination).
    Commit,
    /// The owner record has been changed, the guest does not run yet (destination only).
    Committed,
    /// The guest runs at the destination; its side has not told the source yet.
    Resumed,
}

/// What is done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process kills itself with SIGKILL.
    Kill(Side),
    /// One device's connection is cut.
    Cut(u8),
    /// All devices' connections are cut.
    CutAll,
    /// The next transfer of a device is held back.
    Hold(u8, Duration),
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is done.
    pub action: Action,
    /// And where.
    pub step: Step,
}

/// Why a text is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no fault: write ACTION@STEP with ACTION kill-source, kill-destination, cut:DEVICE, cut:all or hold:DEVICE:TIMEms, and STEP offer, accepted, passN, quiesce, state, penultimate, final, commit, committed or resumed"
)]
pub struct FaultError(String);

impl FromStr for Step {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        Ok(match text {
            "offer" => Self::Offer,
            "accepted" => Self::Accepted,
            "quiesce" => Self::Quiesce,
            "state" => Self::State,
            "penultimate" => Self::Penultimate,
            "final" => Self::Final,
            "commit" => Self::Commit,
            "committed" => Self::Committed,
            "resumed" => Self::Resumed,
            other => {
                let number = other.strip_prefix("pass").and_then(|number| number.parse().ok());
                Self::Pass(number.ok_or_else(|| FaultError(text.to_owned()))?)
            }
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(number) => write!(f, "pass{number}"),
            other => f.write_str(&format!("{other:?}").to_lowercase()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Kill(Side::Source) => write!(f, "kill-source@{}", self.step),
            Action::Kill(Side::Destination) => write!(f, "kill-destination@{}", self.step),
            Action::Cut(device) => write!(f, "cut:{device}@{}", self.step),
            Action::CutAll => write!(f, "cut:all@{}", self.step),
            Action::Hold(device, time) => write!(f, "hold:{device}:{}ms@{}", time.as_millis(), self.step),
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let bad = || FaultError(text.to_owned());
        let (action, step) = text.split_once('@').ok_or_else(bad)?;
        let step = step.parse().map_err(|_| bad())?;
        let parts: Vec<&str> = action.split(':').collect();
        let action = match parts[..] {
            ["kill-source"] => Action::Kill(Side::Source),
            ["kill-destination"] => Action::Kill(Side::Destination),
            ["cut", "all"] => Action::CutAll,
            ["cut", device] => Action::Cut(device.parse().map_err(|_| bad())?),
            ["hold", device, time] => {
                let time_ms = time.strip_suffix("ms").and_then(|time| time.parse().ok()).ok_or_else(bad)?;
                Action::Hold(device.parse().map_err(|_| bad())?, Duration::from_millis(time_ms))
            }
            _ => return Err(bad()),
        };
        Ok(Self { action, step })
    }
}

/// The faults of one side, and which of them have struck.
#[derive(Debug)]
pub struct Faults {
    side: Side,
    all: Vec<(Fault, Cell<bool>)>,
}

impl Faults {
    /// Those of `faults` that `side` acts on.
    pub fn of(side: Side, faults: &[Fault]) -> Self {
        let ours = |fault: &&Fault| match fault.action {
            Action::Kill(victim) => victim == side,
            Action::Cut(_) | Action::CutAll | Action::Hold(..) => side == Side::Source,
        };
        Self { side, all: faults.iter().filter(ours).map(|fault| (*fault, Cell::new(false))).collect() }
    }

    /// Lets every fault of `step` strike.
    pub fn strike(&self, step: Step, link: &Link) {
        for (fault, struck) in self.all.iter().filter(|(fault, _)| fault.step == step) {
            match fault.action {
                Action::Kill(_) => {
                    let this = rustix::process::getpid();
                    let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
                }
                Action::CutAll => (0..link.devices()).for_each(|device| link.cut_device(device)),
                Action::Cut(device) | Action::Hold(device, _) if device >= link.devices() => continue,
                Action::Cut(device) => link.cut_device(device),
                Action::Hold(device, time) => link.hold_device(device, time),
            }
            struck.set(true);
        }
    }

    /// In words, each fault that never struck: a test that meant to see one should not pass for want of it.
    pub fn missed(&self) -> impl Iterator<Item = String> {
        let missed = self.all.iter().filter(|(_, struck)| !struck.get());
        missed.map(|(fault, _)| {
            let side = self.side.name();
            format!("the fault {fault} did not strike: the {side} never came to that step, or the link has no such device")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_survive_printing() {
        for text in [
            "kill-source@pass2",
            "kill-destination@committed",
            "cut:3@pass1",
            "cut:all@final",
            "hold:5:200ms@pass2",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "kill", "kill-source", "cut:x@pass1", "hold:1:5s@pass1", "cut:1@pass", "cut:1@now"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
