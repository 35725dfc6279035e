#!/usr/bin/env python3
"""Compares the tensors of two safetensors files of f32 and prints the largest difference of each.

A difference is relative to the largest magnitude in the tensor, as tests compare: values near zero are not to be
compared with themselves. Exits with 1 when one is larger than TOLERANCE or the files do not hold the same.
"""

import argparse
import array
import json
import math
import sys


def tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(start + begin)
            data = file.read(end - begin)
            values = array.array("f", data) if entry["dtype"] == "F32" else None
            yield name, (entry["dtype"], entry["shape"], data, values)


def difference(a, b):
    """The largest difference, relative to the largest value."""
    if a[:2] != b[:2]:
        return math.inf
    if a[3] is None:
        return 0.0 if a[2] == b[2] else math.inf
    largest = max((abs(x) for x in a[3]), default=0.0)
    # A NaN makes the sum a NaN, which compares as nothing: it counts as a difference.
    differences = [abs(x - y) for x, y in zip(a[3], b[3])]
    if not all(map(math.isfinite, differences)):
        return math.inf
    return max(differences, default=0.0) / (largest or 1.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("one")
    parser.add_argument("other")
    parser.add_argument("--tolerance", type=float, required=True)
    args = parser.parse_args()
    one, other = dict(tensors(args.one)), dict(tensors(args.other))
    if not one or one.keys() != other.keys():
        print(f"not the same tensors: {sorted(one)} and {sorted(other)}")
        return 1
    found = {name: difference(one[name], other[name]) for name in one}
    for name, value in sorted(found.items()):
        print(f"{name:24} {value:.1e}")
    return int(max(found.values()) > args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
