"""M7: a job whose end could not be written answered "queued" until the next start, and passing faults failed jobs for good."""

import shutil
import sqlite3
import time

from . import inputs
from .finding import attempt, check, expect
from .service import REPOSITORY

TINY = REPOSITORY / "model/tests/data/tiny"
LOCKED_S = 15  # longer than the program waits for a lock by itself, 5 s
RECOVER_S = 90  # longest pause before another try, and the work


@check("M7", "another program holds the database while a job ends", before='"queued, 0 ahead" until the next start', long=True)
def locked(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    job = alice.submit(inputs.slow_to_decode(1, count=5))["job"]
    alice.wait(job, 20, until=("running",))
    database = sqlite3.connect(service.db, isolation_level=None)
    database.execute("begin immediate")
    time.sleep(LOCKED_S)
    seen = attempt(lambda: alice.status(job))
    database.execute("rollback")
    database.close()
    end = alice.wait(job, RECOVER_S)
    expect(end["state"] == "done", f"locked for {LOCKED_S} s ({seen}), then: {end}")
    row = service.rows("select state from jobs where id = ?", job)[0][0]
    expect(row == "done", f"the row says {row}")
    return f"locked for {LOCKED_S} s, then done"


@check("M7", "the disk is full when a job ends", before="failed for good, 3 of 3")
def disk_full(bench):
    disk = bench.tmpfs("disk", 40)
    service = bench.service("--no-cache", db=disk / "service.db", out=disk / "out")
    alice = service.connect("alice")
    ballast = disk / "ballast"
    job = alice.submit(inputs.slow_pictures(1, 30))["job"]
    alice.wait(job, 20, until=("running",))
    with ballast.open("wb", buffering=0) as file:
        while attempt(lambda: file.write(bytes(1 << 16))) not in (0, None) and not isinstance(attempt(file.tell), str):
            if file.tell() > 39 << 20 or shutil.disk_usage(disk).free < 4096:
                break
    time.sleep(5)
    seen = attempt(lambda: alice.status(job))
    ballast.unlink()
    end = alice.wait(job, RECOVER_S)
    expect(end["state"] == "done", f"with a full disk {seen}, then: {end}")
    left = list((service.out / ".jobs").iterdir())
    expect(not left, f"inputs are left: {left}")
    return f"with a full disk {seen.get('state') if isinstance(seen, dict) else seen}, with room again done"


@check("M7", "the weights are gone for a moment", before="failed for good")
def weights_gone(bench):
    weights = bench.folder / "weights"
    shutil.copytree(TINY, weights)
    model, away = weights / "model.pt", weights / "away"
    service = bench.service("--no-cache", weights=("--checkpoint", model))
    alice = service.connect("alice")
    model.rename(away)
    job = alice.submit([inputs.noise(1)])["job"]
    seen = alice.wait(job, 3)
    away.rename(model)
    end = alice.wait(job, RECOVER_S)
    expect(end["state"] == "done", f"without weights: {seen}, with them again: {end}")
    return f"without weights {seen['state']}, with them again done"
