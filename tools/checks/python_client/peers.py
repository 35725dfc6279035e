"""Peers that are not a vggt server, or one that lies: a listener of a few lines that sends what it is told."""

import contextlib
import datetime
import json
import socket
import struct
import threading
import tracemalloc

import vggt_client
from vggt_client import Client, ConnectionLost, ProtocolError

from . import expect, raises, step

SHA = "ab" * 32
IMPATIENT_S = 0.3  # timeout against a peer that stays silent
MEMORY = 16 << 20  # bytes that a lying length may cost


def blob(data):
    return struct.pack(">I", len(data)) + data


def reply(**fields):
    return blob(json.dumps(fields).encode())


@contextlib.contextmanager
def peer(answer, *, close=True, read=True, drain=True, timeout=10):
    """A client of a peer that reads a bit, sends `answer`, and closes the connection unless told otherwise.

    Without `drain` it closes while more of the request arrives, which resets the connection.
    """
    over = threading.Event()

    def serve():
        connection, _ = listener.accept()
        with connection:
            if read:
                connection.recv(1 << 16)
            with contextlib.suppress(OSError):
                connection.sendall(answer)
                if close and read and drain:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):
                        pass
            if not close:
                over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with Client("127.0.0.1", listener.getsockname()[1], timeout=timeout) as client:
                yield client
        finally:
            over.set()
            thread.join()


def run(_program, folder):
    cut_off(folder)
    lengths(folder)
    nonsense()
    escapes()
    uploads()
    older()
    times()


def cut_off(folder):
    whole = {
        "info": (reply(version="1"), lambda client: client.info()),
        "login": (blob(b"[true, false]"), lambda client: client.login("a", "b")),
        "get": (blob(b"glTF" + bytes(96)), lambda client: client.get(SHA, out=folder / "cut.glb")),
        "images": (
            blob(f"{SHA}.glb".encode()) + blob(b"glTF" + bytes(40)),
            lambda client: client.images([b"x"], out=folder / "cut.glb"),
        ),
    }
    for name, (answer, call) in whole.items():
        with step(f"{name}: closed after each byte but the last"):
            for length in range(len(answer)):
                with peer(answer[:length]) as client:
                    raises(ConnectionLost, lambda: call(client))  # noqa: B023
                    raises(ConnectionLost, client.info, "make a new Client")
            expect(not list(folder.iterdir()), "a file is left")
        with step(f"{name}: silent in the middle"), peer(answer[: len(answer) // 2], close=False, timeout=IMPATIENT_S) as client:
            raises(ConnectionLost, lambda: call(client))  # noqa: B023
            raises(ConnectionLost, client.info)
    with step("get: closed, while the GLB goes on; then the whole of it"):
        with peer(whole["get"][0]) as client:
            expect(client.get(SHA, out=folder / "whole.glb").size == 100, "another size")
        (folder / "whole.glb").unlink()


def lengths(folder):
    huge = b"\xff\xff\xff\xff"
    with step("huge lengths are refused, or cost no more memory than what arrives"):
        tracemalloc.start()
        for answer, call, kind in (
            (huge, lambda client: client.info(), ProtocolError),
            (huge, lambda client: client.login("a", "b"), ProtocolError),
            (huge, lambda client: client.images([b"x"]), ProtocolError),
            (huge + b"glTF" + bytes(1000), lambda client: client.get(SHA), ConnectionLost),
            (huge + b"glTF" + bytes(1000), lambda client: client.get(SHA, out=folder / "huge.glb"), ConnectionLost),
            (huge + b"not a GLB", lambda client: client.get(SHA), ProtocolError),
            (struct.pack(">I", 16 << 20) + b"{", lambda client: client.list(), ConnectionLost),
            (struct.pack(">I", (16 << 20) + 1) + b"{", lambda client: client.list(), ProtocolError),
        ):
            with peer(answer) as client:
                raises(kind, lambda: call(client))  # noqa: B023
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        expect(peak < MEMORY, f"{peak} bytes")
        expect(not list(folder.iterdir()), "a file is left")


def nonsense():
    hash_reply = blob(b"..%2fetc%2fpasswd.glb") + blob(b"glTF")
    cases = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(200), lambda client: client.info()),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", lambda client: client.login("a", "b")),
        *(
            (blob(body), lambda client: client.login("a", "b"))
            for body in (b"{}", b"[]", b"[1, 0]", b"[true]", b"true", b"", b"\xff")
        ),
        *(
            (blob(body), lambda client: client.info())
            for body in (b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 9999)
        ),
        (reply(version="1", protocol="2", model="m", device="cpu"), lambda client: client.info()),
        (reply(job=1), lambda client: client.status(1)),
        (reply(job=-1, state="queued"), lambda client: client.status(1)),
        (reply(job=1, state="done"), lambda client: client.status(1)),
        (reply(job=1, state="done", hash="../../etc/passwd"), lambda client: client.status(1)),
        (reply(job=1, state="running", fraction="half"), lambda client: client.status(1)),
        (blob(b'{"job": 1, "state": "running", "fraction": NaN}'), lambda client: client.status(1)),
        (blob(b'{"job": 1, "state": "running", "seconds_left": 1e999}'), lambda client: client.status(1)),
        (reply(job=1, state="queued", warnings=["new"]), lambda client: client.status(1)),
        (reply(job=1, state="queued", warnings={"kind": "k"}), lambda client: client.status(1)),
        (reply(jobs=7), lambda client: client.jobs()),
        (reply(files={}), lambda client: client.list()),
        (reply(files=[1]), lambda client: client.list()),
        (
            reply(files=[{"hash": SHA, "name": "n", "size": 1, "public": True, "created_at": "yesterday"}]),
            lambda client: client.list(),
        ),
        (reply(files=[], next=7), lambda client: client.list()),
        (reply(hash=SHA), lambda client: client.publish(SHA)),
        (hash_reply, lambda client: client.images([b"x"])),
        (blob(b"") + blob(b""), lambda client: client.images([b"x"])),
        (blob(b"") + blob(b"glTF"), lambda client: client.images([b"x"])),
        (blob(b"something else"), lambda client: client.get(SHA)),
        (blob(b"ERROR_" + bytes(2000)), lambda client: client.get(SHA)),
    ]
    with step(f"{len(cases)} answers that no vggt server gives"):
        for answer, call in cases:
            with peer(answer) as client:
                raises(ProtocolError, lambda: call(client))  # noqa: B023
                raises(ConnectionLost, client.info)


def escapes():
    evil = "\x1b[2J\x1b]0;title\x07 \u202etxt\n"
    with step("control characters of a server are escaped"):
        with peer(reply(error="ERROR_BAD_REQUEST", reason=evil)) as client:
            e = raises(vggt_client.BadRequest, client.options)
            expect(e.reason.startswith("\\x1b[2J"), e.reason)
        with peer(blob(f"ERROR_NEW\x1b: {evil}".encode())) as client:
            raises(vggt_client.ServerError, lambda: client.get(SHA), code="ERROR_NEW\\x1b")
        with peer(reply(job=1, state="failed", reason=evil)) as client:
            raises(vggt_client.JobFailed, lambda: client.wait(1))
        with peer(reply(job=1, state="running", stage=evil)) as client:
            expect(client.status(1).stage.isprintable(), "not escaped")
    with (
        step("fields that are new are kept"),
        peer(reply(job=1, state="queued", ahead=2, new=["x"], warnings=[{"kind": "k", "text": "t\x1b", "n": 7}])) as client,
    ):
        job = client.status(1)
        expect(job.ahead == 2 and job.fields["new"] == ["x"], job.fields)
        expect(job.warnings[0].text == "t\\x1b" and job.warnings[0].fields["n"] == 7, job.warnings)


def uploads():
    large = [bytes(1 << 20)] * 64
    with step("a server that refuses in the midst of an upload is heard"):
        for answer, call in (
            (blob(b"") + blob(b"ERROR_IMAGE_REQUEST: too large"), lambda client: client.images(large)),
            (reply(error="ERROR_IMAGE_REQUEST", reason="too large"), lambda client: client.submit(large)),
        ):
            with peer(answer, drain=False) as client:
                try:
                    call(client)
                    expect(False, "no error")
                except vggt_client.ImageRequestFailed as e:
                    expect(e.reason == "too large", e)
                except ConnectionLost:
                    pass  # where the reset overtakes the answer
                raises(ConnectionLost, client.info)
    with step("a server that hangs up in the midst of an upload"), peer(b"", read=False) as client:
        raises(ConnectionLost, lambda: client.images(large))
    with step("a server that does not read"), peer(b"", read=False, close=False, timeout=IMPATIENT_S) as client:
        raises(ConnectionLost, lambda: client.images(large))


def times():
    listed = {"hash": SHA, "name": "images_1.glb", "size": 1, "public": False}
    with step("times with and without fractions of a second"):
        for text, microseconds in (("", 0), (".5", 500_000), (".50644", 506_440), (".123456", 123_456), (".123456789", 123_456)):
            with peer(reply(files=[{**listed, "created_at": f"2026-01-31T12:00:59{text}Z"}], next=None)) as client:
                expected = datetime.datetime(2026, 1, 31, 12, 0, 59, microseconds, datetime.timezone.utc)
                expect(client.list()[0].created_at == expected, text)
        for text in ("2026-02-30T12:00:00Z", "2026-01-31T12:00:00", "2026-01-31", "2026-01-31T25:00:00Z", "Z", ""):
            with peer(reply(files=[{**listed, "created_at": text}], next=None)) as client:
                raises(ProtocolError, client.list)


def older():
    with step("a server of version 1"):
        with peer(blob(b"UNKNOWN_COMMAND"), close=False) as client:
            raises(vggt_client.UnknownCommand, client.info, code="UNKNOWN_COMMAND")
        with peer(blob(b"UNKNOWN_COMMAND")) as client:
            raises(vggt_client.UnknownCommand, lambda: client.get(SHA))
    listed = {"hash": SHA, "name": "images_1.glb", "size": 1, "created_at": "2026-01-31T12:00:00Z", "public": False}
    with step("a server without pages"), peer(blob(b"UNKNOWN_COMMAND") + reply(files=[listed])) as client:
        expect([file.hash for file in client.list()] == [SHA], "another list")
