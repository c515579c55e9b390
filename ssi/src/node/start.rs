//! Starting a member, and its end.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};

use super::attach::attach_all;
use super::console::Console;
use super::control::{self, ControlError};
use super::dir::{ClusterDir, make_private};
use super::engine::Engine;
use super::fence::{self, End, Ending, EngineLives};
use super::inbox::Handle;
use super::mesh::{Mesh, MeshError, MeshOptions};
use super::volume::{RecordStore, RecordThread};
use super::{Users, clock};
use crate::config::{Effective, SystemConfig};
use crate::cp::Cp;
use crate::member::{Command, Member, Stopped, Timing};
use crate::name::{Slot, SystemName};
use crate::service::{Configuration, Logon, Service};
use crate::source::{Limits, Severity, Source};

/// How long a member waits for its turn to leave.
const LEAVE_PATIENCE: Duration = Duration::from_secs(600);

/// Whoever looks whether a member runs has its lock for an instant.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);

/// How a member runs.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// How long things take.
    pub timing: Timing,
    /// Links may leave the machine unprotected.
    pub insecure_plaintext: bool,
    /// How links are run.
    pub link: isfc::LinkOptions,
    /// What ends the guests, and the process; none: nothing runs in this process that would have to end.
    pub ending: Option<Arc<dyn Ending>>,
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be read, or has errors.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It has no SSI statement.
    #[error("{}: there is no SSI statement: this is not the configuration of a cluster", .0.display())]
    NoCluster(PathBuf),
    /// The configuration has no such member.
    #[error("{}: no slot is {member}'s; there are {}", path.display(), members.join(", "))]
    NoMember {
        /// The file.
        path: PathBuf,
        /// Who was to start.
        member: SystemName,
        /// Who could.
        members: Vec<String>,
    },
    /// It runs already.
    #[error("{member} runs already, as process {pid} ({} is locked)", path.display())]
    Running {
        /// Who.
        member: SystemName,
        /// The process that has the lock.
        pid: String,
        /// The lock.
        path: PathBuf,
    },
    /// A file or directory of the cluster.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// See [`MeshError`].
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// See [`ControlError`].
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The kernel gives no thread.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A member that runs.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    mesh: Arc<Mesh>,
    console: Arc<Console>,
    ended: Receiver<Stopped>,
    control_socket: PathBuf,
    pending: Arc<AtomicUsize>,
    _lock: File,
}

/// What `dir` says of `member`.
///
/// # Errors
/// The first three of [`StartError`].
pub fn effective_of(dir: &ClusterDir, member: SystemName) -> Result<(Slot, Effective), StartError> {
    let path = dir.config();
    let failed = |reason: String| StartError::Config { path: dir.config(), reason };
    let source = Source::read(&path, Limits::CONFIG).map_err(|error| failed(error.to_string()))?;
    let (config, diagnostics) = SystemConfig::parse(&source);
    if diagnostics.has_errors() {
        let first =
            diagnostics.findings(&source).into_iter().find(|finding| finding.severity == Severity::Error);
        let first = first.map_or_else(String::new, |finding| {
            format!(": line {}, column {}: {}", finding.line, finding.column, finding.message)
        });
        return Err(failed(format!("it has errors (lgr cpsyntax shows them all){first}")));
    }
    let effective = config.for_member(member);
    let Some(ssi) = &effective.ssi else { return Err(StartError::NoCluster(path)) };
    let Some(slot) = ssi.slot_of(member) else {
        let members = ssi.members().map(|(_, name)| name.to_string()).collect();
        return Err(StartError::NoMember { path, member, members });
    };
    Ok((slot, effective))
}

impl Node {
    /// Starts the member of this configuration, with this record and these users.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(
        dir: &ClusterDir,
        (slot, effective): (Slot, Effective),
        store: Box<dyn RecordStore>,
        users: Arc<dyn Users>,
        options: NodeOptions,
    ) -> Result<Self, StartError> {
        let member = effective.member;
        for path in [dir.run(), dir.logs()] {
            make_private(&path).map_err(|source| StartError::File { path, source })?;
        }
        let lock = lock(dir, member)?;
        let log = dir.log(member);
        let console = Console::open(Some(&log)).map_err(|source| StartError::File { path: log, source })?;
        let console = Arc::new(console);
        users.tell_to(&console);
        let (handle, events) = Handle::new(slot, options.ending);
        let mesh_options = MeshOptions {
            run_dir: dir.run(),
            pki_dir: dir.pki(),
            insecure_plaintext: options.insecure_plaintext,
            link: options.link,
        };
        let mesh = Arc::new(Mesh::start(&effective, &mesh_options, &handle, &console)?);
        let record = RecordThread::start(store, handle.clone())?;
        let services: Vec<Box<dyn Service>> =
            vec![Box::new(Configuration::new(member, effective.comparison())), Box::new(Logon::new())];
        let core = Member::new(slot, member, options.timing, services);
        console.tell(&format!("{member} starts in slot {slot}, at {} ms since boot", clock::now_ms()));
        for volume in attach_all(dir, &effective) {
            volume.complaint().iter().for_each(|line| console.tell(line));
        }
        let effective = Arc::new(effective);
        let cp = Cp::start(effective, dir.clone(), handle.clone(), mesh.clone(), console.clone(), users)?;
        let control_socket = dir.control_socket(member);
        control::serve(&control_socket, &cp)?;
        let engine = Engine::new(core, events, handle.clone(), record, mesh.clone(), console.clone());
        let (why, ended) = bounded(1);
        fence::watch(handle.fence().clone(), console.clone(), why.clone())?;
        let lives = EngineLives { fence: handle.fence().clone(), ended: why };
        std::thread::Builder::new().name("ssi-member".into()).spawn(move || {
            let why = engine.run();
            let _ = lives.ended.try_send(why);
        })?;
        let pending = cp.pending.clone();
        Ok(Self { handle, mesh, console, ended, control_socket, pending, _lock: lock })
    }

    /// A way to the member.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What its operators are told.
    pub fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// For those who stop it from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.handle.clone())
    }

    /// Waits until the member has stopped, and clears up behind it. Threads of it that hang are left behind.
    pub fn wait(self) -> Stopped {
        let why = self.ended.recv().unwrap_or(Stopped::Abend);
        // Whoever has asked for this end hears that it has come.
        let deadline = Instant::now() + End::of(&why).last_words_patience();
        while self.pending.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.mesh.stop();
        self.console.flush(End::of(&why).last_words_patience());
        // Whoever takes calls looks up, and finds that it is over.
        drop(std::os::unix::net::UnixStream::connect(&self.control_socket));
        let _ = std::fs::remove_file(&self.control_socket);
        why
    }
}

/// Stops a member.
#[derive(Clone, Debug)]
pub struct Stopper(Handle);

impl Stopper {
    /// Asks the member to leave; [`Node::wait`] returns when it has. Returns at once.
    pub fn leave(&self) {
        let handle = self.0.clone();
        let thread = std::thread::Builder::new().name("ssi-leave".into());
        let _ = thread.spawn(move || handle.command(Command::Leave, LEAVE_PATIENCE));
    }

    /// Stops it without leaving.
    pub fn abend(&self) {
        self.0.abend();
    }
}

/// One process runs a member. The lock goes with the process, however it ends.
fn lock(dir: &ClusterDir, member: SystemName) -> Result<File, StartError> {
    let path = dir.lock(member);
    let failed = |source| StartError::File { path: path.clone(), source };
    // Whoever can open the file can hold the lock, too.
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    let begun = Instant::now();
    let mut held = file.try_lock().is_err();
    while held && begun.elapsed() < LOCK_PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
        held = file.try_lock().is_err();
    }
    if held {
        let mut pid = String::new();
        let _ = (&file).take(32).read_to_string(&mut pid);
        return Err(StartError::Running { member, pid: pid.trim().to_owned(), path });
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
