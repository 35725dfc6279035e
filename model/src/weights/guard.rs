//! Mapped files that become shorter, or whose disk fails, while they are in use.
//!
//! Touching a page that the file no longer has raises SIGBUS, which ends the program. Here the signal puts a page of zeros in
//! its place and notes it, so that a computation on the file finds out afterwards and has an error instead of a result.
//! The alternative, to read weights into memory, takes 5 GB of it that the system cannot use for anything else.
//!
//! As libwayland does for buffers that its clients may shrink (`wl_shm_buffer_begin_access`).

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Maps that can be guarded at the same time: those of four checkpoints with the most files. More are used without a guard.
const SLOTS: usize = 4096;

struct Slot {
    /// 0 for a slot that is free.
    start: AtomicUsize,
    end: AtomicUsize,
    broken: AtomicBool,
}

static ALL: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
    }
}; SLOTS];

/// What SIGBUS did before, and the size of a page.
#[cfg(unix_calls)]
static BEFORE: std::sync::OnceLock<(libc::sigaction, usize)> = std::sync::OnceLock::new();

/// Guards a map while it exists; must be dropped before the map is.
#[derive(Debug)]
pub(super) struct Guard(usize);

impl Guard {
    /// Guards the map at these addresses; `None` when the system has no such signal or all slots are taken.
    pub(super) fn new(map: Range<usize>) -> Option<Self> {
        install()?;
        let free = |slot: &Slot| {
            // 1 is not an address of a map: the slot is taken, and nothing lies in it yet.
            let taken = slot
                .start
                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
            taken.is_ok()
        };
        let index = ALL.iter().position(free)?;
        let slot = &ALL[index];
        slot.broken.store(false, Ordering::Relaxed);
        slot.end.store(map.end, Ordering::Release);
        slot.start.store(map.start, Ordering::Release);
        Some(Self(index))
    }

    /// Whether a page of the map could not be read.
    pub(super) fn is_broken(&self) -> bool {
        ALL[self.0].broken.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let slot = &ALL[self.0];
        slot.end.store(0, Ordering::Release);
        slot.start.store(0, Ordering::Release);
    }
}

/// Installs the handler, once.
#[cfg(unix_calls)]
#[allow(unsafe_code, reason = "installs a handler of a signal")]
fn install() -> Option<()> {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sysconf takes a number, and both calls of sigaction a valid place for the action. The handler only does what
        // a handler may: see there. What the signal did before is known before the handler can be called.
        unsafe {
            let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(0);
            let mut before: libc::sigaction = std::mem::zeroed();
            if page == 0 || libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) != 0 {
                return;
            }
            let _ = BEFORE.set((before, page));
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
    });
    BEFORE.get().map(|_| ())
}

#[cfg(not(unix_calls))]
fn install() -> Option<()> {
    None
}

#[cfg(unix_calls)]
#[allow(unsafe_code, reason = "a handler of a signal that maps pages")]
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Some((before, page)) = BEFORE.get() else {
        return;
    };
    // SAFETY: the system passes a valid `info`. Everything here may be done in a handler: atomic loads, mmap, which is one
    // system call, and sigaction. The new pages replace those of a map that `ALL` knows, between the page of the fault and the
    // end of the map, so that no other memory changes; the map is not dropped meanwhile, since the thread that reads it is here.
    unsafe {
        let at = (*info).si_addr() as usize;
        for slot in &ALL {
            let (start, end) = (
                slot.start.load(Ordering::Acquire),
                slot.end.load(Ordering::Acquire),
            );
            if start <= 1 || at < start || at >= end {
                continue;
            }
            let first = at - at % page;
            let zeros = libc::mmap(
                first as *mut libc::c_void,
                end.next_multiple_of(*page) - first,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            );
            if zeros != libc::MAP_FAILED {
                slot.broken.store(true, Ordering::Release);
                return;
            }
        }
        // Not of a guarded map: the access is repeated, and does what it did before.
        libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut());
    }
}
