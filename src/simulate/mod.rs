//! `lgr simulate`: what a machine that is not here would do, in virtual time.

mod cluster;
mod link;

use std::process::ExitCode;

use clap::Subcommand;

/// What is simulated.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// A logical link over FICON channels, with more to write than it can carry
    Link(link::LinkArgs),
    /// A cluster of four members to which everything happens that can, from one seed after another
    Cluster(cluster::ClusterArgs),
}

/// Runs the subcommand.
pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Link(args) => link::run(args),
        Command::Cluster(args) => cluster::run(args),
    }
}
