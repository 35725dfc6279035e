//! colmap
