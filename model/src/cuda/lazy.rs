//! Functions of a shared library that is looked for when the first of them is called.
//!
//! candle asks cudarc to link libcuda, cuBLAS and the others by name. A program that does so does not even start where one
//! of them is missing, and the driver is missing on every machine without a card. So this program defines the functions
//! itself, each as a trampoline of two instructions, and `build.rs` gives the linker empty archives under the libraries'
//! names. The first call of a function loads its library and finds the real one, every later call jumps right to it. Where
//! the library is missing, the function returns the status code with which that library says so.
//!
//! Refused: cudarc's own feature for this, `dynamic-loading`, excludes the `dynamic-linking` that candle chooses, so that
//! it needs a patched candle in the tree, and it panics where a library is missing. Lazy binding (`-z lazy`) delays the
//! functions, not the libraries.

use std::{
    arch::naked_asm,
    ffi::{CStr, c_void},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// A function that ignores what it is given and returns a status.
type Failure = unsafe extern "C" fn() -> i32;

/// A [`Failure`] with the status `CODE`. A caller that passes arguments is served as well: in the System V calling
/// convention it is the caller who cleans them up.
pub(super) extern "C" fn fail<const CODE: i32>() -> i32 {
    CODE
}

/// A shared library that is loaded on first use.
pub(super) struct Library {
    /// What it is called, in the order of trying.
    names: &'static [&'static CStr],
    /// Stands for every function where the library cannot be loaded.
    missing: Failure,
    /// Stands for a function that the library does not have.
    unknown: Failure,
    /// From `dlopen`; null until it worked.
    handle: AtomicPtr<c_void>,
}

impl Library {
    /// A library under any of `names`. What returns a status returns that of `missing` without the library and that of
    /// `unknown` where it has no such function.
    pub(super) const fn new(
        names: &'static [&'static CStr],
        missing: Failure,
        unknown: Failure,
    ) -> Self {
        Self {
            names,
            missing,
            unknown,
            handle: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The library's handle.
    ///
    /// # Errors
    /// What the loader says of the first name, when no name can be loaded.
    // Threads may do this at once: `dlopen` gives all of them the same handle. Without a lock, since the real library's
    // start-up code may call functions of another one.
    #[allow(
        unsafe_code,
        reason = "loads libraries at run time and defines their symbols"
    )]
    pub(super) fn load(&self) -> Result<*mut c_void, String> {
        let handle = self.handle.load(Ordering::Acquire);
        if !handle.is_null() {
            return Ok(handle);
        }
        let mut why = None;
        for name in self.names {
            // SAFETY: the name is a C string. The libraries are the system's, whose start-up code is trusted.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                self.handle.store(handle, Ordering::Release);
                return Ok(handle);
            }
            why.get_or_insert_with(loader_error);
        }
        Err(why.unwrap_or_default())
    }

    /// The address of the function `name`, or of what stands for it.
    #[allow(
        unsafe_code,
        reason = "loads libraries at run time and defines their symbols"
    )]
    fn find(&self, name: &CStr) -> *mut c_void {
        let Ok(handle) = self.load() else {
            return self.missing as *mut c_void;
        };
        // SAFETY: the handle is from dlopen and is never closed, the name is a C string.
        let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
        if found.is_null() {
            return self.unknown as *mut c_void;
        }
        found
    }
}

/// What the loader of shared libraries last complained about in this thread.
#[allow(
    unsafe_code,
    reason = "loads libraries at run time and defines their symbols"
)]
fn loader_error() -> String {
    // SAFETY: dlerror gives null or a C string that stays until this thread's next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "cannot be loaded".to_owned();
    }
    // SAFETY: see above; it is copied at once.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// One function of a library. Its trampoline finds it through register r11.
#[repr(C)]
pub(super) struct Function {
    /// Where a call goes: [`first_call`], later the function itself. The first field, where the trampoline expects it.
    target: AtomicPtr<c_void>,
    name: &'static CStr,
    library: &'static Library,
}

impl Function {
    pub(super) const fn new(library: &'static Library, name: &'static CStr) -> Self {
        Self {
            target: AtomicPtr::new(first_call as *const () as *mut c_void),
            name,
            library,
        }
    }
}

/// Where every trampoline leads at first: finds the function in r11 and goes on to it with the arguments as they came.
///
/// The arguments of a call in the System V convention are in these registers and on the stack above the return address,
/// which stays in its place. rax counts the vector registers for functions of variable arguments.
#[allow(
    unsafe_code,
    reason = "loads libraries at run time and defines their symbols"
)]
#[unsafe(naked)]
extern "C" fn first_call() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "push rax",
        "push r10",
        // With the return address these are ten words: the stack stays at a multiple of 16.
        "sub rsp, 128",
        "movaps [rsp], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "mov rdi, r11",
        "call {resolve}",
        "mov r11, rax",
        "movaps xmm0, [rsp]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "add rsp, 128",
        "pop r10",
        "pop rax",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "jmp r11",
        resolve = sym resolve,
    )
}

/// Finds `function` and has later calls go right to it. Called by [`first_call`] alone.
extern "C" fn resolve(function: &Function) -> *mut c_void {
    let target = function.library.find(function.name);
    function.target.store(target, Ordering::Release);
    target
}

/// Defines the trampolines of a library: symbols of the C names, for the linker.
macro_rules! functions {
    ($library:path: $($name:ident)+) => {
        $(
            const _: () = {
                static FUNCTION: $crate::cuda::lazy::Function = $crate::cuda::lazy::Function::new(
                    &$library,
                    match ::std::ffi::CStr::from_bytes_with_nul(
                        concat!(stringify!($name), "\0").as_bytes(),
                    ) {
                        Ok(name) => name,
                        Err(_) => panic!("a name with a zero byte"),
                    },
                );

                // r11 is free for this: the convention gives it to whatever stands between a caller and a function.
                #[allow(
                    unsafe_code,
                    non_snake_case,
                    reason = "loads libraries at run time and defines their symbols"
                )]
                #[unsafe(naked)]
                #[unsafe(no_mangle)]
                extern "C" fn $name() {
                    ::std::arch::naked_asm!(
                        "lea r11, [rip + {function}]",
                        "jmp qword ptr [r11]",
                        function = sym FUNCTION,
                    )
                }
            };
        )+
    };
}
pub(super) use functions;

#[cfg(test)]
mod tests {
    use std::{ffi::CString, process::Command};

    use super::*;

    /// No such library is anywhere.
    static ABSENT: Library = Library::new(&[c"libvggt-absent.so.1"], fail::<41>, fail::<42>);
    functions!(ABSENT: vggt_test_absent);

    /// The test that calls them compiles it.
    static PRESENT: Library = Library::new(
        &[c"libvggt-absent.so.1", c"libvggt-present.so.1"],
        fail::<41>,
        fail::<42>,
    );
    functions!(PRESENT: vggt_test_weigh vggt_test_calls vggt_test_unknown);

    const SOURCE: &str = "
        static int calls;
        int vggt_test_calls(void) { return calls; }
        double vggt_test_weigh(long a, long b, long c, long d, long e, long f, long g, int h,
                               double p, double q, double r, double s, double t, double u, double v, float w, double x) {
            __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
            return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h
                 + 9*p + 10*q + 11*r + 12*s + 13*t + 14*u + 15*v + 16*w + 17*x;
        }";

    #[allow(
        unsafe_code,
        reason = "loads libraries at run time and defines their symbols"
    )]
    unsafe extern "C" {
        safe fn vggt_test_absent(a: i32) -> i32;
        safe fn vggt_test_unknown(a: i32) -> i32;
        safe fn vggt_test_calls() -> i32;
        #[rustfmt::skip]
        safe fn vggt_test_weigh(
            a: i64,
            b: i64,
            c: i64,
            d: i64,
            e: i64,
            f: i64,
            g: i64,
            h: i32,
            p: f64,
            q: f64,
            r: f64,
            s: f64,
            t: f64,
            u: f64,
            v: f64,
            w: f32,
            x: f64,
        ) -> f64;
    }

    #[test]
    fn without_its_library_a_function_returns_the_status_that_says_so() {
        assert_eq!(vggt_test_absent(7), 41);
        // The second call no longer goes through the search.
        assert_eq!(vggt_test_absent(7), 41);
        let why = ABSENT.load().unwrap_err();
        assert!(why.contains("libvggt-absent.so.1"), "{why}");
    }

    #[test]
    #[allow(
        unsafe_code,
        reason = "loads libraries at run time and defines their symbols"
    )]
    fn calls_reach_the_library_with_every_argument() {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (
            folder.path().join("present.c"),
            folder.path().join("present.so"),
        );
        std::fs::write(&source, SOURCE).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wl,-soname,libvggt-present.so.1", "-o"])
            .args([&library, &source])
            .status()
            .unwrap();
        assert!(compiled.success());
        // Once it is loaded, the loader finds it by its own name, wherever the file is.
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: a C string, and a library without start-up code.
        assert!(!unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) }.is_null());

        // More whole and more real numbers than there are registers for, so that some are on the stack.
        let expected = 1 + 4 + 9 + 16 + 25 + 36 + 49 - 64;
        let expected =
            f64::from(expected) + 4.5 + 10. + 16.5 + 24. + 32.5 + 42. + 52.5 + 64. + 76.5;
        // The first calls at once, and each thread's later ones.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let weighed = vggt_test_weigh(
                            1, 2, 3, 4, 5, 6, 7, -8, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5,
                        );
                        assert_eq!(weighed, expected);
                    }
                });
            }
        });
        assert_eq!(vggt_test_calls(), 24);
        assert_eq!(vggt_test_unknown(7), 42);
    }
}
