//! Every command in the README's `sh` blocks is run, as a reader would run it.
//!
//! - `cargo run --release --` and `./target/release/lgr` become the `lgr` that was built for this test; no
//!   cargo is ever run from here. What cannot be run is printed as `skipped: …`.
//! - A line `# on another machine` sends the next command to the background: it listens, and the command
//!   after it calls. Addresses and the shared directory of the README become ones of this machine.
//! - `# exit code N` or `# exit code N or M` at the end of a command is what it must end with; without it, 0.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A command of the README that goes on longer is hung.
const PATIENCE: Duration = Duration::from_secs(180);

/// One command of a `sh` block.
#[derive(Debug, PartialEq)]
struct Step {
    words: String,
    exit_codes: Vec<i32>,
    elsewhere: bool,
}

fn steps_of(readme: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut inside, mut elsewhere) = (false, false);
    for line in readme.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            "# on another machine" if inside => elsewhere = true,
            text if inside && !text.is_empty() && !text.starts_with('#') => {
                let (words, comment) = text.split_once(" # ").unwrap_or((text, ""));
                let exit_codes = comment.trim().strip_prefix("exit code ").unwrap_or("0");
                steps.push(Step {
                    words: words.trim().to_owned(),
                    exit_codes: exit_codes.split(" or ").map(|code| code.parse().unwrap()).collect(),
                    elsewhere: std::mem::take(&mut elsewhere),
                });
            }
            _ => {}
        }
    }
    steps
}

/// Where the commands run: a directory of their own, with the `lgr` of this build first in the path.
struct Bench {
    room: tempfile::TempDir,
    port: u16,
}

impl Bench {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        for dir in ["bin", "shared", "work"] {
            fs::create_dir(room.path().join(dir)).unwrap();
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lgr"), room.path().join("bin/lgr")).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        Self { room, port }
    }

    /// The words as they are run here, or why they cannot be.
    fn localized(&self, words: &str) -> Result<String, String> {
        let here = format!("127.0.0.1:{}", self.port);
        let shared = self.room.path().join("shared");
        let words = words
            .replace("cargo run --release -- ", "lgr ")
            .replace("./target/release/lgr", "lgr")
            .replace("192.0.2.7:7000", &here)
            .replace("0.0.0.0:7000", &here)
            .replace("/mnt/shared", &shared.display().to_string());
        if let Some(example) = words.strip_prefix("cargo run --release --example ") {
            let built = examples_dir().join(example);
            let missing = format!("the example {example} is built by `cargo test` without `--test`");
            return if built.exists() { Ok(built.display().to_string()) } else { Err(missing) };
        }
        if words.starts_with("cargo ") {
            return Err("cargo is not run from a test of its own".to_owned());
        }
        Ok(words)
    }

    fn start(&self, words: &str, output: &Path) -> Child {
        let path = format!("{}:{}", self.room.path().join("bin").display(), std::env::var("PATH").unwrap());
        let output = fs::File::create(output).unwrap();
        Command::new("sh")
            .args(["-c", words])
            .env("PATH", path)
            .current_dir(self.room.path().join("work"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap()
    }
}

fn examples_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_lgr")).with_file_name("examples")
}

/// The exit code; the whole process group is killed if there is none in time.
fn exit_code_of(child: &mut Child) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let group = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = child.wait();
    None
}

fn wait_for(text: &str, output: &Path, child: &mut Child) {
    let started = Instant::now();
    while !fs::read_to_string(output).unwrap_or_default().contains(text) {
        let ended = child.try_wait().unwrap();
        let waited = started.elapsed();
        if ended.is_some() || waited > PATIENCE {
            let said = fs::read_to_string(output).unwrap_or_default();
            panic!("no '{text}' after {waited:?} ({ended:?}): {said}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Checks how a command ended. A machine that is too small for it is no fault of the README.
fn settle(step: &Step, child: &mut Child, output: &Path, started: Instant) {
    let code = exit_code_of(child);
    let said = fs::read_to_string(output).unwrap_or_default();
    if code == Some(1) && said.contains("bytes needed, but only") {
        println!("skipped: {}: this machine has too little memory for it", step.words);
        return;
    }
    let expected = code.is_some_and(|code| step.exit_codes.contains(&code));
    assert!(expected, "{} ended with {code:?}:\n{said}", step.words);
    println!("{:6.1} s  {}", started.elapsed().as_secs_f64(), step.words);
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let steps = steps_of(&readme);
    assert!(steps.len() >= 10, "the README has more commands than these: {steps:?}");
    let bench = Bench::new();
    let mut waiting: Option<(Step, Child, PathBuf, Instant)> = None;
    for (number, step) in steps.into_iter().enumerate() {
        let words = match bench.localized(&step.words) {
            Ok(words) => words,
            Err(why) => {
                println!("skipped: {}: {why}", step.words);
                continue;
            }
        };
        let started = Instant::now();
        let output = bench.room.path().join(format!("output-{number}"));
        let mut child = bench.start(&words, &output);
        if step.elsewhere {
            wait_for("listening on", &output, &mut child);
            waiting = Some((step, child, output, started));
            continue;
        }
        settle(&step, &mut child, &output, started);
        if let Some((step, mut child, output, started)) = waiting.take() {
            settle(&step, &mut child, &output, started);
        }
    }
    assert!(waiting.is_none(), "the README's last command waits for a call that never comes");
}

#[test]
fn commands_exit_codes_and_places_are_read_from_the_blocks() {
    let text = "```text\nno\n```\n```sh\n# on another machine\na --b\n\nc | d   # exit code 1\n# why\ne # exit code 0 or 2\n```\nf\n";
    let step = |words: &str, exit_codes: &[i32], elsewhere| Step {
        words: words.to_owned(),
        exit_codes: exit_codes.to_vec(),
        elsewhere,
    };
    let expected = [step("a --b", &[0], true), step("c | d", &[1], false), step("e", &[0, 2], false)];
    assert_eq!(steps_of(text), expected);
}
