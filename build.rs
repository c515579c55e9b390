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
    println!("cargo::rerun-if-env-changed=LGR_GIT_REVISION");
    let number = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match revision() {
        Some(revision) => {
            println!("cargo::rustc-env=LGR_SOURCE_REVISION={revision}");
            println!("cargo::rustc-env=LGR_VERSION={number} ({revision})");
        }
        None => println!("cargo::rustc-env=LGR_VERSION={number}"),
    }
}

/// What the repository says; without one, or without git, what whoever builds it says.
fn revision() -> Option<String> {
    // A copy inside another repository (vendored, say) has none of its own.
    let is_ours = git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| is_ours) else {
        let told = std::env::var("LGR_GIT_REVISION").ok();
        return told
            .filter(|text| text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-'));
    };
    for place in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", place]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(SOURCES);
    let modified = git(&status).is_none_or(|changes| !changes.is_empty());
    Some(format!("{head}{}", if modified { "-modified" } else { "" }))
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
