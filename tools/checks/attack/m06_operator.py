"""M6: slips of the operator that destroyed files, rows or jobs."""

import contextlib
import subprocess

from . import inputs, wire
from .finding import check, eventually, expect
from .service import StartFailed


def made(service, count=3):
    """Hashes of alice's new files."""
    with service.connect("alice") as alice:
        return [alice.images([inputs.noise(seed)])[0] for seed in range(count)]


def fetched(service, digests):
    with service.connect("alice") as alice:
        return sum(wire.is_glb(alice.get(digest)) for digest in digests)


@check("M6", "check --repair with a misspelt folder deletes nothing", before="every row deleted")
def misspelt(bench):
    service = bench.service()
    digests = made(service)
    for extra in ((), ("--yes",)):
        done = service.command("check", "--repair", *extra, code=None, out=service.folder / "misspelt")
        left = service.rows("select count(*) from glb_files")[0][0]
        expect(left == len(digests), f"check --repair {' '.join(extra)}: {left} of {len(digests)} rows left; {done.stdout}")
        expect(done.returncode != 0, f"check --repair {' '.join(extra)} with a misspelt folder: exit code 0")
    good = fetched(service, digests)
    expect(good == len(digests), f"{good} of {len(digests)} files are served")
    return f"refused: {(done.stderr or done.stdout).strip().splitlines()[-1][:120]}"


@check("M6", "check --repair keeps rows without a file unless told --yes", before="rows deleted without a question")
def asks(bench):
    service = bench.service()
    digests = made(service, count=6)
    path = next(service.out.rglob(f"{digests[0]}.glb"))
    path.unlink()
    service.command("check", "--repair", code=None)
    left = service.rows("select count(*) from glb_files")[0][0]
    expect(left == len(digests), f"check --repair without --yes: {left} of {len(digests)} rows left")
    service.command("check", "--repair", "--yes", code=None)
    left = service.rows("select count(*) from glb_files")[0][0]
    expect(left == len(digests) - 1, f"check --repair --yes: {left} rows left")
    return "kept without --yes, removed with it"


@check("M6", "check --repair refuses when most files are missing", before="every row deleted")
def most_missing(bench):
    service = bench.service()
    digests = made(service, count=6)
    for digest in digests[:5]:
        next(service.out.rglob(f"{digest}.glb")).unlink()
    done = service.command("check", "--repair", code=None)
    left = service.rows("select count(*) from glb_files")[0][0]
    expect(left == len(digests) and done.returncode != 0, f"exit code {done.returncode}, {left} of {len(digests)} rows left")
    return f"refused: {(done.stderr or done.stdout).strip().splitlines()[-1][:120]}"


def refuses(service, **where):
    """What a second server says that must not start."""
    args = {"db": service.db, "out": service.out, **where}
    command = [service.program, "serve", "--demo", "--host", "127.0.0.1", "--port", "0"]
    command += ["--db", args["db"], "--out-root", args["out"]]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = process.communicate(timeout=10)[1].strip()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        said = None
    return process.returncode, said


@check("M6", "a second server on the same database is refused", before="starts, and fails the first one's jobs")
def second_server(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    jobs = [alice.submit(inputs.slow_to_decode(seed, count=5))["job"] for seed in range(3)]
    code, said = refuses(service, out=service.folder / "other")
    expect(said is not None and code not in (0, None), f"the second server starts; jobs: {list(map(alice.status, jobs))}")
    link = service.folder / "link.db"
    link.symlink_to(service.db)
    code, said_of_link = refuses(service, db=link, out=service.folder / "another")
    expect(said_of_link is not None and code not in (0, None), "a second server starts through a link to the database")
    ends = [alice.wait(job)["state"] for job in jobs]
    expect(ends == ["done"] * len(jobs), f"the first one's jobs: {ends}")
    return f"refused: {said.splitlines()[-1][:120]}; {len(jobs)} jobs done"


@check("M6", "a database with another's folder is refused", before="starts, fails jobs")
def others_folder(bench):
    first = bench.service(folder="first")
    second = bench.service(folder="second")
    for service in (first, second):
        made(service)
        service.stop()
    code, said = refuses(first, out=second.out)
    expect(said is not None and code not in (0, None), "starts with the folder of another database")
    return f"refused: {said.splitlines()[-1][:120]}"


@check("M6", "a folder that is not there at the start fails no job", before="both acknowledged jobs failed for good")
def folder_missing(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    digests = made(service, count=1)
    jobs = [alice.submit(inputs.slow_to_decode(seed, count=3))["job"] for seed in range(3)]
    service.kill()
    away = service.out.with_name("away")
    service.out.rename(away)
    with contextlib.suppress(StartFailed):  # refusing to start is as good
        service.start(10)
    if service.alive():
        with service.connect("alice") as alice:
            alice.wait(jobs[0], 2)
    states = [state for (state,) in service.rows("select state from jobs")]
    expect("failed" not in states, f"without the folder: {states}")
    if service.alive() and service.out.exists():
        # What a server that waits has made meanwhile must not be in the way of the mount.
        service.kill()
        for path in sorted(service.out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        service.out.rmdir()
    away.rename(service.out)
    if not service.alive():
        service.start()
    alice = service.connect("alice")
    ends = [alice.wait(job, 60)["state"] for job in jobs]
    expect(ends == ["done"] * len(jobs), f"with the folder again: {ends}")
    expect(fetched(service, digests) == 1, "the file from before")
    expect(eventually(lambda: not list((service.out / ".jobs").iterdir()), 5), "inputs are left in .jobs")
    return f"without the folder: {', '.join(states)}; with it again: {', '.join(ends)}"
