//! The `vggt` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    vggt::cli::main()
}
