"""The client over HTTP."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Union

from .client import Client, PathLike, hash_of, id_of, listed
from .errors import (
    Error,
    HashNotFound,
    ImageRequestFailed,
    JobFailed,
    JobNotFound,
    LoginRefused,
    NotOffered,
    ProtocolError,
    ServerError,
    VideoRequestFailed,
    printable,
)
from .http_connection import Server
from .http_download import download
from .http_events import Follower
from .http_upload import JOBS, submit
from .replies import Artifact, Info, Job, Reply, Scene, StoredFile
from .upload import Source, complete_file

# Seconds without a byte. A file of a result is made when it is asked for, after those of 16 others at most, a minute each for
# hundreds of frames.
DEFAULT_TIMEOUT_S = 1200.0
CLOSE_S = 5.0  # how long close() waits for the end of a session
SESSIONS = "/api/v1/sessions"
PAGE = 1000  # jobs of a page, the server's most
FORMAT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")


class HttpClient(Client):
    """A client of the port of HTTP, for one thread at a time; made by `Client("http://...")` as well.

    The methods are those of `Client`. What differs: `wait` follows the server's events and outlives a restart of the server and a
    lost network for a minute; so do uploads of 16 MiB and more, and downloads. No connection is kept, so that the client may be
    used after a `ConnectionLost`. Results are those of the user's jobs: there are no public ones of others here, and `delete`
    removes the jobs too. `ServerError.code` is one of docs/http.md.
    """

    def __init__(
        self,
        host: str = "http://127.0.0.1:4568",
        port: Optional[int] = None,
        *,
        timeout: Optional[float] = None,
        token: Optional[str] = None,
        cafile: Optional[PathLike] = None,
    ) -> None:
        """Takes an address that begins with `http://` or `https://`, and has the port.

        `token` is a named token of the user, in place of `login`. The certificate of https must be of an authority that the
        system trusts, or of one in the PEM file `cafile`.
        """
        if port is not None:
            raise ValueError(f"give the port in the address, such as http://127.0.0.1:{port}")
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise ValueError("a token has printable characters of ASCII alone")
        self._server = Server(host, timeout or DEFAULT_TIMEOUT_S, cafile)
        self._server.token = token
        self._has_session = False
        self._options: Dict[str, Any] = {}

    def __enter__(self) -> HttpClient:
        return self

    def close(self) -> None:
        """Ends the session of `login`. Submitted jobs go on."""
        if self._has_session:
            self._has_session = False
            self._server.timeout = min(self._server.timeout, CLOSE_S)
            with contextlib.suppress(Error):
                self._server.ask("DELETE", f"{SESSIONS}/current")
            self._server.token = None

    def login(self, user: str, password: str) -> bool:
        self._server.token, self._has_session = None, False
        try:
            reply = self._server.ask("POST", SESSIONS, {"username": user, "password": password})
        except ServerError as e:
            if e.code in ("wrong_login", "too_many_logins"):
                raise LoginRefused(f"cannot log in as {printable(user)!r}: {e.reason or e.code}") from None
            raise
        fields = Reply(reply, "a session")
        token = fields.text("token")
        if not (token.isascii() and token.isprintable()):
            raise ProtocolError("the server sends a token that cannot be sent back: is this a vggt server?")
        self._server.token, self._has_session = token, True
        return fields.flag("is_vip")

    # A reconstruction while the caller waits.

    def images(
        self, images: Iterable[Source], *, out: Optional[PathLike] = None, options: Optional[Mapping[str, Any]] = None
    ) -> Scene:
        return self._scene(self.submit(images, options=options), out, ImageRequestFailed)

    def video(self, video: Source, *, out: Optional[PathLike] = None, options: Optional[Mapping[str, Any]] = None) -> Scene:
        return self._scene(self.submit(video=video, options=options), out, VideoRequestFailed)

    def get(self, hash: str, *, out: Optional[PathLike] = None) -> Scene:
        digits = hash_of(hash)
        file = self.download(self.job_of(digits), out=out)
        return Scene(digits, file.size, file.data, file.path)

    def download(
        self, job: Union[Job, int], format: str = "glb", *, out: Optional[PathLike] = None, overwrite: bool = True
    ) -> Artifact:
        if not FORMAT.fullmatch(format) or ".." in format:
            raise ValueError(f"cannot fetch {format!r}: expected a format such as glb, ply or colmap.zip")
        path = f"{JOBS}/{id_of(job)}/artifacts/{format}"
        if out is None:
            memory = io.BytesIO()
            size = download(self._server, path, memory)
            return Artifact(format, size, data=memory.getvalue())
        target = Path(out)
        with complete_file(target, overwrite) as file:
            size = download(self._server, path, file)
        return Artifact(format, size, path=target)

    # Jobs.

    def submit(
        self,
        images: Optional[Iterable[Source]] = None,
        *,
        video: Optional[Source] = None,
        options: Optional[Mapping[str, Any]] = None,
    ) -> Job:
        if (images is None) == (video is None):
            raise ValueError("submit takes either images or a video")
        files: List[Source] = listed(images) if images is not None else [video] if video is not None else []
        if not files:
            raise ValueError("there are no images to send")
        return submit(self._server, files, self._taken(options))

    def status(self, job: Union[Job, int]) -> Job:
        return self._of_job("GET", job)

    @contextlib.contextmanager
    def _following(self, job: Union[Job, int], poll: float) -> Iterator[Callable[[Optional[float]], Job]]:
        def look(seconds: float) -> Job:
            return Job.of_http(self._about_job("GET", f"{JOBS}/{id_of(job)}", timeout=min(seconds, self._server.timeout)))

        with contextlib.closing(Follower(self._server, id_of(job), poll, look)) as follower:
            yield follower.next

    def cancel(self, job: Union[Job, int]) -> Job:
        reply = self._about_job("DELETE", f"{JOBS}/{id_of(job)}?only_cancel=true")
        # One whose files were still arriving is gone.
        return Job.of_http(reply) if reply else Job(id_of(job), "cancelled")

    def jobs(self, limit: Optional[int] = None) -> List[Job]:
        if limit is not None and limit < 0:
            raise ValueError(f"cannot list {limit} jobs")
        found: List[Job] = []
        for job in self._all_jobs(limit):
            if limit is not None and len(found) >= limit:
                break
            found.append(job)
        return found

    def rerun(self, job: Union[Job, int], *, options: Optional[Mapping[str, Any]] = None) -> Job:
        return self._of_job("POST", job, "/rerun", self._taken(options))

    def rename(self, job: Union[Job, int], name: str) -> Job:
        return self._of_job("PATCH", job, fields={"name": name})

    # Stored results.

    def list(self, limit: Optional[int] = None) -> List[StoredFile]:
        if limit is not None and limit < 0:
            raise ValueError(f"cannot list {limit} files")
        found: Dict[str, StoredFile] = {}
        for job in self._all_jobs(None):
            if limit is not None and len(found) >= limit:
                break
            if job.hash is not None and job.hash not in found:
                found[job.hash] = _stored(job)
        return [*found.values()]

    def publish(self, hash: str, public: bool = True) -> bool:
        job = self.share(self.job_of(hash), public)
        return Reply(job.fields.get("result"), "a job's result").flag("public")

    def share(self, job: Union[Job, int], public: bool = True) -> Job:
        """As `publish`, of the result of a job."""
        return self._of_job("PATCH", job, fields={"public": bool(public)})

    def delete(self, hash: str) -> None:
        digits = hash_of(hash)
        # Two jobs with the same files and options have the same result, which goes with the last of them.
        jobs = [job for job in self._all_jobs(None) if job.hash == digits]
        if not jobs:
            raise _no_such(digits)
        for job in jobs:
            self.remove(job)

    def remove(self, job: Union[Job, int]) -> None:
        """Removes a job that has ended, with its result unless another job has the same; cancels one that has not."""
        self._about_job("DELETE", f"{JOBS}/{id_of(job)}")

    # The server.

    def options(self, **options: Any) -> Mapping[str, Any]:
        """Sets options for the next reconstruction, and only for that one. They are checked when that is submitted."""
        self._options = options
        return {**options}

    def info(self) -> Info:
        raise NotOffered("HTTP has no info: ask /health, /ready and /metrics, or give the address of the TCP port")

    def _taken(self, options: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
        own = {**self._options, **(options or {})}
        self._options = {}
        return own

    def _scene(self, job: Job, out: Optional[PathLike], failed: Any) -> Scene:
        try:
            done = self.wait(job)
        except JobFailed as e:
            raise failed("job_failed", e.job.reason or "") from None
        if done.hash is None:
            raise _no_such(f"job {job.id}")
        file = self.download(done, out=out)
        return Scene(done.hash, file.size, file.data, file.path)

    def _of_job(
        self,
        method: str,
        job: Union[Job, int],
        below: str = "",
        fields: Optional[Mapping[str, Any]] = None,
    ) -> Job:
        return Job.of_http(self._about_job(method, f"{JOBS}/{id_of(job)}{below}", fields))

    def _about_job(
        self, method: str, path: str, fields: Optional[Mapping[str, Any]] = None, timeout: Optional[float] = None
    ) -> Mapping[str, Any]:
        """As `Server.ask`, about a job."""
        try:
            return self._server.ask(method, path, fields, timeout)
        except ServerError as e:
            if e.code == "not_found":
                raise JobNotFound(e.code, e.reason) from None
            raise

    def _all_jobs(self, limit: Optional[int]) -> Iterator[Job]:
        before = None
        count = PAGE if limit is None else max(1, min(PAGE, limit))
        while True:
            after = "" if before is None else f"&before={before}"
            reply = Reply(self._server.ask("GET", f"{JOBS}?limit={count}{after}"), "a list of jobs")
            page = [Job.of_http(fields) for fields in reply.items("jobs")]
            yield from page
            if reply.fields.get("next") is None:
                return
            last, before = before, reply.count("next")
            if not page or (last is not None and before >= last):
                raise ProtocolError(f"{self._server.address} answers a list whose pages do not end: is this a vggt server?")

    def job_of(self, hash: str) -> Job:
        """Returns the user's newest job that has this result."""
        digits = hash_of(hash)
        for job in self._all_jobs(None):
            if job.hash == digits:
                return job
        raise _no_such(digits)


def _no_such(what: str) -> HashNotFound:
    return HashNotFound("not_found", f"you have no job with the result {what}")


def _stored(job: Job) -> StoredFile:
    created = job.fields.get("finished_at") or job.fields.get("created_at")
    same = {**job.fields["result"], "name": job.name or "", "created_at": created}
    return StoredFile.of(same)
