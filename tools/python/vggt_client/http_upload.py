"""Files on their way over HTTP: in one request, or one by one with tus, so that a transfer goes on where it broke off."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from typing import Any, Iterator, List, Mapping, Optional

from .errors import ConnectionLost, Error, ProtocolError, ServerError
from .http_connection import Body, Server
from .http_events import Patience, passes
from .replies import Job
from .upload import Source, length_of, name_of, pieces_of

# Bytes from which on an upload is worth the requests that make it resumable: below, sending it again takes a moment.
RESUMABLE_FROM = 16 << 20
JOBS = "/api/v1/jobs"
TUS = {"Tus-Resumable": "1.0.0"}


def submit(server: Server, files: List[Source], options: Mapping[str, Any]) -> Job:
    """Makes a job of a video or of images."""
    lengths = [length_of(file) for file in files]
    for file, length in zip(files, lengths):
        if length == 0:
            raise ValueError(f"cannot send an empty file: {name_of(file)}")
    if sum(lengths) >= RESUMABLE_FROM:
        try:
            draft = Job.of_http(server.ask("POST", JOBS, {"options": options}))
        except ServerError as e:
            if e.code != "unsupported_media_type":
                raise
            # A server from before resumable uploads.
        else:
            return _Resumable(server, draft.id).run(files, lengths)
    return _at_once(server, files, lengths, options)


def _at_once(server: Server, files: List[Source], lengths: List[int], options: Mapping[str, Any]) -> Job:
    boundary = secrets.token_hex(16)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with server.open("POST", JOBS, headers, _form(boundary, files, lengths, options)) as response:
        response.check()
        return Job.of_http(response.json())


def _form(boundary: str, files: List[Source], lengths: List[int], options: Mapping[str, Any]) -> Body:
    """A body of multipart/form-data (RFC 7578). Files are opened and read one after the other, while they are sent."""
    text = json.dumps(options).encode()
    first = f'--{boundary}\r\nContent-Disposition: form-data; name="options"\r\n\r\n'.encode() + text
    heads = [_part_head(boundary, file) for file in files]
    end = f"\r\n--{boundary}--\r\n".encode()

    def pieces() -> Iterator[bytes]:
        yield first
        for head, file, length in zip(heads, files, lengths):
            yield head
            yield from pieces_of(file, length)
        yield end

    return len(first) + sum(map(len, heads)) + sum(lengths) + len(end), pieces()


def _part_head(boundary: str, file: Source) -> bytes:
    # Quotes as browsers escape them; control characters are not in it.
    name = (file_name(file) or "").replace('"', "%22")
    said = f'; filename="{name}"' if name else ""
    kind = "Content-Type: application/octet-stream"
    return f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="files"{said}\r\n{kind}\r\n\r\n'.encode()


def file_name(file: Source) -> Optional[str]:
    """What a file is called for the server's messages about it; None where it is not a file."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return None
    name = os.fsencode(os.path.basename(os.fspath(file))).decode(errors="replace")
    return "".join(c if c.isprintable() else "_" for c in name)


class _Resumable:
    """Uploads the files of a job that was made without them."""

    def __init__(self, server: Server, job: int) -> None:
        self._server, self._path = server, f"{JOBS}/{job}"
        self._patience = Patience()

    def run(self, files: List[Source], lengths: List[int]) -> Job:
        """Sends all, and queues the job."""
        try:
            for file, length in zip(files, lengths):
                self._upload(file, length)
            return self._start()
        except BaseException:
            # It would go by itself a day later, and count for the user until then.
            with contextlib.suppress(Error):
                self._server.ask("DELETE", self._path)
            raise

    def _upload(self, file: Source, length: int) -> None:
        path, at = self._announce(file, length), 0
        while at < length:
            try:
                at = self._send(path, file, at, length)
                self._patience.restore()
                continue
            except (ConnectionLost, ServerError) as e:
                if not _goes_on(e):
                    raise
                failed: Exception = e
            # How much of it is there: the next part begins behind it.
            try:
                before, at = at, self._offset(path, length)
            except (ConnectionLost, ServerError) as e:
                if not _goes_on(e):
                    raise
                self._patience.spend(e)
                continue
            if at > before:
                self._patience.restore()
            self._patience.spend(failed)

    def _announce(self, file: Source, length: int) -> str:
        headers = {**TUS, "Upload-Length": str(length)}
        name = file_name(file)
        if name:
            headers["Upload-Metadata"] = "filename " + base64.b64encode(name.encode()).decode()
        with self._server.open("POST", f"{self._path}/uploads", headers) as response:
            response.check()
            path = response.header("location")
        number = path.rpartition("/")[2]
        if not number.isdecimal() or not number.isascii():
            raise ProtocolError(f"{self._server.address} announces an upload without a place: is this a vggt server?")
        # Not where the answer says, which may be anywhere.
        return f"{self._path}/uploads/{number}"

    def _send(self, path: str, file: Source, at: int, length: int) -> int:
        headers = {**TUS, "Upload-Offset": str(at), "Content-Type": "application/offset+octet-stream"}
        with self._server.open("PATCH", path, headers, (length - at, pieces_of(file, length, at))) as response:
            response.check()
            return self._number(response.header("upload-offset"), length)

    def _offset(self, path: str, length: int) -> int:
        with self._server.open("HEAD", path, TUS) as response:
            if response.status != 200:
                # The answer to HEAD has no body that would say more.
                raise ServerError(f"HTTP {response.status}", "the upload cannot go on")
            return self._number(response.header("upload-offset"), length)

    def _number(self, text: str, length: int) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > length:
            raise ProtocolError(f"{self._server.address} sends {text[:40]!r} as the offset of {length} bytes")
        return int(text)

    def _start(self) -> Job:
        while True:
            try:
                # May be repeated: of a job that was started it says how it stands.
                return Job.of_http(self._server.ask("POST", f"{self._path}/start"))
            except ConnectionLost as e:
                self._patience.spend(e)


def _goes_on(error: Exception) -> bool:
    """Whether an upload may go on after it."""
    parts = ("locked", "offset_mismatch", "request_timeout", "HTTP 423")
    return passes(error) or (isinstance(error, ServerError) and error.code in parts)
