"""What held in the attack and must go on holding: bombs of every kind, and requests that are random or nearly right."""

import functools
import json
import random
import socket
import struct
import time
import zlib

from . import inputs, wire
from .finding import check, eventually, expect
from .service import children, resident_mib

AS_NOW = "as now: this must stay"
BOMB_S = 30  # longest answer; it was 2.3 s
PEAK_MIB = 2600  # of one process; it was 1.63 GB
CONNECTIONS, REQUESTS = 100, 20


@functools.cache
def huge():
    """200 MB of zeros, packed."""
    return zlib.compress(bytes(200 << 20), 9)


def png_with(kind, data, count=1):
    """A small picture with chunks that are large inside."""
    return inputs.png(64, 48, (bytes(3 * 64) for _ in range(48)), extra=inputs.chunk(kind, data) * count)


def deep_png(side):
    """16 bits for each of four channels."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(1 + 8 * side)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(inputs.chunk(*chunk) for chunk in chunks)


def tiff(tags):
    """A TIFF of one directory: tag, type, count and value of each entry."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def empty_bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


BOMBS = {
    "16-bit PNG of 100 MP": lambda: deep_png(10_000),
    "zTXt of 200 MB": lambda: png_with(b"zTXt", b"k\0\0" + huge()),
    "iCCP of 200 MB": lambda: png_with(b"iCCP", b"k\0\0" + huge()),
    "iTXt of 200 MB": lambda: png_with(b"iTXt", b"k\0\1\0\0\0" + huge()),
    "50 000 tEXt": lambda: png_with(b"tEXt", b"k\0v", 50_000),
    "eXIf of 60 MB": lambda: png_with(b"eXIf", b"II*\0\x08\0\0\0" + b"\xff" * (60 << 20)),
    "lossless WebP of 100 MP": inputs.webp_bomb,
    "BMP without its 300 MB": lambda: empty_bmp(20_000, 5000),
    "TIFF of 4 G strips": lambda: tiff(
        [(256, 4, 1, 10_000), (257, 4, 1, 10_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
        + [(273, 4, 0xFFFF_FFFF, 0), (278, 4, 1, 1), (279, 4, 0xFFFF_FFFF, 0)]
    ),
}


@check("held", "files that are small outside and large inside", before=AS_NOW, long=True)
def bombs(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    slowest, peak = 0, {"server": 0, "child": 0}
    for name, make in BOMBS.items():
        picture = make()
        start = time.monotonic()
        alice.request(wire.IMAGES, wire.images_payload([picture]))
        alice.socket.settimeout(0.05)
        while not answered(alice) and time.monotonic() - start < BOMB_S:
            peak["server"] = max(peak["server"], service.own_memory_mib())
            peak["child"] = max([peak["child"], *map(resident_mib, children(service.pid))])
        alice.socket.settimeout(BOMB_S)
        digest, answer = alice.named_glb()
        slowest = max(slowest, time.monotonic() - start)
        expect(digest or answer.startswith(b"ERROR_"), f"{name}: {answer[:100]}")
        expect(service.alive(), f"{name}: the server is gone")
    expect(slowest < BOMB_S, f"an answer in {slowest:.1f} s")
    told = f"server {peak['server']:.0f} MiB, child {peak['child']:.0f} MiB at most"
    expect(max(peak.values()) < PEAK_MIB, told)
    return f"{len(BOMBS)} kinds, all answered in {slowest:.1f} s, {told}"


def answered(connection):
    """Whether the answer begins to arrive; waits for it as long as the socket's timeout says."""
    try:
        return connection.socket.recv(1, socket.MSG_PEEK) != b""
    except TimeoutError:
        return False


def nearly_right(draw):
    """A request of a known or unknown command, whose payload and length may each be wrong."""
    objects = [
        {},
        {"hash": "e" * 64},
        {"job": draw.getrandbits(70)},
        {"u": "alice", "p": None},
        {"fps": 1e400},
        [],
        {"before": -1},
    ]
    payloads = [
        json.dumps(draw.choice(objects)).encode(),
        draw.randbytes(draw.choice((0, 1, 4, 64, 300))),
        struct.pack(">II", draw.choice((0, 1, 2, 2**32 - 1)), draw.choice((0, 1, 5, 2**31))) + b"glTF",
        bytes([draw.choice((2, 3, 4))]) + wire.images_payload([b"x", b""]),
    ]
    payload = draw.choice(payloads)
    length = draw.choice((len(payload), len(payload), len(payload), draw.getrandbits(32), len(payload) + 1, 0))
    return wire.head(draw.choice((*range(16), 99, 255)), length) + payload


@check("held", "requests that are random or nearly right", before=AS_NOW)
def requests(bench):
    service = bench.service("--no-cache")
    idle = service.handles()
    sent = 0
    for number in range(CONNECTIONS):
        draw = random.Random(number)
        # Every other one logs in, so that uploads get further.
        with service.connect("alice" if number % 2 else None) as connection:
            connection.socket.settimeout(0.02)
            for _ in range(draw.randrange(1, REQUESTS)):
                try:
                    connection.send(nearly_right(draw))
                    sent += 1
                    connection.socket.recv(1 << 16)
                except TimeoutError:
                    continue
                except OSError:
                    break
    expect(service.alive(), "the server is gone")
    with service.connect("bob") as bob:
        digest, answer = bob.images([inputs.noise(1)])
    expect(digest, f"afterwards: {answer[:100]}")
    expect(eventually(lambda: service.handles() <= idle + 16, 10), f"{service.handles()} handles, {idle} before")
    left = list((service.out / ".tmp").glob("*"))
    expect(not left, f"{len(left)} uploads are left")
    return f"{sent} requests on {CONNECTIONS} connections, {service.handles()} handles, nothing left"
