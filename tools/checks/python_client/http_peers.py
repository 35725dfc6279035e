"""Peers that are no vggt server, or one that lies, over HTTP: a listener of a few lines that sends what it is told."""

import contextlib
import json
import socket
import threading
import tracemalloc

import vggt_client
from vggt_client import Client, ConnectionLost, ProtocolError, ServerError, http_download, http_events

from . import expect, raises, step

SHA = "ab" * 32
IMPATIENT_S = 0.3  # timeout against a peer that stays silent
MEMORY = 40 << 20  # bytes that an endless answer may cost: the longest JSON twice, and what reads it
EVIL = "\x1b[2J\x1b]0;title\x07 \u202etxt\n"
DONE = {"id": 1, "state": "done", "name": "n.glb", "warnings": [], "result": {"hash": SHA, "size": 9, "public": False}}


def head(status=200, kind="application/json", **headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(body, status=200, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, Content_Length=len(body), **headers) + body


def problem(code, detail="", status=400):
    return answer({"code": code, "detail": detail, "status": status}, status, kind="application/problem+json")


@contextlib.contextmanager
def peer(*answers, endless=None, silent=False, timeout=10, read=True):
    """A client of a peer that answers one connection after the other; the last answer stands for all that follow.

    `endless` is sent again and again after an answer; `silent` leaves the last one open. Gives the client and the requests.
    """
    requests, over = [], threading.Event()

    def serve():
        with contextlib.suppress(OSError):
            for i in range(10**6):
                connection, _ = listener.accept()
                connection.settimeout(10)
                with connection, contextlib.suppress(OSError):
                    if read:
                        requests.append(connection.recv(1 << 16))
                    connection.sendall(answers[min(i, len(answers) - 1)])
                    while endless and i >= len(answers) - 1 and not over.is_set():
                        connection.sendall(endless)
                    if silent and i >= len(answers) - 1:
                        over.wait(30)
                    if read:
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1 << 16):
                            pass

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Client(f"http://127.0.0.1:{listener.getsockname()[1]}", token="t", timeout=timeout), requests
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def run(_program, folder):
    http_events.RETRY_S = 0.01
    http_events.PATIENCE_S = 0.2
    cut_off()
    nonsense()
    endless()
    escapes()
    redirects()
    files(folder)
    streams()


def cut_off():
    whole = answer(DONE)
    with step("HTTP: closed after each byte but the last"):
        for length in range(len(whole)):
            with peer(whole[:length]) as (client, _):
                try:
                    client.status(1)
                    expect(False, length)
                except ConnectionLost:
                    pass
                except ProtocolError:
                    # A head without its end is one that is short: http.client reads a body that nobody announced.
                    expect(b"\r\n\r\n" not in whole[:length], length)
                except ServerError:
                    expect(length < 20, length)
    with step("HTTP: silent"):
        for length in (0, 10, len(whole) - 5):
            with peer(whole[:length], silent=True, timeout=IMPATIENT_S) as (client, _):
                raises(ConnectionLost, lambda: client.status(1))  # noqa: B023


def nonsense():
    cases = [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\0\0\0\x0f{\"error\":\"X\"}\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        *(answer(body) for body in (b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 9999)),
        *(answer(body) for body in ({}, {"id": -1, "state": "queued"}, {"id": 1}, {"id": "1", "state": "done"})),
        answer({**DONE, "result": {"hash": "../../etc/passwd"}}),
        answer({**DONE, "result": 7}),
        answer({**DONE, "fraction": "half"}),
        answer({**DONE, "warnings": ["new"]}),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    ]
    with step(f"HTTP: {len(cases)} answers that no vggt server gives"):
        for case in cases:
            with peer(case) as (client, _):
                try:
                    found = client.status(1)
                    expect(False, f"{found} of {case[:80]!r}")
                except (ProtocolError, ConnectionLost) as e:
                    expect(all(c.isprintable() for c in str(e)), f"control characters in {str(e)!r}")
    with step("HTTP: lists without an end or an order"):
        for page in ({"jobs": [], "next": 7}, {"jobs": [DONE], "next": 7}, {"jobs": 7}, {"jobs": [DONE], "next": "x"}):
            with peer(answer(page)) as (client, _):
                raises(ProtocolError, client.jobs)
    with step("HTTP: a session without a token that can be sent"):
        for token in ("a\r\nX: y", "é", 7, None):
            with peer(answer({"token": token, "is_vip": False}, 201)) as (client, _):
                raises(ProtocolError, lambda: client.login("a", "b"))


def endless():
    with step("HTTP: what does not end costs no more memory than the longest answer"):
        tracemalloc.start()
        chunked = head(200, Transfer_Encoding="chunked")
        events = head(200, "text/event-stream", Transfer_Encoding="chunked")
        for first, more, call in (
            (head(200), b"x" * 65536, lambda client: client.status(1)),
            (head(500), b"x" * 65536, lambda client: client.status(1)),
            (chunked, b"10000\r\n" + b"[" * 65536 + b"\r\n", lambda client: client.status(1)),
            (chunked + b"f" * 15 + b"\r\n", b"x" * 65536, lambda client: client.status(1)),
        ):
            with peer(first, endless=more) as (client, _):
                try:
                    call(client)
                    expect(False, "an answer")
                except (ProtocolError, ServerError, ConnectionLost):
                    pass
        for more in (b"10000\r\n" + b"x" * 65536 + b"\r\n", b"10000\r\n" + b"data: 1\n" * 8192 + b"\r\n"):
            with peer(*[answer({**DONE, "state": "running", "result": None})] * 2, events, endless=more) as (client, _):
                raises(ProtocolError, lambda: client.wait(1))  # noqa: B023
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        expect(peak < MEMORY, f"{peak} bytes")


def escapes():
    with step("HTTP: control characters of a server are escaped, and unknown errors told"):
        with peer(problem("bad_request", EVIL)) as (client, _):
            e = raises(vggt_client.BadRequest, lambda: client.status(1))
            expect(e.reason.startswith("\\x1b[2J"), e.reason)
        with peer(problem("new" + EVIL, EVIL, 418)) as (client, _):
            raises(ServerError, lambda: client.status(1))
        with peer(answer({**DONE, "state": "failed", "reason": EVIL})) as (client, _):
            raises(vggt_client.JobFailed, lambda: client.wait(1))
        for body in (b"<html>Bad Gateway", b"", b"[]", b'{"code": 7}', b'{"code": "x", "detail": 7}', b"\xff", b"[" * 60000):
            with peer(answer(body, 502)) as (client, _):
                raises(ServerError, lambda: client.status(1), code="HTTP 502")


def redirects():
    with step("HTTP: a redirect is told and not followed: the login stays here"):
        for status in (301, 302, 307, 308):
            with peer(head(status, Location="http://127.0.0.1:1/" + "x" * 500, Content_Length=0)) as (client, requests):
                raises(ProtocolError, lambda: client.status(1), "redirects")
                expect(len(requests) == 1, requests)


def files(folder):
    first = head(200, ETag='"a"', Content_Length=10) + b"01234"
    rest = head(206, ETag='"a"', Content_Length=5, Content_Range="bytes 5-9/10") + b"56789"
    target = folder / "x.glb"
    # Of what comes before a cut, whole pieces count.
    piece, http_download.PIECE = http_download.PIECE, 1
    with step("HTTP: a file that breaks off goes on, with its tag"), peer(first, rest) as (client, requests):
        expect(client.download(1, out=target).path.read_bytes() == b"0123456789", "other bytes")
        expect(b"Range: bytes=5-\r\n" in requests[1] and b'If-Range: "a"\r\n' in requests[1], requests)
    with step("HTTP: a file that became another one comes anew, and so does one without a tag"):
        for start in (first, head(200, Content_Length=10) + b"01234"):
            with peer(start, head(200, ETag='"b"', Content_Length=3) + b"new") as (client, _):
                expect(client.download(1).data == b"new", "other bytes")
    with step("HTTP: parts that do not fit, and files that never come"):
        for part in (
            "bytes 4-9/10", "bytes 6-9/10", "bytes 5-8/10", "bytes 5-9/*", "bytes x", "", "bytes 5-9/" + "9" * 30
        ):  # fmt: skip
            with peer(first, head(206, ETag='"a"', Content_Length=5, Content_Range=part) + b"56789") as (client, _):
                raises(ProtocolError, lambda: client.download(1, out=target, overwrite=True))  # noqa: B023
        with peer(first, head(206, ETag='"a"', Content_Length=4, Content_Range="bytes 5-9/10") + b"5678") as (client, _):
            raises(ProtocolError, lambda: client.download(1))
        with peer(first, b"") as (client, _):
            raises(ConnectionLost, lambda: client.download(1, out=target))
        with peer(first, problem("not_kept", status=409)) as (client, _):
            raises(ServerError, lambda: client.download(1, out=target), code="not_kept")
        with peer(problem("busy", status=503)) as (client, requests):
            raises(ServerError, lambda: client.download(1, out=target), code="busy")
            expect(len(requests) == 1, requests)
        for status in (204, 304):
            with peer(head(status)) as (client, _):
                raises((ProtocolError if status == 204 else ServerError), lambda: client.download(1))
        expect(target.read_bytes() == b"0123456789" and len(list(folder.iterdir())) == 1, "a file is left")
    http_download.PIECE = piece


def stream(*events):
    # The peer that closes the connection ends it.
    return head(200, "text/event-stream") + "".join(events).encode()


def event(job, name="status", id="1"):
    return f"event: {name}\nid: {id}\ndata: {json.dumps(job)}\n\n"


def streams():
    queued = {**DONE, "state": "queued", "place": 1, "result": None}
    running = {**queued, "state": "running", "place": None, "stage": "decode"}
    # wait() looks twice before it listens.
    looks = [answer(queued)] * 2
    with step("HTTP: events are read as browsers do"):
        body = [
            "retry: 3000\n\n", ": alive\n\n", event(running, id="a"), event({}, "stopping?"), "data: x\n\n", "\n\n",
            "event: status\r\nid: b\r\ndata: " + json.dumps(DONE).replace(", ", ",\r\ndata: ") + "\r\n\r\n",
        ]  # fmt: skip
        with peer(*looks, stream(*body)) as (client, _):
            states = []
            expect(client.wait(1, on_change=lambda job: states.append(job.state)).hash == SHA, states)
            expect(states == ["queued", "running", "done"], states)
    with step("HTTP: a client that comes back says what it knows; 204 sends it to the job"):
        answers = [*looks, stream(event(running, id="a")), answer(running), head(204), answer(DONE)]
        with peer(*answers) as (client, requests):
            expect(client.wait(1).hash == SHA, "no hash")
            expect(b"Last-Event-ID: a\r\n" in requests[4] and b"Last-Event-ID" not in requests[2], requests)
    with step("HTTP: an event that is cut, a server that stops, and refusals that pass"):
        half = event(DONE)[:-1]
        stops = stream(event(running), event({}, "stopping"))
        for between in ([stream(half), answer(running)], [stops, answer(running)], [problem("not_ready", status=503)], [b""]):
            with peer(*looks, *between, stream(event(DONE))) as (client, _):
                expect(client.wait(1).hash == SHA, "no hash")
    with step("HTTP: where events are refused, the job is asked for"):
        for refusal in (problem("too_many_events", status=429), answer(b"", 404), answer(b"", 405)):
            with peer(*looks, refusal, answer(running), answer(DONE)) as (client, requests):
                expect(client.wait(1, poll=0.01).hash == SHA and len(requests) == 5, requests)
    with step("HTTP: a login that ends, a job that goes, a server that stays away, and events of no job"):
        with peer(*looks, stream(event(running)), answer(running), problem("not_logged_in", status=401)) as (client, _):
            raises(vggt_client.NotLoggedIn, lambda: client.wait(1))
        with peer(*looks, problem("not_found", status=404)) as (client, _):
            raises(vggt_client.JobNotFound, lambda: client.wait(1, poll=0.01))
        with peer(*looks, b"") as (client, _):
            raises(ConnectionLost, lambda: client.wait(1))
        for data in ("x", "[]", "{}", '{"id": 1}', "[" * 99999):
            with peer(*looks, stream(f"event: status\ndata: {data}\n\n")) as (client, _):
                raises(ProtocolError, lambda: client.wait(1))
    with step("HTTP: the time of a wait ends in the midst of silence"):
        with peer(*looks, head(200, "text/event-stream"), silent=True) as (client, _):
            raises(vggt_client.WaitTimeout, lambda: client.wait(1, timeout=IMPATIENT_S))
