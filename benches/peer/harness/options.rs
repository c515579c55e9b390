//! The command line.

use std::path::PathBuf;

use clap::Parser;
use lgr::results::check_machine_name;

/// lgr and QEMU side by side, with pass or fail for each line of the table of limits.
#[derive(Clone, Debug, Parser)]
#[command(name = "peer")]
pub(crate) struct Options {
    /// List the scenarios and what they decide
    #[arg(long)]
    pub(crate) list: bool,

    /// Print the program that runs in QEMU
    #[arg(long)]
    pub(crate) listing: bool,

    /// Measure these scenarios only
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub(crate) scenario: Vec<String>,

    /// Runs of each contestant, at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub(crate) runs: u32,

    /// Minutes for all scenarios together; each takes its share and makes at least 3 runs
    #[arg(long, default_value_t = 25.0, value_parser = minutes, value_name = "M")]
    pub(crate) minutes: f64,

    /// Guests of a quarter of the size, 3 runs: to see that everything works, written beside the real results
    #[arg(long)]
    pub(crate) quick: bool,

    /// The QEMU to compare with
    #[arg(long, default_value = "qemu-system-x86_64", value_name = "PROGRAM")]
    pub(crate) qemu: PathBuf,

    /// Folder for the results [default: bench-results]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,

    /// Name of the machine, and of its folder [default: its processor and cores]
    #[arg(long, value_parser = check_machine_name, value_name = "NAME")]
    pub(crate) machine: Option<String>,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 24.0 * 60.0 => Ok(minutes),
        _ => Err(format!("'{text}' is no number of minutes up to a day")),
    }
}
