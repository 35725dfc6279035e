//! Which codecs of videos can be decoded.

/// Returns the names of the codecs that videos of cameras, phones and browsers have, and whether this program decodes them; nothing
/// without the feature `video`.
pub fn video_codecs() -> Vec<(&'static str, bool)> {
    #[cfg(feature = "video")]
    {
        use ffmpeg_next::{codec::Id, decoder::find};
        [
            ("H.264", Id::H264),
            ("HEVC", Id::HEVC),
            ("VP9", Id::VP9),
            ("VP8", Id::VP8),
            ("AV1", Id::AV1),
            ("MPEG-4", Id::MPEG4),
            ("MJPEG", Id::MJPEG),
            ("ProRes", Id::PRORES),
        ]
        .into_iter()
        .map(|(name, id)| (name, find(id).is_some()))
        .collect()
    }
    #[cfg(not(feature = "video"))]
    Vec::new()
}
