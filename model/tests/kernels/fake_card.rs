//! The runner for cards on a machine without one: with a driver whose device is the CPU.

use std::{env, ffi::OsStr, process::Command};

use vggt_model::ops::cuda::Module;

use super::emulator::{self, Emulator};

/// This test's name, which the process that it starts leaves out.
const THIS: &str = "kernels_run_on_a_card_as_in_the_emulator";

#[test]
fn kernels_run_on_a_card_as_in_the_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let here = crate::crate_dir().join("tests/kernels");
    let driver = folder.path().join("libcuda.so.1");
    Emulator::build(&here.join("fake_driver.cpp"), &driver);
    let libraries = Module::ALL.map(|module| {
        let library = folder.path().join(module.name()).with_extension("so");
        Emulator::build(&emulator::source(module), &library);
        library
    });
    let libraries = libraries.each_ref().map(|path| path.as_os_str());

    // Another process, since this one may have loaded the machine's own driver.
    let output = Command::new(env::current_exe().unwrap())
        .args(["kernels::", "--skip", THIS])
        .env("VGGT_TEST_DEVICE", "cuda")
        .env("LD_LIBRARY_PATH", folder.path())
        .env("FAKE_DRIVER_KERNELS", libraries.join(OsStr::new(":")))
        .output()
        .unwrap();
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    assert!(output.status.success(), "{out}{err}");
    let of_kernels =
        "kernels::attention::flash_attention_on_tensor_cores_matches_the_reference ... ok";
    assert!(out.contains(of_kernels), "{out}");
}
