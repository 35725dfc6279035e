"""Pictures and clips for attacks, made when they are asked for: nothing hostile is stored in the repository."""

import functools
import os
import pathlib
import random
import struct
import subprocess
import zlib

from .service import REPOSITORY, TARGET

DATA = REPOSITORY / "tests/data/frames"
CACHE = TARGET / "tmp/attack-inputs"
FFMPEG = ("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y")


def chunk(kind, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows, *, extra=b"", level=6):
    """An 8-bit RGB picture of the bytes that `rows` gives, row by row; `extra` are chunks in front of them."""
    packer = zlib.compressobj(level)
    data = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def noise(seed, width=64, height=48):
    """A picture that no other seed gives."""
    numbers = random.Random(seed)
    return png(width, height, (numbers.randbytes(3 * width) for _ in range(height)), level=1)


def slow_pictures(seed, count, width=518, height=392):
    """Pictures that are small as files and that the network works on for a while; no two alike, no two seeds alike."""
    pixels = [bytes((x * 255 // width, 128, 64)) for x in range(width)]
    row = b"".join(pixels)
    pictures = []
    for index in range(count):
        mark = chunk(b"tEXt", f"Comment\0{seed} {index}".encode())
        pictures.append(png(width, height, (row[3 * index :] + row[: 3 * index] for _ in range(height)), extra=mark))
    return pictures


@functools.cache
def flat_png(side):
    """A square picture of one color: many pixels, few bytes."""
    return png(side, side, (bytes(3 * side) for _ in range(side)))


def slow_to_decode(seed, count=60, side=6000):
    """Pictures whose decoding takes a while: 36 MP each, 0.1 MB as a file, made once."""
    picture, end = flat_png(side), chunk(b"IEND", b"")
    body = picture.removesuffix(end)
    return [body + chunk(b"tEXt", f"Comment\0{seed} {index}".encode()) + end for index in range(count)]


def webp_bomb(side=10_000):
    """A lossless WebP of one color: five prefix codes of one symbol each, so that a pixel takes no bit at all."""
    bits, length = 0, 0
    # Signature, width - 1, height - 1, alpha, version; no transform, no color cache, no meta prefix codes.
    fields = [(0x2F, 8), (side - 1, 14), (side - 1, 14), (0, 1), (0, 3), (0, 1), (0, 1), (0, 1)]
    # Green, red, blue, alpha, distance: simple code, one symbol, of 8 bits.
    fields += [field for symbol in (80, 40, 120, 255, 0) for field in ((1, 1), (0, 1), (1, 1), (symbol, 8))]
    for value, width in fields:
        bits |= value << length
        length += width
    data = bits.to_bytes((length + 7) // 8 + 1, "little")
    data += bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data


def made_by_ffmpeg(name, *args):
    """The clip `name`, which ffmpeg makes once."""
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        half = CACHE / f"half-{os.getpid()}-{name}"
        subprocess.run([*FFMPEG, *map(str, args), half], check=True)
        half.rename(path)
    return path.read_bytes()


def many_frames(seconds):
    """1000 frames a second of 16 x 16 pixels."""
    source = ("-f", "lavfi", "-i", f"testsrc2=size=16x16:rate=1000:duration={seconds}")
    options = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    return made_by_ffmpeg(f"16x16_{seconds}s_1000fps.mp4", *source, *options)


def large_frames():
    """8192 x 4320 pixels of 30 bits each, of which a decoder keeps 16 frames."""
    source = ("-f", "lavfi", "-i", "color=size=8192x4320:rate=30:duration=1")
    options = ("-c:v", "libx264", "-preset", "ultrafast", "-refs", 16, "-pix_fmt", "yuv444p10le", "-threads", 2)
    return made_by_ffmpeg("8192x4320_ref16_444p10.mp4", *source, *options)


def slow_clip():
    """8192 x 4320 pixels, 4 s, 30 frames a second: 0.1 MB that takes seconds to decode."""
    source = ("-f", "lavfi", "-i", "color=size=8192x4320:rate=30:duration=4")
    return made_by_ffmpeg("8192x4320_4s.mp4", *source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def clip():
    return (DATA / "clips/h264.mp4").read_bytes()


def files_of(*folders, endings=None):
    """The test data's files in these folders, by path."""
    found = (path for folder in folders for path in sorted((DATA / folder).iterdir()) if path.is_file())
    return [path for path in found if endings is None or path.suffix in endings]


def copy_of(path, folder, name=None):
    """A copy in another folder, which may be damaged."""
    copy = pathlib.Path(folder) / (name or path.name)
    copy.write_bytes(path.read_bytes())
    return copy
