"""The parts of tools/checks/test_packages, and what they share."""

import contextlib
import os
import pathlib
import re
import select
import subprocess

from steps import Failed, expect, step  # noqa: F401  (the parts take them from here)
from vggt_client import Client

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
FRAMES = sorted((REPOSITORY / "model/demo/frames").iterdir())
PASSWORD = "correct horse"
LIMIT_S = 300


def left_out(name, why):
    print(f"LEFT OUT  {name}: {why}", flush=True)


def run(*args, code=0, **how):
    """Runs a program to its end, which must be exit code `code`; gives what it printed, standard error last."""
    how = {"stdin": subprocess.DEVNULL, "timeout": LIMIT_S, **how}
    done = subprocess.run(list(map(str, args)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)
    if done.returncode != code or "panicked" in done.stderr:
        words = " ".join(map(str, args))
        raise Failed(f"{words}\nexit code {done.returncode} instead of {code}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def only(dist, pattern):
    """The one file of that name."""
    found = sorted(dist.glob(pattern))
    expect(len(found) == 1, f"{dist}/{pattern}: {len(found)} files")
    return found[0]


def is_glb(data):
    return data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data) > 1024


def as_user(root, folder, number=None, groups=()):
    """What a child does before it becomes a program: takes a root, a folder in it, and a user."""

    def enter():
        os.chroot(root)
        os.chdir(folder)
        if number is not None:
            os.setgroups(groups)
            os.setgid(number[1])
            os.setuid(number[0])

    return enter


@contextlib.contextmanager
def served(command, **how):
    """A server, started by a command line that ends with its options; gives a function that makes clients, logged in as alice."""
    process = subprocess.Popen(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how
    )
    try:
        ready = select.select([process.stdout], [], [], 60)[0]
        line = process.stdout.readline().decode() if ready else ""
        port = re.search(r"port (\d+)", line)
        if not port:
            process.kill()
            raise Failed(f"no port in {line!r}: {process.communicate()[1].decode()[-2000:]}")

        def client():
            made = Client("127.0.0.1", int(port[1]), timeout=60)
            made.login("alice", PASSWORD)
            return made

        yield client
        process.terminate()
        _, log = process.communicate(timeout=60)
        expect(process.returncode == 0 and b"panicked" not in log, f"exit code {process.returncode}: {log.decode()[-2000:]}")
    finally:
        process.kill()
        process.wait()


def round_trip(client):
    """Reconstructs some frames and fetches them again; gives the hash."""
    scene = client.images(FRAMES[:3])
    expect(is_glb(scene.glb) and client.get(scene.hash).glb == scene.glb, "other bytes")
    return scene.hash
