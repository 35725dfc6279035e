"""M12: four accounts closed the queue to everybody, VIPs included."""

from . import inputs
from .finding import check, expect

HOGS = [f"hog{number}" for number in range(4)]
EACH = 4


def full_queue(bench):
    """A server whose queue four users have filled: 16 places, 4 each, and one job running."""
    service = bench.service("--no-cache", users=[*HOGS, "victim", "vip"])
    service.command("user", "vip", "vip", "on")
    hogs = [service.connect(hog) for hog in HOGS]
    running = hogs[0].submit(inputs.slow_to_decode(1, count=100))["job"]
    hogs[0].wait(running, 20, until=("running",))
    for number in range(EACH):
        for index, hog in enumerate(hogs):
            hog.submit([inputs.noise(100 * index + number)])
    return service, hogs[0], running


@check("M12", "VIPs have places of their own", before="9 of 16 submits of a VIP taken")
def vip(bench):
    service, _, _ = full_queue(bench)
    vip = service.connect("vip")
    answers = [vip.submit([inputs.noise(1000 + number)]) for number in range(EACH)]
    taken = sum("job" in answer for answer in answers)
    expect(taken == EACH, f"{taken} of {EACH} jobs of a VIP taken by a full queue: {answers[-1]}")
    return f"{taken} of {EACH} jobs of a VIP taken by a full queue"


@check("M12", "one user's jobs do not stand before another's first", before="first come, first served")
def turns(bench):
    service = bench.service("--no-cache")
    alice, bob = service.connect("alice"), service.connect("bob")
    running = alice.submit(inputs.slow_to_decode(1, count=40))["job"]
    alice.wait(running, 20, until=("running",))
    for number in range(EACH):
        alice.submit([inputs.noise(number)])
    job = bob.submit([inputs.noise(100)])["job"]
    ahead = bob.status(job)["ahead"]
    expect(ahead <= 2, f"{ahead} jobs are ahead of bob's only one")
    return f"{ahead} ahead of bob's first job, alice has {EACH} waiting and one running"


@check("M12", "a user without a job gets one in beside four who fill the queue", before="1 of 9 submits of a fifth user taken")
def fifth(bench):
    service, hog, running = full_queue(bench)
    victim = service.connect("victim")
    answer = victim.submit([inputs.noise(1000)])
    expect("job" in answer, f"the fifth user: {answer}")
    hog.cancel(running)
    end = victim.wait(answer["job"], 60)
    expect(end["state"] == "done", f"the fifth user's job: {end}")
    return "taken and done"
