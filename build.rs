//! Migrations are embedded by a macro, which does not notice new ones by itself.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
