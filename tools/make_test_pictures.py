#!/usr/bin/env python3
"""Makes tests/data/frames/formats: one 48x32 picture in every format, depth and orientation that is read.

Only needed to change the test data:
    pip install numpy pillow opencv-python-headless
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "frames" / "formats"
WIDTH, HEIGHT = 48, 32
ORIENTATION = 0x112


def oriented(value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
rgb = np.dstack([x * 5, y * 7 + 10, np.hypot(x - 20, y - 12) * 6]).clip(0, 255).astype(np.uint8)
picture = Image.fromarray(rgb)
for name, options in {
    "rgb.png": {},
    "rgb.bmp": {},
    "rgb.tif": {"compression": "tiff_lzw"},
    "lossless.webp": {"lossless": True},
    "lossy.webp": {"quality": 90},
    "baseline.jpg": {"quality": 92},
    "progressive.jpg": {"quality": 92, "progressive": True},
    "orientation_6.jpg": {"quality": 92, "exif": oriented(6)},
    "orientation_5.png": {"exif": oriented(5)},
    "orientation_8.webp": {"lossless": True, "exif": oriented(8)},
    "orientation_3.tif": {"tiffinfo": {ORIENTATION: 3}},
}.items():
    picture.save(OUT / name, **options)
picture.convert("L").save(OUT / "gray.jpg", quality=92)
picture.convert("CMYK").save(OUT / "cmyk.jpg", quality=92)
second = picture.rotate(180).quantize(256)
picture.quantize(256).save(OUT / "animated.gif", save_all=True, append_images=[second])

# 16 bits: the picture in the high byte, a ramp in the low one.
low = (np.arange(rgb.size).reshape(rgb.shape) % 256).astype(np.uint16)
deep = rgb.astype(np.uint16) * 256 + low
cv2.imwrite(str(OUT / "rgb16.png"), deep[:, :, ::-1])
cv2.imwrite(str(OUT / "gray16.png"), deep[:, :, 1])
# Alpha counts up from 0, row by row.
alpha = (np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % 256).astype(np.uint8)
Image.fromarray(np.dstack([rgb, alpha])).save(OUT / "rgba.png")
