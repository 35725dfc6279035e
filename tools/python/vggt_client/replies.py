"""What the server answers, as plain values. Each keeps the reply as it came in `fields`, for what newer servers add."""

from __future__ import annotations

import dataclasses
import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

from .errors import ProtocolError, printable

HASH_DIGITS = 64
ENDED = ("done", "failed", "cancelled")
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z", re.ASCII)


@dataclass(frozen=True)
class Scene:
    """A reconstruction."""

    hash: str
    """Fetches it again; 64 hex digits."""
    size: int
    """Bytes of the GLB."""
    glb: Optional[bytes] = field(default=None, repr=False)
    """The GLB itself, unless it went to a file."""
    path: Optional[Path] = None
    """The file that has it, if one was asked for."""


@dataclass(frozen=True)
class Artifact:
    """A file of a result, of `Client.download`."""

    format: str
    size: int
    """Bytes."""
    data: Optional[bytes] = field(default=None, repr=False)
    """Its bytes, unless they went to a file."""
    path: Optional[Path] = None
    """The file that has it, if one was asked for."""


@dataclass(frozen=True)
class StoredFile:
    """One of the user's stored results."""

    hash: str
    name: str
    size: int
    """Bytes."""
    created_at: datetime.datetime
    public: bool
    fields: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, fields: Any) -> StoredFile:
        """Reads FILE of the protocol."""
        reply = Reply(fields, "a stored file")
        return cls(
            hash=reply.hash("hash"),
            name=printable(reply.text("name")),
            size=reply.count("size"),
            created_at=reply.time("created_at"),
            public=reply.flag("public"),
            fields=fields,
        )


@dataclass(frozen=True)
class JobWarning:
    """Something to know of a job, such as images that were left out."""

    kind: str
    """As in src/protocol/README.md, such as `frames_thinned`; there may be others."""
    text: str
    fields: Mapping[str, Any] = field(repr=False, compare=False)
    """With the values that belong to the kind."""

    @classmethod
    def of(cls, fields: Any) -> JobWarning:
        """Reads WARNING of the protocol."""
        reply = Reply(fields, "a warning")
        return cls(kind=printable(reply.text("kind")), text=printable(reply.text("text")), fields=fields)


@dataclass(frozen=True)
class Job:
    """A submitted job, as it was when the server answered."""

    id: int
    state: str
    """`queued`, `running`, `done`, `failed` or `cancelled`; over HTTP also `uploading`."""
    ahead: Optional[int] = None
    """While queued: jobs that run before it."""
    stage: Optional[str] = None
    """While running: one word."""
    fraction: Optional[float] = None
    """While running: the part of the whole that is done, 0 to 1."""
    seconds_left: Optional[float] = None
    """While running, where the server can tell."""
    preview: Optional[str] = None
    """While running with anchors: the hash of a scene of them, once there is one."""
    hash: Optional[str] = None
    """When done: fetches the result."""
    reason: Optional[str] = None
    """When failed: why."""
    warnings: Tuple[JobWarning, ...] = ()
    """What there is to know of it; empty with older servers."""
    name: Optional[str] = None
    """In `Client.jobs`: the name that its result has or will have."""
    created_at: Optional[datetime.datetime] = None
    """In `Client.jobs`: when it was submitted."""
    finished_at: Optional[datetime.datetime] = None
    """In `Client.jobs`: when it ended."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED

    @classmethod
    def of(cls, fields: Any) -> Job:
        """Reads JOB of the protocol."""
        job = cls._of(fields)
        if job.state == "done":
            # Without it the result cannot be fetched.
            Reply(fields, "a job").hash("hash")
        return job

    @classmethod
    def of_http(cls, fields: Any) -> Job:
        """Reads a job as HTTP has it; one that is done has no hash where its result was deleted."""
        reply = Reply(fields, "a job")
        result = fields.get("result")
        named = {**fields, "job": reply.count("id"), "ahead": fields.get("place")}
        if result is not None:
            named["hash"] = Reply(result, "a job's result").hash("hash")
        return dataclasses.replace(cls._of(named), fields=fields)

    @classmethod
    def _of(cls, fields: Any) -> Job:
        reply = Reply(fields, "a job")
        state = reply.text("state")
        has = {name for name, value in fields.items() if value is not None}
        return cls(
            id=reply.count("job"),
            state=printable(state),
            ahead=reply.count("ahead") if "ahead" in has else None,
            stage=printable(reply.text("stage")) if "stage" in has else None,
            fraction=reply.number("fraction") if "fraction" in has else None,
            seconds_left=reply.number("seconds_left") if "seconds_left" in has else None,
            preview=reply.hash("preview") if "preview" in has else None,
            hash=reply.hash("hash") if "hash" in has else None,
            reason=printable(reply.text("reason")) if "reason" in has else None,
            warnings=tuple(JobWarning.of(warning) for warning in reply.items("warnings")) if "warnings" in has else (),
            name=printable(reply.text("name")) if "name" in has else None,
            created_at=reply.time("created_at") if "created_at" in has else None,
            finished_at=reply.time("finished_at") if "finished_at" in has else None,
            fields=fields,
        )


@dataclass(frozen=True)
class Limits:
    """What the server takes at most."""

    upload_bytes: int
    images: int
    queue: int
    queue_per_user: int


@dataclass(frozen=True)
class Info:
    """What the server is, and how busy."""

    version: str
    protocol: int
    model: str
    device: str
    queued: int
    """Jobs that wait; 0 without a login."""
    running: int
    """Jobs that run; 0 without a login."""
    limits: Limits
    fields: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, fields: Any) -> Info:
        """Reads INFO of the protocol."""
        reply = Reply(fields, "the server's information")
        limits = Reply(fields.get("limits"), "the server's limits")
        return cls(
            version=printable(reply.text("version")),
            protocol=reply.count("protocol"),
            model=printable(reply.text("model")),
            device=printable(reply.text("device")),
            queued=reply.count("queued"),
            running=reply.count("running"),
            limits=Limits(*(limits.count(name) for name in ("upload_bytes", "images", "queue", "queue_per_user"))),
            fields=fields,
        )


class Reply:
    """A JSON object of a peer that may send anything. Each method reads one field, or raises `ProtocolError`."""

    def __init__(self, fields: Any, what: str) -> None:
        if not isinstance(fields, dict):
            raise ProtocolError(f"the server sends {_short(fields)} in place of {what}")
        self.fields, self.what = fields, what

    def _field(self, name: str, ok: bool, expected: str) -> Any:
        if not ok:
            value = _short(self.fields[name]) if name in self.fields else "nothing"
            raise ProtocolError(f'the server sends {value} as "{name}" of {self.what}; expected {expected}')
        return self.fields[name]

    def text(self, name: str) -> str:
        value: str = self._field(name, isinstance(self.fields.get(name), str), "a text")
        return value

    def flag(self, name: str) -> bool:
        value: bool = self._field(name, isinstance(self.fields.get(name), bool), "true or false")
        return value

    def items(self, name: str) -> List[Any]:
        value: List[Any] = self._field(name, isinstance(self.fields.get(name), list), "a list")
        return value

    def count(self, name: str) -> int:
        value = self.fields.get(name)
        ok = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        count: int = self._field(name, ok, "a count")
        return count

    def number(self, name: str) -> float:
        value = self.fields.get(name)
        ok = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
        return float(self._field(name, ok, "a number"))

    def hash(self, name: str) -> str:
        value = self.fields.get(name)
        found: str = self._field(name, isinstance(value, str) and is_hash(value), f"{HASH_DIGITS} hex digits")
        return found.lower()

    def time(self, name: str) -> datetime.datetime:
        text = self.text(name)
        found = TIME.fullmatch(text)
        try:
            # fromisoformat knows other numbers of digits than 3 and 6, and "Z", only from Python 3.11 on.
            time = datetime.datetime.fromisoformat(found[1]) if found else None
        except ValueError:
            time = None
        if not found or not time:
            raise ProtocolError(f'the server sends {_short(text)} as "{name}" of {self.what}; expected a time')
        return time.replace(microsecond=int((found[2] or "").ljust(6, "0")[:6]), tzinfo=datetime.timezone.utc)


def is_hash(text: str) -> bool:
    """Whether `text` is 64 hex digits."""
    return len(text) == HASH_DIGITS and all(c in "0123456789abcdefABCDEF" for c in text)


def _short(value: Any) -> str:
    text = printable(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."
