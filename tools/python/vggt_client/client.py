"""The client."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from . import wire
from .errors import (
    BadRequest,
    JobCancelled,
    JobFailed,
    LoginRefused,
    NotOffered,
    ProtocolError,
    UnknownCommand,
    WaitTimeout,
    printable,
)
from .replies import HASH_DIGITS, Artifact, Info, Job, Reply, Scene, StoredFile, is_hash
from .upload import Source, complete_file, images_payload, names_of, video_payload, with_kind

T = TypeVar("T")
PathLike = Union[str, "os.PathLike[str]"]

DEFAULT_PORT = 4567
# Seconds without a byte from the server, after which the connection counts as lost. images() and video() wait in silence for as
# long as a reconstruction takes, hence so many.
DEFAULT_TIMEOUT_S = 3600.0
POLL_S = 0.5  # between two looks at a job
# Longest options with names of images: a request other than an upload has 64 KiB.
LONGEST_OPTIONS = 48 << 10


class Client:
    """One connection to a server, for one thread at a time. Use it as a context manager, or call `close`.

    With an address such as `http://127.0.0.1:4568` or `https://vggt.example.org` it speaks HTTP, and is an `HttpClient`.
    """

    def __new__(cls, host: str = "127.0.0.1", *_: Any, **__: Any) -> Client:
        if cls is Client and host.lower().startswith(("http://", "https://")):
            # Which imports this module.
            from .http_client import HttpClient

            return object.__new__(HttpClient)
        return object.__new__(cls)

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: Optional[int] = None,
        *,
        timeout: Optional[float] = None,
        token: Optional[str] = None,
        cafile: Optional[PathLike] = None,
    ) -> None:
        """Connects.

        `timeout` is the number of seconds without a byte from the server after which a call raises `ConnectionLost`. `images` and
        `video` hear nothing while the reconstruction runs; for long ones `submit` and `wait` are better, and outlive a lost
        connection. `token` and `cafile` are for HTTP alone: `HttpClient` describes them.
        """
        if token is not None or cafile is not None:
            raise ValueError("token and cafile are for HTTP: give an address that begins with http:// or https://")
        port, timeout = port or DEFAULT_PORT, timeout or DEFAULT_TIMEOUT_S
        self._connection = wire.Connection(host, port, timeout)
        # What `options` has set for the next reconstruction.
        self._options: Dict[str, Any] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Submitted jobs go on."""
        self._connection.close()

    # The user.

    def login(self, user: str, password: str) -> bool:
        """Logs in; returns whether the user is a VIP. Raises `LoginRefused`."""
        reply = self._connection.login(_json({"u": user, "p": password}))
        if not (isinstance(reply, list) and len(reply) == 2 and all(isinstance(flag, bool) for flag in reply)):
            raise self._broken("a login with something else than two flags")
        if not reply[0]:
            raise LoginRefused(f"cannot log in as {printable(user)!r}: the server refuses the name or the password")
        return bool(reply[1])

    # A reconstruction while the caller waits.

    def images(
        self, images: Iterable[Source], *, out: Optional[PathLike] = None, options: Optional[Mapping[str, Any]] = None
    ) -> Scene:
        """Reconstructs images and waits for the GLB.

        `images` are paths or contents of image files; the first defines the axes. The GLB goes to the file `out`, which appears
        complete or not at all, or else into `Scene.glb`. `options` are those of `Client.options`.
        """
        images = listed(images)
        upload = images_payload(images)
        self._set_options(options, names_of(images))
        return self._reconstruct(wire.IMAGES, upload, out)

    def video(self, video: Source, *, out: Optional[PathLike] = None, options: Optional[Mapping[str, Any]] = None) -> Scene:
        """Reconstructs a video, given by its path or content, and waits for the GLB; else as `images`."""
        upload = video_payload(video)
        self._set_options(options)
        return self._reconstruct(wire.VIDEO, upload, out)

    def get(self, hash: str, *, out: Optional[PathLike] = None) -> Scene:
        """Fetches a stored GLB, or a job's preview: of this user, or a public one. It goes where that of `images` goes."""
        digits = hash_of(hash)
        size, glb, path = self._receive(out, lambda file: self._connection.get(digits, file))
        return Scene(digits, size, glb, path)

    def download(
        self, job: Union[Job, int], format: str = "glb", *, out: Optional[PathLike] = None, overwrite: bool = True
    ) -> Artifact:
        """Fetches a file of a job that is done. Over HTTP only.

        `format` is one of docs/http.md, such as `ply`, `colmap.zip` or `frames/0.jpg`. The file goes to `out`, which appears
        complete or not at all and is replaced only where `overwrite` allows it, or else into `Artifact.data`. A transfer that
        breaks off goes on where it was.
        """
        raise _only_http("download")

    # Jobs.

    def submit(
        self,
        images: Optional[Iterable[Source]] = None,
        *,
        video: Optional[Source] = None,
        options: Optional[Mapping[str, Any]] = None,
    ) -> Job:
        """Sends images or a video and returns the job, which waits in a queue and survives a restart of the server."""
        if (images is None) == (video is None):
            raise ValueError("submit takes either images or a video")
        names = None
        if images is not None:
            images = listed(images)
            upload, names = with_kind(wire.IMAGES, images_payload(images)), names_of(images)
        else:
            assert video is not None
            upload = with_kind(wire.VIDEO, video_payload(video))
        self._set_options(options, names)
        return self._read(Job.of, self._connection.submit(upload))

    def status(self, job: Union[Job, int]) -> Job:
        """Returns the job as it is now."""
        return self._read(Job.of, self._ask(wire.STATUS, job=id_of(job)))

    def wait(
        self,
        job: Union[Job, int],
        *,
        timeout: Optional[float] = None,
        poll: float = POLL_S,
        on_change: Optional[Callable[[Job], object]] = None,
    ) -> Job:
        """Waits until a job is done, and returns it: its `hash` fetches the result.

        Raises `JobFailed` and `JobCancelled`, and `WaitTimeout` after `timeout` seconds. `on_change` is called with the job
        whenever it differs from before; `poll` is the number of seconds between two questions to the server.
        """
        end = None if timeout is None else time.monotonic() + timeout
        last = None
        with self._following(job, poll) as next_state:
            now = self.status(job)
            while True:
                if on_change is not None and now != last:
                    on_change(now)
                last = now
                if now.state == "done":
                    return now
                if now.state == "failed":
                    raise JobFailed(now)
                if now.state == "cancelled":
                    raise JobCancelled(now)
                left = None if end is None else end - time.monotonic()
                if timeout is not None and left is not None and left <= 0:
                    raise WaitTimeout(now, timeout)
                now = next_state(left)

    @contextlib.contextmanager
    def _following(self, job: Union[Job, int], poll: float) -> Iterator[Callable[[Optional[float]], Job]]:
        """Gives what returns the job's next state, or the same again, within the seconds that are left."""

        def look(left: Optional[float]) -> Job:
            time.sleep(poll if left is None else min(poll, left))
            return self.status(job)

        yield look

    def cancel(self, job: Union[Job, int]) -> Job:
        """Cancels a job; one that has ended stays as it is. A running one stops soon."""
        return self._read(Job.of, self._ask(wire.CANCEL, job=id_of(job)))

    def jobs(self, limit: Optional[int] = None) -> List[Job]:
        """Returns the user's jobs, newest first: all that the server remembers, or the newest `limit`. Newer servers only."""
        return self._pages(wire.JOBS, "jobs", Job.of, limit)

    def rerun(self, job: Union[Job, int], *, options: Optional[Mapping[str, Any]] = None) -> Job:
        """Makes a new job of one that is done, with other options and without the network. Newer servers only.

        `options` replace those of the old job, such as `conf_thres` and `format`. Raises `BadRequest` where they would need the
        network, and where the server no longer has the old job's frames.
        """
        self._set_options(options)
        return self._read(Job.of, self._ask(wire.RERUN, job=id_of(job)))

    def rename(self, job: Union[Job, int], name: str) -> Job:
        """Gives the result of a job another name. Over HTTP only."""
        raise _only_http("rename")

    # Stored results.

    def list(self, limit: Optional[int] = None) -> List[StoredFile]:
        """Returns the user's stored results, newest first: all of them, or the newest `limit`."""
        try:
            return self._pages(wire.PAGE, "files", StoredFile.of, limit)
        except UnknownCommand:
            # A server from before the pages lists the newest 1000.
            return self._items(self._ask(wire.LIST), "files", StoredFile.of)[:limit]

    def remove(self, job: Union[Job, int]) -> None:
        """Removes a job that has ended, with its result unless another job has the same. Over HTTP only."""
        raise _only_http("remove")

    def publish(self, hash: str, public: bool = True) -> bool:
        """Lets everyone who has the hash fetch this result, or only its user again. Returns the new state."""
        reply = self._ask(wire.PUBLISH, hash=hash_of(hash), public=bool(public))
        return self._read(lambda fields: Reply(fields, "a stored file").flag("public"), reply)

    def delete(self, hash: str) -> None:
        """Deletes a stored result of this user."""
        self._ask(wire.DELETE, hash=hash_of(hash))

    # The server.

    def options(self, **options: Any) -> Mapping[str, Any]:
        """Sets options for the next reconstruction on this connection, and only for that one.

        Returns all of them as they will be used; without arguments these are the server's defaults. Raises `BadRequest` for one
        that the server does not know. The most used: `conf_thres` (percent of the points to drop), `prediction_mode`
        (`"Depthmap and Camera"` or `"Pointmap Regression"`), `fps`, `keyframes`, `mask_sky`, `drop_edges`, `drop_outliers`,
        `refine`, `show_cam`, `max_points`, `format`.
        """
        reply = self._send_options(options)
        self._options = options
        return reply

    def info(self) -> Info:
        """Returns what the server is, how busy it is, and its limits. Needs no login."""
        return self._read(Info.of, self._ask(wire.INFO))

    def _ask(self, command: int, **fields: Any) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = self._connection.ask(command, _json(fields) if fields else b"")
        return reply

    def _send_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = self._connection.ask(wire.OPTIONS, _json(options))
        return reply

    def _set_options(self, options: Optional[Mapping[str, Any]], names: Optional[List[str]] = None) -> None:
        """Sets options for the reconstruction that follows, beside those of an earlier call of `options`."""
        own = {**self._options, **(options or {})}
        self._options = {}
        with_names = {"names": names, **own}
        if names and len(_json(with_names)) <= LONGEST_OPTIONS:
            try:
                self._send_options(with_names)
                return
            except BadRequest:
                # An older server, or names that it does not take; if it is the options, they are refused again.
                pass
        if own:
            self._send_options(own)

    def _reconstruct(self, command: int, upload: wire.Upload, out: Optional[PathLike]) -> Scene:
        names: List[str] = []

        def receive(file: Any) -> int:
            name, size = self._connection.reconstruct(command, upload, file)
            digits = name[: -len(".glb")] if name.endswith(".glb") else name
            if not is_hash(digits):
                # Before the file takes its name.
                raise self._broken(f"a result named {printable(name)[:80]!r}")
            names.append(digits.lower())
            return size

        size, glb, path = self._receive(out, receive)
        return Scene(names[0], size, glb, path)

    @staticmethod
    def _receive(out: Optional[PathLike], receive: Callable[[Any], int]) -> Tuple[int, Optional[bytes], Optional[Path]]:
        if out is None:
            memory = io.BytesIO()
            return receive(memory), memory.getvalue(), None
        path = Path(out)
        with complete_file(path) as file:
            size = receive(file)
        return size, None, path

    def _pages(self, command: int, key: str, read: Callable[[Any], T], limit: Optional[int]) -> List[T]:
        """All items of a list that comes in pages."""
        if limit is not None and limit < 0:
            raise ValueError(f"cannot list {limit} {key}")
        items: List[T] = []
        cursor = None
        while limit is None or len(items) < limit:
            reply = self._ask(command, before=cursor)
            page = self._items(reply, key, read)
            items += page
            last, cursor = cursor, reply.get("next")
            if cursor is None:
                break
            if not page or cursor == last:
                raise self._broken("a list whose pages do not end")
        return items[:limit]

    def _items(self, reply: Mapping[str, Any], key: str, read: Callable[[Any], T]) -> List[T]:
        found = reply.get(key)
        if not isinstance(found, list):
            raise self._broken(f"a list without {key}")
        return self._read(lambda items: [read(item) for item in items], found)

    def _read(self, read: Callable[[Any], T], fields: Any) -> T:
        """Reads a reply; one that cannot be read ends the connection, since it is not a vggt server's."""
        try:
            return read(fields)
        except ProtocolError:
            self.close()
            raise

    def _broken(self, what: str) -> ProtocolError:
        self.close()
        return ProtocolError(f"{self._connection.address} answers {what}: is this a vggt server?")


def _only_http(what: str) -> NotOffered:
    return NotOffered(f"the TCP port has no {what}: give the address of HTTP, such as http://127.0.0.1:4568")


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def listed(images: Iterable[Source]) -> List[Source]:
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)):
        raise TypeError("images must be a list of paths or of contents, also when it is only one")
    return [*images]


def id_of(job: Union[Job, int]) -> int:
    return job.id if isinstance(job, Job) else job


def hash_of(text: str) -> str:
    if not is_hash(text):
        raise ValueError(f"{text!r} is not a hash: expected {HASH_DIGITS} hex digits, without .glb")
    return text.lower()
