//! `lgr cp`: has a member carry a CP command out.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use ssi::node::Client;
use ssi::{SystemName, UserId};

use crate::cluster::ClusterArg;
use crate::progress::print;

/// Options of `lgr cp`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The member
    member: SystemName,

    /// The command, in one word or several
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,

    #[command(flatten)]
    cluster: ClusterArg,

    /// The user that gives the command
    #[arg(long, default_value = "OPERATOR", value_name = "USERID")]
    user: UserId,

    /// JSON in place of text
    #[arg(long)]
    json: bool,
}

/// A response as programs want it.
#[derive(Serialize)]
struct Output<'a> {
    code: u32,
    lines: &'a [String],
    data: serde_json::Value,
}

/// Longer than any command waits.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs the command: 0 if the member's return code is 0, else 1.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = args.cluster.open()?;
    let mut client = Client::connect(&dir.control_socket(args.member), Some(PATIENCE))?;
    let response = client.command(args.user, &args.command.join(" "), &mut |_| ())?;
    if args.json {
        let data = serde_json::from_str(&response.data).unwrap_or(serde_json::Value::Null);
        let output = Output { code: response.code, lines: &response.lines, data };
        print(&format!("{}\n", serde_json::to_string_pretty(&output)?));
    } else {
        let text: String = response.lines.iter().map(|line| format!("{line}\n")).collect();
        print(&text);
    }
    Ok(if response.code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
