//! Tells the program which revision of its source it is built from, so that results can name it.

use std::process::Command;

/// Where a change makes the program another one.
const SOURCES: [&str; 7] =
    ["src", "lgr-engine/src", "isfc/src", "guest-mem/src", "ssi/src", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    // Not from a repository, or no git: the revision stays unknown.
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    for place in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", place]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(SOURCES);
    let modified = git(&status).is_none_or(|changes| !changes.is_empty());
    println!("cargo::rustc-env=LGR_SOURCE_REVISION={head}{}", if modified { "-modified" } else { "" });
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
