//! How many frames the kernels for CUDA can count.

use candle_core::Device;

use crate::{
    config::Config,
    error::{Error, Result},
};

/// The most elements of a tensor that candle's CUDA kernels handle. They take the number in 32 bits, and candle cuts longer
/// ones without an error, so that the results would be wrong. Origin: candle-core 0.11.1, `cuda_backend`: `copy2d`, and
/// `LaunchConfig::for_num_elems(n as u32)` wherever elements are copied, converted or computed one by one.
///
/// This crate's own kernels compute offsets in 64 bits and refuse what is beyond theirs, see `ops::cuda`.
const MAX_ELEMENTS: u64 = u32::MAX as u64;

/// The most frames of `h` x `w` pixels that `device` can handle in one pass, whatever its memory; 0 when not even one. `tracks`
/// says whether points are followed through them. `None` where only the memory limits them.
pub fn max_frames(
    device: &Device,
    config: &Config,
    size: (usize, usize),
    tracks: bool,
) -> Option<usize> {
    device.is_cuda().then(|| max_on_cuda(config, size, tracks))
}

/// Refuses more frames than [`max_frames`].
///
/// # Errors
/// [`Error::Input`], which says how many are possible.
pub(crate) fn check(
    device: &Device,
    config: &Config,
    (s, h, w): (usize, usize, usize),
    tracks: bool,
) -> Result<()> {
    match max_frames(device, config, (h, w), tracks) {
        Some(most) => at_most(most, (s, h, w)),
        None => Ok(()),
    }
}

fn at_most(most: usize, (s, h, w): (usize, usize, usize)) -> Result<()> {
    if s <= most {
        return Ok(());
    }
    let cure = match most {
        0 => "none fits; use smaller frames".to_owned(),
        _ => format!("at most {most} fit in one pass"),
    };
    Err(Error::Input(format!(
        "{s} frames of {w} x {h} pixels have more elements than CUDA kernels count: {cure}"
    )))
}

fn max_on_cuda(config: &Config, (h, w): (usize, usize), tracks: bool) -> usize {
    let (h, w) = (h as u64, w as u64);
    let patch = config.patch_size.max(1) as u64;
    let patches = h / patch * (w / patch);
    let pixels = h * w;

    // Tensors of all frames, their elements for each frame. The kept layers, [S, P, 2 C]: queries, keys and values have more,
    // but these are cuBLAS' and our own kernels' alone.
    let layer = (patches + config.patch_start_idx() as u64) * 2 * config.embed_dim as u64;
    let images = 3 * pixels;
    let head = config.track_head.as_ref().filter(|_| tracks);
    let track_maps = head.map_or(0, |head| {
        let stride = head.stride.max(1) as u64;
        head.features as u64 * (h / stride) * (w / stride)
    });
    let of_frame = layer.max(images).max(track_maps).max(1);

    // The widest maps of a dense head, which has one frame at a time: half the features for each pixel, and before that all of
    // them on a grid of eight times the patches' in both directions.
    let features = config.dpt_head.features as u64;
    let maps = (features / 2 * pixels).max(features * 64 * patches);
    if maps > MAX_ELEMENTS {
        return 0;
    }
    (MAX_ELEMENTS / of_frame) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_counts_beyond_32_bits_are_refused() {
        let config = Config::default();
        for ((h, w), refused) in [((518, 392), 2015), ((392, 518), 2015), ((518, 518), 1527)] {
            let most = max_on_cuda(&config, (h, w), false);
            assert_eq!(most, refused - 1, "{h} x {w}");
            // [S, P, 2 C]
            let elements = |s: usize| (s * (h / 14 * (w / 14) + 5) * 2048) as u64;
            assert!(elements(most) < 1 << 32 && elements(refused) >= 1 << 32);

            assert!(at_most(most, (most, h, w)).is_ok());
            let e = at_most(most, (refused, h, w)).unwrap_err().to_string();
            assert!(e.contains(&format!("{refused} frames of {w} x {h}")), "{e}");
            assert!(e.contains(&format!("at most {most} fit")), "{e}");
        }
    }

    #[test]
    fn tracking_has_larger_maps_of_all_frames() {
        let config = Config::default();
        let most = max_on_cuda(&config, (518, 392), true);
        // [S, 128, H / 2, W / 2]
        assert_eq!(most, (u32::MAX / (128 * 259 * 196)) as usize);
        let without = Config {
            track_head: None,
            ..config
        };
        assert_eq!(max_on_cuda(&without, (518, 392), true), 2014);
    }

    #[test]
    fn frames_whose_own_maps_are_too_large_do_not_fit_at_all() {
        let config = Config::default();
        // 128 features for each of 2^25 pixels.
        let side = 5796 / 14 * 14;
        assert!(max_on_cuda(&config, (side - 14, side - 14), false) > 0);
        assert_eq!(max_on_cuda(&config, (side + 14, side + 14), false), 0);
        let e = at_most(0, (1, side, side)).unwrap_err().to_string();
        assert!(e.contains("smaller frames"), "{e}");
    }

    #[test]
    fn the_cpu_has_no_such_limit() {
        let config = Config::default();
        assert_eq!(max_frames(&Device::Cpu, &config, (518, 518), true), None);
        assert!(check(&Device::Cpu, &config, (1 << 20, 518, 518), true).is_ok());
    }
}
