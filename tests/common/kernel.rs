//! A kernel that offers less: what a process is forbidden before it becomes the command.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Number of the capability that lets root lock memory beyond its limit (capabilities(7)).
const CAP_IPC_LOCK: libc::c_ulong = 14;

/// The command may lock no memory; root neither.
pub(crate) fn without_locked_memory(command: &mut Command) {
    let forbid = || {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the struct is valid and only read. A capability dropped from the bounding set is not given
        // back to root at exec; for others there is nothing to drop, so that failure changes nothing.
        let limited = unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none)
        };
        if limited == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: only system calls happen between fork and exec.
    unsafe { command.pre_exec(forbid) };
}

/// A system call does not exist for the command and what it starts.
pub(crate) fn without_call(command: &mut Command, number: libc::c_long) {
    let step = |code: u32, jump_false: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_false,
        k: value,
    };
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    // Load the call's number; if it is the one, fail; else go on.
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, missing),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let forbid = move || {
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the kernel copies the program, whose length is given, during the call.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0)
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: only system calls happen between fork and exec.
    unsafe { command.pre_exec(forbid) };
}
