"""Everything that the client can ask, of a real server."""

import datetime
import hashlib
import itertools
import os
import pathlib
import stat
import tempfile

import vggt_client
from attack import wire
from attack.service import REPOSITORY, Service
from vggt_client import Client

from . import expect, raises, step

FRAMES = sorted((REPOSITORY / "model/demo/frames").iterdir())
CLIP = REPOSITORY / "tests/data/frames/clips/h264.mp4"
UNKNOWN_HASH = "0" * 64


def run(program, folder):
    service = Service(program, folder / "service")
    service.command("user", "vip", "bob", "on")
    service.start()
    try:
        before_login(service)
        with connect(service) as client:
            results(client, folder)
            jobs(client, service)
            listing(client, service)
            refusals(client, folder)
        restart(service)
    finally:
        service.kill()


def connect(service, user="alice"):
    client = Client("127.0.0.1", service.port, timeout=60)
    client.login(user, wire.password_of(user))
    return client


def before_login(service):
    with Client(port=service.port, timeout=60) as client:
        with step("info needs no login"):
            info = client.info()
            expect(info.protocol == 2 and info.limits.images > 0 and info.limits.upload_bytes > 0, info)
        with step("everything else needs one, and the connection goes on"):
            for call in (
                client.list,
                lambda: client.status(1),
                lambda: client.images(FRAMES[:1]),
                lambda: client.submit(FRAMES[:1]),
                lambda: client.publish(UNKNOWN_HASH),
                client.options,
            ):
                raises(vggt_client.NotLoggedIn, call, code="ERROR_NOT_LOGGED_IN")
        with step("wrong and hostile passwords"):
            for user, password in (
                ("alice", "wrong"),
                ("", ""),
                ("nobody", "x"),
                ("a\x1b[31m\n", "\0\u2028"),
                ("alice", "é" * 400),
            ):
                raises(vggt_client.LoginRefused, lambda: client.login(user, password))  # noqa: B023
        with step("login tells who is a VIP"):
            expect(client.login("alice", wire.password_of("alice")) is False, "alice is a VIP")
            expect(client.login("bob", wire.password_of("bob")) is True, "bob is not")


def results(client, folder):
    with step("images, into memory and into a file"):
        scene = client.images([FRAMES[0], str(FRAMES[1]), FRAMES[2].read_bytes()])
        expect(wire.is_glb(scene.glb) and scene.size == len(scene.glb) and scene.path is None, scene)
        again = client.images(FRAMES[:3], out=folder / "scene.glb")
        expect(again.hash == scene.hash and again.glb is None, again)
        expect(again.path.read_bytes() == scene.glb, "other bytes")
        umask = os.umask(0)
        os.umask(umask)
        expect(stat.S_IMODE(again.path.stat().st_mode) == 0o666 & ~umask, oct(again.path.stat().st_mode))
    with step("get, with capital digits too"):
        expect(client.get(scene.hash.upper()).glb == scene.glb, "other bytes")
        client.get(scene.hash, out=str(folder / "again.glb"))
        expect((folder / "again.glb").read_bytes() == scene.glb, "other bytes")
    with step("options hold for one reconstruction"):
        defaults = client.options()
        expect("conf_thres" in defaults and "max_points" in defaults, defaults)
        few = client.images(FRAMES[:3], options={"max_points": 500})
        expect(few.size < scene.size / 2 and few.hash != scene.hash, few)
        expect(client.images(FRAMES[:3]).hash == scene.hash, "the options stay")
    with step("video, by its path and by its bytes"):
        video = client.video(CLIP, options={"fps": 2})
        expect(wire.is_glb(video.glb), video)
        expect(client.video(bytearray(CLIP.read_bytes()), options={"fps": 2}).hash == video.hash, "another hash")


def jobs(client, service):
    with step("submit, wait, get"):
        seen = []
        job = client.submit(FRAMES[:4])
        expect(job.state in ("queued", "running", "done") and job.ended == (job.state == "done"), job)
        done = client.wait(job, poll=0.02, on_change=seen.append)
        expect(done.state == "done" and done.ended and seen[-1] == done and len(seen) == len(set(seen)), seen)
        expect(wire.is_glb(client.get(done.hash).glb), "no GLB")
        expect(client.status(job.id) == done, "another status")
    with step("submit a video"):
        expect(client.wait(client.submit(video=CLIP, options={"fps": 1}), poll=0.02).hash, "no hash")
    with step("a job that fails says why"):
        job = client.submit([b"not an image"])
        e = raises(vggt_client.JobFailed, lambda: client.wait(job, poll=0.02))
        expect(e.job.state == "failed" and e.job.reason in str(e), e)
    with step("cancel, and wait for what was cancelled"):
        job = client.submit(video=CLIP, options={"fps": 10})
        cancelled = client.cancel(job)
        expect(cancelled.state in ("cancelled", "done"), cancelled)
        if cancelled.state == "cancelled":
            raises(vggt_client.JobCancelled, lambda: client.wait(job))
    with step("wait gives up after its time, and the job goes on"):
        job = client.submit(FRAMES, options={"conf_thres": 11})
        e = raises((vggt_client.WaitTimeout), lambda: client.wait(job, timeout=0)) if not client.status(job).ended else None
        expect(e is None or e.job.id == job.id, e)
        client.wait(job, poll=0.02)
    newer(client)
    with step("jobs of others, and jobs that are not there"), connect(service, "bob") as bob:
        for number in (job.id, 10**12):
            raises(vggt_client.JobNotFound, lambda: bob.status(number), code="ERROR_JOB_NOT_FOUND")  # noqa: B023
            raises(vggt_client.JobNotFound, lambda: bob.cancel(number))  # noqa: B023


def newer(client):
    """What servers have since the commands 14 and 15."""
    try:
        listed = client.jobs()
    except vggt_client.UnknownCommand:
        return
    with step("jobs"):
        expect(len(listed) >= 4 and client.jobs(2) == listed[:2], listed)
        expect(all(job.name and job.created_at for job in listed), listed)
        expect(all(job.finished_at >= job.created_at for job in listed if job.ended), listed)
        expect(listed == sorted(listed, key=lambda job: -job.id), listed)
    with step("rerun with other options"):
        done = client.wait(client.submit(FRAMES[:3]), poll=0.02)
        few = client.wait(client.rerun(done, options={"max_points": 500}), poll=0.02)
        expect(few.id != done.id and few.hash != done.hash and client.get(few.hash).size < client.get(done.hash).size, few)
        raises(vggt_client.JobNotFound, lambda: client.rerun(10**12))
    with step("names travel: of a result, and of a bad image"):
        scene = client.images(FRAMES[:2], options={"name": "my room", "conf_thres": 12})
        expect(scene.hash in {file.hash for file in client.list() if file.name.startswith("my room")}, client.list())
        with tempfile.TemporaryDirectory() as folder:
            bad = pathlib.Path(folder) / "bad one.jpg"
            bad.write_bytes(b"not an image")
            e = raises(vggt_client.ImageRequestFailed, lambda: client.images([FRAMES[0], bad]), "bad one.jpg")
            expect("image_0" not in e.reason, e)
            evil = pathlib.Path(folder) / "evil\x1b\udcff.png"
            evil.write_bytes(FRAMES[0].read_bytes())
            expect(client.images([evil]).hash, "names that the server refuses are left out")
    with step("warnings of a job"):
        warned = client.wait(client.submit(FRAMES[:2]), poll=0.02).warnings
        expect(any(warning.kind == "demo_weights" and warning.text for warning in warned), warned)
    with step("options that were set before stay beside the names"):
        client.options(max_points=400)
        expect(client.images(FRAMES[:2]).size < client.images(FRAMES[:2]).size, "not the options")


def listing(client, service):
    with step("list"):
        files = client.list()
        expect(len(files) >= 4 and client.list(2) == files[:2] and client.list(0) == [], files)
        dates = [file.created_at for file in files]
        expect(dates == sorted(dates, reverse=True), dates)
        age = datetime.datetime.now(datetime.timezone.utc) - dates[0]
        expect(abs(age) < datetime.timedelta(minutes=10), age)
        expect(all(client.get(file.hash).size == file.size for file in files), "other sizes")
    digits = files[0].hash
    with step("publish, and private again"), connect(service, "bob") as bob:
        raises(vggt_client.HashNotFound, lambda: bob.get(digits), code="ERROR_HASH_NOT_FOUND")
        expect(client.publish(digits) is True and client.list(1)[0].public, "not public")
        expect(hashlib.sha256(bob.get(digits).glb).digest() == hashlib.sha256(client.get(digits).glb).digest(), "other bytes")
        raises(vggt_client.HashNotFound, lambda: bob.delete(digits))
        expect(client.publish(digits, False) is False, "still public")
        raises(vggt_client.HashNotFound, lambda: bob.get(digits))
    with step("delete"):
        expect(client.delete(digits) is None and digits not in {file.hash for file in client.list()}, "still there")
        raises(vggt_client.HashNotFound, lambda: client.get(digits))
        raises(vggt_client.HashNotFound, lambda: client.delete(digits))
    with step("a list of several pages"):
        page = vggt_client.wire.PAGE
        ask = client._connection.ask
        client._connection.ask = lambda command, payload=b"": ask(
            command, payload[:-1] + b', "limit": 1}' if command == page else payload
        )
        expect(client.list() == files[1:], "other files")
        del client._connection.ask


def refusals(client, folder):
    with step("what the server refuses, and the connection goes on"):
        missing = folder / "missing.glb"
        raises(vggt_client.HashNotFound, lambda: client.get(UNKNOWN_HASH, out=missing))
        raises(vggt_client.ImageRequestFailed, lambda: client.images([b"not an image"], out=missing))
        raises(vggt_client.VideoRequestFailed, lambda: client.video(b"not a video", out=missing))
        expect(not list(folder.glob("*missing*")), "a file is left")
        for options in ({"no_such": 1}, {"conf_thres": 101}, {"conf_thres": "much"}, {"fps": -1}):
            raises(vggt_client.BadRequest, lambda: client.options(**options), code="ERROR_BAD_REQUEST")  # noqa: B023
        raises(vggt_client.BadRequest, lambda: client.images(FRAMES[:1], options={"format": "exe"}))
    with step("what the package refuses before anything is sent"):
        for call in (
            lambda: client.get("abc"),
            lambda: client.get(UNKNOWN_HASH + ".glb"),
            lambda: client.get("٣" * 64),
            lambda: client.delete("../" * 20),
            lambda: client.images([]),
            lambda: client.images([b""]),
            lambda: client.video(b""),
            lambda: client.images([folder]),
            lambda: client.submit(),
            lambda: client.submit(FRAMES, video=CLIP),
            lambda: client.list(-1),
        ):
            raises(ValueError, call)
        raises(TypeError, lambda: client.images(str(FRAMES[0])))
        raises(FileNotFoundError, lambda: client.images([folder / "none.jpg"]))
        raises(FileNotFoundError, lambda: client.get(client.list(1)[0].hash, out=folder / "no/such/folder.glb"))
    with step("the connection still works"):
        expect(client.info().version, "no version")
    with step("10 mebibytes of images in one request"):
        noise = itertools.repeat(b"\xff\xd8\xff" + bytes(1 << 20), 10)
        raises(vggt_client.ImageRequestFailed, lambda: client.images(list(noise)))


def restart(service):
    client = connect(service)
    with step("a server that is killed, and its successor"):
        job = client.submit(FRAMES[:5])
        service.restart()
        raises(vggt_client.ConnectionLost, lambda: client.wait(job, poll=0.02))
        raises(vggt_client.ConnectionLost, client.info, "make a new Client")
        with connect(service) as client:
            expect(client.wait(job, poll=0.02).state == "done", "not done")
    service.kill()
    with step("no server"):
        raises(vggt_client.ConnectionLost, lambda: Client("127.0.0.1", service.port), "cannot connect")
    with step("a name that cannot be resolved"):
        raises(vggt_client.ConnectionLost, lambda: Client("no-such-host.invalid", 1), "cannot connect")
