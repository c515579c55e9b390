//! SET SSI, SHUTDOWN, and the end without it.

use super::words::Words;
use super::{Cp, Issuer, Outcome, PATIENCE, Refusal, Response};
use crate::dasd::{Access, attach};
use crate::member::{Command, CommandRefused};
use crate::name::{SystemName, VolumeLabel};
use crate::pdr;

pub(super) fn run(cp: &Cp, _: &Issuer, words: &mut Words<'_>) -> Outcome {
    if !words.accept("SSI") {
        return Err(Refusal::new(3, format!("Invalid option - {}", words.rest())));
    }
    if words.accept("TIMEOUTS") {
        return timeouts(cp, words);
    }
    if words.accept("PDR_VOLume") {
        return pdr_volume(cp, words);
    }
    let member: SystemName = words.value("a member's name, TIMEOUTS or PDR_VOLUME")?;
    if !words.accept("DOWN") {
        return Err(Refusal::new(26, "Operand missing or invalid: DOWN"));
    }
    words.end()?;
    let slot = cp.slot_of(member)?;
    order(cp, Command::SetDown(slot))?;
    Ok(Response::line(format!("SSI system {member} has been declared down.")))
}

fn timeouts(cp: &Cp, words: &mut Words<'_>) -> Outcome {
    let on = words.accept("ON");
    if !on && !words.accept("OFF") {
        return Err(Refusal::new(26, "Operand missing or invalid: ON or OFF"));
    }
    words.end()?;
    order(cp, Command::SetTimeouts(on))?;
    Ok(Response::line(format!("Cross-System Timeouts: {}", if on { "Enabled" } else { "Disabled" })))
}

fn pdr_volume(cp: &Cp, words: &mut Words<'_>) -> Outcome {
    let label: VolumeLabel = words.value("a volume's label")?;
    words.end()?;
    let ssi = cp
        .effective
        .ssi
        .as_ref()
        .ok_or_else(|| Refusal::plain("This system is not a member of an SSI cluster."))?;
    // The move itself would only say that it cannot be done.
    let path = cp.dir.volume(label);
    let attached = attach(&path, Access::Write, label, ssi.name, cp.member());
    let (_, found) = attached.map_err(|error| Refusal::plain(error.to_string()))?;
    pdr::check_room(&path, &found.allocation).map_err(|error| Refusal::plain(error.to_string()))?;
    order(cp, Command::MoveRecord(label))?;
    Ok(Response::line(format!(
        "The persistent data record is on volume {label} now; change PDR_VOLUME in SYSTEM CONFIG."
    )))
}

pub(super) fn shutdown(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    words.end()?;
    cp.console.tell(&format!("SYSTEM SHUTDOWN STARTED by {}", issuer.user));
    order(cp, Command::Leave)?;
    Ok(Response::line(format!("{} has left the cluster.", cp.member())))
}

pub(super) fn abend(cp: &Cp, _: &Issuer, words: &mut Words<'_>) -> Outcome {
    words.end()?;
    cp.handle.abend();
    Ok(Response::line(format!("{} stops.", cp.member())))
}

fn order(cp: &Cp, command: Command) -> Result<(), Refusal> {
    cp.handle.command(command, PATIENCE)?.map_err(|why| in_words(cp, why))
}

fn in_words(cp: &Cp, why: CommandRefused) -> Refusal {
    Refusal::plain(match why {
        CommandRefused::There(slot, state) => format!("{} is {state}", cp.member_text(slot)),
        CommandRefused::Alive(slot) => {
            format!(
                "{} gives signs of life: a member that runs cannot be declared down",
                cp.member_text(slot)
            )
        }
        other => other.to_string(),
    })
}
