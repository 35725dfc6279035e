//! Where results go, and what they may replace: one rule for every file that a command writes.
//!
//! [`OutputRules`] turns a path that a user gave into a [`Target`], before the work whose result would be lost;
//! [`Target::create`] opens the [`Sink`] that the result is written to. What does not live here: formats, except for the mark
//! that each of them carries ([`is_ours`]).
//!
//! | path | what happens |
//! |---|---|
//! | one of the inputs, also by another name of the same file | refused |
//! | `-`, `/dev/stdout` | standard output |
//! | a character device or a FIFO | written through, never replaced |
//! | a block device or a socket | refused |
//! | a symbolic link | followed; the file that it points to is replaced |
//! | a regular file that `vggt` wrote, or an empty one | replaced atomically |
//! | any other regular file | refused, unless overwriting was asked for |
//! | nothing there | created with the folders above it |

mod error;
mod mark;
mod path;
mod rules;
mod sink;
mod space;

pub use error::OutputError;
pub use mark::{MARK, is_ours};
pub use path::{Place, extension, place};
pub use rules::{OutputRules, Target};
pub use sink::Sink;
pub use space::{disk_of, require_space};
