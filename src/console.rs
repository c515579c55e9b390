//! `lgr console`: what a member's operators are told, as it comes, and commands.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context;
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use ssi::node::{Answer, Asked, Client, ClientError};
use ssi::{SystemName, UserId};

use crate::cluster::ClusterArg;
use crate::progress::print;

/// Options of `lgr console`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The member
    member: SystemName,

    #[command(flatten)]
    cluster: ClusterArg,

    /// The user that gives the commands
    #[arg(long, default_value = "OPERATOR", value_name = "USERID")]
    user: UserId,

    /// So many lines of what was told before
    #[arg(long, default_value_t = 20, value_name = "LINES")]
    history: usize,

    /// Go on when standard input has ended, until the member stops
    #[arg(long)]
    follow: bool,
}

/// Runs the command until its input ends or the member stops.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = args.cluster.open()?;
    let client = Client::connect(&dir.control_socket(args.member), None)?;
    client.ask(&Asked::Listen { history: args.history })?;
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        let path = dir.run().join(format!("{}.history", args.member));
        interactive(args, client, &path)
    } else {
        piped(args, client)
    }
}

/// Shows what the member says until it hangs up; tells of each response.
fn show(mut client: Client, mut out: impl FnMut(String) + Send + 'static) -> Receiver<bool> {
    let (responded, responses) = channel();
    std::thread::spawn(move || {
        loop {
            match client.hear() {
                Ok(Answer::Told(line)) => out(format!("{line}\n")),
                Ok(Answer::Response(response)) => {
                    response.lines.iter().for_each(|line| out(format!("{line}\n")));
                    out(if response.code == 0 { "Ready;\n" } else { "Refused;\n" }.to_owned());
                    if responded.send(response.code == 0).is_err() {
                        return;
                    }
                }
                Ok(Answer::Error(_)) | Err(ClientError::Gone(_)) => {
                    return out("(the member has stopped)\n".to_owned());
                }
                Err(error) => return out(format!("{error}\n")),
            }
        }
    });
    responses
}

/// Whether a command is one that a password is part of: it is not kept.
fn has_password(text: &str) -> bool {
    text.split_whitespace().any(|word| word.eq_ignore_ascii_case("LOGON"))
}

/// Standard input is a file or a pipe: one command after the other.
fn piped(args: &Args, client: Client) -> anyhow::Result<ExitCode> {
    let writer = client.sender()?;
    let responses = show(client, |text| print(&text));
    let mut all_good = true;
    for line in std::io::stdin().lock().lines() {
        let text = line.context("standard input")?;
        if text.trim().is_empty() {
            continue;
        }
        writer.ask(&Asked::Command { user: args.user, text })?;
        match responses.recv() {
            Ok(good) => all_good &= good,
            Err(_) => return Ok(ExitCode::FAILURE),
        }
    }
    if args.follow {
        while responses.recv().is_ok() {}
    } else {
        // What was told before is still on its way if there was no command.
        let _ = responses.recv_timeout(Duration::from_millis(200));
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A terminal: lines can be edited and called back, and what comes meanwhile is shown above them.
fn interactive(args: &Args, client: Client, history: &std::path::Path) -> anyhow::Result<ExitCode> {
    let mut editor = DefaultEditor::new()?;
    let _ = editor.load_history(history);
    let mut printer = editor.create_external_printer()?;
    let writer = client.sender()?;
    let responses = show(client, move |text| drop(printer.print(text)));
    let outcome = loop {
        match editor.readline(&format!("{}> ", args.member)) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) if ["exit", "quit"].contains(&text.trim()) => break Ok(ExitCode::SUCCESS),
            Ok(text) => {
                if !has_password(&text) {
                    let _ = editor.add_history_entry(&text);
                }
                let asked = writer.ask(&Asked::Command { user: args.user, text });
                if asked.is_err() || responses.recv().is_err() {
                    break Err(anyhow::anyhow!("{} has stopped", args.member));
                }
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => break Ok(ExitCode::SUCCESS),
            Err(error) => break Err(error.into()),
        }
    };
    let _ = editor.save_history(history);
    outcome
}
