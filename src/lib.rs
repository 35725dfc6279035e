//! The modules of the `vggt` crate and what each may use.
//!
//! ```text
//! module       contents                                  may use
//! cli          command line: one file per subcommand     all, vggt-model
//! http         sockets and routes of HTTP; async         peers, jobs, frames, store, metrics, monitor, web,
//!                                                        system
//! server       sockets and sessions of TCP; async        peers, protocol, jobs, store, metrics
//! peers        what a peer may do on any port; async     protocol, metrics
//! client       the client's side of the protocol; async  protocol, resolver
//! jobs         queue and worker: input files -> GLB      pipeline, store, metrics, allocator, system, vggt-model
//! pipeline     the recipe: frames -> network -> scene    decoder, frames, cameras, scene, glb, html, ply, points,
//!              -> file                                   colmap, nerfstudio, trajectory, output, allocator, system,
//!                                                        vggt-model, vggt-refine
//! decoder      frames decoded in a process of its own    frames, allocator, system
//! frames       images and videos -> [S, 3, H, W]         vggt-model
//! glb          scene -> binary glTF                      scene
//! html         a web page that draws a GLB               web
//! ply          scene -> binary PLY                       scene
//! points       scene -> binary points for viewers        scene
//! web          the web app's files, built by tools       -
//! trajectory   scene -> TUM and KITTI text               scene
//! nerfstudio   scene -> transforms.json                  scene, colmap
//! colmap       scene -> COLMAP text and binary           scene
//! cameras      files of known cameras -> poses, lenses   scene, vggt-model
//! scene        predictions -> points and cameras, pure   vggt-model
//! protocol     the bytes of the wire, no sockets         -
//! store        users, GLB files and jobs: rows + files   atomic_file, resolver, system
//! hub          find, download and verify weights         resolver, system, vggt-model
//! metrics      what the service counts, as text          -
//! monitor      CPU, GPU and memory over time, plotted    -
//! resolver     host names -> addresses                   -
//! output       where results go, what they may replace   atomic_file, system
//! atomic_file  a file that appears whole or not at all   system
//! allocator    settings of the C library's allocator     -
//! system       calls of the operating system             -
//! ```
//!
//! A module uses only modules below it. `tests/layering.rs` reads this table and checks every `crate::` path against it.
//!
//! Data flows one way. A file: bytes -> [`frames`] (in the service in another process, by [`decoder`]) -> the network (crate
//! `vggt-model`) -> `Predictions` -> [`scene`] -> [`glb`] (alone or in [`html`]), [`ply`], [`points`], [`colmap`],
//! [`nerfstudio`] or [`trajectory`] -> [`output`]. A request: bytes -> [`protocol`] -> the session in [`server`] -> [`jobs`] ->
//! the same path -> [`store`] -> the reply. Progress flows back on one typed stream.

#![warn(clippy::return_self_not_must_use)]

pub mod allocator;
pub mod atomic_file;
pub mod cameras;
pub mod cli;
pub mod client;
pub mod colmap;
pub mod decoder;
pub mod frames;
pub mod glb;
pub mod html;
pub mod http;
pub mod hub;
pub mod jobs;
pub mod metrics;
pub mod monitor;
pub mod nerfstudio;
pub mod output;
pub mod peers;
pub mod pipeline;
pub mod ply;
pub mod points;
pub mod protocol;
pub mod resolver;
pub mod scene;
pub mod server;
pub mod store;
mod system;
pub mod trajectory;
pub mod web;
