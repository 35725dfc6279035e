//! The system calls that decoding needs, and no others: seccomp.
//!
//! What is not listed ends the process. Calls with which libraries look around are refused with an error that they expect.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Reading and writing what is open, memory, threads, clocks, random numbers for hash tables, and the end.
const NEEDED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

#[cfg(target_arch = "x86_64")]
const NEEDED_HERE: &[i64] = &[libc::SYS_arch_prctl, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const NEEDED_HERE: &[i64] = &[];

/// Calls that are refused: looking for files, settings and terminals.
const REFUSED: &[i64] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_setpriority,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_access,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_readlink,
    libc::SYS_stat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// prctl: names of memory, which glibc gives.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Gives up all other system calls. Returns what the kernel lacks.
pub(super) fn give_up_calls() -> Option<String> {
    let gave_up = programs().and_then(|programs| {
        // The last one permits no more filters.
        programs
            .iter()
            .try_for_each(|program| apply_filter(program))
    });
    let e = gave_up.err()?;
    Some(format!("seccomp (system calls: {e})"))
}

fn programs() -> Result<Vec<BpfProgram>, Error> {
    let all = |calls: &[&[i64]]| -> Rules {
        let calls = calls.concat();
        calls.into_iter().map(|call| (call, Vec::new())).collect()
    };
    let mut permitted = all(&[NEEDED, NEEDED_HERE, REFUSED, REFUSED_HERE]);
    permitted.insert(libc::SYS_clone3, Vec::new());
    permitted.extend(conditional()?);
    let refused = all(&[REFUSED, REFUSED_HERE]);
    // Its flags are in memory, where no filter sees them. C libraries fall back to clone.
    let absent = all(&[&[libc::SYS_clone3]]);
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let filters = [
        (absent, SeccompAction::Allow, errno(libc::ENOSYS)),
        (refused, SeccompAction::Allow, errno(libc::EACCES)),
        (permitted, SeccompAction::KillProcess, SeccompAction::Allow),
    ];
    let arch = std::env::consts::ARCH.try_into()?;
    let compile = |(rules, other, listed)| -> Result<BpfProgram, Error> {
        Ok(SeccompFilter::new(rules, other, listed, arch)?.try_into()?)
    };
    filters.into_iter().map(compile).collect()
}

/// Calls that are needed with some arguments only.
fn conditional() -> Result<Rules, Error> {
    let bits = |argument, mask: i32, value: i32| {
        let op = SeccompCmpOp::MaskedEq(u64::from(mask.unsigned_abs()));
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
    };
    let equal = |argument, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
    };
    let one = |conditions| Ok::<_, Error>(vec![SeccompRule::new(conditions)?]);
    let empty_path = libc::AT_EMPTY_PATH;
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME].map(|n| u64::from(n.unsigned_abs()));
    let prctl = [names[0], names[1], PR_SET_VMA].map(|what| one(vec![equal(0, what)?]));
    Ok(Rules::from([
        // Threads, not processes.
        (
            libc::SYS_clone,
            one(vec![bits(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?])?,
        ),
        // No shared memory, which no limit counts; no code that is written at run time.
        (
            libc::SYS_mmap,
            one(vec![
                bits(2, libc::PROT_EXEC, 0)?,
                bits(3, libc::MAP_SHARED, 0)?,
            ])?,
        ),
        (libc::SYS_mprotect, one(vec![bits(2, libc::PROT_EXEC, 0)?])?),
        // Of an open file, not by name.
        (
            libc::SYS_newfstatat,
            one(vec![bits(3, empty_path, empty_path)?])?,
        ),
        (
            libc::SYS_statx,
            one(vec![bits(2, empty_path, empty_path)?])?,
        ),
        // Limits are asked for, not set.
        (libc::SYS_prlimit64, one(vec![equal(2, 0)?])?),
        (
            libc::SYS_prctl,
            prctl.into_iter().collect::<Result<Vec<_>, _>>()?.concat(),
        ),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_this_machine() {
        assert_eq!(programs().unwrap().len(), 3);
    }
}
