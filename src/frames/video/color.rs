//! The color tags of decoded frames, and swscale's settings for them.

use ffmpeg_next::{
    ffi::{
        AV_PIX_FMT_FLAG_ALPHA, AV_PIX_FMT_FLAG_RGB, AVColorPrimaries, AVColorRange, AVColorSpace,
        AVColorTransferCharacteristic, sws_getCoefficients, sws_setColorspaceDetails,
    },
    format::Pixel,
    frame,
    software::scaling::Context as Scaler,
};

use crate::frames::hdr::{Primaries, Transfer};

/// Numbers of H.273, which FFmpeg uses as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColorTags {
    primaries: i32,
    transfer: i32,
    matrix: i32,
    range: i32,
}

/// How the pixels of a frame become sRGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// As OpenCV has it, whatever the tags say: BT.601, 8 bits.
    Standard,
    /// At 16 bits and through the color map.
    Wide(Wide),
}

/// HDR, or primaries that are not sRGB's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wide {
    pub(super) transfer: Transfer,
    pub(super) primaries: Primaries,
    /// The matrix of YCbCr, as swscale numbers it.
    matrix: i32,
}

impl ColorTags {
    pub(super) fn of(frame: &frame::Video) -> Self {
        #[allow(
            unsafe_code,
            reason = "files may hold numbers that the bindings' types do not have"
        )]
        // SAFETY: `frame` keeps the structure alive. The fields are C enumerations; they are read as integers of the same
        // size, since a Rust enumeration may only hold the values it names.
        let (primaries, transfer, matrix, range) = unsafe {
            let raw = frame.as_ptr();
            (
                (&raw const (*raw).color_primaries).cast::<i32>().read(),
                (&raw const (*raw).color_trc).cast::<i32>().read(),
                (&raw const (*raw).colorspace).cast::<i32>().read(),
                (&raw const (*raw).color_range).cast::<i32>().read(),
            )
        };
        Self {
            primaries,
            transfer,
            matrix,
            range,
        }
    }

    pub(super) fn is_full_range(self) -> bool {
        self.range == AVColorRange::AVCOL_RANGE_JPEG as i32
    }

    pub(super) fn coding(self) -> Coding {
        const HLG: i32 = AVColorTransferCharacteristic::AVCOL_TRC_ARIB_STD_B67 as i32;
        const PQ: i32 = AVColorTransferCharacteristic::AVCOL_TRC_SMPTE2084 as i32;
        const BT709: i32 = AVColorPrimaries::AVCOL_PRI_BT709 as i32;
        const BT2020: i32 = AVColorPrimaries::AVCOL_PRI_BT2020 as i32;
        const DISPLAY_P3: i32 = AVColorPrimaries::AVCOL_PRI_SMPTE432 as i32;
        let transfer = match self.transfer {
            HLG => Transfer::Hlg,
            PQ => Transfer::Pq,
            _ => Transfer::Sdr,
        };
        let primaries = match self.primaries {
            BT2020 => Primaries::Bt2020,
            DISPLAY_P3 => Primaries::DisplayP3,
            BT709 => Primaries::Bt709,
            // BT.2100 defines HLG and PQ for BT.2020 only.
            _ if transfer != Transfer::Sdr => Primaries::Bt2020,
            _ => Primaries::Bt709,
        };
        if transfer == Transfer::Sdr && primaries == Primaries::Bt709 {
            return Coding::Standard;
        }
        Coding::Wide(Wide {
            transfer,
            primaries,
            matrix: self.swscale_matrix(primaries),
        })
    }

    /// SWS_CS_*, which are H.273's numbers too.
    fn swscale_matrix(self, primaries: Primaries) -> i32 {
        const BT709: i32 = AVColorSpace::AVCOL_SPC_BT709 as i32;
        const BT470BG: i32 = AVColorSpace::AVCOL_SPC_BT470BG as i32;
        const SMPTE170M: i32 = AVColorSpace::AVCOL_SPC_SMPTE170M as i32;
        const SMPTE240M: i32 = AVColorSpace::AVCOL_SPC_SMPTE240M as i32;
        const BT2020_NCL: i32 = AVColorSpace::AVCOL_SPC_BT2020_NCL as i32;
        match self.matrix {
            known @ (BT709 | BT470BG | SMPTE170M | SMPTE240M | BT2020_NCL) => known,
            _ if primaries == Primaries::Bt2020 => BT2020_NCL,
            _ => BT709,
        }
    }
}

/// Whether pixels of this format have an opacity.
pub(super) fn has_alpha(format: Pixel) -> bool {
    layout(format).is_some_and(|(flags, _)| flags & u64::from(AV_PIX_FMT_FLAG_ALPHA as u32) != 0)
}

/// Flags of a format, and bits of its first component.
fn layout(format: Pixel) -> Option<(u64, i32)> {
    let descriptor = format.descriptor()?;
    #[allow(
        unsafe_code,
        reason = "the bindings have no safe way to read these fields"
    )]
    // SAFETY: descriptors are constants of FFmpeg, and only integers are read.
    unsafe {
        let raw = descriptor.as_ptr();
        Some(((*raw).flags, (*raw).comp[0].depth))
    }
}

/// What swscale makes of white in its 16-bit RGB, by the format of its input. Measured with FFmpeg 5.1: from limited range it
/// gets to 255/256 of the range, and from full range it shifts the values up.
pub(super) fn white(format: Pixel, full_range: bool) -> u16 {
    /// 235 of 219 steps above 16, in swscale's arithmetic.
    const LIMITED: u16 = 65283;
    let Some((flags, depth)) = layout(format) else {
        return u16::MAX;
    };
    let is_rgb = flags & u64::from(AV_PIX_FMT_FLAG_RGB as u32) != 0;
    match u32::try_from(depth) {
        _ if is_rgb => u16::MAX,
        Ok(depth @ 8..=15) if full_range => u16::MAX << (16 - depth),
        _ if full_range => u16::MAX,
        _ => LIMITED,
    }
}

/// Sets matrix and range of the input. Without effect on RGB.
pub(super) fn set_matrix(scaler: &mut Scaler, coding: Coding, full_range: bool) {
    /// swscale's unit of contrast and saturation.
    const ONE: i32 = 1 << 16;
    /// SWS_CS_DEFAULT: BT.601.
    const BT601: i32 = 5;
    let matrix = match coding {
        // Its default, which a format with a range of its own (yuvj420p) sets right.
        Coding::Standard if !full_range => return,
        Coding::Standard => BT601,
        Coding::Wide(wide) => wide.matrix,
    };
    #[allow(
        unsafe_code,
        reason = "the bindings have no safe way to set the matrix"
    )]
    // SAFETY: `scaler` holds a context; the tables are constants of swscale, which copies them. Output is RGB, which has full
    // range and whose table does not matter.
    unsafe {
        sws_setColorspaceDetails(
            scaler.as_mut_ptr(),
            sws_getCoefficients(matrix),
            i32::from(full_range),
            sws_getCoefficients(BT601),
            1,
            0,
            ONE,
            ONE,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(primaries: i32, transfer: i32, matrix: i32) -> Coding {
        let range = 1;
        ColorTags {
            primaries,
            transfer,
            matrix,
            range,
        }
        .coding()
    }

    #[test]
    fn white_is_known_for_every_range() {
        assert_eq!(white(Pixel::YUV420P10LE, false), 65283);
        assert_eq!(white(Pixel::YUV420P10LE, true), 65472);
        assert_eq!(white(Pixel::YUV420P, true), 65280);
        assert_eq!(white(Pixel::GBRP10LE, false), u16::MAX);
    }

    #[test]
    fn standard_range_is_left_to_opencvs_rule() {
        for (primaries, transfer, matrix) in
            [(2, 2, 2), (1, 1, 1), (6, 6, 6), (5, 1, 5), (99, 99, 99)]
        {
            assert_eq!(coding(primaries, transfer, matrix), Coding::Standard);
        }
    }

    #[test]
    fn hdr_and_wide_primaries_are_recognised_by_their_tags() {
        let wide = |transfer, primaries, matrix| {
            Coding::Wide(Wide {
                transfer,
                primaries,
                matrix,
            })
        };
        assert_eq!(coding(9, 18, 9), wide(Transfer::Hlg, Primaries::Bt2020, 9));
        assert_eq!(coding(9, 16, 9), wide(Transfer::Pq, Primaries::Bt2020, 9));
        assert_eq!(coding(2, 16, 2), wide(Transfer::Pq, Primaries::Bt2020, 9));
        assert_eq!(coding(9, 14, 9), wide(Transfer::Sdr, Primaries::Bt2020, 9));
        assert_eq!(
            coding(12, 1, 1),
            wide(Transfer::Sdr, Primaries::DisplayP3, 1)
        );
        assert_eq!(
            coding(12, 18, 2),
            wide(Transfer::Hlg, Primaries::DisplayP3, 1)
        );
    }
}
