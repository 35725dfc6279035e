#!/bin/sh
# Makes the small clips of tests/data/frames/clips: one per codec and container that the frames room reads.
# They are committed, so that the tests need no encoder; run this only to change them. Needs the ffmpeg command.
set -eu
cd "$(dirname "$0")/../tests/data/frames/clips"

# 20 frames, 10 a second: a colour test picture whose content moves.
clip() {
    name=$1
    shift
    ffmpeg -nostdin -v error -y -f lavfi -i "testsrc2=size=${SIZE:-64x48}:rate=10:duration=2" "$@" \
        -map_metadata -1 -fflags +bitexact -flags:v +bitexact "$name"
}

H264="-c:v libx264 -preset veryslow -crf 20 -pix_fmt yuv420p"
clip h264.mp4 $H264 -movflags +faststart
clip h264.mov $H264
clip h264.mkv $H264
clip h264.ts $H264
clip h264_10bit.mp4 -c:v libx264 -crf 20 -pix_fmt yuv420p10le
clip h264_full_range.mp4 -c:v libx264 -crf 20 -pix_fmt yuvj420p
clip h264_odd.mp4 -vf scale=63:47 -c:v libx264 -crf 20 -pix_fmt yuv444p
clip hevc.mp4 -c:v libx265 -x265-params log-level=none -crf 20 -pix_fmt yuv420p -tag:v hvc1
clip vp9.webm -c:v libvpx-vp9 -crf 20 -b:v 0
clip vp8.webm -c:v libvpx -crf 10 -b:v 500k
clip av1.mp4 -c:v libaom-av1 -crf 20 -b:v 0 -cpu-used 6
clip av1.mkv -c:v libaom-av1 -crf 20 -b:v 0 -cpu-used 6
clip mpeg4.avi -c:v mpeg4 -q:v 3
clip mjpeg.avi -c:v mjpeg -q:v 4
clip mjpeg.mov -c:v mjpeg -q:v 4
clip prores.mov -c:v prores_ks -profile:v 0 -qscale:v 4

# Sound only, and sound with a cover picture.
ffmpeg -nostdin -v error -y -f lavfi -i "sine=duration=1" -c:a aac -b:a 16k -fflags +bitexact sound.m4a
# The size changes in mid-stream.
SIZE=32x32 clip other_size.ts $H264
cat h264.ts other_size.ts >size_changes.ts
rm other_size.ts
# Every turn a phone writes.
for degrees in 90 180 270; do
    ffmpeg -nostdin -v error -y -i h264.mp4 -c copy -metadata:s:v:0 rotate=$degrees -fflags +bitexact "turned_$degrees.mp4"
done
