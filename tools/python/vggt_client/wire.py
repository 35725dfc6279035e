"""The bytes of one connection, with a limit on whatever a peer announces. src/protocol/README.md has the tables."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, BinaryIO, Callable, Iterable, Mapping, Optional, Tuple, TypeVar

from .errors import ConnectionLost, ProtocolError, ServerError, UnknownCommand, server_error

T = TypeVar("T")

LOGIN, IMAGES, VIDEO, GET, LIST, DELETE, PUBLISH, SUBMIT, STATUS, CANCEL, OPTIONS, INFO, PAGE, JOBS, RERUN = range(1, 16)
UNKNOWN_COMMAND = b"UNKNOWN_COMMAND"
GLB_MAGIC = b"glTF"
LONGEST_REQUEST = (1 << 32) - 1
LONGEST_NAME = 1024
LONGEST_ERROR = 1023
LONGEST_LOGIN = 1024  # of its reply, which is [false, false] at most
# Of a reply in JSON, as vggt's own client has it; 1000 stored files are a few hundred KiB.
LONGEST_JSON = 16 << 20
LONGEST_GLB = (1 << 32) - 1
PIECE = 1 << 20  # bytes read or sent at once
LAST_WORDS_S = 5  # how long a dead connection is asked for the reason that the server may have sent before it closed

# A payload in pieces, and how long it is.
Upload = Tuple[int, Iterable[bytes]]


class Connection:
    """Requests are answered one after the other. One that breaks off leaves the connection unusable, and says so."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.address = f"{host}:{port}"
        self.mid_request = False
        try:
            self.socket: Optional[socket.socket] = socket.create_connection((host, port), timeout=timeout)
        except OSError as e:
            raise ConnectionLost(f"cannot connect to {self.address}: {e.strerror or e}") from e
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket = None

    def ask(self, command: int, payload: bytes = b"") -> Any:
        """The reply to a small request of version 2."""
        return self.request(command, (len(payload), [payload]), self._json)

    def login(self, payload: bytes) -> Any:
        """The reply to a login, whose JSON is not an object."""
        return self.request(LOGIN, (len(payload), [payload]), lambda: self._parse(self._blob(LONGEST_LOGIN)))

    def submit(self, upload: Upload) -> Any:
        """The reply to an upload that is not waited for."""
        return self.request(SUBMIT, upload, self._json)

    def reconstruct(self, command: int, upload: Upload, out: BinaryIO) -> Tuple[str, int]:
        """The name and size of the GLB, which is written to `out`."""

        def reply() -> Tuple[str, int]:
            name = self._blob(LONGEST_NAME)
            return name.decode(errors="replace"), self._glb(out)

        return self.request(command, upload, reply)

    def get(self, digits: str, out: BinaryIO) -> int:
        """The size of the GLB, which is written to `out`."""
        payload = digits.encode()
        return self.request(GET, (len(payload), [payload]), lambda: self._glb(out))

    def request(self, command: int, upload: Upload, reply: Callable[[], T]) -> T:
        """Sends a request and reads its reply."""
        length, pieces = upload
        if length > LONGEST_REQUEST:
            raise ValueError(f"cannot send {length} bytes in one request: 4 GiB is the most")
        if self.socket is None or self.mid_request:
            raise ConnectionLost(f"the connection to {self.address} is closed; make a new Client")
        self.mid_request = True
        try:
            try:
                self._send(command, length, pieces)
            except ConnectionError as lost:
                raise self._last_words(lost, reply) from lost
            found = reply()
        except ServerError:
            self.mid_request = self.socket is None
            raise
        except ConnectionLost:
            self.close()
            raise
        except (socket.timeout, ConnectionError) as e:
            self.close()
            raise ConnectionLost(f"lost the connection to {self.address}: {e}") from e
        except BaseException:
            self.close()
            raise
        self.mid_request = False
        return found

    def _send(self, command: int, length: int, pieces: Iterable[bytes]) -> None:
        assert self.socket
        self.socket.sendall(struct.pack(">BI", command, length))
        for piece in pieces:
            self.socket.sendall(piece)

    def _last_words(self, lost: ConnectionError, reply: Callable[[], Any]) -> Exception:
        """Why an upload broke off: what the server said before it hung up, if it did."""
        assert self.socket
        try:
            self.socket.settimeout(LAST_WORDS_S)
            reply()
        except ServerError as refusal:
            return refusal
        except (OSError, ProtocolError):
            pass
        finally:
            # Half a request is on its way.
            self.close()
        return ConnectionLost(f"lost the connection to {self.address} while sending: {lost.strerror or lost}")

    def _read(self, length: int) -> bytes:
        assert self.socket
        data = bytearray()
        # Memory grows with what arrives, not with what is announced.
        while len(data) < length:
            piece = self.socket.recv(min(PIECE, length - len(data)))
            if not piece:
                raise ConnectionLost(f"{self.address} closed the connection before its reply was complete")
            data += piece
        return bytes(data)

    def _length(self, longest: int) -> int:
        (length,) = struct.unpack(">I", self._read(4))
        if length > longest:
            raise ProtocolError(f"{self.address} announces {length} bytes where {longest} are the most: is this a vggt server?")
        return int(length)

    def _blob(self, longest: int) -> bytes:
        return self._read(self._length(longest))

    def _json(self) -> Mapping[str, Any]:
        body = self._blob(LONGEST_JSON)
        if body == UNKNOWN_COMMAND:
            raise UnknownCommand("UNKNOWN_COMMAND")
        reply = self._parse(body)
        if not isinstance(reply, dict):
            raise ProtocolError(f"{self.address} sends JSON that is not an object")
        if isinstance(reply.get("error"), str):
            raise server_error(reply["error"], str(reply.get("reason", "")))
        return reply

    def _parse(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as e:
            raise ProtocolError(f"{self.address} sends {len(body)} bytes that are not JSON: {e}") from None

    def _glb(self, out: BinaryIO) -> int:
        length = self._length(LONGEST_GLB)
        start = self._read(min(len(GLB_MAGIC), length))
        if start != GLB_MAGIC:
            if 0 < length <= LONGEST_ERROR:
                text = (start + self._read(length - len(start))).decode(errors="replace")
                code, _, reason = text.partition(": ")
                if code == "UNKNOWN_COMMAND" or code.startswith("ERROR_"):
                    raise server_error(code, reason)
            raise ProtocolError(f"{self.address} sends {length} bytes that are neither a GLB nor an error")
        out.write(start)
        left = length - len(start)
        while left:
            piece = self._read(min(PIECE, left))
            out.write(piece)
            left -= len(piece)
        return length
