//! The object directory of a running member: it takes a new one by itself.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::file::{self, ObjectError};
use super::{Object, Password};
use crate::name::{SystemName, UserId};
use crate::node::{Console, User, Users};

/// The directory in use.
pub struct LiveDirectory {
    path: PathBuf,
    console: OnceLock<Arc<Console>>,
    state: Mutex<State>,
    checks: Mutex<()>,
}

struct State {
    object: Arc<Object>,
    /// What tells one file from another.
    mark: Mark,
}

/// Inode, size, and time of the last change.
type Mark = Option<(u64, u64, i64, i64)>;

fn mark(path: &Path) -> Mark {
    let data = std::fs::metadata(path).ok()?;
    Some((data.ino(), data.size(), data.ctime(), data.ctime_nsec()))
}

impl LiveDirectory {
    /// The directory of `member` in this file.
    ///
    /// # Errors
    /// See [`ObjectError`]; one that is another member's is damaged.
    pub fn open(path: &Path, member: SystemName) -> Result<Self, ObjectError> {
        let mark = mark(path);
        let object = file::read(path)?;
        if object.member != member {
            let reason = format!("it is that of {}, not of {member}", object.member);
            return Err(ObjectError::Damaged { path: path.to_owned(), reason });
        }
        let state = Mutex::new(State { object: Arc::new(object), mark });
        Ok(Self { path: path.to_owned(), console: OnceLock::new(), state, checks: Mutex::default() })
    }

    /// The directory as it is now.
    pub fn current(&self) -> Arc<Object> {
        let mut state = self.lock();
        self.look(&mut state);
        state.object.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the directory")
    }

    fn look(&self, state: &mut State) {
        let mark = mark(&self.path);
        if mark == state.mark {
            return;
        }
        // Told once: a file that is not taken is not looked at again until it changes.
        state.mark = mark;
        let said = match file::read(&self.path) {
            Ok(object) if object.member != state.object.member => {
                format!("{} is that of {}: the directory in use stays", self.path.display(), object.member)
            }
            Ok(object) => {
                let said = format!("The directory with serial {} has been brought online", object.serial);
                state.object = Arc::new(object);
                said
            }
            Err(error) => format!("{error}: the directory in use stays"),
        };
        if let Some(console) = self.console.get() {
            console.tell(&said);
        }
    }
}

impl fmt::Debug for LiveDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveDirectory").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Users for LiveDirectory {
    fn find(&self, user: UserId) -> Option<User> {
        let object = self.current();
        let entry = object.find(user)?;
        let may_run = entry.password != Password::NoLog;
        Some(User { kind: entry.kind, classes: entry.classes, may_run })
    }

    fn may_autolog(&self, user: UserId, by: UserId) -> bool {
        self.current().find(user).is_some_and(|entry| entry.autolog_by.contains(&by))
    }

    fn tell_to(&self, console: &Arc<Console>) {
        let _ = self.console.set(console.clone());
    }

    /// One at a time: each takes the memory that the hash is meant to cost.
    fn check_password(&self, user: UserId, password: &str) -> bool {
        let _turn = self.checks.lock().expect("no thread panics while it checks a password");
        self.current().lets_in(user, password)
    }
}
