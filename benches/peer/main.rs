//! `cargo bench -p lgr --bench peer`: lgr and QEMU side by side. See README.md beside this file.

mod harness;

use std::process::ExitCode;

fn main() -> ExitCode {
    match harness::run(std::env::args_os(), &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[allow(clippy::print_stderr)]
fn fail(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<clap::Error>() {
        // Help is an error to the parser, with exit code 0.
        Some(usage) => usage.exit(),
        None => eprintln!("peer: {error:#}"),
    }
    ExitCode::FAILURE
}
