//! What the code takes from the build: the migrations, embedded by a macro that does not notice new ones, the version with its
//! commit, and the web app.

use std::{env, fmt::Write, fs, io, path::Path};

/// Where tools/build_web puts the web app.
const WEB: &str = "web/dist";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-changed=build.rs");

    // Which calls of the system the code may make; see src/system. Not `cfg(unix)` itself, so that Linux can compile what others do.
    println!("cargo::rustc-check-cfg=cfg(unix_calls, linux_calls)");
    if env::var_os("CARGO_FEATURE_PORTABLE").is_none() {
        if env::var_os("CARGO_CFG_UNIX").is_some() {
            println!("cargo::rustc-cfg=unix_calls");
        }
        if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
            println!("cargo::rustc-cfg=linux_calls");
        }
    }

    // tools/release sets it: a program that travels tells where it came from. In a checkout git tells, and asking it
    // here would compile the crate anew after each commit.
    println!("cargo::rerun-if-env-changed=VGGT_COMMIT");
    let commit = env::var("VGGT_COMMIT").map_or(String::new(), |commit| format!(" ({commit})"));
    println!(
        "cargo::rustc-env=VGGT_VERSION={}{commit}",
        env!("CARGO_PKG_VERSION")
    );
    embed_web()
}

/// Writes `web.rs`: the files of the web app as pairs of name and bytes, none where it was not built.
fn embed_web() -> io::Result<()> {
    println!("cargo::rerun-if-changed={WEB}");
    let mut names = Vec::new();
    if Path::new(WEB).is_dir() {
        for entry in fs::read_dir(WEB)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            // Those with a dot in front are for git and for tools/build_web.
            if !name.starts_with('.') {
                names.push(name);
            }
        }
    }
    names.sort();
    let mut code = String::from("&[\n");
    for name in names {
        let path = fs::canonicalize(Path::new(WEB).join(&name))?;
        // Writing to a string does not fail.
        let _ = writeln!(code, "    ({name:?}, include_bytes!({path:?}).as_slice()),");
    }
    code += "]\n";
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    fs::write(Path::new(&out).join("web.rs"), code)
}
