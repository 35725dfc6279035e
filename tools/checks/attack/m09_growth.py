"""M9: rows of jobs were kept for ever, and a user could hold as much of the disk as there is."""

import threading

from . import inputs, wire
from .finding import attempt, check, eventually, expect

SUBMITS = 3000
THREADS = 6
KEPT_ROWS = 2000  # of one user's jobs that are over; generous, as clients may ask for old ones
UPLOADS = 30  # half-sent ones of one user
ALLOWED = 8


@check("M9", "rows of jobs do not pile up", before="4 000 of 4 000 rows kept, 20 GB a day from one user", long=True)
def rows(bench):
    service = bench.service()
    picture = [inputs.noise(1)]
    service.connect("alice").images(picture)
    payload = b"\2" + wire.images_payload(picture)

    def submit(user):
        with service.connect(user) as connection:
            for _ in range(SUBMITS // THREADS):
                connection.ask(wire.SUBMIT, payload)

    threads = [threading.Thread(target=submit, args=("alice",)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.restart()
    left = service.rows("select count(*) from jobs")[0][0]
    expect(left <= KEPT_ROWS, f"{left} rows of {SUBMITS} jobs that are over, after a start")
    return f"{left} rows of {SUBMITS} jobs that are over"


@check("M9", "a quota of files", before="no quota")
def files(bench):
    service = bench.service(bench.option("max-user-files"), 3, "--no-cache")
    alice, bob = service.connect("alice"), service.connect("bob")
    made = [alice.images([inputs.noise(seed)]) for seed in range(5)]
    kept = [digest for digest, _ in made if digest]
    expect(len(kept) == 3, f"quota of 3 files: {len(kept)} stored")
    refusal = made[-1][1].decode(errors="replace")
    expect(refusal.startswith("ERROR_"), f"the answer beyond the quota: {refusal[:100]}")
    expect(bob.images([inputs.noise(1)])[0], "another user is refused too")
    alice.delete(kept[0])
    expect(alice.images([inputs.noise(9)])[0], "refused after a delete")
    return f"4th of 3: {refusal[:80]}; accepted again after a delete"


@check("M9", "a quota of bytes never deletes what is there", before="no quota")
def size(bench):
    service = bench.service("--no-cache")
    with service.connect("alice") as alice:
        for seed in range(8):
            alice.images([inputs.noise(seed, 518, 392)])
    held = service.rows("select sum(file_size) from glb_files")[0][0]
    expect(held > 1 << 20, f"only {held} bytes")
    service.stop()
    service.options += (bench.option("max-user-bytes"), 1)
    service.start()
    alice = service.connect("alice")
    expect(len(alice.files()) == 8, "a smaller quota deletes files")
    digest, answer = alice.images([inputs.noise(99)])
    expect(not digest, "stored beyond the quota")
    return f"{held >> 20} MiB held with a quota of 1 MiB: {answer.decode(errors='replace')[:80]}"


@check("M9", "running uploads of one user are limited", before="32 half-sent uploads of 512 MiB for 18 h")
def uploads(bench):
    service = bench.service(bench.option("max-user-uploads"), ALLOWED, host="0.0.0.0")
    held = [service.connect("alice", source=f"127.0.0.{10 + number // 15}") for number in range(UPLOADS)]
    refused = 0
    for connection in held:
        connection.send(wire.head(wire.VIDEO, 100 << 20) + bytes(1000))
    for connection in held:
        # What is refused is answered at once; what is accepted waits for the rest.
        connection.socket.settimeout(0.1)
        refused += not isinstance(attempt(connection.blob), str)
    with service.connect("bob") as bob:
        expect(bob.images([inputs.noise(1)])[0], "another user is refused")
    for connection in held:
        connection.close()
    expect(refused == UPLOADS - ALLOWED, f"{UPLOADS - refused} of {UPLOADS} half-sent uploads held, {ALLOWED} are allowed")
    return f"{UPLOADS - refused} of {UPLOADS} half-sent uploads of one user are held"


@check("M9", "results expire if asked for", before="nothing expires")
def expiry(bench):
    service = bench.service()
    with service.connect("alice") as alice:
        old, new = (alice.images([inputs.noise(seed)])[0] for seed in range(2))
    service.stop()
    path = next(service.out.rglob(f"{old}.glb"))
    service.rows("update glb_files set created_at = '2020-01-02 03:04:05.000006' where hashed_name = ?", old)
    service.start()
    with service.connect("alice") as alice:
        expect(len(alice.files()) == 2, "expires without being asked")
    service.stop()
    service.options += (bench.option("keep-days"), 30)
    service.start()
    alice = service.connect("alice")
    expect(eventually(lambda: len(alice.files()) == 1, 15), "not expired within 15 s of a start")
    expect([file["hash"] for file in alice.files()] == [new], "the new one expired")
    expect(eventually(lambda: not path.exists(), 15), "the file is left on the disk")
    return "one of 2020 gone, today's kept"
