"""M4: with --open_get the hash is the secret, and it followed from the user's id, the time and the name."""

import hashlib
import secrets

from . import inputs, wire
from .finding import check, expect


def predicted(user, created, name):
    """Every way in which SHA-256 of what a stranger may guess was written, and its neighbors."""
    moments = {created, created.replace(" ", "T"), created.replace(" ", "T") + "Z", created.rstrip("0")}
    texts = (f"{user}:{moment}:{name}" for moment in moments)
    return {hashlib.sha256(text.encode()).hexdigest() for text in texts}


@check("M4", "a hash cannot be computed from id, time and name", before="found after 9 600 guesses in 0.3 s")
def unpredictable(bench):
    service = bench.service("--open-get", "--no-cache")
    alice = service.connect("alice")
    made = [alice.images([inputs.noise(1)])[0] for _ in range(3)]
    job = alice.wait(alice.submit([inputs.noise(2)])["job"])
    rows = service.rows("select user_id, created_at, original_name, hashed_name from glb_files")
    expect(len(rows) == len(made) + 1 and job["state"] == "done", f"{len(rows)} files, {job}")
    guessed = [digest for user, created, name, digest in rows if digest in predicted(user, str(created), name)]
    expect(not guessed, f"{len(guessed)} of {len(rows)} hashes follow from user id, time and name")
    with service.connect() as stranger:
        expect(wire.is_glb(stranger.get(made[0])), "--open-get: a stranger with the hash is refused")
        expect(not wire.is_glb(stranger.get(secrets.token_hex(32))), "any hash is answered")
    return f"none of {len(rows)} hashes is SHA-256 of id, time and name"


@check("M4", "strangers see no counts of the queue", before="command 12 tells the moment when a job ends")
def counts(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    alice.wait(alice.submit(inputs.slow_to_decode(1, count=20))["job"], 20, until=("running",))
    alice.submit([inputs.noise(1)])
    with service.connect() as stranger:
        told = stranger.info()
    own = alice.info()
    expect(not told.get("running") and not told.get("queued"), f"a stranger is told: {told}")
    expect(own.get("running") == 1, f"who is logged in is told: {own}")
    expect({"version", "protocol", "limits"} <= told.keys(), f"a stranger is told: {told}")
    return "running and queued are told to those who are logged in only"
