"""A client for `vggt serve`, and a reader for the predictions that `vggt export --save-predictions` writes.

    from vggt_client import Client, load_predictions

    with Client("127.0.0.1", 4567) as client:
        client.login("alice", password)
        scene = client.images(["a.jpg", "b.jpg"], out="scene.glb")       # waits; scene.hash fetches it again

        job = client.submit(["a.jpg", "b.jpg"], options={"conf_thres": 40})   # returns at once
        job = client.wait(job, on_change=print)
        client.get(job.hash, out="strict.glb")

    with Client("https://vggt.example.org", token=token) as client:     # the same over HTTP
        job = client.wait(client.submit(["a.jpg", "b.jpg"]))
        client.download(job, "colmap.zip", out="scene.zip")

    predictions = load_predictions("room.safetensors")
    predictions["depth"].shape, predictions.names

Nothing but the standard library is needed, except that `load_predictions` imports numpy. The bytes on the wire are specified in
src/protocol/README.md of the repository, and HTTP in docs/http.md. All errors are subclasses of `Error`; those that the
server answers are `ServerError`, with its code and its reason.
"""

from .client import Client
from .errors import (
    BadRequest,
    CertificateRefused,
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
    NotOffered,
    PredictionsError,
    ProtocolError,
    ServerError,
    UnknownCommand,
    VideoRequestFailed,
    WaitTimeout,
)
from .http_client import HttpClient
from .predictions import Predictions, load_predictions
from .replies import Artifact, Info, Job, JobWarning, Limits, Scene, StoredFile

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "BadRequest",
    "CertificateRefused",
    "Client",
    "ConnectionLost",
    "Error",
    "FileMissing",
    "HashNotFound",
    "HttpClient",
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
    "NotOffered",
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
