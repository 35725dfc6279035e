//! When the frames of a clip are shown, read from its packets without decoding them.

use ffmpeg_next::{Error, Packet, codec, packet::Ref};

use super::{
    clip::{Clip, MAX_FAILURES_IN_A_ROW},
    plan,
};
use crate::frames::FramesError;

/// Times that are remembered for each permitted second of a clip. A millisecond is the unit of WebM, FLV and ASF, and no
/// camera records more frames in one; 8 bytes each, an hour takes 29 MB at most.
const MAX_TIMES_PER_SECOND: f64 = 1_000.0;

/// What the packets of a clip tell about its frames.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scan {
    /// When each frame is shown, in ticks of the stream, ascending. `None` when packets carry no such times, or times that
    /// cannot be true, as of two recordings that were concatenated.
    pub(super) times: Option<Vec<i64>>,
    /// Packets of frames that are shown; those before and behind the cuts of an edit list are not.
    pub(super) shown: u64,
    /// Duration of the last frame, in ticks, where the container says it.
    pub(super) last_duration: Option<i64>,
    /// All packets of the video stream.
    packets: u64,
    /// Where the last packet of the video stream ends, in ticks.
    end: Option<i64>,
    /// Where the last packet of any stream begins, in seconds.
    last_s: Option<f64>,
}

/// The length of a clip as its header has it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Announced {
    /// Frames that are stored.
    pub(super) frames: Option<u64>,
    /// Where the video stream ends, in ticks.
    pub(super) end: Option<i64>,
    /// Where the file ends, in seconds, for containers that count no frames.
    pub(super) duration_s: Option<f64>,
}

impl Clip {
    /// Reads to the end without decoding.
    ///
    /// `go_on` is asked now and then; the scan stops with [`FramesError::Cancelled`] when it returns `false`.
    pub(super) fn scan(
        mut self,
        max_duration_s: f64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Scan, FramesError> {
        /// Packets between two questions; a second of reading has tens of thousands.
        const PACKETS_PER_QUESTION: u64 = 4096;
        let max_times = (max_duration_s * MAX_TIMES_PER_SECOND).max(1.0) as usize;
        let mut collector = Collector::new(max_times);
        let mut all_packets: u64 = 0;
        let mut failures_in_a_row = 0;
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {}
                Err(Error::InvalidData) if failures_in_a_row < MAX_FAILURES_IN_A_ROW => {
                    failures_in_a_row += 1;
                    continue;
                }
                Err(_) => break,
            }
            self.watch.check(&self.path)?;
            failures_in_a_row = 0;
            all_packets += 1;
            if all_packets.is_multiple_of(PACKETS_PER_QUESTION) && !go_on() {
                return Err(FramesError::Cancelled);
            }
            collector.see_any(self.seconds(&packet));
            if packet.stream() == self.stream && !packet.is_corrupt() {
                let hidden = is_hidden(self.decoder.id(), packet.data().unwrap_or_default());
                collector.see_video(&Seen::of(&packet, hidden));
            }
        }
        self.watch.check(&self.path)?;
        Ok(collector.finish())
    }

    /// When a packet of any stream begins, in seconds.
    fn seconds(&self, packet: &Packet) -> Option<f64> {
        let tick_s = self.tick_s_of(packet.stream())?;
        Some(packet.pts().or(packet.dts())? as f64 * tick_s)
    }
}

/// A packet of the video stream.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    pts: Option<i64>,
    dts: Option<i64>,
    duration: i64,
    /// Decoded for the sake of other frames, but not shown.
    hidden: bool,
}

impl Seen {
    fn of(packet: &Packet, hidden: bool) -> Self {
        Self {
            pts: packet.pts(),
            dts: packet.dts(),
            duration: packet.duration(),
            hidden: hidden || is_discarded(packet),
        }
    }
}

/// Gathers a [`Scan`].
struct Collector {
    scan: Scan,
    times: Vec<i64>,
    max_times: usize,
    /// Every frame so far had a time that can be true.
    usable: bool,
    /// Frames without a time behind the first one: Matroska has none for frames that are shown before its zero, which need a
    /// group of pictures that was cut away.
    untimed_lead: u64,
    last_dts: Option<i64>,
}

impl Collector {
    fn new(max_times: usize) -> Self {
        Self {
            scan: Scan::default(),
            times: Vec::new(),
            max_times,
            usable: true,
            untimed_lead: 0,
            last_dts: None,
        }
    }

    fn see_any(&mut self, seconds: Option<f64>) {
        if let Some(seconds) = seconds {
            self.scan.last_s = Some(self.scan.last_s.map_or(seconds, |last| last.max(seconds)));
        }
    }

    fn see_video(&mut self, seen: &Seen) {
        self.scan.packets += 1;
        if let Some(time) = seen.pts.or(seen.dts) {
            let end = time.saturating_add(seen.duration.max(0));
            self.scan.end = Some(self.scan.end.map_or(end, |last| last.max(end)));
        }
        // Packets come in the order of decoding: a clock that runs back there was set anew.
        if seen
            .dts
            .zip(self.last_dts)
            .is_some_and(|(dts, last)| dts < last)
        {
            self.usable = false;
        }
        self.last_dts = seen.dts.or(self.last_dts);
        if seen.hidden {
            return;
        }
        self.scan.shown += 1;
        if seen.pts.is_none() && self.usable && self.times.len() == 1 {
            self.untimed_lead += 1;
            return;
        }
        self.usable &= seen.pts.is_some() && self.times.len() < self.max_times;
        let Some(pts) = seen.pts.filter(|_| self.usable) else {
            // Not needed any more.
            self.times = Vec::new();
            return;
        };
        if self.times.iter().last().is_none_or(|last| pts >= *last) {
            self.scan.last_duration = Some(seen.duration).filter(|ticks| *ticks > 0);
        }
        self.times.push(pts);
    }

    fn finish(mut self) -> Scan {
        if self.times.len() < 2 && self.untimed_lead > 0 {
            self.usable = false;
        }
        if self.usable {
            self.scan.shown -= self.untimed_lead;
            self.times.sort_unstable();
            // Two fields of one frame may come as two packets of one time.
            self.times.dedup();
            self.scan.times = Some(self.times);
        }
        self.scan
    }
}

impl Scan {
    /// Returns how many frames are shown from `first`, the time of the first frame that could be decoded, on.
    ///
    /// Frames before it depend on others that were cut away.
    pub(super) fn shown_from(&self, first: Option<i64>) -> u64 {
        match self.times.as_deref().zip(first) {
            Some((times, first)) => times.iter().filter(|time| **time >= first).count() as u64,
            None => self.shown,
        }
    }

    /// Returns a sentence about a file that ends before its header says, else `None`.
    ///
    /// Fewer packets than frames alone prove nothing: an edit list leaves out stored frames, and AVI counts pauses as
    /// frames. So the times must end early too.
    pub(super) fn cut_off(&self, announced: &Announced, ticks_per_frame: f64) -> Option<String> {
        let ends_early = || {
            let Some((end, expected)) = self.end.zip(announced.end) else {
                return true;
            };
            let frames = |ticks: i64| (ticks as f64 / ticks_per_frame).round().max(0.0) as u64;
            plan::is_short(frames(end), frames(expected))
        };
        if let Some(frames) = announced.frames {
            return (plan::is_short(self.packets, frames) && ends_early()).then(|| {
                format!(
                    "the video is cut off: {frames} frames are announced, {} are there",
                    self.packets
                )
            });
        }
        let (last_s, announced_s) = self.last_s.zip(announced.duration_s)?;
        plan::ends_early(last_s, announced_s).then(|| {
            format!(
                "the video is cut off: {announced_s:.1} seconds are announced, its last frame is at {last_s:.1}"
            )
        })
    }
}

/// Whether an edit list has the packet decoded, for the sake of later ones, but not shown.
fn is_discarded(packet: &Packet) -> bool {
    #[allow(
        unsafe_code,
        reason = "the bindings leave this flag out of their set of flags"
    )]
    // SAFETY: `packet` keeps the structure alive, and only an integer is read.
    let flags = unsafe { (*packet.as_ptr()).flags };
    flags & ffmpeg_next::ffi::AV_PKT_FLAG_DISCARD != 0
}

/// Whether a packet of VP8 or VP9 only holds a frame that later ones refer to: both have a bit for that.
///
/// The uncompressed headers are in RFC 6386, section 9.1, and in the VP9 bitstream specification, section 6.2. A VP9 packet
/// of several frames (annex B, superframes) always shows one.
fn is_hidden(codec: codec::Id, data: &[u8]) -> bool {
    let (Some(first), Some(last)) = (data.first(), data.last()) else {
        return false;
    };
    match codec {
        codec::Id::VP8 => first & 0b0001_0000 == 0,
        codec::Id::VP9 => {
            let superframe = last & 0b1110_0000 == 0b1100_0000;
            let profile_3 = first & 0b0011_0000 == 0b0011_0000;
            let shows_existing = first & 0b0000_1000 != 0;
            !superframe && !profile_3 && !shows_existing && first & 0b0000_0010 == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(times: &[(i64, i64)]) -> Scan {
        let mut collector = Collector::new(1000);
        for (dts, pts) in times {
            collector.see_video(&Seen {
                pts: Some(*pts),
                dts: Some(*dts),
                duration: 1,
                hidden: false,
            });
        }
        collector.finish()
    }

    #[test]
    fn times_are_sorted_into_the_order_of_display() {
        let scan = scan(&[(-1, 0), (0, 3), (1, 1), (2, 2)]);
        assert_eq!(scan.times.as_deref(), Some(&[0, 1, 2, 3][..]));
        assert_eq!(scan.shown_from(Some(1)), 3);
        assert_eq!(scan.shown_from(None), 4);
    }

    #[test]
    fn a_clock_that_runs_back_is_not_believed() {
        let scan = scan(&[(0, 0), (1, 1), (0, 0), (1, 1)]);
        assert_eq!((scan.times, scan.shown), (None, 4));
    }

    #[test]
    fn frames_without_a_time_are_forgiven_behind_the_first_only() {
        let scan = |times: &[Option<i64>]| {
            let mut collector = Collector::new(1000);
            for pts in times {
                collector.see_video(&Seen {
                    pts: *pts,
                    ..Seen::default()
                });
            }
            collector.finish()
        };
        let lead = scan(&[Some(0), None, None, Some(2), Some(1)]);
        assert_eq!(lead.times.as_deref(), Some(&[0, 1, 2][..]));
        assert_eq!(lead.shown, 3);
        for times in [[Some(0), Some(1), None], [None; 3], [Some(0), None, None]] {
            let scan = scan(&times);
            assert_eq!((scan.times, scan.shown), (None, 3), "{times:?}");
        }
    }

    #[test]
    fn as_many_times_are_remembered_as_are_permitted() {
        let mut collector = Collector::new(2);
        for time in 0..3 {
            collector.see_video(&Seen {
                pts: Some(time),
                ..Seen::default()
            });
        }
        let scan = collector.finish();
        assert_eq!((scan.times, scan.shown), (None, 3));
    }

    #[test]
    fn hidden_frames_count_as_packets_only() {
        let mut collector = Collector::new(1000);
        for hidden in [true, true, false] {
            collector.see_video(&Seen {
                pts: Some(i64::from(!hidden)),
                hidden,
                ..Seen::default()
            });
        }
        let scan = collector.finish();
        assert_eq!((scan.packets, scan.shown), (3, 1));
        assert_eq!(scan.times.as_deref(), Some(&[1][..]));
    }

    #[test]
    fn hidden_frames_of_vp8_and_vp9_are_recognised() {
        assert!(!is_hidden(codec::Id::VP8, &[0x10, 1]));
        assert!(is_hidden(codec::Id::VP8, &[0x01, 1]));
        assert!(!is_hidden(codec::Id::VP9, &[0x82, 1]), "shown");
        assert!(is_hidden(codec::Id::VP9, &[0x84, 1]));
        assert!(!is_hidden(codec::Id::VP9, &[0x88, 1]), "shows an older one");
        assert!(!is_hidden(codec::Id::VP9, &[0x84, 0xC9]), "a superframe");
        assert!(!is_hidden(codec::Id::H264, &[0]));
        assert!(!is_hidden(codec::Id::VP8, &[]));
    }

    #[test]
    fn a_file_is_cut_off_when_both_frames_and_time_are_missing() {
        let ten: Vec<(i64, i64)> = (0..10).map(|i| (i, i)).collect();
        let scan = scan(&ten);
        let announced = |frames, end| Announced {
            frames: Some(frames),
            end: Some(end),
            duration_s: None,
        };
        assert!(scan.cut_off(&announced(20, 20), 1.0).is_some());
        assert_eq!(scan.cut_off(&announced(20, 10), 1.0), None, "an edit list");
        assert_eq!(scan.cut_off(&announced(11, 11), 1.0), None, "forgiven");
    }
}
