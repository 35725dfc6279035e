//! The program with CUDA in it on machines that lack what CUDA needs: made ones, since this one may have all of it.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::support::{command, text};

/// What every driver says of this test's card, but its version. 100 is "no device", 500 "no such function".
const DRIVER: &str = "
    int cuInit(unsigned flags) { return CARDS ? 0 : 100; }
    int cuDeviceGetCount(int *count) { *count = CARDS; return 0; }
    int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
    int cuDeviceGet(int *device, int number) { *device = number; return number < CARDS ? 0 : 101; }
    int cuDeviceGetAttribute(int *value, int which, int device) {
        *value = which == 75 ? CAPABILITY / 10 : which == 76 ? CAPABILITY % 10 : 0;
        return 0;
    }";

/// What the loader finds under a library's name.
enum Library<'a> {
    /// A file that is no library, before any real one.
    Broken,
    /// A driver: macros of [`DRIVER`].
    Driver(&'a [&'a str]),
}

/// `vggt` in `dir`, where the driver is this one and CUDA has no cuBLAS.
fn on_a_machine_with(driver: &Library, dir: &Path) -> Command {
    let libraries = dir.join("libraries");
    fs::create_dir(&libraries).unwrap();
    for name in ["libcublas.so.13", "libcublas.so.12"] {
        fs::write(libraries.join(name), "").unwrap();
    }
    let library = libraries.join("libcuda.so.1");
    match driver {
        Library::Broken => fs::write(&library, "").unwrap(),
        Library::Driver(macros) => {
            let source = dir.join("driver.c");
            fs::write(&source, DRIVER).unwrap();
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-o", text(&library), text(&source)]);
            cc.args(macros.iter().map(|m| format!("-D{m}")));
            assert!(cc.status().unwrap().success());
        }
    }
    let mut command = command(dir);
    command.env("LD_LIBRARY_PATH", libraries);
    command
}

/// What `--device cuda` fails with there.
fn complaint(driver: &Library) -> String {
    let dir = TempDir::new().unwrap();
    let output = on_a_machine_with(driver, dir.path())
        .args(["export", "--demo", "--device", "cuda", "--out", "o.glb"])
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(!dir.path().join("o.glb").exists());
    assert!(err.contains("--device cpu works"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    err
}

#[test]
fn the_program_needs_no_library_of_cuda_to_start() {
    let dir = TempDir::new().unwrap();
    // The loader lists what the program needs instead of starting it.
    let output = command(dir.path())
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()
        .unwrap();
    let needed = String::from_utf8(output.stdout).unwrap();
    assert!(needed.contains("libc.so.6"), "{needed}");
    for library in [
        "libcuda.",
        "libcudart.",
        "libcublas.",
        "libcublasLt.",
        "libcurand.",
        "libnvrtc.",
    ] {
        assert!(!needed.contains(library), "{needed}");
    }
}

#[test]
fn the_program_has_no_kernels_for_quantized_weights() {
    let program = fs::read(env!("CARGO_BIN_EXE_vggt")).unwrap();
    let has = |text: &str| {
        let text = text.as_bytes();
        program.windows(text.len()).any(|bytes| bytes == text)
    };
    // That the search finds what is there: the driver's functions are looked up by name. The stubs of the kernels are not, and
    // a linker that drops what nothing calls drops them too.
    assert!(has("cuLaunchKernel"));
    // The section that nvcc puts kernels of an object into, and the function with which they register themselves at the start.
    assert!(!has(".nv_fatbin"));
    assert!(!has("__cudaRegisterFatBinary"));
}

#[test]
fn without_a_driver_the_cpu_does_the_work_and_one_line_says_so() {
    let dir = TempDir::new().unwrap();
    let output = on_a_machine_with(&Library::Broken, dir.path())
        .args(["export", "--demo", "--max_frames", "2", "--out", "o.glb"])
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    assert!(dir.path().join("o.glb").is_file());
    let lines: Vec<&str> = err
        .lines()
        .filter(|l| l.contains("using the CPU"))
        .collect();
    assert_eq!(lines.len(), 1, "{err}");
    assert!(lines[0].contains("no NVIDIA driver"), "{err}");
    assert!(lines[0].contains("libcuda.so.1"), "{err}");
}

#[test]
fn asking_for_cuda_without_a_driver_says_that_there_is_none() {
    let err = complaint(&Library::Broken);
    assert!(err.contains("cannot use cuda:0"), "{err}");
    assert!(err.contains("no NVIDIA driver"), "{err}");
}

#[test]
fn a_driver_without_a_card_is_named_as_such() {
    let none = ["CARDS=0", "VERSION=13000", "CAPABILITY=90"];
    let err = complaint(&Library::Driver(&none));
    assert!(err.contains("the NVIDIA driver finds 0"), "{err}");
}

#[test]
fn a_driver_older_than_the_kernels_is_named_as_such() {
    let old = ["CARDS=1", "VERSION=11070", "CAPABILITY=90"];
    let err = complaint(&Library::Driver(&old));
    assert!(err.contains("the NVIDIA driver is for CUDA 11.7"), "{err}");
}

#[test]
fn a_missing_library_of_cuda_is_named() {
    // Newer than any toolkit this can be built with.
    let new = ["CARDS=1", "VERSION=99000", "CAPABILITY=990"];
    let err = complaint(&Library::Driver(&new));
    assert!(err.contains("libcublas.so.1"), "{err}");
    assert!(err.contains("LD_LIBRARY_PATH"), "{err}");
}

/// The exit code of `vggt doctor` there, and what it says.
fn doctor(driver: &Library) -> (Option<i32>, Value) {
    let dir = TempDir::new().unwrap();
    let output = on_a_machine_with(driver, dir.path())
        .args(["doctor", "--json", "--only", "layer norm, "])
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), report)
}

#[test]
fn doctor_without_a_driver_checks_the_cpu_and_says_why() {
    let (code, report) = doctor(&Library::Broken);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["device_asked"], "auto");
    let why = report["fallback"].as_str().unwrap();
    assert!(why.contains("no NVIDIA driver"), "{why}");
    assert_eq!(report["passed"], true);
}

#[test]
fn doctor_with_a_driver_that_cannot_be_used_does_not_pass() {
    for macros in [
        ["CARDS=0", "VERSION=13000", "CAPABILITY=90"],
        ["CARDS=1", "VERSION=11070", "CAPABILITY=90"],
    ] {
        let (code, report) = doctor(&Library::Driver(&macros));
        assert_eq!(code, Some(1), "{report}");
        assert_eq!(report["device"], "cpu");
        assert!(
            report["fallback"]
                .as_str()
                .unwrap()
                .contains("NVIDIA driver")
        );
        assert_eq!(report["passed"], false);
    }
}
