//! Settings of the C library's allocator.

/// Makes the allocator keep freed memory. A pass of the network, or the frames of a video, free and allocate buffers of the same
/// sizes hundreds of times; by default each of them is mapped anew, and its page faults cost as much as the computation on it:
/// with VGGT-1B on four frames a sixth of the time.
pub fn keep_freed_memory() {
    #[cfg(all(linux_calls, target_env = "gnu"))]
    glibc::keep_freed_memory();
}

/// Returns freed memory to the system, for times without work.
pub fn return_freed_memory() {
    #[cfg(all(linux_calls, target_env = "gnu"))]
    glibc::return_freed_memory();
}

#[cfg(all(linux_calls, target_env = "gnu"))]
#[allow(unsafe_code, reason = "calls two functions of the C library")]
mod glibc {
    pub(super) fn keep_freed_memory() {
        // SAFETY: mallopt takes integers and may be called at any time. One arena for all threads, since only the first
        // one grows without mapping; no mapping; no trimming.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }

    pub(super) fn return_freed_memory() {
        // SAFETY: malloc_trim only touches free memory.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
