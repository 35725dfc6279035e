//! The web app: the files that `tools/build_web` makes of `web/`, which a build embeds where they are.
//!
//! What lives here: the files, by name. What does not: who gets them, and the page around a GLB, which is made of three of them.

/// Name and bytes of each file.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// What to say where the app is missing.
pub const MISSING: &str =
    "this program was built without its web app: run tools/build_web, then build it again";

/// Returns a file of the app; `None` where there is no such file, or the app was not built.
pub fn file(name: &str) -> Option<&'static [u8]> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    found.map(|(_, bytes)| *bytes)
}

/// Returns whether the app was there when this program was built.
pub fn is_built() -> bool {
    !FILES.is_empty()
}

/// Returns the names of all files.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// Returns a file of text; `None` as [`file()`].
pub fn text(name: &str) -> Option<&'static str> {
    std::str::from_utf8(file(name)?).ok()
}
