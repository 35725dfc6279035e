//! What the code takes from the build: the migrations, embedded by a macro that does not notice new ones, and the version
//! with its commit.

fn main() {
    println!("cargo::rerun-if-changed=migrations");

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
