"""What can go wrong, as exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Type

if TYPE_CHECKING:
    from .replies import Job


class Error(Exception):
    """Base of everything that this package raises, other than `OSError` for files and mistakes in a call (`ValueError`)."""


class ConnectionLost(Error, ConnectionError):
    """There is no connection, or it ended or stalled before the reply was complete. Except over HTTP a new `Client` is needed."""


class CertificateRefused(ConnectionLost):
    """The certificate of an https server cannot be trusted: of an unknown authority, for another name, or out of date."""


class NotOffered(Error):
    """What was called needs HTTP, or the TCP port, and the client talks to the other one."""


class ProtocolError(Error):
    """The peer sent something that a vggt server does not send. A new `Client` is needed."""


class LoginRefused(Error):
    """The server accepts neither this name with this password, nor says which of the two is wrong."""


class WaitTimeout(Error, TimeoutError):
    """A job had not ended when the time of `Client.wait` was over. It goes on; `job` is its last state."""

    def __init__(self, job: Job, seconds: float) -> None:
        super().__init__(f"job {job.id} is still {job.state} after {seconds:g} s; it goes on, and wait() may be called again")
        self.job = job


class JobFailed(Error):
    """A job ended without a result; `job.reason` is what the server says of it."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} failed: {job.reason or 'the server names no reason'}")
        self.job = job


class JobCancelled(Error):
    """A job was cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} was cancelled")
        self.job = job


class PredictionsError(Error, ValueError):
    """A file is not a complete file of saved predictions."""


class ServerError(Error):
    """The server refuses a request. The connection may be used further."""

    code: str
    """As in src/protocol/README.md, such as `ERROR_HASH_NOT_FOUND`; over HTTP as in docs/http.md, such as `not_kept`."""
    reason: str
    """What the server says about it, in one line; may be empty. Control characters are escaped."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(f"the server answers {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class NotLoggedIn(ServerError):
    """`ERROR_NOT_LOGGED_IN`: call `login` first. The login also ends when the user is disabled or the password changes."""


class ImageRequestFailed(ServerError):
    """`ERROR_IMAGE_REQUEST`: there is no reconstruction of these images."""


class VideoRequestFailed(ServerError):
    """`ERROR_VIDEO_REQUEST`: there is no reconstruction of this video."""


class InvalidHash(ServerError):
    """`ERROR_INVALID_HASH`: not 64 hex digits."""


class HashNotFound(ServerError):
    """`ERROR_HASH_NOT_FOUND`: no such file, or not for this user."""


class FileMissing(ServerError):
    """`ERROR_FILE_MISSING`: the file is known, but its bytes are gone."""


class BadRequest(ServerError):
    """`ERROR_BAD_REQUEST`: an option that the server does not know, or a value out of range."""


class JobNotFound(ServerError):
    """`ERROR_JOB_NOT_FOUND`: no such job, or another user's."""


class InternalServerError(ServerError):
    """`ERROR_INTERNAL`: the server's own fault, such as a full disk."""


class UnknownCommand(ServerError):
    """`UNKNOWN_COMMAND`: the server is older than the command."""


OF_CODE: Dict[str, Type[ServerError]] = {
    "ERROR_NOT_LOGGED_IN": NotLoggedIn,
    "ERROR_IMAGE_REQUEST": ImageRequestFailed,
    "ERROR_VIDEO_REQUEST": VideoRequestFailed,
    "ERROR_INVALID_HASH": InvalidHash,
    "ERROR_HASH_NOT_FOUND": HashNotFound,
    "ERROR_FILE_MISSING": FileMissing,
    "ERROR_BAD_REQUEST": BadRequest,
    "ERROR_JOB_NOT_FOUND": JobNotFound,
    "ERROR_INTERNAL": InternalServerError,
    "UNKNOWN_COMMAND": UnknownCommand,
    # Of HTTP.
    "bad_request": BadRequest,
    "not_logged_in": NotLoggedIn,
    "internal": InternalServerError,
}


def server_error(code: str, reason: str = "") -> ServerError:
    """The exception for a code; a code of a newer server is a plain `ServerError`."""
    return OF_CODE.get(code, ServerError)(printable(code), printable(reason))


def printable(text: str) -> str:
    """`text` without what acts on a terminal: control characters become their escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
