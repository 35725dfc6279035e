#!/usr/bin/env python3
"""Writes smooth images as PNG: make_images.py FOLDER COUNT HEIGHT WIDTH. The same in every run; needs only Python.

Their size is the network's, so that loading them changes nothing: PyTorch's side and ours see the same pixels."""

import math
import struct
import sys
import zlib
from pathlib import Path


def png(height: int, width: int, pixel) -> bytes:
    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in pixel(x / width, y / height)) for y in range(height)
    )

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    folder, (count, height, width) = Path(sys.argv[1]), map(int, sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):

        def pixel(x: float, y: float):
            # Waves of another direction and phase in each channel and image.
            for channel in range(3):
                a = (3 + channel) * x + (5 - channel) * y
                b = (7 - 2 * channel) * x - 4 * y
                wave = math.sin(6.3 * a + 0.7 * i) + 0.5 * math.sin(12.6 * b - 0.4 * i)
                yield int(127.5 + 84 * wave)

        (folder / f"{i:03}.png").write_bytes(png(height, width, pixel))


if __name__ == "__main__":
    main()
