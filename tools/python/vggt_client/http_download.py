"""Files of a result, whose transfer goes on where it broke off."""

from __future__ import annotations

import re
from typing import BinaryIO, Optional, Tuple

from .errors import ConnectionLost, ProtocolError, ServerError
from .http_connection import PIECE, Response, Server
from .http_events import Patience, passes

RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)


def download(server: Server, path: str, out: BinaryIO) -> int:
    """Writes the file under `path` to `out`, which can be sought; returns its size."""
    transfer = _Transfer(server, path, out)
    patience = Patience()
    while True:
        before = transfer.at
        try:
            return transfer.go_on()
        except (ConnectionLost, ServerError) as e:
            if not passes(e):
                raise
            if transfer.at > before:
                patience.restore()
            elif isinstance(e, ServerError) and transfer.at == 0:
                # Nothing broke off: the server cannot make the file now, and says so.
                raise
            patience.spend(e)


class _Transfer:
    def __init__(self, server: Server, path: str, out: BinaryIO) -> None:
        self._server, self._path, self._out = server, path, out
        self.at = 0
        # What the bytes so far belong to.
        self._tag = ""

    def go_on(self) -> int:
        """Fetches what is missing."""
        headers = {}
        if self.at and self._tag:
            # Another file than before comes as a whole.
            headers = {"Range": f"bytes={self.at}-", "If-Range": self._tag}
        with self._server.open("GET", self._path, headers) as response:
            response.check()
            self._tag = response.header("etag")
            size = self._begin(response)
            while piece := response.read(PIECE):
                self._out.write(piece)
                self.at += len(piece)
        if size is not None and self.at != size:
            raise ProtocolError(f"{self._server.address} sends {self.at} bytes of a file of {size}")
        return self.at

    def _begin(self, response: Response) -> Optional[int]:
        """Goes to where the answer's bytes belong; the size of the whole."""
        if response.status == 206:
            first, size = self._range(response.header("content-range"))
            if first != self.at:
                raise ProtocolError(f"{self._server.address} sends byte {first} where {self.at} was asked for")
            return size
        if response.status != 200:
            raise ProtocolError(f"{self._server.address} answers status {response.status} in place of a file")
        self._out.seek(0)
        self._out.truncate()
        self.at = 0
        length = response.header("content-length")
        return int(length) if length.isdecimal() and length.isascii() else None

    def _range(self, text: str) -> Tuple[int, int]:
        found = RANGE.fullmatch(text)
        if not found:
            raise ProtocolError(f"{self._server.address} sends the range {text[:80]!r}: is this a vggt server?")
        first, last, size = map(int, found.groups())
        if last != size - 1:
            raise ProtocolError(f"{self._server.address} sends a part that ends at {last} of {size} bytes")
        return first, size
