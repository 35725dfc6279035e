//! Which calls of the system the code may make, and what only CUDA needs: with the feature `cuda-kernels`, which is a part of all of
//! CUDA's features.
//!
//! - `kernels/*.cu` are compiled by nvcc, each into `$OUT_DIR/<name>.fatbin` with machine code for the cards of
//!   `VGGT_CUDA_ARCHS` and PTX of the newest of them, which later cards compile for themselves.
//! - CUDA's libraries are kept out of the program's list of needed ones: see `src/cuda/lazy.rs`.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, exit},
    time::SystemTime,
};

/// Compute capabilities the kernels are compiled for: A100, L4 and RTX 40, H100.
const ARCHS: &str = "80,89,90";

/// Numbers are compared with plain versions: no `--use_fast_math`.
const FLAGS: [&str; 4] = ["-fatbin", "-O3", "-std=c++17", "--expt-relaxed-constexpr"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    system_calls();
    if env::var_os("CARGO_FEATURE_CUDA_KERNELS").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let toolkit = Toolkit::find().unwrap_or_else(|| {
        fail(
            "kernels for CUDA need nvcc of CUDA 12 or newer, and there is none in $NVCC, $PATH or $CUDA_HOME/bin.\n\
             Without an installed CUDA these commands fetch it from NVIDIA's Python wheels and build, no card needed:\n\
             \n    eval \"$(tools/cuda_env)\"\n    cargo build --release --features cuda",
        )
    });
    let done = compile_kernels(&toolkit, &out).and_then(|()| {
        if feature("CUDA_KERNEL_TESTS") && brings_functions() {
            keep_libraries_out(&out.join("link"))?;
        }
        Ok(())
    });
    if let Err(e) = done {
        fail(&format!("cannot build the part for CUDA: {e}"));
    }
    // What a machine needs for candle's kernels, so that it is told before they fail on it.
    println!("cargo::rustc-env=VGGT_CUDA_VERSION={}", toolkit.version);
    if let Some(capability) = variable("CUDA_COMPUTE_CAP") {
        println!(
            "cargo::rustc-env=VGGT_CUDA_COMPUTE_CAP={}",
            capability.to_string_lossy()
        );
    }
}

/// Tells the code which calls it may make. Not `cfg(unix)` itself, so that Linux can compile what others do.
fn system_calls() {
    println!("cargo::rustc-check-cfg=cfg(unix_calls, linux_calls)");
    if feature("PORTABLE") {
        return;
    }
    if env::var_os("CARGO_CFG_UNIX").is_some() {
        println!("cargo::rustc-cfg=unix_calls");
    }
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        println!("cargo::rustc-cfg=linux_calls");
    }
}

fn feature(name: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

/// A variable of the environment that this build depends on.
fn variable(name: &str) -> Option<OsString> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name).filter(|value| !value.is_empty())
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    exit(1)
}

/// A CUDA toolkit.
struct Toolkit {
    nvcc: PathBuf,
    /// 1000 times the major and 10 times the minor number.
    version: u32,
}

impl Toolkit {
    fn find() -> Option<Self> {
        let mut places = Vec::new();
        places.extend(variable("NVCC").map(PathBuf::from));
        // Not one of those that the build depends on: it differs between shells.
        let path = env::var_os("PATH").unwrap_or_default();
        places.extend(env::split_paths(&path).map(|folder| folder.join("nvcc")));
        for home in ["CUDA_HOME", "CUDA_PATH"] {
            places.extend(variable(home).map(|home| Path::new(&home).join("bin/nvcc")));
        }
        let nvcc = places.into_iter().find(|nvcc| nvcc.is_file())?;
        let said = Command::new(&nvcc).arg("--version").output().ok()?;
        let said = String::from_utf8_lossy(&said.stdout);
        // Cuda compilation tools, release 13.0, V13.0.88
        let (_, release) = said.split_once("release ")?;
        let (major, minor) = release.split_once(',')?.0.split_once('.')?;
        let version = 1000 * major.parse::<u32>().ok()? + 10 * minor.parse::<u32>().ok()?;
        (version >= 12_000).then_some(Self { nvcc, version })
    }
}

/// Compiles every kernel that changed.
fn compile_kernels(toolkit: &Toolkit, out: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed=kernels");
    let archs = variable("VGGT_CUDA_ARCHS").unwrap_or_else(|| ARCHS.into());
    let archs = targets(&archs.to_string_lossy());
    let mut sources = Vec::new();
    // When the newest header changed. Every kernel counts as using all of them.
    let mut headers = SystemTime::UNIX_EPOCH;
    // No folder, no kernels.
    for entry in fs::read_dir("kernels").into_iter().flatten() {
        let path = entry?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("cu") => sources.push(path),
            Some("cuh" | "h") => headers = headers.max(fs::metadata(&path)?.modified()?),
            _ => {}
        }
    }
    sources.sort();
    for source in sources {
        let stem = source.file_stem().unwrap_or_default();
        let fatbin = out.join(stem).with_extension("fatbin");
        let mut nvcc = Command::new(&toolkit.nvcc);
        nvcc.args(FLAGS).args(&archs).arg("--threads=0");
        nvcc.arg("-o").arg(&fatbin).arg(&source);
        // The command of the last compilation that worked, beside what it made.
        let record = out.join(stem).with_extension("command");
        let command = format!("{nvcc:?}");
        let changed = headers.max(fs::metadata(&source)?.modified()?);
        let is_new =
            fs::metadata(&fatbin).is_ok_and(|made| made.modified().is_ok_and(|m| m > changed));
        if is_new && fs::read_to_string(&record).is_ok_and(|last| last == command) {
            continue;
        }
        let done = nvcc.output()?;
        if !done.status.success() {
            fail(&format!(
                "nvcc cannot compile {}:\n{}{}\nthe command was: {command}",
                source.display(),
                String::from_utf8_lossy(&done.stdout),
                String::from_utf8_lossy(&done.stderr)
            ));
        }
        for line in String::from_utf8_lossy(&done.stderr).lines() {
            println!("cargo::warning={line}");
        }
        fs::write(record, command)?;
    }
    Ok(())
}

/// nvcc's arguments for a list like `80,89,90`: machine code for each, and PTX of the newest. `src/ops/cuda/target.rs` is told
/// the same.
fn targets(archs: &str) -> Vec<String> {
    let mut archs: Vec<&str> = archs.split(',').map(str::trim).collect();
    // 90a is code for this very card: its PTX runs on no later one.
    let number = |arch: &str| arch.parse::<u32>().ok();
    if !archs.iter().all(|arch| number(plain(arch)).is_some()) {
        fail(
            "VGGT_CUDA_ARCHS takes compute capabilities without their point, like 80,89,90 or 90a",
        );
    }
    archs.sort_unstable();
    archs.dedup();
    let newest = archs.iter().filter_map(|arch| number(arch)).max();
    let machine: Vec<&str> = archs.iter().map(|arch| plain(arch)).collect();
    println!(
        "cargo::rustc-env=VGGT_CUDA_MACHINE_TARGETS={}",
        machine.join(",")
    );
    println!(
        "cargo::rustc-env=VGGT_CUDA_PTX_TARGET={}",
        newest.map_or_else(String::new, |arch| arch.to_string())
    );
    let code = archs
        .iter()
        .map(|arch| format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
    let ptx = newest.map(|arch| format!("-gencode=arch=compute_{arch},code=compute_{arch}"));
    code.chain(ptx).collect()
}

/// The number of a compute capability: 90 of 90a.
fn plain(arch: &str) -> &str {
    arch.strip_suffix(['a', 'f']).unwrap_or(arch)
}

/// Whether this program brings CUDA's functions itself: where `src/cuda/lazy.rs` speaks the machine's language.
fn brings_functions() -> bool {
    let is = |name, value: &str| env::var_os(name).is_some_and(|v| v == value);
    let linux = is("CARGO_CFG_TARGET_OS", "linux") && !feature("PORTABLE");
    linux && is("CARGO_CFG_TARGET_ARCH", "x86_64")
}

/// Fills `folder` with archives under the names that candle and cudarc link, and puts it before the folders they name.
///
/// The linker takes a name from the first folder that has it, as a shared library or an archive. Cargo passes folders
/// inside a build script's own output before all others, so that this one comes before the toolkit's (since 1.88).
/// A function that `src/cuda/libraries.rs` does not have is undefined then, and no library is needed without being named.
fn keep_libraries_out(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // cudart is needed by candle's kernels for quantized weights alone, which are not linked: see `src/cuda/quantized.rs`.
    for name in ["cuda", "cudart", "cublas", "cublasLt", "curand", "nvrtc"] {
        // An archive of nothing.
        fs::write(folder.join(format!("lib{name}.a")), "!<arch>\n")?;
    }
    println!("cargo::rustc-link-search=native={}", folder.display());
    Ok(())
}
