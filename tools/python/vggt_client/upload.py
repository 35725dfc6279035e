"""Files on their way to a server, and results on their way to a disk."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import tempfile
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator, List, Optional, Tuple, Union

from .wire import PIECE, Upload

# A file by its path, or its content.
Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview]


def images_payload(images: List[Source]) -> Upload:
    """The payload of command 2. Files are opened and read one after the other, while they are sent."""
    parts: List[Tuple[int, Source]] = [(length_of(image), image) for image in images]
    if not parts:
        raise ValueError("there are no images to send")
    for length, image in parts:
        if length == 0:
            raise ValueError(f"cannot send an empty image: {name_of(image)}")

    def pieces() -> Iterator[bytes]:
        yield struct.pack(">I", len(parts))
        for length, image in parts:
            yield struct.pack(">I", length)
            yield from pieces_of(image, length)

    return 4 + sum(4 + length for length, _ in parts), pieces()


def video_payload(video: Source) -> Upload:
    """The payload of command 3."""
    length = length_of(video)
    if length == 0:
        raise ValueError(f"cannot send an empty video: {name_of(video)}")
    return length, pieces_of(video, length)


def with_kind(kind: int, upload: Upload) -> Upload:
    """The payload of command 8: that of command `kind` behind one byte."""
    length, pieces = upload

    def all_pieces() -> Iterator[bytes]:
        yield bytes([kind])
        yield from pieces

    return 1 + length, all_pieces()


def length_of(source: Source) -> int:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return memoryview(source).nbytes
    if not os.path.isfile(source):
        # A folder, or a pipe whose length nobody knows.
        os.stat(source)
        raise ValueError(f"cannot send {name_of(source)}: it is not a file")
    return os.path.getsize(source)


def names_of(images: Iterable[Source]) -> Optional[List[str]]:
    """What the images are called, for the server's messages about them; None where one is not a file."""
    names = []
    for image in images:
        if isinstance(image, (bytes, bytearray, memoryview)):
            return None
        names.append(os.fsencode(os.path.basename(os.fspath(image))).decode(errors="replace"))
    return names


def name_of(source: Source) -> str:
    return "bytes" if isinstance(source, (bytes, bytearray, memoryview)) else repr(os.fspath(source))


def pieces_of(source: Source, length: int, start: int = 0) -> Iterator[bytes]:
    """The bytes of a file of `length` bytes from `start` on."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        content = memoryview(source).cast("B")
        for at in range(start, length, PIECE):
            yield bytes(content[at : at + PIECE])
        return
    with open(source, "rb") as file:
        file.seek(start)
        left = length - start
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise ValueError(f"cannot send {name_of(source)}: it became shorter while it was read")
            yield piece
            left -= len(piece)


@contextlib.contextmanager
def complete_file(path: Path, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A file that takes its name when all of it is written, and is gone otherwise.

    Without `overwrite` a file of that name stays, and this raises `FileExistsError`: at once, or at the end if it came meanwhile.
    """
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are for their owner alone; this one is an ordinary file from now on.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if overwrite:
            temporary.replace(path)
        else:
            # Unlike a rename, this replaces nothing.
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
