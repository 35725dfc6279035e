"""Requests of HTTP, with a limit on whatever a peer sends. docs/http.md has the routes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import socket
import ssl
import urllib.parse
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple, Union

from .errors import CertificateRefused, ConnectionLost, Error, ProtocolError, ServerError, printable, server_error

# Of a reply in JSON, as on the TCP port; a page of 1000 jobs is a few hundred KiB.
LONGEST_JSON = 16 << 20
# Of an error's body; those of vggt have some hundred bytes, pages of proxies some kilobytes.
LONGEST_PROBLEM = 64 << 10
# Shortest timeout: 0 would mean not to wait at all, which is another error.
SHORTEST_S = 0.001
PIECE = 256 << 10  # bytes read at once
CONNECT_S = 30.0  # longest wait for a connection and its TLS

# A body in pieces, and how long it is.
Body = Tuple[int, Iterable[bytes]]


class Response:
    """The head of an answer, and its body to be read."""

    def __init__(self, response: http.client.HTTPResponse, sock: socket.socket, address: str) -> None:
        self._response, self._sock, self._address = response, sock, address
        self.status = response.status

    def header(self, name: str) -> str:
        """The header's value; empty where there is none."""
        return self._response.getheader(name) or ""

    def read(self, length: int) -> bytes:
        """The next bytes, `length` at most; none at the end."""
        with lost_when_broken(self._address):
            piece = self._response.read(length)
            if not piece and self._response.length:
                raise ConnectionLost(f"{self._address} closed the connection before its reply was complete")
            return piece

    def readline(self, longest: int) -> bytes:
        """The next line with its end; none at the end of the body."""
        with lost_when_broken(self._address):
            line = self._response.readline(longest + 1)
        if len(line) > longest:
            raise ProtocolError(f"{self._address} sends a line of more than {longest} bytes: is this a vggt server?")
        return line

    def set_timeout(self, seconds: float) -> None:
        """How long `read` and `readline` wait for a byte."""
        self._sock.settimeout(max(seconds, SHORTEST_S))

    def _body(self, longest: int) -> bytearray:
        """The whole body, or as much of it as is more than `longest`."""
        body = bytearray()
        while len(body) <= longest and (piece := self.read(min(PIECE, longest + 1 - len(body)))):
            body += piece
        return body

    def json(self) -> Mapping[str, Any]:
        """The JSON object that the body is."""
        body = self._body(LONGEST_JSON)
        if len(body) > LONGEST_JSON:
            raise ProtocolError(f"{self._address} sends more than {LONGEST_JSON} bytes of JSON: is this a vggt server?")
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError) as e:
            raise ProtocolError(f"{self._address} sends {len(body)} bytes that are not JSON: {e}") from None
        if not isinstance(reply, dict):
            raise ProtocolError(f"{self._address} sends JSON that is not an object")
        return reply

    def check(self) -> None:
        """Raises the error that the answer is."""
        if 200 <= self.status < 300:
            return
        if 300 <= self.status < 400 and self.status != 304:
            # Not followed: the login would go to whom the answer names.
            where = printable(self.header("location"))[:200]
            raise ProtocolError(f"{self._address} redirects to {where!r}: if that is right, give that address")
        raise self._problem()

    def _problem(self) -> ServerError:
        body = self._body(LONGEST_PROBLEM)
        try:
            problem = json.loads(body)
            code, detail = problem["code"], problem.get("detail", "")
            if isinstance(code, str) and isinstance(detail, str):
                return server_error(code, detail)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            pass
        # A proxy's page, or a head that the server refuses.
        return ServerError(f"HTTP {self.status}", printable(self._response.reason or "")[:200])


class Server:
    """Where a server is, and who asks.

    Each request has a connection of its own: the server closes idle ones, and of a request on such a one nobody could tell
    whether it was acted on, so that it could not be repeated.
    """

    def __init__(self, url: str, timeout: float, cafile: Optional[Union[str, "os.PathLike[str]"]]) -> None:
        self._tls, self._host, self._port, self._base = _parsed(url)
        self.address = f"{self._host}:{self._port}"
        self.timeout = timeout
        self.token: Optional[str] = None
        self._context: Optional[ssl.SSLContext] = None
        if self._tls:
            self._context = ssl.create_default_context(cafile=None if cafile is None else os.fspath(cafile))
        elif cafile is not None:
            raise ValueError("cafile is for https: this address begins with http")

    def ask(
        self, method: str, path: str, fields: Optional[Mapping[str, Any]] = None, timeout: Optional[float] = None
    ) -> Mapping[str, Any]:
        """The JSON that answers a small request; `timeout` in place of the usual one."""
        headers: Dict[str, str] = {}
        body = None
        if fields is not None:
            text = json.dumps(fields).encode()
            headers["Content-Type"] = "application/json"
            body = (len(text), [text])
        with self.open(method, path, headers, body, timeout) as response:
            response.check()
            return {} if response.status == 204 else response.json()

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        headers: Optional[Mapping[str, str]] = None,
        body: Optional[Body] = None,
        timeout: Optional[float] = None,
    ) -> Iterator[Response]:
        """Sends a request and gives the answer, whatever its status is. `path` begins below the address of the server."""
        connection = self._connected(self.timeout if timeout is None else max(timeout, SHORTEST_S))
        try:
            sock = connection.sock
            with lost_when_broken(self.address):
                self._send(connection, method, path, headers or {}, body)
                response = connection.getresponse()
            with contextlib.closing(response):
                yield Response(response, sock, self.address)
        finally:
            connection.close()

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        seconds = min(CONNECT_S, timeout)
        connection: http.client.HTTPConnection
        if self._tls:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self._context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as e:
            connection.close()
            raise CertificateRefused(f"cannot trust the certificate of {self.address}: {e.verify_message}") from e
        except ssl.SSLError as e:
            connection.close()
            raise ConnectionLost(f"cannot speak TLS with {self.address}: {e.reason or e}; is it http:// there?") from e
        except (OSError, UnicodeError) as e:
            connection.close()
            raise ConnectionLost(f"cannot connect to {self.address}: {getattr(e, 'strerror', None) or e}") from e
        connection.sock.settimeout(timeout)
        return connection

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Optional[Body],
    ) -> None:
        connection.putrequest(method, self._base + path, skip_accept_encoding=True)
        connection.putheader("Connection", "close")
        connection.putheader("User-Agent", "vggt_client")
        if self.token is not None:
            connection.putheader("Authorization", f"Bearer {self.token}")
        for name, value in headers.items():
            connection.putheader(name, value)
        length, pieces = body or (0, [])
        if body is not None or method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(length))
        connection.endheaders()
        try:
            for piece in pieces:
                # Under TLS what arrives may be no answer.
                if self._tls:
                    connection.send(piece)
                elif not _sent(connection.sock, piece):
                    return
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            # The server may have said why before it closed; if not, reading its answer fails.
            pass


def _sent(sock: socket.socket, piece: bytes) -> bool:
    """Sends `piece`; returns False once something arrives: a refusal, after which the server may read no more."""
    left = memoryview(piece)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while left:
            ready = selector.select(sock.gettimeout())
            if not ready:
                raise socket.timeout("timed out")
            if ready[0][1] & selectors.EVENT_READ:
                return False
            left = left[sock.send(left) :]
    return True


@contextlib.contextmanager
def lost_when_broken(address: str) -> Iterator[None]:
    """Words what a broken connection raises."""
    try:
        yield
    except (socket.timeout, ConnectionError, ssl.SSLError, http.client.IncompleteRead) as e:
        if isinstance(e, Error):
            raise
        raise ConnectionLost(f"lost the connection to {address}: {e or type(e).__name__}") from e
    except (http.client.HTTPException, ValueError) as e:
        # http.client raises ValueError for some numbers that are none.
        if isinstance(e, http.client.HTTPException) or "invalid literal" in str(e):
            said = printable(str(e))[:200]
            raise ProtocolError(f"{address} sends what is not HTTP ({said}): is this the port of HTTP?") from e
        raise


def _parsed(url: str) -> Tuple[bool, str, int, str]:
    """Whether it is https, the host, the port, and the path before those of docs/http.md."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise ValueError(f"cannot use {url!r} as an address: {e}") from None
    if parts.scheme not in ("http", "https") or not host or any(c <= " " or c == "\x7f" for c in url):
        raise ValueError(f"cannot use {url!r} as an address: expected one such as http://127.0.0.1:4568")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an address has a host, a port and a path: log in with login() or a token")
    is_tls = parts.scheme == "https"
    return is_tls, host, port or (443 if is_tls else 80), parts.path.rstrip("/")
