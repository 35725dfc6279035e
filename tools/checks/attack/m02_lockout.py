"""M2: anybody could keep anybody out, and one client behind a proxy everybody behind it."""

import json
import socket
import struct
import threading
import time

from . import wire
from .finding import attempt, check, expect

ATTACKER, OWNER = "127.0.0.66", "127.0.0.5"
WRONG = 10  # as many locked an account
LOGINS = 10
ANSWERED_S = 5  # what is not answered by then has to wait, which is as it should be
PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_header(client, server="127.0.0.1"):
    """Version 2 of the PROXY protocol: TCP over IPv4."""
    addresses = socket.inet_aton(client) + socket.inet_aton(server) + struct.pack(">HH", 40_000, 4567)
    return PROXY_SIGNATURE + struct.pack(">BBH", 0x21, 0x11, len(addresses)) + addresses


def wrong_at_once(service, count, name=None, client=None, source=ATTACKER):
    """So many wrong passwords at the same time, for one name or for made-up ones; the first are answered then."""

    def try_one(number):
        def act():
            with service.connect(source=source) as connection:
                if client:
                    connection.send(proxy_header(client))
                connection.request(wire.LOGIN, json.dumps({"u": name or f"nobody{number}", "p": "x"}).encode())
                connection.blob()

        attempt(act)

    threads = [threading.Thread(target=try_one, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + ANSWERED_S
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))


@check("M2", "the owner is not locked out where he has logged in before", before="refused for 300 s, repeatable for ever")
def owner(bench):
    service = bench.service(host="0.0.0.0")
    service.connect("bob", source=OWNER).close()
    wrong_at_once(service, WRONG, "bob")
    start = time.monotonic()
    with service.connect(source=OWNER) as connection:
        ok = connection.login("bob")
    took = time.monotonic() - start
    expect(ok, f"{WRONG} wrong passwords from elsewhere, and bob is refused from his own address")
    expect(took < 5, f"bob waits {took:.1f} s")
    with service.connect(source=OWNER) as connection:
        expect(connection.login("alice"), "alice is refused too")
    return f"logged in after {took:.1f} s"


@check("M2", "a slow lane instead of a lock, from an address that is new", before="refused for 300 s", long=True)
def new_address(bench):
    service = bench.service(host="0.0.0.0")
    wrong_at_once(service, WRONG, "bob")
    start = time.monotonic()
    while time.monotonic() - start < 90:
        with service.connect(source=OWNER) as connection:
            if attempt(lambda: connection.login("bob")) is True:
                return f"logged in after {time.monotonic() - start:.0f} s"
        time.sleep(1)
    expect(False, "bob, from an address that is new, is refused for 90 s")


@check("M2", "clients behind a proxy are told apart", before="0 of 90 logins with the right password in 90 s")
def proxy(bench):
    service = bench.service(bench.option("trusted-proxy"), "127.0.0.1", host="0.0.0.0")
    wrong_at_once(service, 3 * WRONG, client="192.0.2.1", source="127.0.0.1")
    good = 0
    for _ in range(LOGINS):
        with service.connect(source="127.0.0.1") as connection:
            connection.send(proxy_header("192.0.2.2"))
            good += attempt(lambda: connection.login("bob")) is True
    expect(good == LOGINS, f"{good} of {LOGINS} logins through the proxy, beside a client that guesses")
    return f"{good} of {LOGINS} logins through the proxy, beside a client that guesses"


@check("M2", "only a trusted proxy may name its client", before="no proxies")
def forged_proxy(bench):
    service = bench.service(bench.option("trusted-proxy"), "127.0.0.1", host="0.0.0.0")
    with service.connect(source=ATTACKER, timeout=10) as connection:
        connection.send(proxy_header("192.0.2.2"))
        ok = attempt(lambda: connection.login("bob"))
    expect(ok is not True, "a header from an address that is not trusted is believed")
    with service.connect("bob", source=ATTACKER) as connection:
        connection.files()
    return f"refused: {ok}"
