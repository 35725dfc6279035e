"""M3: one IPv6 host had every limit 2^64 times, and a connection without a login could stay for ever."""

import functools
import ipaddress
import subprocess
import time

from . import wire
from .finding import LeftOut, attempt, check, expect

NETWORK = ipaddress.IPv6Network("fd00:a77a:c4::/64")
HELD = 40  # more than 32, the limit of an address
LOGIN_TIMEOUT_S = 3


def own_network():
    """Makes every address of NETWORK one of this machine; `run` calls it in a network of its own."""
    return subprocess.run(
        ["ip", "-6", "route", "add", "local", str(NETWORK), "dev", "lo"], capture_output=True, text=True, check=False
    )


def addresses(bench):
    """A server and as many addresses of one /64 as are asked for."""
    done = own_network()
    if done.returncode and "exists" not in done.stderr:
        raise LeftOut(f"no IPv6 network can be made on lo: {done.stderr.strip()}")
    return bench.service(host="::"), iter(map(str, NETWORK.hosts()))


def answers(connection):
    """Whether the server keeps this connection."""
    connection.socket.settimeout(5)
    return isinstance(attempt(connection.info), dict)


@check("M3", "the connections of an IPv6 /64 are counted together", before="one /64 held all 256 places")
def connections(bench):
    service, hosts = addresses(bench)
    held = [service.connect(host="::1", source=next(hosts)) for _ in range(HELD)]
    # First so that the server has taken up all of them: a later one may push out one that is not logged in.
    list(map(answers, held))
    kept = sum(map(answers, held))
    with service.connect("bob", host="::1") as other:
        expect(other.files() == [], "another address")
    for connection in held:
        connection.close()
    expect(kept <= 32, f"{kept} of {HELD} connections from one /64 are kept, 32 are the limit of an address")
    return f"{kept} of {HELD} connections from one /64 are kept"


@check("M3", "wrong passwords of an IPv6 /64 are counted together", before="200 of 200 compared at once", long=True)
def passwords(bench):
    service, hosts = addresses(bench)
    start, tried = time.monotonic(), 0
    while time.monotonic() - start < 20 and tried < 200:
        with service.connect(host="::1", source=next(hosts), timeout=20) as connection:
            attempt(functools.partial(connection.login, f"nobody{tried}", "x"))
        tried += 1
    expect(tried < 100, f"{tried} wrong names from one /64 in {time.monotonic() - start:.0f} s; 21 in 64 s from one address")
    return f"{tried} wrong names from one /64 in {time.monotonic() - start:.0f} s"


@check("M3", "a connection without a login is closed", before="600 s idle, for ever with one request each 599 s")
def login_timeout(bench):
    service = bench.service(bench.option("login-timeout"), LOGIN_TIMEOUT_S)
    limit = LOGIN_TIMEOUT_S + 7

    def busy():
        with service.connect() as connection:
            start = time.monotonic()
            while time.monotonic() - start < limit:
                if isinstance(attempt(lambda: connection.ask(wire.UNKNOWN)), str):
                    return time.monotonic() - start
                time.sleep(0.2)
        return None

    def trickles():
        """A payload of 64 MiB that is refused and skipped, at 20 KiB/s."""
        with service.connect() as connection:
            start = time.monotonic()
            connection.send(wire.head(wire.UNKNOWN, 64 << 20))
            while time.monotonic() - start < limit:
                if isinstance(attempt(lambda: connection.send(bytes(4096))), str):
                    return time.monotonic() - start
                time.sleep(0.2)
        return None

    with service.connect() as connection:
        silent = connection.closed_after(limit)
    took = {"silent": silent, "asks for what needs no login": busy(), "trickles a payload": trickles()}
    for what, seconds in took.items():
        expect(seconds, f"a connection that {what} is open after {limit} s, the limit is {LOGIN_TIMEOUT_S}")
    with service.connect("bob") as connection:
        time.sleep(LOGIN_TIMEOUT_S + 1)
        expect(connection.files() == [], "who is logged in is closed too")
    return ", ".join(f"{what}: {seconds:.1f} s" for what, seconds in took.items()) + f"; limit {LOGIN_TIMEOUT_S} s"


@check("M3", "places are kept back for known addresses", before="256 silent connections and nobody gets in")
def places(bench):
    service = bench.service("--max-connections", 20, host="0.0.0.0")
    bob = service.connect("bob", source="127.0.0.5")
    held = [service.connect(source=f"127.0.1.{number}") for number in range(40)]
    answer = attempt(bob.files)
    expect(answer == [], f"bob, logged in before: {answer}")
    with service.connect(source="127.0.0.5", timeout=10) as again:
        ok = attempt(lambda: again.login("bob"))
    for connection in held:
        connection.close()
    expect(ok is True, f"20 places, 40 silent connections: a login from an address that has logged in before: {ok}")
    return "20 places, 40 silent connections: a login from an address that has logged in before is accepted"
