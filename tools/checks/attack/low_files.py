"""Low: files that something else damaged or left behind."""

import os
import resource
import shutil
import time

from . import inputs, wire
from .finding import check, eventually, expect
from .m07_limbo import TINY


@check("low", "a GLB that was cut on disk is not served as whole", before="1 000 of 184 200 bytes served")
def cut(bench):
    service = bench.service()
    alice = service.connect("alice")
    digest, _ = alice.images([inputs.noise(1)])
    os.truncate(next(service.out.rglob(f"{digest}.glb")), 1000)
    answer = alice.get(digest)
    expect(answer.startswith(b"ERROR_"), f"{len(answer)} bytes served: {answer[:40]}")
    return answer.decode()[:100]


@check("low", "weights that are cut while they are mapped", before="SIGBUS, the process is gone")
def weights_cut(bench):
    weights = bench.folder / "weights"
    shutil.copytree(TINY, weights)
    model = weights / "model.pt"
    service = bench.service("--no-cache", weights=("--checkpoint", model))
    alice = service.connect("alice")
    end = alice.wait(alice.submit([inputs.noise(1)])["job"])
    expect(end["state"] == "done", f"with whole weights: {end}")
    whole = model.read_bytes()
    os.truncate(model, 5000)
    job = alice.submit([inputs.noise(2)])["job"]
    end = alice.wait(job, 5)
    expect(service.alive(), "the server is gone")
    model.write_bytes(whole)
    later = alice.wait(alice.submit([inputs.noise(3)])["job"], 90)
    expect(later["state"] == "done", f"with whole weights again: {later}")
    return f"cut: {end['state']}, the server lives; whole again: done"


@check("low", "users are not told the path of the weights", before="the path is in the reason")
def path_told(bench):
    weights = bench.folder / "secret-place"
    shutil.copytree(TINY, weights)
    model = weights / "model.pt"
    service = bench.service("--no-cache", weights=("--checkpoint", model))
    shutil.rmtree(weights)
    alice = service.connect("alice")
    _, answer = alice.images([inputs.noise(1)])
    job = alice.wait(alice.submit([inputs.noise(2)])["job"], 3)
    told = answer.decode(errors="replace") + str(job)
    expect("secret-place" not in told, f"told: {told[:200]}")
    return f"told: {answer.decode(errors='replace')[:100]}"


@check("low", "few file handles: no folder of an upload is left", before="one upload- folder left until the next start")
def handles(bench):
    service = bench.service(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)), host="0.0.0.0")
    alice = service.connect("alice")
    held = []
    for number in range(120):
        try:
            held.append(service.connect(source=f"127.0.0.{20 + number // 30}", timeout=2))
        except OSError:
            break
    time.sleep(0.5)
    alice.images([inputs.noise(1)])
    for connection in held:
        connection.close()
    expect(service.alive(), "the server is gone")
    expect(eventually(lambda: service.handles() < 40, 10), f"{service.handles()} handles after all have left")
    digest, answer = alice.images([inputs.noise(2)])
    expect(digest, f"afterwards: {answer[:100]}")
    # The answer does not wait for the removal of the upload.
    left = lambda: os.listdir(service.out / ".tmp")  # noqa: E731
    expect(eventually(lambda: not left(), 10), f"left in .tmp: {left()}")
    return "answers again, nothing left in .tmp"


@check("low", "a file whose row is gone is removed by the next start", before="18 after 270 kills, kept for ever")
def half_deleted(bench):
    service = bench.service()
    alice = service.connect("alice")
    digest, _ = alice.images([inputs.noise(1)])
    path = next(service.out.rglob(f"{digest}.glb"))
    away = bench.folder / "away"
    # As if the server died between the row and the file: a folder in its place cannot be removed as a file.
    path.rename(away)
    (path / "full").mkdir(parents=True)
    answer = alice.delete(digest)
    service.kill()
    (path / "full").rmdir()
    path.rmdir()
    away.rename(path)
    service.start()
    with service.connect("alice") as alice:
        listed = len(alice.files())
    gone = eventually(lambda: not path.exists(), 5)
    expect(
        gone != bool(listed), f"delete said {answer}; after a start {listed} rows, the file is {'gone' if gone else 'left'}"
    )
    return f"delete said {answer}; after a start {listed} rows, the file is {'gone' if gone else 'there'}"


@check("low", "a file without a row is found and moved away", before="as now: this must stay")
def without_row(bench):
    service = bench.service()
    alice = service.connect("alice")
    digest, glb = alice.images([inputs.noise(1)])
    lost = next(service.out.rglob(f"{digest}.glb")).with_name("e" * 64 + ".glb")
    lost.write_bytes(glb)
    service.kill()
    found = service.command("check", code=None)
    expect(found.returncode == 1 and lost.name in found.stdout, f"vggt check: {found.stdout}")
    service.command("check", "--repair", code=None)
    expect(not lost.exists(), "still there after vggt check --repair")
    expect(service.command("check", code=None).returncode == 0, "vggt check still complains")
    service.start()
    with service.connect("alice") as alice:
        expect(wire.is_glb(alice.get(digest)), "the file with a row is gone")
    return "found by check, gone after check --repair"
