//! What the code takes from the build: the migrations, embedded by a macro that does not notice new ones, and the version
//! with its commit.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-changed=build.rs");

    // Which calls of the system the code may make; see src/system. Not `cfg(unix)` itself, so that Linux can compile what others do.
    println!("cargo::rustc-check-cfg=cfg(unix_calls, linux_calls)");
    if std::env::var_os("CARGO_FEATURE_PORTABLE").is_none() {
        if std::env::var_os("CARGO_CFG_UNIX").is_some() {
            println!("cargo::rustc-cfg=unix_calls");
        }
        if std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
            println!("cargo::rustc-cfg=linux_calls");
        }
    }

    // tools/release sets it: a program that travels tells where it came from. In a checkout git tells, and asking it
    // here would compile the crate anew after each commit.
    println!("cargo::rerun-if-env-changed=VGGT_COMMIT");
    let commit =
        std::env::var("VGGT_COMMIT").map_or(String::new(), |commit| format!(" ({commit})"));
    println!(
        "cargo::rustc-env=VGGT_VERSION={}{commit}",
        env!("CARGO_PKG_VERSION")
    );
}
