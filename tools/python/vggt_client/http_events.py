"""How a job goes on: by server-sent events, and by looking where there are none."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any, Callable, Generator, Iterator, List, Mapping, Optional, Tuple

from .errors import CertificateRefused, ConnectionLost, NotLoggedIn, ProtocolError, ServerError
from .http_connection import Response, Server
from .replies import Job

# Without a byte for so long an event stream counts as lost: the server sends signs of life every 15 s.
SILENCE_S = 60.0
# How long a server may be away, for a restart or a lost network, before a call gives up.
PATIENCE_S = 60.0
RETRY_S = 1.0  # between two tries
LONGEST_LINE = 1 << 20  # of an event: a job with the warnings of thousands of images has some hundred KiB


class Patience:
    """For how long nothing has succeeded."""

    def __init__(self) -> None:
        self._until: Optional[float] = None

    def restore(self) -> None:
        """Something succeeded."""
        self._until = None

    def spend(self, error: Exception, left: Optional[float] = None) -> None:
        """Waits for a moment, `left` seconds at most; raises `error` when it has been long enough, or will not pass."""
        now = time.monotonic()
        self._until = self._until or now + PATIENCE_S
        if isinstance(error, CertificateRefused) or now >= self._until:
            raise error
        time.sleep(RETRY_S if left is None else max(0.0, min(RETRY_S, left)))


def passes(error: Exception) -> bool:
    """Whether it may succeed soon: the server stops, its database is locked, or a proxy does not reach it."""
    if isinstance(error, ServerError):
        return error.code in ("busy", "not_ready", "HTTP 502", "HTTP 503", "HTTP 504")
    return isinstance(error, ConnectionLost)


class Follower:
    """Follows one job. Outlives lost connections and restarts of the server."""

    def __init__(self, server: Server, job: int, poll: float, look: Callable[[float], Job]) -> None:
        """`look` returns the job as it is, within so many seconds."""
        self._server, self._poll, self._look = server, poll, look
        self._path = f"/api/v1/jobs/{job}/events"
        self._events: Optional[Generator[Job, None, None]] = None
        self._response: Optional[Response] = None
        self._last_id = ""
        self._last = look(SILENCE_S)
        # For how long the stream may be silent now.
        self._silence = SILENCE_S
        self._is_polling = False
        self._patience = Patience()

    def next(self, left: Optional[float]) -> Job:
        """The next state, or the same again, within `left` seconds."""
        end = None if left is None else time.monotonic() + left
        self._silence = SILENCE_S if left is None else min(SILENCE_S, left)
        try:
            job = self._by_polling() if self._is_polling else self._by_event()
        except (ConnectionLost, ServerError) as e:
            self.close()
            left = None if end is None else end - time.monotonic()
            if isinstance(e, NotLoggedIn) or not passes(e):
                raise
            # It may be the caller's time that is over rather than the connection.
            if left is None or left > 0:
                self._patience.spend(e, left)
            return self._last
        self._last = job
        return job

    def _by_polling(self) -> Job:
        time.sleep(min(self._poll, self._silence))
        job = self._look(self._silence)
        self._patience.restore()
        return job

    def _by_event(self) -> Job:
        if self._events is None:
            self._events = self._open()
        if self._response is not None:
            self._response.set_timeout(self._silence)
        try:
            job = next(self._events, None)
        except ServerError as e:
            if isinstance(e, NotLoggedIn) or passes(e):
                raise
            # Too many streams, or an older server: looking is as good. Of a job that is gone it says so.
            self.close()
            self._is_polling = True
            return self._look(self._silence)
        if job is None:
            # The stream has ended, with the job or with the server.
            self.close()
            job = self._look(self._silence)
            if not job.ended:
                lost = ConnectionLost(f"{self._server.address} ends the events of a job that goes on")
                self._patience.spend(lost, self._silence)
                return job
        self._patience.restore()
        return job

    def _open(self) -> Generator[Job, None, None]:
        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        with self._server.open("GET", self._path, headers, timeout=self._silence) as response:
            response.check()
            if response.status == 204:
                return
            self._response = response
            for kind, data, last_id in events(response):
                if kind == "stopping":
                    return
                if kind == "status":
                    job = Job.of_http(_object(data))
                    self._last_id = last_id
                    yield job

    def close(self) -> None:
        """Ends the stream."""
        if self._events is not None:
            with contextlib.suppress(ConnectionLost, ServerError, ProtocolError):
                self._events.close()
        self._events = self._response = None


def events(response: Response) -> Iterator[Tuple[str, str, str]]:
    """The kind, the data and the id of each event, as the HTML standard reads a stream."""
    kind, last_id, length = "message", "", 0
    data: List[str] = []
    while True:
        raw = response.readline(LONGEST_LINE)
        if not raw:
            # An event that is not complete does not count.
            return
        length += len(raw)
        if length > LONGEST_LINE:
            raise ProtocolError(f"an event has more than {LONGEST_LINE} bytes: is this a vggt server?")
        line = raw.decode(errors="replace").rstrip("\r\n")
        if not line:
            if data:
                yield kind, "\n".join(data), last_id
            kind, data, length = "message", [], 0
            continue
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id" and value.isascii() and value.isprintable():
            # It becomes a header of the next request.
            last_id = value
        elif not name:
            length = 0


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ProtocolError(f"the server sends an event that is not JSON: {e}") from None
    if not isinstance(found, dict):
        raise ProtocolError("the server sends an event that is not an object")
    return found
