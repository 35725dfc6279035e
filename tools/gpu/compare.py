#!/usr/bin/env python3
"""Compares predictions of this project with PyTorch's and says whether they are as close as they have to be.

    compare.py OURS F32 [BF16] [--dtype f32|bf16|f16] [--factor F] [--allow E]

OURS is a file of `vggt export --save_predictions`; F32 and BF16 are the two files of `torch_side.py predict`; --dtype is
the type that OURS was computed in. The error of a tensor is the length of its difference from F32, relative to F32. It may
be 5e-5 in f32, and in a 16-bit type F times the error of BF16, which is PyTorch's own under autocast; F is 1.5 by default.
--allow E allows the error E for every tensor instead.

Prints a table and then the same as one line of JSON. A tensor that is missing from a file, has another shape or is not
finite gets that as its verdict. Exits with 1 unless every verdict is PASS. Needs numpy.
"""

import argparse
import json
import math
import sys

import numpy

F32_GATE = 5e-5


def load(path: str) -> dict:
    """The F32 tensors of a safetensors file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] == "F32":
                begin, end = entry["data_offsets"]
                file.seek(start + begin)
                tensors[name] = numpy.frombuffer(file.read(end - begin), dtype="<f4").reshape(entry["shape"])
        return tensors


def error(found, reference) -> float | None:
    """The relative error; None where `found` is missing or has another number of elements."""
    if found is None or reference is None or found.size != reference.size:
        return None
    found, reference = (numpy.asarray(t, dtype=numpy.float64).ravel() for t in (found, reference))
    length = float(numpy.linalg.norm(reference))
    difference = float(numpy.linalg.norm(found - reference))
    return difference / length if length else difference


def judge(found, reference, other, args) -> dict:
    ours, theirs = error(found, reference), error(other, reference)
    if args.allow is not None:
        allowed = args.allow
    elif args.dtype == "f32":
        allowed = F32_GATE
    else:
        allowed = None if theirs is None else args.factor * theirs
    if found is None:
        verdict = "missing"
    elif ours is None:
        verdict = f"shape {list(found.shape)}, expected {list(reference.shape)}"
    elif not math.isfinite(ours):
        verdict = "not finite"
    elif allowed is None:
        verdict = "no BF16 to compare with"
    else:
        # Written so that a NaN in the reference fails as well.
        verdict = "PASS" if ours <= allowed else "over"
    line = {"error": ours, "autocast": theirs, "allowed": allowed}
    # JSON has no infinity.
    return {k: v if v is not None and math.isfinite(v) else None for k, v in line.items()} | {"verdict": verdict}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("f32")
    parser.add_argument("bf16", nargs="?")
    parser.add_argument("--dtype", choices=["f32", "bf16", "f16"], default="f32")
    parser.add_argument("--factor", type=float, default=1.5)
    parser.add_argument("--allow", type=float)
    args = parser.parse_args()
    ours, f32 = load(args.ours), load(args.f32)
    bf16 = load(args.bf16) if args.bf16 else {}
    taps = {tap: judge(ours.get(tap), f32[tap], bf16.get(tap), args) for tap in sorted(f32)}
    passed = bool(taps) and all(line["verdict"] == "PASS" for line in taps.values())

    def cell(value: float | None) -> str:
        return f"{'-' if value is None else f'{value:.2e}':>9}"

    print(f"{args.dtype:20} {'error':>9} {'autocast':>9} {'allowed':>9}")
    for tap, line in taps.items():
        print(f"{tap:20} {cell(line['error'])} {cell(line['autocast'])} {cell(line['allowed'])} {line['verdict']}")
    print(json.dumps({"dtype": args.dtype, "verdict": "PASS" if passed else "over", "taps": taps}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
