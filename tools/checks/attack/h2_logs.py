"""H2: a log that cannot be written ended reconstruction until a restart; a log that nobody reads stopped everything."""

import os

from . import inputs, wire
from .finding import attempt, check, expect

REQUESTS = 3000  # more than a pipe holds lines of
FLOOD = 20_000
FLOOD_BYTES = 1 << 20  # of log for the flood; it was 131 bytes a request
FLOOD_PIECE = 1000  # requests sent at once: their answers fit into the socket's buffers


def works(service, why):
    """Small requests, a reconstruction and a clean end."""
    connection = service.connect("alice", timeout=20)
    answered = 0
    try:
        for _ in range(REQUESTS):
            connection.ask(wire.UNKNOWN)
            answered += 1
    except (OSError, EOFError) as e:
        expect(False, f"{why}: {answered} of {REQUESTS} requests answered, then {type(e).__name__}: {e}")
    digest, glb = connection.images([inputs.noise(2)])
    expect(digest, f"{why}: images: {glb[:100]}")
    job = connection.submit([inputs.noise(3)])
    end = connection.wait(job["job"], 20)
    expect(end["state"] == "done", f"{why}: a job: {end}")
    expect(connection.info().get("running") == 0, f"{why}: a job is still counted as running")
    code = service.stop(20)
    expect(code == 0, f"{why}: SIGTERM: " + ("does not end in 20 s" if code is None else f"exit code {code}"))
    return f"{answered} requests, a reconstruction, a job, exit 0"


@check("H2", "the log's disk is full", before="connections closed after one reply, the worker thread gone")
def full(bench):
    with open("/dev/full", "wb") as log:
        return works(bench.service(stderr=log), "log on a full disk")


@check("H2", "the log's reader is gone", before="connections closed after one reply, the worker thread gone")
def reader_gone(bench):
    reader, writer = os.pipe()
    service = bench.service(stderr=writer)
    os.close(writer)
    os.close(reader)
    return works(service, "reader of the log gone")


@check("H2", "nobody reads the log", before="everything stops after 496 requests, SIGTERM too")
def nobody_reads(bench):
    reader, writer = os.pipe()
    service = bench.service(stderr=writer)
    os.close(writer)
    bench.callback(os.close, reader)
    return works(service, "log that nobody reads")


@check("H2", "the log goes on once its disk has room again", before="every job waits for ever")
def room_again(bench):
    disk = bench.tmpfs("disk", 1)
    log, ballast = disk / "log", disk / "ballast"
    with log.open("ab") as file:
        service = bench.service(stderr=file)
    with ballast.open("wb") as file:
        attempt(lambda: file.write(bytes(2 << 20)))
    connection = service.connect("alice", timeout=20)
    for _ in range(500):
        connection.ask(wire.UNKNOWN)
    ballast.unlink()
    size = log.stat().st_size
    digest, glb = connection.images([inputs.noise(2)])
    expect(digest, f"images: {glb[:100]}")
    end = connection.wait(connection.submit([inputs.noise(3)])["job"], 20)
    expect(end["state"] == "done", f"a job: {end}")
    expect(service.stop() == 0, "SIGTERM: exit code other than 0")
    expect(log.stat().st_size > size, "nothing is logged any more")
    return f"{log.stat().st_size - size} bytes of log after there was room again"


@check("H2", "who is not logged in cannot fill the log", before="131 bytes for each 5 sent, 18 MB/s")
def flood(bench):
    service = bench.service()
    size = service.log.stat().st_size
    with service.connect() as connection:
        for _ in range(FLOOD // FLOOD_PIECE):
            connection.send(wire.head(wire.UNKNOWN, 0) * FLOOD_PIECE)
            for _ in range(FLOOD_PIECE):
                connection.blob()
    expect(service.stop() == 0, "SIGTERM: exit code other than 0")
    grown = service.log.stat().st_size - size
    expect(grown < FLOOD_BYTES, f"{FLOOD} unknown commands make {grown} bytes of log")
    return f"{FLOOD} unknown commands make {grown} bytes of log"
