//! GLBs that hold fewer points than their scene.

use super::*;
use crate::scene::{FramesInMemory, SceneOptions, build_from, testing};

/// Four frames of 40 x 30 pixels, each a meter further.
fn frames() -> FramesInMemory {
    let position = |i: usize| [0, 1, 2].map(|axis| (3 * i + axis) as f32 / 3600.0);
    testing::frames([4, 30, 40], position, |_| 1.0)
}

/// Writes a scene of 4800 points; returns the bytes too.
fn written(
    limits: (usize, u64),
    max_points: Option<usize>,
    encoding: GlbEncoding,
) -> Result<(Written, Vec<u8>), GlbError> {
    let frames = frames();
    let options = SceneOptions {
        conf_thres: 0.0,
        show_cam: true,
        max_points,
        ..SceneOptions::default()
    };
    let scene = build_from(&frames, &options).unwrap();
    let provenance = Provenance::new("tests", None, 4, serde_json::Value::Null);
    let options = GlbOptions {
        encoding,
        ..GlbOptions::default()
    };
    let mut bytes = Vec::new();
    let written = write_within(limits, &scene, &frames, &provenance, options, &mut bytes)?;
    assert_eq!(written.bytes, bytes.len() as u64);
    Ok((written, bytes))
}

const NO_LIMITS: (usize, u64) = (usize::MAX, MAX_BYTES);

#[test]
fn a_scene_without_a_limit_is_thinned_to_the_default() {
    let plain = GlbEncoding::Plain;
    let (all, _) = written(NO_LIMITS, None, plain).unwrap();
    assert_eq!((all.points, all.thinned), (4800, None));
    let (thin, bytes) = written((1000, MAX_BYTES), None, plain).unwrap();
    let thinned = Thinned {
        of: 4800,
        reason: Reason::Default,
    };
    assert_eq!((thin.points, thin.thinned), (1000, Some(thinned)));
    // A number that was asked for is kept, whether it is smaller or larger than the default.
    let (asked, asked_bytes) = written(NO_LIMITS, Some(1000), plain).unwrap();
    assert_eq!((asked.points, asked.thinned), (1000, None));
    assert!(bytes == asked_bytes);
    let (asked, _) = written((1000, MAX_BYTES), Some(3000), plain).unwrap();
    assert_eq!((asked.points, asked.thinned), (3000, None));
}

#[test]
fn what_is_too_large_for_the_format_is_thinned_to_what_fits() {
    for encoding in [GlbEncoding::Plain, GlbEncoding::Quantized] {
        let (all, _) = written(NO_LIMITS, None, encoding).unwrap();
        for limit in [all.bytes - 1, all.bytes / 2, 20_000] {
            let (thin, _) = written((usize::MAX, limit), None, encoding).unwrap();
            assert!(thin.bytes <= limit, "{limit}: {thin:?}");
            // Room for a longer document and the last point.
            assert!(thin.bytes + 1300 > limit, "{limit}: {thin:?}");
            let thinned = Thinned {
                of: 4800,
                reason: Reason::Format,
            };
            assert_eq!(thin.thinned, Some(thinned));
        }
        let (exact, _) = written((usize::MAX, all.bytes), None, encoding).unwrap();
        assert_eq!(exact, all);
        // Also where the options ask for more than fits.
        let (thin, _) = written((10, 20_000), Some(4000), encoding).unwrap();
        assert!(thin.points < 4000, "{thin:?}");
        assert_eq!(
            thin.thinned.map(|t| (t.of, t.reason)),
            Some((4000, Reason::Format))
        );
    }
}

#[test]
fn a_file_without_room_for_a_point_is_an_error() {
    let e = written((usize::MAX, 3000), None, GlbEncoding::Plain).unwrap_err();
    assert!(matches!(e, GlbError::TooLarge { .. }), "{e}");
}
