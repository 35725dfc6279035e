"""M1: passwords could be guessed 3 to 25 times as fast as the limit says, by asking at once."""

import json
import time

from . import wire
from .finding import check, expect

ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
EACH = 20  # connections of one address: as many lines of an address are written to the log in a minute
EACH_OF_MANY = 8  # of each of several: few enough that a slow machine compares all of them in time if it does not count
WATCH_S = 10
LIMIT = 10  # `--login_attempts`; the delays allow fewer in this time, however slow the machine is
ANSWERED = "ERROR_NOT_LOGGED_IN"
COMPARED = "wrong name or password"  # the log of a guess that was compared; the others are refused, or wait


def compared(service, connections, user="alice"):
    """Sends a wrong password on each connection at once; how many the server has compared some seconds later."""
    for number, connection in enumerate(connections):
        connection.request(wire.LOGIN, json.dumps({"u": user, "p": f"guess {number}"}).encode())
    time.sleep(WATCH_S)
    answered, count = (service.log_text().count(text) for text in (ANSWERED, COMPARED))
    for connection in connections:
        connection.close()
    expect(count > 0, f"no guess was compared, or the log does not say {COMPARED!r}")
    expect(answered > count, f"{answered} of {len(connections)} guesses were answered, none of them by a refusal")
    expect(count <= LIMIT, f"{count} of {len(connections)} guesses at once were compared, the limit is {LIMIT}")
    return f"{count} of {len(connections)} guesses at once compared in {WATCH_S} s, the limit is {LIMIT}"


@check("M1", "a burst of guesses does not get past the limit", before="254 of 256 compared, the right one accepted")
def burst(bench):
    service = bench.service(host="0.0.0.0")
    return compared(service, [service.connect(source=address) for address in ADDRESSES for _ in range(EACH_OF_MANY)])


@check("M1", "a burst of guesses from one address", before="32 of 32 compared, the limit is 10")
def one_address(bench):
    service = bench.service()
    return compared(service, [service.connect() for _ in range(EACH)])
