"""Reads the predictions that `vggt export --save-predictions FILE.safetensors` writes, as numpy arrays."""

from __future__ import annotations

import json
import mmap
import os
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from .errors import PredictionsError, printable

if TYPE_CHECKING:
    import numpy

FRAMES_KEY = "vggt.frames"
# The limit of the safetensors library.
LONGEST_HEADER = 100_000_000
# numpy's own limit is 64 from version 2 on and 32 before.
MOST_DIMENSIONS = 32
# What numpy calls each type; all little-endian. BF16, which numpy does not have, is widened.
NUMPY_TYPES = dict(
    [("BOOL", "?"), ("U8", "u1"), ("I8", "i1"), ("U16", "<u2"), ("I16", "<i2"), ("U32", "<u4"), ("I32", "<i4")]
    + [("U64", "<u8"), ("I64", "<i8"), ("F16", "<f2"), ("BF16", "<u2"), ("F32", "<f4"), ("F64", "<f8")]
)


class Entry(NamedTuple):
    """Where one tensor lies."""

    dtype: str
    shape: Tuple[int, ...]
    start: int
    """Byte of the file."""
    end: int


class Predictions(Mapping[str, "numpy.ndarray[Any, Any]"]):
    """The tensors of a file by their names; also what the file says about the frames.

    For `S` frames of `H` x `W` pixels, all F32: `images` [S, 3, H, W], `pose_enc` [S, 9], `extrinsic` [S, 3, 4]
    (camera_from_world), `intrinsic` [S, 3, 3], `depth` [S, H, W, 1], `depth_conf` [S, H, W], `world_points` [S, H, W, 3],
    `world_points_conf` [S, H, W], `world_points_from_depth` [S, H, W, 3].
    """

    def __init__(self, arrays: Dict[str, Any], metadata: Dict[str, str], frames: Dict[str, Any]) -> None:
        self._arrays = arrays
        self.metadata = metadata
        """Texts by their keys."""
        self.frames = frames
        """What `vggt.frames` of the metadata holds: `names`, `placements`, `weights` and more; empty in other files."""

    @property
    def names(self) -> List[str]:
        """The name of each frame; empty where the file has none."""
        names = self.frames.get("names", [])
        return [str(name) for name in names] if isinstance(names, list) else []

    def __getitem__(self, name: str) -> numpy.ndarray[Any, Any]:
        array: numpy.ndarray[Any, Any] = self._arrays[name]
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self._arrays.items())
        return f"Predictions({shapes})"


def load_predictions(path: Union[str, os.PathLike[str]], *, copy: bool = False) -> Predictions:
    """Reads a file of saved predictions, or any other safetensors file. Needs numpy.

    The arrays are read-only views of the file, mapped into memory: opening takes no time, and what is not looked at is not read.
    With `copy` they are ordinary arrays, which is safer where another program may shorten the file meanwhile; vggt never does, it
    replaces files as a whole. BF16 becomes float32 either way. Raises `PredictionsError` where the file is damaged or cut off.
    """
    try:
        import numpy
    except ImportError as e:
        raise ImportError(f"load_predictions needs numpy: pip install numpy, or 'vggt-native[numpy]' ({e})") from e

    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        entries, metadata = _header(file, size, path)
        # An empty file cannot be mapped, but it has no header either.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arrays = {}
    for name, entry in entries.items():
        kind = numpy.dtype(NUMPY_TYPES[entry.dtype])
        array = numpy.ndarray(entry.shape, kind, content, entry.start)
        if entry.dtype == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        elif copy:
            array = array.copy()
        arrays[name] = array
    return Predictions(arrays, metadata, _frames(metadata, path))


def _header(file: Any, size: int, path: Any) -> Tuple[Dict[str, Entry], Dict[str, str]]:
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(LONGEST_HEADER, size - 8):
        raise _damaged(path, f"it has {size} bytes, and its header would have {length}" if len(start) == 8 else "it is too short")
    text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as e:
        raise _damaged(path, f"its header cannot be read: {e}") from None
    if len(text) < length or not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata are not texts")
    data = 8 + length
    entries = {name: _entry(name, found, data, size, path) for name, found in header.items()}
    _adjoin(sorted(entries.values(), key=lambda entry: entry[2:]), data, size, path)
    return entries, metadata


def _without_doubles(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entry(name: str, found: Any, data: int, size: int, path: Any) -> Entry:
    what = f"tensor {printable(name)[:80]!r}"
    fields: Dict[str, Any] = found if isinstance(found, dict) else {}
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    offsets: Any = fields.get("data_offsets")
    if not isinstance(dtype, str) or not _counts(shape) or not _counts(offsets, 2):
        raise _damaged(path, f"{what} has no type, shape and place")
    if dtype not in NUMPY_TYPES:
        raise PredictionsError(
            f"cannot read {os.fspath(path)!r}: {what} has the type {printable(dtype)[:20]}, which numpy does not have"
        )
    start, end = (data + offset for offset in offsets)
    if not start <= end <= size:
        raise _damaged(path, f"{what} ends at byte {end} of {size}")
    if len(shape) > MOST_DIMENSIONS:
        raise _damaged(path, f"{what} has {len(shape)} dimensions")
    count = int(NUMPY_TYPES[dtype][-1].replace("?", "1"))
    for length in shape:
        count *= length
    if count != end - start:
        raise _damaged(path, f"{what} of shape {shape} has {end - start} bytes")
    return Entry(dtype, tuple(shape), start, end)


def _counts(values: Any, number: Optional[int] = None) -> bool:
    # JSON's integers have no limit here; beyond 64 bits none describes a file.
    ok = isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)
    return ok and number in (None, len(values))


def _adjoin(entries: Sequence[Entry], data: int, size: int, path: Any) -> None:
    """The format allows neither gaps nor overlaps; either would hide something."""
    at = data
    for entry in entries:
        if entry.start != at:
            raise _damaged(path, f"a tensor begins at byte {entry.start} instead of {at}")
        at = entry.end
    if at != size:
        raise _damaged(path, f"its tensors end at byte {at} of {size}")


def _frames(metadata: Mapping[str, str], path: Any) -> Dict[str, Any]:
    try:
        frames = json.loads(metadata.get(FRAMES_KEY, "{}"))
    except (ValueError, RecursionError):
        frames = None
    if not isinstance(frames, dict):
        raise _damaged(path, f"{FRAMES_KEY} of its metadata is not a JSON object")
    return frames


def _damaged(path: Any, what: str) -> PredictionsError:
    return PredictionsError(f"cannot read {os.fspath(path)!r} as safetensors: {what}; it may be damaged or cut off")
