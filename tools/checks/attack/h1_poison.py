"""H1: one submitted job that kills the process took the service down for good, with every start again."""

import contextlib
import os
import pathlib
import signal

from . import inputs
from .finding import check, eventually, expect

DEATHS = 3  # as many kill a job for good, says issue 15


def submitted(connection, **upload):
    job = connection.submit(**upload)
    expect("job" in job, f"submit: {job}")
    return job["job"]


def survives(bench, mib, **upload):
    """A job under a limit of memory: it may end either way, the server and another user's job may not."""
    service = bench.service("--no-cache", before=bench.memory_group(mib))
    alice, bob = service.connect("alice"), service.connect("bob")
    hostile = submitted(alice, **upload)
    other = submitted(bob, images=[inputs.noise(5)])
    # A server that is killed closes these connections.
    end = alice.wait(hostile)
    other_end = bob.wait(other)
    expect(service.alive(), "the server is gone")
    expect(end["state"] in ("done", "failed"), f"the job: {end}")
    expect(other_end["state"] == "done", f"the other user's job: {other_end}")
    expect(service.stop() == 0, "SIGTERM: exit code other than 0")
    return f"{mib} MiB: hostile job {end['state']} ({end.get('reason', 'stored')[:80]}), other user's job done"


@check("H1", "a picture that memory cannot hold", before="7 kills of 7 starts at 600 MB")
def picture(bench):
    return survives(bench, 600, images=[inputs.webp_bomb()])


@check("H1", "300 ordinary pictures under a control group of version 1", before="7 kills of 7 starts at 300 MB", long=True)
def many_pictures(bench):
    return survives(bench, 300, images=[inputs.noise(seed, 112, 112) for seed in range(300)])


@check("H1", "an 8K clip that memory cannot hold", before="7 kills of 7 starts at 2 GiB", long=True)
def clip(bench):
    return survives(bench, 2048, video=inputs.large_frames())


@check("H1", "the third death of the process while a job runs fails the job", before="taken up again without end")
def third_death(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    hostile = submitted(alice, images=inputs.slow_to_decode(1))
    other = submitted(alice, images=[inputs.noise(5)])
    for death in range(1, DEATHS + 1):
        state = alice.wait(hostile, 30, until=("running",))
        expect(state["state"] == "running", f"start {death}: {state}")
        service.restart()
        alice = service.connect("alice")
    end = alice.wait(hostile, 5)
    other_end = alice.wait(other)
    expect(end["state"] == "failed", f"after {DEATHS} deaths: {end}")
    expect(other_end["state"] == "done", f"the job behind it: {other_end}")
    return f"after {DEATHS} deaths: failed ({end['reason'][:100]}); the job behind it is done"


@check("H1", "clean stops are no deaths", before="as now: this must stay")
def clean_stops(bench):
    service = bench.service("--no-cache", "--grace", 0)
    alice = service.connect("alice")
    job = submitted(alice, images=inputs.slow_to_decode(1, count=20))
    for _ in range(DEATHS + 1):
        alice.wait(job, 30, until=("running",))
        expect(service.stop() == 0, "SIGTERM: exit code other than 0")
        service.start()
        alice = service.connect("alice")
    end = alice.wait(job)
    expect(end["state"] == "done", f"after {DEATHS + 1} clean stops: {end}")
    return f"done after {DEATHS + 1} clean stops"


@check("H1", "a child that dies while it decodes fails its job alone", before="decoded in the server's process")
def decoder_killed(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    reasons = []
    for sent in (signal.SIGKILL, signal.SIGSEGV):
        job = submitted(alice, images=inputs.slow_to_decode(int(sent)))
        expect(eventually(service.decoders, 10, every=0.005), "no child process decodes")
        for child in service.decoders():
            os.kill(child, sent)
        end = alice.wait(job, 10)
        expect(end["state"] == "failed", f"{sent.name}: {end}")
        reasons.append(end["reason"])
    expect(service.alive(), "the server is gone")
    digest, glb = alice.images([inputs.noise(7)])
    expect(digest, f"the next request: {glb[:100]}")
    return f"failed: {reasons[0][:100]}; the next request is answered"


@check("H1", "decoding happens in a child alone", before="decoded in the server's process")
def only_in_children(bench):
    service = bench.service("--no-cache")
    alice = service.connect("alice")
    job = submitted(alice, images=inputs.slow_to_decode(1, count=10))
    expect(eventually(service.decoders, 10, every=0.005), "no child process decodes")
    child = service.decoders()[0]
    # It locks itself in before it reads the first byte of a file.
    eventually(lambda: status_of(child).get("NoNewPrivs") == "1", 5)
    limits, status, handles = limits_of(child), status_of(child), handles_of(child)
    expect(limits and status, f"process {child} ended before its limits were read")
    expect(status.get("NoNewPrivs") == "1", "the child may gain privileges")
    if "Seccomp" in status:  # else the kernel has none
        expect(status["Seccomp"] == "2", "the child may make every system call")
    opened = [path for path in handles if service.db.name in path or path.endswith(".safetensors")]
    expect(not opened, f"the child holds {opened}")
    # What it allocates counts as data or as addresses, whichever is limited.
    memory = [int(limits[name]) >> 20 for name in ("Max address space", "Max data size") if limits[name] != "unlimited"]
    expect(memory, "the memory of the child has no limit")
    expect(limits["Max cpu time"] != "unlimited", "the processor time of the child has no limit")
    end = alice.wait(job)
    expect(end["state"] == "done", f"the job: {end}")
    expect(not service.decoders(), "the child outlives its job")
    seconds, mode = limits["Max cpu time"], status.get("Seccomp", "unknown")
    return f"at most {min(memory)} MiB and {seconds} s of processor time; seccomp mode {mode}"


def limits_of(pid):
    """Name and soft limit of each line of /proc/PID/limits."""
    try:
        with open(f"/proc/{pid}/limits") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return {}
    return {line[:26].strip(): line[26:47].strip() for line in lines}


def status_of(pid):
    """Name and value of each line of /proc/PID/status."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def handles_of(pid):
    """What the handles of a process are of."""
    found = []
    for handle in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(handle))
    return found
