#!/usr/bin/env python3
"""Writes a .safetensors file with every tensor of VGGT-1B, filled with random numbers, to measure speed and memory with.

    tools/make_random_checkpoint.py random.safetensors                # 2.5 GB of halves
    tools/make_random_checkpoint.py random.safetensors --dtype f32    # 5.0 GB
    vggt bench --checkpoint random.safetensors --frames 4 --height 294 --width 518

The numbers keep activations near one through all layers, as those of `vggt bench --random` do. Needs numpy.
"""

import argparse
import json
import math
import pathlib
import struct

import numpy

KEYS = pathlib.Path(__file__).parent.parent / "model/tests/data/vggt-1b.keys.txt"


def centre_and_spread(name: str, shape: list[int]) -> tuple[float, float]:
    """Norms near one, small biases, matrices that keep the variance."""
    if len(shape) == 1:
        if name.endswith("weight"):
            return 1.0, 0.1
        return (0.1, 0.05) if name.endswith("gamma") else (0.0, 0.02)
    return 0.0, math.sqrt(3.0 / max(1, math.prod(shape[1:])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--dtype", choices=["f16", "f32"], default="f16")
    args = parser.parse_args()
    dtype = numpy.dtype("<f2" if args.dtype == "f16" else "<f4")

    tensors = []
    for line in KEYS.read_text().splitlines():
        name, shape = line.split("\t")
        tensors.append((name, json.loads(shape)))

    header, at = {}, 0
    for name, shape in tensors:
        end = at + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": args.dtype.upper(), "shape": shape, "data_offsets": [at, end]}
        at = end
    head = json.dumps(header).encode()
    # Numbers begin at a multiple of eight, so that they can be used where they lie.
    head += b" " * (-len(head) % 8)

    random = numpy.random.default_rng(0)
    with args.out.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, shape in tensors:
            centre, spread = centre_and_spread(name, shape)
            numbers = random.random(math.prod(shape), dtype=numpy.float32) * (2 * spread) + (centre - spread)
            file.write(numbers.astype(dtype).tobytes())


if __name__ == "__main__":
    main()
