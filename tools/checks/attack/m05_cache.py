"""M5: the cache handed over another user's file when a row's number was given again."""

import sqlite3

from . import inputs
from .finding import check, expect


@check("M5", "the cache asks whose file it is", before="alice gets bob's private GLB")
def owner(bench):
    service = bench.service()
    alice, bob = service.connect("alice"), service.connect("bob")
    pictures = [inputs.noise(1)]
    alice.images(pictures)
    digest, secret = bob.images([inputs.noise(2)])
    # As another program leaves it that does not cascade.
    with sqlite3.connect(service.db, timeout=10) as database:
        database.execute("update results set glb_id = (select id from glb_files where hashed_name = ?)", (digest,))
    database.close()
    name, glb = alice.images(pictures)
    expect(name != digest and glb != secret, "alice gets bob's private file from the cache")
    job = alice.wait(alice.submit(pictures)["job"])
    expect(job.get("hash") != digest, f"a job of alice ends with bob's file: {job}")
    return "images and submit give alice a file of her own"


@check("M5", "a file's number is not given again", before="given again by SQLite")
def number(bench):
    service = bench.service()
    alice, bob = service.connect("alice"), service.connect("bob")
    pictures = [inputs.noise(1)]
    first, _ = alice.images(pictures)
    with sqlite3.connect(service.db, timeout=10) as database:
        (old,) = database.execute("select id from glb_files where hashed_name = ?", (first,)).fetchone()
        database.execute("delete from glb_files where id = ?", (old,))
    database.close()
    digest, secret = bob.images([inputs.noise(2)])
    (new,) = service.rows("select id from glb_files where hashed_name = ?", digest)[0]
    expect(new != old, f"bob's file has the number {new}, which alice's had")
    name, glb = alice.images(pictures)
    expect(name and name != digest and glb != secret, f"alice gets {'a file of bob' if name == digest else glb[:100]}")
    return f"numbers {old}, then {new}"
