"""Low: what a login tells, and what its options do."""

import sqlite3
import time

from .finding import attempt, check, expect
from .service import StartFailed

ROUNDS = 15
LARGEST = 2**64 - 1
TIMES = ("login-delay", "stall-timeout", "idle-timeout", "grace")
WRONG = 11  # one more than start a pause


@check("low", "a damaged hash takes as long as a wrong password", before="0.25 ms instead of 13: the account exists")
def damaged_hash(bench):
    options = ("--login-attempts", 1_000_000, "--login-delay", 0, "--login-pause", 1)
    service = bench.service(*options, users=("alice", "damaged"))
    with sqlite3.connect(service.db, timeout=10) as database:
        database.execute("update users set password_hash = substr(password_hash, 1, 40) where username = 'damaged'")
    database.close()
    fastest = {}
    for _ in range(ROUNDS):
        for name in ("damaged", "nobody", "alice"):
            with service.connect() as connection:
                start = time.perf_counter()
                connection.login(name, "wrong")
                fastest[name] = min(fastest.get(name, 60), time.perf_counter() - start)
    told = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in fastest.items())
    expect(fastest["damaged"] > 0.5 * min(fastest["nobody"], fastest["alice"]), f"fastest of {ROUNDS}: {told}")
    return f"fastest of {ROUNDS}: {told}"


@check("low", "times of 2^64 - 1 seconds", before="panic in Instant + Duration at the 10th wrong password")
def largest(bench):
    said = []
    for option, more in (("login-pause", ("--login-delay", 0)), *((option, ()) for option in TIMES)):
        service = bench.service(f"--{option}", LARGEST, *more, folder=option, start=False, host="0.0.0.0")
        try:
            service.start()
        except StartFailed:
            said.append(f"--{option}: refused")
            continue
        for _ in range(WRONG if option == "login-pause" else 1):
            with service.connect(timeout=5, source="127.0.0.66") as connection:
                attempt(lambda: connection.login("bob", "x"))
        with service.connect("alice") as alice:
            expect(alice.files() == [], f"--{option} {LARGEST}: {alice.files()}")
        expect("panicked" not in service.log_text(), f"--{option} {LARGEST}: panic")
        expect(service.stop() == 0, f"--{option} {LARGEST}: SIGTERM: exit code other than 0")
        said.append(f"--{option}: works")
    return ", ".join(said)
