//! Two calls of the C library that have no safe wrapper.

#![allow(unsafe_code, reason = "calls functions of the C library")]

/// The first descriptor behind standard input, output and error.
const FIRST: libc::c_uint = 3;

/// Descriptors that are closed one by one on kernels before 5.9, at most.
const MOST: libc::c_int = 65_536;

/// Closes every file but standard input, output and error.
pub(super) fn close_inherited_files() {
    #[cfg(linux_calls)]
    {
        // SAFETY: takes numbers only. Nothing in this process has opened a file yet, so that nobody's file is closed.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
        if closed == 0 {
            return;
        }
    }
    for descriptor in FIRST as libc::c_int..MOST {
        // SAFETY: as above; what is not open is an error that is ignored.
        unsafe { libc::close(descriptor) };
    }
}

/// Ignores the signals that ask a service to stop: a terminal and systemd send them to all its processes.
pub(super) fn ignore_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: no handler is installed that could run at a bad moment.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
