//! CP commands: what operators and users may say to a member, and what it answers.
//!
//! ```text
//!   control socket ─┐                        ┌─ query, at, users, ssi, islink: one file per family
//!   console        ─┼─▶ Cp::execute(issuer, "QUERY SSI") ─▶ table ─▶ class check ─▶ command ─▶ Response
//!   AT, a peer     ─┘                        └─ Handle (the core), Mesh (the links), Directory (users)
//! ```
//!
//! A command is found by its name or an abbreviation, its issuer must have one of its privilege classes, and its response
//! is lines in z/VM's layout, a return code (0, or the number of the message that refuses it) and the same as data.
//!
//! Message numbers and texts are CP's where they are known; a message of our own has no number.

mod at;
mod class;
mod help;
mod islink;
mod query;
mod remote;
mod set;
mod users;
mod words;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

pub use class::{ClassError, Classes};
use serde::{Deserialize, Serialize};
pub use words::COMMAND_LEN_BYTES_MAX;
use words::Words;

use crate::config::Effective;
use crate::name::{Slot, SystemName, UserId};
use crate::node::{CallError, ClusterDir, Console, Handle, Mesh, Users};

/// How long a command waits for what the cluster must do for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who gives a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// The user.
    pub user: UserId,
    /// What the user may do.
    pub classes: Classes,
}

/// What a command gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// 0, or the number of the message that refuses the command (1 if it has none).
    pub code: u32,
    /// In z/VM's layout.
    pub lines: Vec<String>,
    /// The same as data, as JSON text.
    pub data: String,
}

impl Response {
    fn lines(lines: Vec<String>) -> Self {
        Self { code: 0, lines, data: "null".to_owned() }
    }

    fn line(line: impl Into<String>) -> Self {
        Self::lines(vec![line.into()])
    }

    fn with_data(self, data: &impl Serialize) -> Self {
        Self { data: serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned()), ..self }
    }
}

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    number: u32,
    text: String,
}

impl Refusal {
    /// With the number of CP's message.
    fn new(number: u32, text: impl Into<String>) -> Self {
        Self { number, text: text.into() }
    }

    /// A message of our own.
    fn plain(text: impl Into<String>) -> Self {
        Self::new(0, text)
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::plain(match error {
            CallError::TimedOut(_) => format!("{error}; it may still be done"),
            CallError::Stopped => "this member has stopped".to_owned(),
        })
    }
}

type Outcome = Result<Response, Refusal>;

/// One command, or one part of a command of many.
struct Command {
    /// Its shortest form in capitals.
    name: &'static str,
    classes: Classes,
    syntax: &'static str,
    help: &'static str,
    /// Its parts, by their first operand, each with classes of its own.
    parts: &'static [Command],
    run: fn(&Cp, &Issuer, &mut Words<'_>) -> Outcome,
}

impl Command {
    /// The one of this name that the issuer may give: what somebody may not do does not exist for him, as CP has it.
    fn find(all: &'static [Self], name: &str, issuer: &Issuer) -> Option<&'static Self> {
        all.iter().find(|command| words::spells(command.name, name)).filter(|command| command.is_for(issuer))
    }

    fn is_for(&self, issuer: &Issuer) -> bool {
        self.classes == Classes::ANY || self.classes.meet(issuer.classes)
    }
}

static COMMANDS: [Command; 13] = [
    Command {
        name: "ACTivate",
        classes: Classes::of("B"),
        syntax: "ACTivate ISLINK rdev [rdev ...] [NODe member] [BUffers n]",
        help: "Takes devices that were deactivated back into their logical link. Up to 16; NODE is checked, BUFFERS has no effect.",
        parts: &[],
        run: islink::activate,
    },
    Command {
        name: "AT",
        classes: Classes::of("ABC"),
        syntax: "AT member CMD command",
        help: "Has another member carry a command out, and shows its response.",
        parts: &[],
        run: at::run,
    },
    Command {
        // CP's own spelling, and the one that everybody tries first.
        name: "DEACTive|DEACTIVAte",
        classes: Classes::of("B"),
        syntax: "DEACTIVAte ISLINK rdev [rdev ...]",
        help: "Takes devices out of their logical link. The last one takes the link with it.",
        parts: &[],
        run: islink::deactivate,
    },
    Command {
        name: "FORCE",
        classes: Classes::of("A"),
        syntax: "FORCE userid [LOGOFF] [IMMED]",
        help: "Logs a user off, wherever in the cluster it is logged on.",
        parts: &[],
        run: users::force,
    },
    Command {
        name: "Help",
        classes: Classes::ANY,
        syntax: "Help [command [operand]]",
        help: "Shows the commands that the user may give, or one of them.",
        parts: &[],
        run: help::run,
    },
    Command {
        name: "LOGOFF",
        classes: Classes::ANY,
        syntax: "LOGOFF",
        help: "Logs the user off that gives the command.",
        parts: &[],
        run: users::logoff,
    },
    Command {
        name: "LOGON",
        classes: Classes::ANY,
        syntax: "LOGON userid password",
        help: "Logs a user on at this member.",
        parts: &[],
        run: users::logon,
    },
    Command {
        name: "Query",
        classes: Classes::ANY,
        syntax: "Query operand",
        help: "Shows something, by its operand:",
        parts: &query::QUERIES,
        run: query::run,
    },
    Command {
        name: "SET",
        classes: Classes::of("B"),
        syntax: "SET SSI {member DOWN | TIMEOUTS {ON | OFF} | PDR_VOLUME volid}",
        help: "Declares a member down that has stopped; turns cross-system timeouts on or off; moves the persistent data record.",
        parts: &[],
        run: set::run,
    },
    Command {
        name: "SHUTDOWN",
        classes: Classes::of("A"),
        syntax: "SHUTDOWN",
        help: "Leaves the cluster and stops this member.",
        parts: &[],
        run: set::shutdown,
    },
    Command {
        name: "XAUTOLOG",
        classes: Classes::of("ABG"),
        syntax: "XAUTOLOG userid",
        help: "Logs a user on at this member, disconnected. With class G only: a user whose AUTOLOG statement names the issuer.",
        parts: &[],
        run: users::xautolog,
    },
    Command {
        name: "ABEND",
        classes: Classes::of("A"),
        syntax: "ABEND",
        help: "Stops this member at once, without leaving the cluster (for tests; a command of our own).",
        parts: &[],
        run: set::abend,
    },
    Command {
        name: "#CP",
        classes: Classes::ANY,
        syntax: "#CP command",
        help: "The same as the command.",
        parts: &[],
        run: |cp, issuer, words| cp.dispatch(issuer, words),
    },
];

/// What commands work on.
#[derive(Clone, Debug)]
pub struct Cp {
    /// The configuration of this member.
    pub effective: Arc<Effective>,
    /// The cluster's directory.
    pub dir: ClusterDir,
    /// The core.
    pub handle: Handle,
    /// The links.
    pub mesh: Arc<Mesh>,
    /// What operators are told.
    pub console: Arc<Console>,
    /// Who may log on.
    pub users: Arc<dyn Users>,
    /// When this member started.
    pub started: SystemTime,
    /// Commands that have no response yet.
    pub(crate) pending: Arc<AtomicUsize>,
    remote: Arc<remote::Remote>,
}

impl Cp {
    /// Commands for a member that has these parts.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(
        effective: Arc<Effective>,
        dir: ClusterDir,
        handle: Handle,
        mesh: Arc<Mesh>,
        console: Arc<Console>,
        users: Arc<dyn Users>,
    ) -> std::io::Result<Self> {
        let remote = remote::Remote::open(&mesh)?;
        let cp = Self {
            effective,
            dir,
            handle,
            mesh,
            console,
            users,
            started: SystemTime::now(),
            pending: Arc::default(),
            remote,
        };
        cp.remote.serve(&cp)?;
        Ok(cp)
    }

    /// This member.
    pub fn member(&self) -> SystemName {
        self.effective.member
    }

    /// Who may give commands as this user; `None`: nobody of that name is in the directory.
    pub fn issuer(&self, user: UserId) -> Option<Issuer> {
        self.users.find(user).map(|entry| Issuer { user, classes: entry.classes })
    }

    /// Carries a command out.
    pub fn execute(&self, issuer: &Issuer, command: &str) -> Response {
        if command.len() > COMMAND_LEN_BYTES_MAX {
            return refuse(Refusal::plain(format!("a command has at most {COMMAND_LEN_BYTES_MAX} bytes")));
        }
        if command.chars().any(char::is_control) {
            return refuse(Refusal::plain("a command has no control characters"));
        }
        self.dispatch(issuer, &mut Words::new(command)).unwrap_or_else(refuse)
    }

    fn dispatch(&self, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
        let Some(name) = words.next() else { return Ok(Response::lines(Vec::new())) };
        let command = Command::find(&COMMANDS, name, issuer).ok_or_else(|| unknown(name))?;
        let outcome = (command.run)(self, issuer, words);
        // An answer that was put together when the member still ran need not be true any more. That it stops, is; what another
        // member says, and what #CP has carried out, has been looked at there.
        let stays_true = matches!(command.name, "SHUTDOWN" | "ABEND" | "AT" | "#CP");
        if !stays_true && self.handle.has_stopped() {
            return Err(CallError::Stopped.into());
        }
        outcome
    }

    /// The slot of a member, by its name.
    fn slot_of(&self, member: SystemName) -> Result<Slot, Refusal> {
        let slot = self.effective.ssi.as_ref().and_then(|ssi| ssi.slot_of(member));
        slot.ok_or_else(|| Refusal::plain(format!("{member} is not a member of this cluster")))
    }

    /// Name of the member in a slot.
    fn member_in(&self, slot: Slot) -> Option<SystemName> {
        self.effective.ssi.as_ref()?.members().find(|(of, _)| *of == slot).map(|(_, name)| name)
    }

    /// The same for a message: its name, or the number of an empty slot.
    fn member_text(&self, slot: Slot) -> String {
        self.member_in(slot).map_or_else(|| format!("slot {slot}"), |name| name.to_string())
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(1, format!("Unknown CP command: {name}"))
}

fn refuse(refusal: Refusal) -> Response {
    let Refusal { number, text } = refusal;
    let line = if number == 0 { text.clone() } else { format!("HCP{number:03}E {text}") };
    let data = serde_json::json!({ "error": text });
    Response { code: number.max(1), lines: vec![line], data: data.to_string() }
}
