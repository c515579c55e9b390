//! HELP.

use super::words::{Words, spells};
use super::{COMMANDS, Classes, Cp, Issuer, Outcome, Refusal, Response};

pub(super) fn run(_: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let Some(name) = words.next() else { return Ok(overview(issuer)) };
    words.end()?;
    let command = COMMANDS.iter().find(|command| spells(command.name, name));
    let command = command.ok_or_else(|| Refusal::new(1, format!("Unknown CP command: {name}")))?;
    Ok(Response::lines(vec![
        command.syntax.to_owned(),
        command.help.to_owned(),
        format!("Privilege class: {}", command.classes),
    ]))
}

fn overview(issuer: &Issuer) -> Response {
    let mut lines = vec!["Commands that this user may give (HELP command tells more):".to_owned()];
    for command in &COMMANDS {
        if command.classes == Classes::ANY || command.classes.meet(issuer.classes) {
            lines.push(format!("  {}", command.syntax));
        }
    }
    Response::lines(lines)
}
