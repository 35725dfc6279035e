"""Low: how a peer may leave."""

import json
import socket
import time

from . import inputs, wire
from .finding import check, eventually, expect


@check("low", "a client that closes its writing half gets its answer", before="closed without an answer")
def half_closed(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    alice.request(wire.IMAGES, wire.images_payload(inputs.slow_pictures(1, 10)))
    alice.socket.shutdown(socket.SHUT_WR)
    digest, glb = alice.named_glb()
    expect(digest and wire.is_glb(glb), f"answer: {glb[:100]}")
    with service.connect() as connection:
        connection.request(wire.INFO)
        connection.socket.shutdown(socket.SHUT_WR)
        expect("protocol" in json.loads(connection.blob()), "no answer of command 12")
        expect(connection.closed_after(5) is not None, "not closed after the answer")
    return "the answers of images and info arrive, then it is closed"


@check("low", "a client that leaves with a byte in flight", before="its job runs to the end")
def leaves(bench):
    service = bench.service("--no-cache")
    alice, bob = service.connect("alice"), service.connect("bob")
    bob.request(wire.IMAGES, wire.images_payload(inputs.slow_to_decode(1)))
    bob.send(b"\x0c")
    expect(eventually(lambda: alice.info()["running"], 10), "bob's job does not run")
    bob.close()
    start = time.monotonic()
    ended = eventually(lambda: alice.info()["running"] == 0, 5)
    expect(ended, "his job runs on for 5 s")
    return f"his job ends {time.monotonic() - start:.1f} s later"
