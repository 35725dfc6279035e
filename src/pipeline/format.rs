//! The file formats of a scene.

use std::str::FromStr;

/// File format of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Binary glTF.
    #[default]
    Glb,
    /// A page that draws the GLB inside it.
    Html,
    /// Binary PLY.
    Ply,
    /// A folder with a COLMAP model and its images.
    Colmap,
    /// A folder with `transforms.json`, its images and points.
    Nerfstudio,
}

/// One row for each format: its name, and the endings of its files in lower case; folders have none.
const FORMATS: [(Format, &str, &[&str]); 5] = [
    (Format::Glb, "glb", &["glb"]),
    (Format::Html, "html", &["html", "htm"]),
    (Format::Ply, "ply", &["ply"]),
    (Format::Colmap, "colmap", &[]),
    (Format::Nerfstudio, "nerfstudio", &[]),
];

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = FORMATS.iter().find(|(_, name, _)| *name == s);
        found.map(|(format, ..)| *format).ok_or_else(|| {
            format!("invalid format {s:?}: expected glb, html, ply, colmap or nerfstudio")
        })
    }
}

impl Format {
    fn row(self) -> &'static (Self, &'static str, &'static [&'static str]) {
        // Every format has a row; the test below goes through them.
        let found = FORMATS.iter().find(|(format, ..)| *format == self);
        found.unwrap_or(&FORMATS[0])
    }

    /// Returns the name of the format.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Returns the ending of its files; `None` for a format that is a folder.
    pub fn extension(self) -> Option<&'static str> {
        self.row().2.first().copied()
    }

    /// Returns the format of files with this ending, in lower case.
    pub fn of_extension(ending: &str) -> Option<Self> {
        let found = FORMATS
            .iter()
            .find(|(.., endings)| endings.contains(&ending));
        found.map(|(format, ..)| *format)
    }

    /// Returns all endings in lower case.
    pub fn extensions() -> Vec<&'static str> {
        FORMATS
            .iter()
            .flat_map(|(.., endings)| *endings)
            .copied()
            .collect()
    }

    /// Returns true when the format is a folder of several files.
    pub fn is_folder(self) -> bool {
        self.extension().is_none()
    }

    /// Returns true when the written file contains a GLB, so that its options apply.
    pub fn holds_glb(self) -> bool {
        matches!(self, Self::Glb | Self::Html)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_row() {
        let all = [
            Format::Glb,
            Format::Html,
            Format::Ply,
            Format::Colmap,
            Format::Nerfstudio,
        ];
        for format in all {
            assert_eq!(format.row().0, format);
            assert_eq!(format.name().parse(), Ok(format));
            if let Some(ending) = format.extension() {
                assert_eq!(Format::of_extension(ending), Some(format));
            }
        }
        assert_eq!(Format::extensions(), ["glb", "html", "htm", "ply"]);
    }
}
