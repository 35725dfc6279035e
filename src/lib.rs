//! The map of the house: the rooms of the `vggt` crate and who may name whom.
//!
//! ```text
//! cli          settings, one file per subcommand         may name every room
//! server       sockets, sessions, limits; async          protocol jobs store
//! client       the other end of the wire; async          protocol resolver
//! jobs         queue and worker: input files -> GLB      pipeline store
//! pipeline     the one recipe: frames -> network ->      frames scene glb html ply colmap atomic_file
//!              scene -> file                             + vggt-model
//! frames       pictures and videos -> [S, 3, H, W]       vggt-model
//! scene        predictions -> points and cameras, pure   vggt-model
//! glb          scene -> binary glTF                      scene
//! html         a GLB in a page that draws it             (none)
//! ply          scene -> binary PLY                       scene
//! colmap       scene -> COLMAP text and binary           scene
//! protocol     the bytes of the wire, no sockets         (none)
//! store        users, GLB files and jobs: rows + files   atomic_file
//! hub          find, download and verify weights         resolver
//! monitor      CPU, GPU and memory over time, plotted    (none)
//! resolver     which addresses a machine has             (none)
//! atomic_file  a file that appears whole or not at all   (none)
//! ```
//!
//! Data walks one way. A file: bytes -> [`frames`] -> the network (crate `vggt-model`) -> `Predictions` -> [`scene`] ->
//! [`glb`] (alone or in [`html`]), [`ply`] or [`colmap`] -> [`atomic_file`]. A request: bytes -> [`protocol`] -> the
//! session in [`server`] -> [`jobs`] -> the same walk -> [`store`] -> the reply. Progress flows back on one typed stream.
//! `tests/rooms.rs` holds the arrows to this page.

pub mod atomic_file;
pub mod cli;
pub mod client;
pub mod colmap;
pub mod frames;
pub mod glb;
pub mod html;
pub mod hub;
pub mod jobs;
pub mod monitor;
pub mod pipeline;
pub mod ply;
pub mod protocol;
pub mod resolver;
pub mod scene;
pub mod server;
pub mod store;
