"""load_predictions on a file that vggt wrote, on every type, and on damaged files."""

import json
import os
import random
import struct
import subprocess

import numpy
import vggt_client
from vggt_client import PredictionsError, load_predictions

from . import expect, raises, step

DAMAGED = 2000  # copies with a few random bytes


def run(program, folder):
    saved = folder / "room.safetensors"
    call = [program, "export", "--demo", "--out", folder / "room.glb", "--save-predictions", saved]
    subprocess.run(list(map(str, call)), check=True, capture_output=True, env={**os.environ, "XDG_CACHE_HOME": str(folder)})
    written_by_vggt(saved)
    types(folder / "types.safetensors")
    refused(folder / "refused.safetensors")
    damaged(saved, folder / "damaged.safetensors")


def write(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def written_by_vggt(saved):
    with step("load_predictions: what vggt export --save-predictions writes"):
        found = load_predictions(saved)
        frames, height, width = found["depth"].shape[:3]
        expect(frames == 8 == len(found.names) and "weights" in found.frames and "vggt.axes" in found.metadata, found.frames)
        shapes = {
            "images": (frames, 3, height, width),
            "pose_enc": (frames, 9),
            "extrinsic": (frames, 3, 4),
            "intrinsic": (frames, 3, 3),
            "depth_conf": (frames, height, width),
            "world_points": (frames, height, width, 3),
            "world_points_conf": (frames, height, width),
            "world_points_from_depth": (frames, height, width, 3),
        }
        for name, shape in shapes.items():
            expect(found[name].shape == shape and found[name].dtype == numpy.float32, f"{name}: {found[name].shape}")
        expect(set(found) == {*shapes, "depth"} and len(found) == 9, found)
    with step("load_predictions: depth through the cameras is world_points_from_depth"):
        v, u = numpy.mgrid[:height, :width]
        for i in range(frames):
            k, rt, z = (found[name][i].astype(float) for name in ("intrinsic", "extrinsic", "depth"))
            rays = numpy.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], numpy.ones_like(u)], axis=-1)
            world = (rays * z - rt[:, 3]) @ rt[:, :3]
            # The program computes in f32.
            expect(numpy.abs(world - found["world_points_from_depth"][i]).max() < 1e-4, f"frame {i}")
    with step("load_predictions: mapped views are read-only, copies are not"):
        expect(not found["depth"].flags.writeable, "writeable")
        copied = load_predictions(str(saved), copy=True)
        expect(copied["depth"].flags.writeable and numpy.array_equal(copied["depth"], found["depth"]), "no copy")


def types(path):
    kinds = {"U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
             "F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "?"}  # fmt: skip
    with step("load_predictions: every type, scalars, empty tensors, places that are not aligned"):
        header, data, expected = (
            {"__metadata__": {"a": "ä"}, "one": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}},
            b"\7",
            {},
        )
        for name, kind in kinds.items():
            expected[name] = numpy.array([[0, 1, 100]], kind)
            header[name] = {"dtype": name, "shape": [1, 3], "data_offsets": [len(data), len(data) + expected[name].nbytes]}
            data += expected[name].tobytes()
        wide = numpy.array([0, 1.5, -(2.0**100), numpy.inf], "<f4")
        header["BF16"] = {"dtype": "BF16", "shape": [4], "data_offsets": [len(data), len(data) + 8]}
        data += (wide.view("<u4") >> 16).astype("<u2").tobytes()
        header["none"] = {"dtype": "F32", "shape": [3, 0], "data_offsets": [len(data), len(data)]}
        for copy in (False, True):
            found = load_predictions(write(path, header, data), copy=copy)
            expect(found["one"].shape == () and found["one"] == 7 and found["none"].shape == (3, 0), found)
            expect(numpy.array_equal(found["BF16"], wide), found["BF16"])
            for name, array in expected.items():
                expect(found[name].dtype == array.dtype and numpy.array_equal(found[name], array), name)
            expect(found.metadata == {"a": "ä"} and found.names == [] and found.frames == {}, found.metadata)


def refused(path):
    def tensor(dtype="F32", shape=(2,), offsets=(0, 8), **more):
        return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}

    data = bytes(8)
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    cases = [
        ("an empty file", lambda: path.write_bytes(b"")),
        ("seven bytes", lambda: path.write_bytes(bytes(7))),
        ("eight bytes", lambda: path.write_bytes(bytes(8))),
        *(
            (f"a header of {n} bytes", lambda n=n: write(path, {}, data, n))
            for n in (0, 1, 11, 1 << 40, (1 << 64) - 1, 100_000_001)
        ),
        ("a header that is cut off", lambda: write(path, b'{"a": ')),
        *((f"the header {h!r}", lambda h=h: write(path, h, data)) for h in (b"[]", b"nul", b"12", b"\xff\xff", b'"ab"', b"{}{}")),
        ("a header of 100 000 levels", lambda: write(path, nested)),
        ("a name twice", lambda: write(path, b'{"a":%s,"a":%s}' % ((json.dumps(tensor()).encode(),) * 2), data)),
        ("data behind the last tensor", lambda: write(path, {"a": tensor()}, data + b"x")),
        ("data without tensors", lambda: write(path, {}, data)),
        ("data that are cut off", lambda: write(path, {"a": tensor()}, data[:-1])),
        ("offsets outside of the file", lambda: write(path, {"a": tensor(offsets=(8, 16))}, data)),
        ("offsets far outside", lambda: write(path, {"a": tensor(offsets=(1 << 62, (1 << 62) + 8))}, data)),
        ("offsets of 70 bits", lambda: write(path, {"a": tensor(offsets=(0, 1 << 70))}, data)),
        ("negative offsets", lambda: write(path, {"a": tensor(offsets=(-8, 0))}, data)),
        ("an end before the start", lambda: write(path, {"a": tensor(offsets=(8, 0))}, data)),
        ("three offsets", lambda: write(path, {"a": tensor(offsets=(0, 8, 8))}, data)),
        ("offsets that are not integers", lambda: write(path, {"a": tensor(offsets=(0.0, 8.0))}, data)),
        ("tensors that overlap", lambda: write(path, {"a": tensor(), "b": tensor()}, data)),
        ("a gap", lambda: write(path, {"a": tensor(), "b": tensor(offsets=(9, 17))}, bytes(17))),
        ("a shape of other length", lambda: write(path, {"a": tensor(shape=(3,))}, data)),
        ("a negative shape", lambda: write(path, {"a": tensor(shape=(-1, -2))}, data)),
        ("a shape whose product has 126 bits", lambda: write(path, {"a": tensor(shape=(1 << 62, 1 << 62))}, data)),
        ("a shape that is a flag", lambda: write(path, {"a": tensor(shape=(True, 2))}, data)),
        ("100 dimensions", lambda: write(path, {"a": tensor(shape=(1,) * 99 + (2,))}, data)),
        ("a type that is not there", lambda: write(path, {"a": tensor("F8_E4M3", (8,))}, data)),
        ("a type that is not text", lambda: write(path, {"a": tensor(["F32"])}, data)),
        ("a tensor that is not an object", lambda: write(path, {"a": 5}, data)),
        ("a tensor without a type", lambda: write(path, {"a": {"shape": [2], "data_offsets": [0, 8]}}, data)),
        ("metadata that are numbers", lambda: write(path, {"__metadata__": {"a": 1}, "a": tensor()}, data)),
        ("metadata that are a list", lambda: write(path, {"__metadata__": ["a"], "a": tensor()}, data)),
        ("frames that are not an object", lambda: write(path, {"__metadata__": {"vggt.frames": "[]"}, "a": tensor()}, data)),
        ("frames that are not JSON", lambda: write(path, {"__metadata__": {"vggt.frames": "{"}, "a": tensor()}, data)),
        ("a name with escapes", lambda: write(path, {"\x1b[2J": 5}, data)),
    ]
    for name, make in cases:
        make()
        try:
            raises(PredictionsError, lambda: load_predictions(path), path.name)
        except Exception as e:
            with step(f"load_predictions refuses {name}"):
                raise e
    with step(f"load_predictions refuses {len(cases)} kinds of broken files"):
        raises(FileNotFoundError, lambda: load_predictions(path.with_name("none")))
        expect(issubclass(PredictionsError, vggt_client.Error), "no Error")


def damaged(saved, path):
    """A damaged file is refused or gives arrays; nothing else happens."""
    content, source, refusals = saved.read_bytes(), random.Random(17), 0
    header = 8 + int.from_bytes(content[:8], "little")
    for i in range(DAMAGED):
        broken = bytearray(content)
        for _ in range(source.randint(1, 4)):
            broken[source.randrange(header)] = source.choice([source.randrange(256), *b'0129{}[],:"'])
        if i % 10 == 0:
            del broken[source.randrange(len(broken)) :]
        path.write_bytes(broken)
        try:
            for array in load_predictions(path).values():
                array.sum()
        except PredictionsError:
            refusals += 1
    with step(f"load_predictions: {DAMAGED} damaged files, {refusals} of them refused"):
        expect(refusals > DAMAGED / 2, "too few")
