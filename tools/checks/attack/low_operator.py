"""Low: signals, times in the log, forged files of the operator, and what a client prints."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import threading
import time

from . import inputs, wire
from .finding import check, expect
from .m07_limbo import TINY

ADDRESSES = 8 << 30  # of a process that reads forged files; it mapped 5.4 TB
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@check("low", "SIGHUP ends the server in good order, or not at all", before="ends at once, killed by the signal")
def hangup(bench):
    service = bench.service("--no-cache", "--grace", 1)
    alice = service.connect("alice")
    job = alice.submit(inputs.slow_to_decode(1, count=10))["job"]
    alice.wait(job, 20, until=("running",))
    code = service.stop(10, by=signal.SIGHUP)
    expect(code in (None, 0), f"exit code {code}")
    if code == 0:
        service.start()
    with service.connect("alice") as alice:
        end = alice.wait(job)
    expect(end["state"] == "done", f"the job: {end}")
    return f"{'goes on' if code is None else 'exit code 0'}, the job is done in the end"


@check("low", "lines of the log have a time", before="none, so that fail2ban cannot use them")
def times(bench):
    service = bench.service()
    with service.connect() as connection:
        connection.login("bob", "wrong")
    service.stop()
    lines = [line for line in service.log_text().splitlines() if line.strip()]
    without = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)]
    expect(lines and not without, f"{len(without)} of {len(lines)} lines without a time: {without[:1]}")
    return lines[-1][:100]


@check("low", "a config.json that claims terabytes", before="abort on an allocation of 5.4 TB, or over 40 s")
def forged_config(bench):
    whole = json.loads((TINY / "config.json").read_text())
    picture = bench.folder / "a.png"
    picture.write_bytes(inputs.noise(1))
    numbers = [key for key, value in whole.items() if isinstance(value, int) and not isinstance(value, bool)]
    slowest = 0
    for index, key in enumerate([*numbers, None]):
        folder = bench.folder / f"weights{index}"
        shutil.copytree(TINY, folder)
        forged = {**whole, **({key: 65536} if key else dict.fromkeys(numbers, 65536))}
        (folder / "config.json").write_text(json.dumps(forged))
        start = time.monotonic()
        done = bench.run(
            *("export", "--checkpoint", folder / "model.pt", "--out", bench.folder / "o.glb", picture),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES)),
        )
        slowest = max(slowest, time.monotonic() - start)
        shutil.rmtree(folder)
        why = done.stderr.strip().splitlines()[-1:]
        expect(done.returncode in (0, 1) and "panicked" not in done.stderr, f"{key}: exit code {done.returncode}: {why}")
    expect(slowest < 20, f"{slowest:.0f} s for one")
    return f"{len(numbers) + 1} forged files: an error within {slowest:.1f} s each"


@check("low", "a server's text is printed without its escape sequences", before="printed as they are")
def escapes(bench):
    answers = [
        wire.LENGTH.pack(len(body)) + body
        for body in (b"[true, false]", json.dumps({"error": "ERROR_INTERNAL", "reason": ESCAPE}).encode())
    ]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            for answer in answers:
                connection.recv(65536)
                connection.sendall(answer)
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                connection.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    done = bench.run(
        *("client", "status", 1, "--user", "alice", "--port", listener.getsockname()[1]),
        env={**os.environ, "VGGT_PASSWORD": "x"},
    )
    listener.close()
    printed = done.stdout + done.stderr
    expect("owned" in printed, f"the reason is not printed: {printed[:200]}")
    expect("\x1b" not in printed and "\x07" not in printed, f"printed: {printed[:200]!r}")
    return f"printed: {printed.strip()[:100]!r}"
