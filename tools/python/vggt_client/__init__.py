"""A client for `vggt serve`, and a reader for the predictions that `vggt export --save-predictions` writes.

    from vggt_client import Client, load_predictions

    with Client("127.0.0.1", 4567) as client:
        client.login("alice", password)
        scene = client.images(["a.jpg", "b.jpg"], out="scene.glb")       # waits; scene.hash fetches it again

        job = client.submit(["a.jpg", "b.jpg"], options={"conf_thres": 40})   # returns at once
        job = client.wait(job, on_change=print)
        client.get(job.hash, out="strict.glb")

    predictions = load_predictions("room.safetensors")
    predictions["depth"].shape, predictions.names

Nothing but the standard library is needed, except that `load_predictions` imports numpy. The bytes on the wire are specified in
src/protocol/README.md of the repository. All errors are subclasses of `Error`; those that the server answers are `ServerError`,
with its code and its reason.
"""

from .client import Client
from .errors import (
    BadRequest,
    ConnectionLost,
    Error,
    FileMissing,
    HashNotFound,
    ImageRequestFailed,
    InternalServerError,
    InvalidHash,
    JobCancelled,
    JobFailed,
    JobNotFound,
    LoginRefused,
    NotLoggedIn,
    PredictionsError,
    ProtocolError,
    ServerError,
    UnknownCommand,
    VideoRequestFailed,
    WaitTimeout,
)
from .predictions import Predictions, load_predictions
from .replies import Info, Job, JobWarning, Limits, Scene, StoredFile

__version__ = "0.1.0"

__all__ = [
    "BadRequest",
    "Client",
    "ConnectionLost",
    "Error",
    "FileMissing",
    "HashNotFound",
    "ImageRequestFailed",
    "Info",
    "InternalServerError",
    "InvalidHash",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobNotFound",
    "JobWarning",
    "Limits",
    "LoginRefused",
    "NotLoggedIn",
    "Predictions",
    "PredictionsError",
    "ProtocolError",
    "Scene",
    "ServerError",
    "StoredFile",
    "UnknownCommand",
    "VideoRequestFailed",
    "WaitTimeout",
    "load_predictions",
]
