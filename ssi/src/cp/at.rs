//! AT: a command for another member.

use super::words::{Words, spells};
use super::{Cp, Issuer, Outcome, Refusal};
use crate::name::SystemName;

pub(super) fn run(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let member: SystemName = words.value("a member's name")?;
    if !words.accept("CMD") {
        return Err(Refusal::new(26, "Operand missing or invalid: CMD"));
    }
    let command = words.rest();
    if command.is_empty() {
        return Err(Refusal::new(26, "Operand missing or invalid: a command"));
    }
    if is_at(command) {
        return Err(Refusal::plain("AT is not carried on by another AT"));
    }
    call(cp, issuer, member, command)
}

/// Whether the command is AT itself, which could go round for ever.
fn is_at(command: &str) -> bool {
    let mut words = Words::new(command);
    let mut first = words.next();
    while first.is_some_and(|word| spells("#CP", word)) {
        first = words.next();
    }
    first.is_some_and(|word| spells("AT", word))
}

/// Has `member` carry the command out.
pub(super) fn call(cp: &Cp, issuer: &Issuer, member: SystemName, command: &str) -> Outcome {
    cp.slot_of(member)?;
    if member == cp.member() {
        return Ok(cp.execute(issuer, command));
    }
    cp.remote.call(issuer, member, command)
}
