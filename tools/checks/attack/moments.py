"""The moments at which the kill loop kills the server: each brings the server to a state and returns while it is in it."""

import subprocess

from . import inputs, wire
from .finding import attempt, eventually

USER = "boss"  # a VIP: jobs of the other clients do not stand in front
WAIT_S = 20


def submitted(service, journal, **upload):
    """A connection and a job of USER, or None where the queue is full."""
    connection = service.connect(USER)
    answer = connection.submit(**upload)
    if "job" not in answer:
        return connection, None
    journal.submitted(USER, answer["job"])
    return connection, answer["job"]


def mixed(service, journal, random):
    """Anything, at any time."""
    eventually(lambda: False, random.uniform(0.05, 0.8))
    return True


def upload(service, journal, random):
    """Half of an upload of each kind has arrived."""
    for command in (wire.IMAGES, wire.VIDEO, wire.SUBMIT):
        connection = service.connect(USER)
        payload = b"\2" * (command == wire.SUBMIT) + wire.images_payload([bytes(1 << 20)])
        connection.send(wire.head(command, len(payload)) + payload[: 1 << 19])
    return eventually(lambda: any((service.out / ".tmp").glob("*")), WAIT_S)


def queued(service, journal, random):
    """Jobs wait behind one that takes long."""
    connection, first = submitted(service, journal, images=inputs.slow_to_decode(random.random(), count=8))
    jobs = [submitted(service, journal, images=[inputs.noise(random.getrandbits(40))])[1] for _ in range(3)]
    return first is not None and any(job and connection.status(job).get("state") == "queued" for job in jobs)


def decoding(service, journal, random):
    """The child process decodes; servers without one decode themselves."""
    connection, job = submitted(service, journal, images=inputs.slow_to_decode(random.random(), count=12))
    if job is None:
        return False
    connection.wait(job, WAIT_S, until=("decode",))
    return eventually(service.decoders, 1, every=0.002)


def network(service, journal, random):
    """The network works on a job."""
    connection, job = submitted(service, journal, images=inputs.slow_pictures(random.random(), 40))
    return job is not None and connection.wait(job, WAIT_S, until=("aggregator",)).get("stage") == "aggregator"


def storing(service, journal, random):
    """A result is being written under a temporary name."""
    _, job = submitted(service, journal, images=inputs.slow_pictures(random.random(), 40))
    return job is not None and eventually(lambda: half_written(service), WAIT_S, every=0.0005)


def half_written(service):
    """Files under temporary names in the folders of the days."""
    return [path for path in service.out.glob("[0-9]*/.*") if path.is_file()]


def cancelling(service, journal, random):
    """A cancel of the running job was answered, or is about to be."""
    connection, job = submitted(service, journal, images=inputs.slow_pictures(random.random(), 40))
    if job is None:
        return False
    connection.wait(job, WAIT_S, until=random.choice((("running",), ("aggregator",))))
    with journal.lock:
        entry = journal.jobs[job]
        entry.busy = True
        if random.random() < 0.3:
            connection.request(wire.CANCEL, b'{"job": %d}' % job)
            return True
        answer = connection.cancel(job)
        if answer.get("error") == "ERROR_INTERNAL":
            return True
        state = answer.get("state")
        entry.busy, entry.cancelled = False, state in ("queued", "running", "cancelled")
    journal.count("cancels" if entry.cancelled else "cancels that came too late")
    return entry.cancelled


def operator(service, journal, random):
    """`vggt job cancel` and `vggt job retry` have just ended, the server may not have seen it."""
    if not service.has_command("job"):
        return None
    connection, job = submitted(service, journal, images=inputs.slow_to_decode(random.random(), count=8))
    if job is None:
        return False
    connection.wait(job, WAIT_S, until=("running",))
    return operate(service, journal, job, "cancel") and (random.random() < 0.4 or operate(service, journal, job, "retry"))


def operate(service, journal, job, what):
    """`vggt job cancel` or `retry`; exit code 0 is an acknowledgment."""
    with journal.lock:
        done = attempt(lambda: service.command("job", what, str(job), code=None))
        if not isinstance(done, subprocess.CompletedProcess) or done.returncode:
            return False
        journal.jobs[job].cancelled = what == "cancel"
        journal.jobs[job].deaths = 0
        journal.count(f"vggt job {what}")
    return True


ALL = (mixed, upload, queued, decoding, network, storing, cancelling, operator)
