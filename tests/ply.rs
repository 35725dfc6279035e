//! PLY files, read back.

use vggt::ply;

use crate::support::{glb::provenance, scene as fixture};

#[test]
fn every_point_comes_back_with_its_color_and_confidence() {
    let scene = fixture::build("depth_branch");
    let points = fixture::points(&scene);
    let mut bytes = Vec::new();
    let size = ply::write(&scene, &fixture::frames(None), &provenance(), &mut bytes).unwrap();
    assert_eq!(size, bytes.len() as u64);

    let end = b"end_header\n";
    let body = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let header = std::str::from_utf8(&bytes[..body]).unwrap();
    let lines: Vec<&str> = header.lines().collect();
    assert_eq!(lines[..2], ["ply", "format binary_little_endian 1.0"]);
    assert_eq!(
        lines.iter().filter(|l| l.starts_with("comment {")).count(),
        1,
        "a line break in the provenance stays inside its comment"
    );
    assert!(lines.contains(&format!("element vertex {}", scene.points.len()).as_str()));

    let body = &bytes[body..];
    assert_eq!(body.len(), 19 * scene.points.len());
    for (i, row) in body.chunks(19).enumerate() {
        let float = |at: usize| f32::from_le_bytes(row[at..at + 4].try_into().unwrap());
        let view = scene.node_transform.apply_f32(points.positions[i]);
        assert_eq!([float(0), float(4), float(8)], view);
        assert_eq!(row[12..15], points.colors[i]);
        assert_eq!(float(15), points.confidence[i]);
    }
}
