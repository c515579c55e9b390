//! The control socket of a member: JSON lines each way, mode 0600.
//!
//! ```text
//!   {"command": {"user": "OPERATOR", "text": "QUERY SSI"}}   ──▶
//!                             ◀── {"response": {"code": 0, "lines": ["SSI Name: DEMOSSI", …], "data": "{…}"}}
//!   {"listen": {"history": 20}}                              ──▶
//!                             ◀── {"told": "14:13:26 HCPPLM1698I The mode of the SSI cluster is STABLE"}
//! ```
//!
//! Who can open the socket may give commands as any user of the directory: the file's mode is the protection. What is no
//! such line ends the connection, with the reason as an `error` line.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::console::Listener;
use crate::cp::{Cp, Response};
use crate::name::UserId;

/// Connections at once; one more is refused.
pub const CONNECTIONS_MAX: usize = 64;
/// Longest line of a client.
const ASKED_LEN_BYTES_MAX: u64 = 8 << 10;
/// Longest line of a member.
const ANSWER_LEN_BYTES_MAX: u64 = 16 << 20;
/// A client that neither asks nor listens is hung up on.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A client that does not read is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked {
    /// Carry a command out.
    Command {
        /// As whom.
        user: UserId,
        /// The command.
        text: String,
    },
    /// Show what the operators are told from now on.
    Listen {
        /// So many lines of what they were told before.
        history: usize,
    },
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To a command.
    Response(Response),
    /// To those who listen.
    Told(String),
    /// The last line of a connection.
    Error(String),
}

/// Why a member cannot be controlled.
#[derive(Debug, thiserror::Error)]
#[error("control socket {}: {source}", path.display())]
pub struct ControlError {
    path: PathBuf,
    source: std::io::Error,
}

/// Serves the socket in threads of its own until the process ends. The caller has the member's lock, so a socket that is
/// there already is a dead member's.
pub(super) fn serve(path: &Path, cp: &Cp) -> Result<(), ControlError> {
    let failed = |source| ControlError { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let cp = cp.clone();
    let thread = std::thread::Builder::new().name("ssi-control".into());
    thread.spawn(move || accept(&listener, &cp)).map_err(failed)?;
    Ok(())
}

fn accept(listener: &UnixListener, cp: &Cp) {
    let connections = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if cp.mesh.is_stopped() {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: others have to end first.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let _ = stream.set_write_timeout(Some(WRITE_PATIENCE));
        if connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            connections.fetch_sub(1, Ordering::SeqCst);
            let _ = write(&stream, &Answer::Error(format!("{CONNECTIONS_MAX} connections are open already")));
            continue;
        }
        let (cp, count) = (cp.clone(), connections.clone());
        let thread = std::thread::Builder::new().name("ssi-client".into());
        let started = thread.spawn(move || {
            if let Err(why) = serve_client(&stream, &cp) {
                let _ = write(&stream, &Answer::Error(why));
            }
            let _ = stream.shutdown(std::net::Shutdown::Both);
            count.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn serve_client(stream: &UnixStream, cp: &Cp) -> Result<(), String> {
    let mut listens = None;
    let outcome = converse(stream, cp, &mut listens);
    if let Some(number) = listens {
        // Its thread ends with it, though nothing may be told for days.
        cp.console.forget(number);
    }
    outcome
}

/// Answers until the client is done; if it `listens`, its number at the console.
fn converse(stream: &UnixStream, cp: &Cp, listens: &mut Option<u64>) -> Result<(), String> {
    stream.set_read_timeout(Some(IDLE_MAX)).map_err(|error| error.to_string())?;
    let writer = Arc::new(Mutex::new(stream.try_clone().map_err(|error| error.to_string())?));
    let mut reader = BufReader::new(stream);
    loop {
        let asked = match read_line(&mut reader, ASKED_LEN_BYTES_MAX) {
            Ok(Some(line)) => {
                serde_json::from_slice(&line).map_err(|error| format!("not a request: {error}"))?
            }
            Ok(None) => return Ok(()),
            // Who listens may say nothing for as long as he likes.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && listens.is_some() => continue,
            Err(error) => return Err(error.to_string()),
        };
        match asked {
            Asked::Command { user, text } => {
                let issuer = cp.issuer(user).ok_or_else(|| format!("{user} not in CP directory"))?;
                cp.pending.fetch_add(1, Ordering::SeqCst);
                let said = say(&writer, &Answer::Response(cp.execute(&issuer, &text)));
                cp.pending.fetch_sub(1, Ordering::SeqCst);
                said?;
            }
            Asked::Listen { history } if listens.is_none() => {
                let listener = cp.console.listen();
                *listens = Some(listener.number);
                tell(&writer, listener, history)?;
            }
            Asked::Listen { .. } => return Err("it listens already".to_owned()),
        }
    }
}

/// Passes on what operators are told, in a thread of its own, until the listener is forgotten.
fn tell(writer: &Arc<Mutex<UnixStream>>, listener: Listener, history: usize) -> Result<(), String> {
    let Listener { history: lines, news, .. } = listener;
    for line in lines.iter().skip(lines.len().saturating_sub(history)) {
        say(writer, &Answer::Told(line.clone()))?;
    }
    let writer = writer.clone();
    let thread = std::thread::Builder::new().name("ssi-listener".into());
    let started = thread.spawn(move || {
        for line in news {
            if say(&writer, &Answer::Told(line)).is_err() {
                return;
            }
        }
    });
    started.map(drop).map_err(|error| error.to_string())
}

fn say(writer: &Mutex<UnixStream>, answer: &Answer) -> Result<(), String> {
    let stream = writer.lock().expect("no thread panics while it writes");
    write(&stream, answer).map_err(|error| error.to_string())
}

fn write(mut stream: &UnixStream, line: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    stream.write_all(&text)
}

/// A line without its end; `None`: the other side is done.
fn read_line(reader: &mut impl BufRead, len_bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(len_bytes_max).read_until(b'\n', &mut line)?;
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        return Ok(Some(line));
    }
    if read as u64 == len_bytes_max {
        return Err(std::io::Error::other(format!("a line longer than {len_bytes_max} bytes")));
    }
    Ok(None)
}

/// Why a client has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("{member} does not run here (nobody listens at {})", path.display())]
    NotRunning {
        /// Whose socket.
        member: String,
        /// Its path.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("{member}: {source}")]
    Io {
        /// Of whom.
        member: String,
        /// Why.
        source: std::io::Error,
    },
    /// No answer came in time. What was asked for may still happen.
    #[error("{0} has not answered in time")]
    Silent(String),
    /// It said no.
    #[error("{member}: {reason}")]
    Refused {
        /// Who.
        member: String,
        /// Why.
        reason: String,
    },
    /// It hung up.
    #[error("{0} hung up")]
    Gone(String),
}

/// A connection to a member's control socket.
#[derive(Debug)]
pub struct Client {
    member: String,
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects; each answer is waited for at most so long.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`], or what the kernel says.
    pub fn connect(path: &Path, patience: Option<Duration>) -> Result<Self, ClientError> {
        let member = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |source| ClientError::Io { member: member.clone(), source };
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { member: member.clone(), path: path.to_owned() }
            }
            _ => failed(error),
        })?;
        stream.set_read_timeout(patience).map_err(failed)?;
        stream.set_write_timeout(Some(WRITE_PATIENCE)).map_err(failed)?;
        let reader = BufReader::new(stream.try_clone().map_err(failed)?);
        Ok(Self { member, stream, reader })
    }

    /// Says something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ask(&self, asked: &Asked) -> Result<(), ClientError> {
        write(&self.stream, asked).map_err(|source| ClientError::Io { member: self.member.clone(), source })
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// See [`ClientError`]; an error line of the member is [`ClientError::Refused`].
    pub fn hear(&mut self) -> Result<Answer, ClientError> {
        let member = || self.member.clone();
        let line = read_line(&mut self.reader, ANSWER_LEN_BYTES_MAX)
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                    ClientError::Silent(member())
                }
                _ => ClientError::Io { member: member(), source },
            })?
            .ok_or_else(|| ClientError::Gone(member()))?;
        match serde_json::from_slice(&line) {
            Ok(Answer::Error(reason)) => Err(ClientError::Refused { member: member(), reason }),
            Ok(answer) => Ok(answer),
            Err(error) => {
                Err(ClientError::Refused { member: member(), reason: format!("not an answer: {error}") })
            }
        }
    }

    /// Has a command carried out; what the operators are told meanwhile goes to `told`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn command(
        &mut self,
        user: UserId,
        text: &str,
        told: &mut dyn FnMut(String),
    ) -> Result<Response, ClientError> {
        self.ask(&Asked::Command { user, text: text.to_owned() })?;
        loop {
            match self.hear()? {
                Answer::Response(response) => return Ok(response),
                Answer::Told(line) => told(line),
                Answer::Error(_) => {}
            }
        }
    }

    /// For those who read and write in different threads.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn sender(&self) -> Result<ClientSender, ClientError> {
        let failed = |source| ClientError::Io { member: self.member.clone(), source };
        let stream = self.stream.try_clone().map_err(failed)?;
        Ok(ClientSender { member: self.member.clone(), stream })
    }
}

/// The sending half of a [`Client`].
#[derive(Debug)]
pub struct ClientSender {
    member: String,
    stream: UnixStream,
}

impl ClientSender {
    /// Says something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn ask(&self, asked: &Asked) -> Result<(), ClientError> {
        write(&self.stream, asked).map_err(|source| ClientError::Io { member: self.member.clone(), source })
    }
}
