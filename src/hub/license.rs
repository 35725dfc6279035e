//! What is said before a download: how much, from where, to where, and under which license.

use std::path::Path;

/// Smaller downloads, such as a config, are not worth a line.
const WORTH_A_LINE: u64 = 1 << 20;

/// Licenses in words, of repositories whose terms matter most. Origin: their pages on the hub, 2026-11.
const KNOWN: [(&str, &str); 2] = [
    (
        "facebook/VGGT-1B",
        "CC BY-NC 4.0, for non-commercial use only (facebook/VGGT-1B-Commercial is for commercial use)",
    ),
    (
        "facebook/VGGT-1B-Commercial",
        "terms of its own, which allow commercial use",
    ),
];

/// Returns the line for a download of `bytes` bytes into `folder`; `None` when it is too small for one. `stated` is the
/// license that the repository states.
pub(super) fn line(
    (endpoint, repo): (&str, &str),
    files: &[&str],
    bytes: u64,
    folder: &Path,
    stated: Option<&str>,
) -> Option<String> {
    if bytes < WORTH_A_LINE {
        return None;
    }
    let what = match files {
        [one] => (*one).to_owned(),
        many => format!("{} files", many.len()),
    };
    let known = KNOWN.iter().find(|(known, _)| *known == repo);
    let license = match (known, stated) {
        (Some((_, license)), _) => (*license).to_owned(),
        (None, Some(license)) => license.to_owned(),
        (None, None) => format!("see {endpoint}/{repo}"),
    };
    Some(format!(
        "downloading {what} of {repo}, {}, to \"{}\"; license: {license}",
        size(bytes),
        folder.display()
    ))
}

fn size(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 1000.0 {
        format!("{megabytes:.0} MB")
    } else {
        format!("{:.2} GB", megabytes / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_repository_size_folder_and_license() {
        let hub = "https://hub";
        let folder = Path::new("/cache/models--facebook--VGGT-1B");
        let said = line(
            (hub, "facebook/VGGT-1B"),
            &["model.pt"],
            5_026_873_234,
            folder,
            None,
        );
        let said = said.unwrap();
        for part in [
            "model.pt of facebook/VGGT-1B",
            "5.03 GB",
            "/cache/models--",
            "non-commercial",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let said = line((hub, "a/b"), &["x", "y"], 2_000_000, folder, Some("mit")).unwrap();
        assert!(
            said.contains("2 files of a/b, 2 MB") && said.ends_with("license: mit"),
            "{said}"
        );
        let said = line((hub, "a/b"), &["x"], 2_000_000, folder, None).unwrap();
        assert!(said.ends_with("license: see https://hub/a/b"), "{said}");
        assert_eq!(
            line((hub, "a/b"), &["config.json"], 300, folder, None),
            None
        );
    }
}
