"""M1: passwords could be guessed 3 to 25 times as fast as the limit says, by asking at once."""

import json
import select
import time

from . import wire
from .finding import check, expect

ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
EACH = 32  # connections of one address
EACH_OF_MANY = 8  # of each of several: few enough that a slow machine compares all of them in time if it does not count
WATCH_S = 10  # how long an answer to the right password is waited for
READ_S = 0.3  # for the server to read all guesses: it may take connections that are ready at once in any order


def accepted(connections, passwords, seconds, user="alice"):
    """Sends all at once, then the last; how many were accepted, and how many answered, within so many seconds."""
    for connection, password in zip(connections, passwords, strict=True):
        if connection is connections[-1]:
            time.sleep(READ_S)
        connection.request(wire.LOGIN, json.dumps({"u": user, "p": password}).encode())
    waiting = {connection.socket: connection for connection in connections}
    yes = answered = 0
    end = time.monotonic() + seconds
    while waiting and (left := end - time.monotonic()) > 0:
        for ready in select.select(list(waiting), [], [], left)[0]:
            connection = waiting.pop(ready)
            try:
                yes += json.loads(connection.blob())[0]
                answered += 1
            except (EOFError, ConnectionError):
                pass
    return yes, answered


@check("M1", "a burst of guesses does not get past the limit", before="254 of 256 compared, the right one accepted")
def burst(bench):
    service = bench.service(host="0.0.0.0")
    connections = [service.connect(source=address) for address in ADDRESSES for _ in range(EACH_OF_MANY)]
    guesses = [f"guess {number}" for number in range(len(connections) - 1)]
    yes, answered = accepted(connections, [*guesses, wire.password_of("alice")], WATCH_S)
    for connection in connections:
        connection.close()
    expect(yes == 0, f"the right password, sent last of {len(connections)} at once, is accepted")
    return f"the right one, the last of {len(connections)} at once, is not accepted in {WATCH_S} s; {answered} answered"


@check("M1", "a burst of guesses from one address", before="32 of 32 compared, the limit is 10")
def one_address(bench):
    service = bench.service()
    connections = [service.connect() for _ in range(EACH)]
    guesses = [f"guess {number}" for number in range(EACH - 1)]
    yes, answered = accepted(connections, [*guesses, wire.password_of("alice")], WATCH_S)
    for connection in connections:
        connection.close()
    expect(yes == 0, f"the right password, sent last of {EACH} at once, is accepted")
    return f"the right one, the last of {EACH} at once, is not accepted in {WATCH_S} s; {answered} answered"
