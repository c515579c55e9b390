//! `lgr pki`: a CA for a cluster, and certificates for its members.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use isfc::tls::pki::{self, Validity};
use lgr_engine::owner::MemberName;

use crate::options::member_name;
use crate::progress::print;

/// The subcommands of `lgr pki`.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make the CA of a cluster: DIR/ca.pem, and DIR/ca.key, which stays where it is
    Init(InitArgs),
    /// Make a member's certificate, and put what the member needs into one directory
    Issue(IssueArgs),
    /// Show whose certificates these are, how long they are valid, and their fingerprints
    Show(ShowArgs),
}

/// Options of `lgr pki init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Where to put it
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Name of the cluster: 1 to 32 letters, digits, '-', '_' or '.'
    #[arg(long, value_name = "NAME")]
    cluster: String,

    /// How long it is valid
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500), value_name = "N")]
    days: u32,
}

/// Options of `lgr pki issue`.
#[derive(Args, Debug)]
pub(crate) struct IssueArgs {
    /// Where the CA is
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Name of the member, up to 8 characters
    #[arg(value_parser = member_name, value_name = "MEMBER")]
    member: MemberName,

    /// How long it is valid; never longer than the CA
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500), value_name = "N")]
    days: u32,

    /// Where to put ca.pem, cert.pem and key.pem [default: DIR/MEMBER]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Options of `lgr pki show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// A file of certificates, or a directory with cert.pem or ca.pem
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init(args) => {
            pki::create_ca(&args.dir, &args.cluster, Validity::days(args.days))?;
            let dir = args.dir.display();
            print(&format!(
                "{dir}/ca.pem is the CA of cluster {}; keep {dir}/ca.key to yourself\n",
                args.cluster
            ));
        }
        Command::Issue(args) => {
            let out = args.out.clone().unwrap_or_else(|| args.dir.join(args.member.as_str()));
            pki::issue(&args.dir, args.member.as_str(), Validity::days(args.days), &out)?;
            print(&format!("{} has what {} needs: give it with --tls\n", out.display(), args.member));
        }
        Command::Show(args) => {
            let shown = pki::show(&args.path)?;
            if args.json {
                print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
            } else {
                shown.iter().for_each(|certificate| print(&format!("{certificate}\n")));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
