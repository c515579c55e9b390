//! HELP.

use super::words::Words;
use super::{COMMANDS, Command, Cp, Issuer, Outcome, Response, unknown};

pub(super) fn run(_: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let Some(name) = words.next() else { return Ok(overview(issuer)) };
    let mut command = Command::find(&COMMANDS, name, issuer).ok_or_else(|| unknown(name))?;
    // Of a command without parts, operands are in its syntax.
    if let Some(operand) = words.next()
        && !command.parts.is_empty()
    {
        let part = Command::find(command.parts, operand, issuer);
        command = part.ok_or_else(|| unknown(&format!("{} {operand}", name.to_uppercase())))?;
    }
    let mut lines = vec![command.syntax.to_owned(), command.help.to_owned()];
    lines.extend(parts(command, issuer));
    lines.push(format!("Privilege class: {}", command.classes));
    Ok(Response::lines(lines))
}

/// The syntax of each part that this issuer may use.
fn parts(command: &'static Command, issuer: &Issuer) -> impl Iterator<Item = String> {
    command.parts.iter().filter(|part| part.is_for(issuer)).map(|part| format!("  {}", part.syntax))
}

fn overview(issuer: &Issuer) -> Response {
    let mut lines = vec!["Commands that this user may give (HELP command tells more):".to_owned()];
    for command in COMMANDS.iter().filter(|command| command.is_for(issuer)) {
        if command.parts.is_empty() {
            lines.push(format!("  {}", command.syntax));
        }
        lines.extend(parts(command, issuer));
    }
    Response::lines(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(classes: &str) -> Issuer {
        Issuer { user: crate::UserId::new("SOMEBODY").unwrap(), classes: classes.parse().unwrap() }
    }

    #[test]
    fn everybody_is_shown_what_he_may_do_and_no_more() {
        let all = overview(&issuer("ABCDEFG")).lines.join("\n");
        for command in COMMANDS.iter().flat_map(|command| match command.parts {
            [] => std::slice::from_ref(command),
            parts => parts,
        }) {
            assert!(all.contains(command.syntax), "{}", command.syntax);
            let syntax = command.syntax.to_uppercase();
            assert!(command.name.split('|').any(|name| syntax.contains(&name.to_uppercase())));
        }
        let little = overview(&issuer("G")).lines.join("\n");
        assert!(little.contains("Query NAmes") && !little.contains("SSI") && !little.contains("SHUTDOWN"));
    }

    #[test]
    fn no_two_commands_go_by_one_name() {
        for table in [&COMMANDS[..], COMMANDS.iter().find(|command| command.name == "Query").unwrap().parts] {
            for command in table {
                for name in command.name.to_uppercase().split('|') {
                    let found = Command::find(table, name, &issuer("ABCDEFG")).unwrap();
                    assert_eq!(found.name, command.name);
                }
            }
        }
    }
}
