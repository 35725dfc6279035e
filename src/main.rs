//! The `vggt` command.

fn main() {}
