"""Everything that the client can ask over HTTP and HTTPS, of a real server."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import zipfile

import vggt_client
from attack import wire
from attack.service import REPOSITORY, Service
from vggt_client import Client, http_events, http_upload

from . import expect, raises, step
from .cutter import Cutter

FRAMES = sorted((REPOSITORY / "model/demo/frames").iterdir())
CLIP = REPOSITORY / "tests/data/frames/clips/h264.mp4"
UNKNOWN_HASH = "0" * 64
FORMATS = ("ply", "html", "colmap.zip", "nerfstudio.zip", "safetensors", "depth.zip", "points", "cameras.json", "frames/0.jpg")


class HttpService(Service):
    """A service with HTTP on a free port."""

    scheme = "http"

    def start(self, seconds=60):
        before = len(self.log_text())
        super().start(seconds)
        end = time.monotonic() + seconds
        # The first line of the log, which may come behind that of the port.
        while not (found := re.search(r", HTTPS? on ([0-9.:]+),", self.log_text()[before:])) and time.monotonic() < end:
            time.sleep(0.01)
        expect(found, "no address of HTTP in the log")
        self.url = f"{self.scheme}://{found[1]}"
        # The next start has the same port.
        self.options = ("--http", found[1], *self.options[2:])
        return self


def run(program, folder):
    service = HttpService(program, folder / "service", "--http", "127.0.0.1:0", "--stall-timeout", "5")
    service.command("user", "vip", "bob", "on")
    service.start()
    try:
        logins(service)
        with connect(service) as client:
            results(client, folder)
            jobs(client, service)
            listing(client)
            refusals(client, folder)
            interruptions(client, service, folder)
        commands(service, folder)
        restart(service)
    finally:
        service.kill()
    no_server(service)
    over_tls(program, folder)


def connect(service, user="alice", url=None, **how):
    client = Client(url or service.url, timeout=60, **how)
    client.login(user, wire.password_of(user))
    return client


def logins(service):
    with Client(service.url, timeout=60) as client:
        with step("HTTP: an address makes a client of HTTP"):
            expect(type(client) is vggt_client.HttpClient, type(client))
        with step("HTTP: everything needs a login"):
            for call in (client.list, client.jobs, lambda: client.status(1), lambda: client.submit(FRAMES[:1])):
                raises(vggt_client.NotLoggedIn, call, code="not_logged_in")
        with step("HTTP: wrong and hostile passwords"):
            for user, password in (("alice", "wrong"), ("", ""), ("a\x1b[31m\n", "\0\u2028"), ("alice", "é" * 400)):
                raises(vggt_client.LoginRefused, lambda: client.login(user, password))  # noqa: B023
        with step("HTTP: login tells who is a VIP; the session ends with the client"):
            expect(client.login("bob", wire.password_of("bob")) is True, "bob is not a VIP")
            token = client._server.token
            client.close()
            raises(vggt_client.NotLoggedIn, Client(service.url, token=token).jobs)
    with step("HTTP: a named token in place of a password"), connect(service) as client:
        made = client._server.ask("POST", "/api/v1/tokens", {"name": "check"})
        with Client(service.url + "/", token=made["token"]) as named:
            expect(named.jobs() == [], "jobs of others")
        expect(Client(service.url, token=made["token"]).jobs() == [], "it ended with the client")
        raises(vggt_client.NotLoggedIn, Client(service.url, token="vggt_x").jobs)
        service.token = made["token"]


def results(client, folder):
    with step("HTTP: images, into memory and into a file"):
        scene = client.images([FRAMES[0], str(FRAMES[1]), FRAMES[2].read_bytes()])
        expect(wire.is_glb(scene.glb) and scene.size == len(scene.glb) and scene.path is None, scene)
        again = client.images(FRAMES[:3], out=folder / "scene.glb")
        expect(again.hash == scene.hash and again.glb is None and again.path.read_bytes() == scene.glb, again)
        expect(client.get(scene.hash.upper()).glb == scene.glb, "other bytes")
    with step("HTTP: options hold for one reconstruction"):
        expect(client.options(max_points=500) == {"max_points": 500}, "other options")
        few = client.images(FRAMES[:3])
        expect(few.size < scene.size / 2, few)
        expect(client.images(FRAMES[:3], options={}).hash == scene.hash, "the options stay")
    with step("HTTP: video, by its path and by its bytes"):
        video = client.video(CLIP, options={"fps": 2})
        expect(client.video(bytearray(CLIP.read_bytes()), options={"fps": 2}).hash == video.hash, "another hash")
    job = client.job_of(scene.hash)
    with step("HTTP: the file of every format, into memory and into a file"):
        for format in FORMATS:
            file = client.download(job, format, out=folder / pathlib.Path(format).name)
            expect(file.data is None and file.path.stat().st_size == file.size > 0, file)
            expect(client.download(job.id, format).data == file.path.read_bytes(), f"other bytes of {format}")
        with zipfile.ZipFile(folder / "colmap.zip") as dataset:
            expect(dataset.testzip() is None and any("cameras" in name for name in dataset.namelist()), dataset.namelist())
        expect(len(json.loads((folder / "cameras.json").read_text())) > 0, "no cameras")
    with step("HTTP: a file that exists is replaced where that is allowed"):
        target = folder / "scene.ply"
        target.write_text("foreign")
        raises(FileExistsError, lambda: client.download(job, "ply", out=target, overwrite=False))
        expect(target.read_text() == "foreign", "replaced")
        client.download(job, "ply", out=target)
        expect(target.read_bytes()[:3] == b"ply", "not replaced")
        new = client.download(job, "ply", out=folder / "new.ply", overwrite=False)
        expect(new.path.read_bytes() == target.read_bytes() and not list(folder.glob(".*.tmp")), "a file is left")


def jobs(client, service):
    with step("HTTP: submit, follow, get"):
        seen = []
        job = client.submit(FRAMES[:4], options={"name": 'my "room"'})
        done = client.wait(job, on_change=seen.append)
        expect(done.state == "done" and done.ended and seen[-1] == done and len(seen) == len(set(seen)), seen)
        expect(done.name == 'my "room".glb' and client.status(job.id) == done, done)
    with step("HTTP: what polling tells, where events are refused"):
        follower = http_events.Follower(client._server, job.id, 0.01, lambda _: client.status(job))
        follower._path = "/api/v1/none"
        expect(follower.next(1.0) == done and follower._is_polling and follower.next(None) == done, "another state")
    with step("HTTP: a job that fails says why; names of images travel"):
        e = raises(vggt_client.JobFailed, lambda: client.wait(client.submit([b"\xff\xd8\xff\xe0 not an image"])))
        expect(e.job.state == "failed" and e.job.reason in str(e), e)
        raises(vggt_client.ImageRequestFailed, lambda: client.images([b"\xff\xd8\xff\xe0 no"]))
    with step("HTTP: cancel, wait for what was cancelled, and cancel what has ended"):
        job = client.submit(video=CLIP, options={"fps": 10})
        cancelled = client.cancel(job)
        expect(cancelled.state in ("cancelled", "done"), cancelled)
        if cancelled.state == "cancelled":
            raises(vggt_client.JobCancelled, lambda: client.wait(job))
        expect(client.cancel(done) == done and client.status(done) == done, "it is gone")
    with step("HTTP: wait gives up after its time, and the job goes on"):
        job = client.submit(FRAMES * 3, options={"conf_thres": 11})
        for seconds in (0, 0.05):
            if not client.status(job).ended:
                try:
                    client.wait(job, timeout=seconds)
                except vggt_client.WaitTimeout as e:
                    expect(e.job.id == job.id, e)
        expect(client.wait(job).state == "done", "not done")
    with step("HTTP: rerun, rename, publish, and the list of jobs"):
        few = client.wait(client.rerun(done, options={"max_points": 500}))
        expect(few.id != done.id and few.hash != done.hash, few)
        expect(client.rename(few, "less").name == "less.glb", "another name")
        expect(client.publish(few.hash) is True and client.publish(few.hash, False) is False, "another state")
        listed = client.jobs()
        expect(listed == sorted(listed, key=lambda job: -job.id) and client.jobs(2) == listed[:2], listed)
        expect(client.jobs(0) == [] and all(job.name and job.created_at for job in listed), listed)
    with step("HTTP: jobs of others, and jobs that are not there"), connect(service, "bob") as bob:
        for number in (job.id, 10**12):
            for call in (bob.status, bob.cancel, bob.rerun, bob.remove, bob.wait, lambda job: bob.rename(job, "x")):
                raises(vggt_client.JobNotFound, lambda: call(number), code="not_found")  # noqa: B023


def listing(client):
    with step("HTTP: list in pages, and delete"):
        files = client.list()
        expect(len(files) >= 4 and client.list(2) == files[:2] and client.list(0) == [], files)
        expect(all(client.get(file.hash).size == file.size for file in files), "other sizes")
        pages, vggt_client.http_client.PAGE = vggt_client.http_client.PAGE, 1
        expect(client.list() == files, "other files in pages of one")
        vggt_client.http_client.PAGE = pages
        digits = files[0].hash
        client.delete(digits)
        expect(digits not in {file.hash for file in client.list()}, "still there")
        raises(vggt_client.HashNotFound, lambda: client.get(digits))
        raises(vggt_client.HashNotFound, lambda: client.delete(digits))


def refusals(client, folder):
    with step("HTTP: what the server refuses"):
        missing = folder / "missing.glb"
        raises(vggt_client.HashNotFound, lambda: client.get(UNKNOWN_HASH, out=missing))
        for options in ({"no_such": 1}, {"conf_thres": 101}, {"fps": -1}, {"format": "exe"}):
            raises(vggt_client.BadRequest, lambda: client.submit(FRAMES[:1], options=options), code="bad_request")  # noqa: B023
        job = client.jobs(1)[0]
        raises(vggt_client.ServerError, lambda: client.download(job, "exe", out=missing), code="not_found")
        raises(vggt_client.BadRequest, lambda: client.rename(job, "a" * 2000))
        again = client.job_of(client.list(1)[0].hash)
        raises(vggt_client.BadRequest, lambda: client.rerun(again, options={"fps": 3}))
        expect(not list(folder.glob("*missing*")), "a file is left")
    with step("HTTP: what the package refuses before anything is sent"):
        for call in (
            lambda: client.get("abc"),
            lambda: client.images([]),
            lambda: client.images([b""]),
            lambda: client.images([folder]),
            lambda: client.submit(),
            lambda: client.list(-1),
            lambda: client.jobs(-1),
            lambda: client.download(1, "../../../health"),
            lambda: client.download(1, "glb?x=\r\n"),
            lambda: Client("http://"),
            lambda: Client("http://a:b@host"),
            lambda: Client("http://host:port"),
            lambda: Client("http://host/?x"),
            lambda: Client("http://host\r\nX: y"),
            lambda: Client("http://host", 4567),
            lambda: Client("http://host", cafile="x"),
            lambda: Client("http://host", token="a\nb"),
            lambda: Client("host", token="x"),
        ):
            raises(ValueError, call)
        raises(TypeError, lambda: client.images(str(FRAMES[0])))
        raises(FileNotFoundError, lambda: client.images([folder / "none.jpg"]))
        raises(vggt_client.NotOffered, client.info)


def interruptions(client, service, folder):
    # The server comes back at once.
    usual, http_events.RETRY_S = http_events.RETRY_S, 0.1
    job = next(job for job in client.jobs() if job.hash)
    whole = client.download(job, "safetensors").data
    with step(f"HTTP: a download of {len(whole)} bytes that breaks off again and again"):
        piece = max(vggt_client.http_download.PIECE, len(whole) // 5)
        with Cutter(service.url, answer=piece) as cutter, connect(service, url=cutter.url) as cut:
            file = cut.download(job, "safetensors", out=folder / "cut.safetensors")
            expect(file.path.read_bytes() == whole and cutter.cuts >= 3, f"{cutter.cuts} cuts")
    large = [FRAMES[0], FRAMES[1].read_bytes() + os.urandom(http_upload.RESUMABLE_FROM), FRAMES[2]]
    with step("HTTP: an upload that breaks off again and again") as _, Cutter(service.url, request=5 << 20) as cutter:
        with connect(service, url=cutter.url) as cut:
            sent = cut.submit(large) if resumable(client) else None
            if sent:
                expect(cutter.cuts >= 3, f"{cutter.cuts} cuts")
                expect(client.wait(sent).hash == client.images(large).hash, "another result")
            else:
                raises(vggt_client.ConnectionLost, lambda: cut.submit(large))
            raises(vggt_client.ConnectionLost, lambda: cut.submit([bytes(6 << 20)]))
        expect(all(job.state != "uploading" for job in client.jobs()), "a job is left")
    with step("HTTP: events that break off"), Cutter(service.url, answer=1500) as cutter, connect(service) as cut:
        slow = cut.submit(FRAMES * 4, options={"conf_thres": 13})
        cut._server._port = int(cutter.url.rpartition(":")[2])
        states = []
        expect(cut.wait(slow, on_change=states.append).state == "done" and len(states) == len(set(states)), states)
    http_events.RETRY_S = usual


def resumable(client):
    try:
        made = client._server.ask("POST", "/api/v1/jobs", {"options": {}})
    except vggt_client.ServerError:
        return False
    # As one that is cancelled while its files arrive.
    expect(client.cancel(made["id"]).state == "cancelled", "another state")
    raises(vggt_client.JobNotFound, lambda: client.status(made["id"]))
    return True


def command(service, folder, *words, code=0, token=True, script=True, **environment):
    """Runs a command of tools/client.py in `folder`; gives what it printed."""
    # As a user who has the script alone, or the package alone.
    program = [REPOSITORY / "tools/client.py"] if script else ["-m", "vggt_client"]
    environment = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    if token:
        environment["VGGT_TOKEN"] = service.token
    args = [sys.executable, *program, "--server", service.url, *words]
    done = subprocess.run(
        list(map(str, args)), cwd=folder, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120
    )
    expect(done.returncode == code, f"{words}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    expect("Traceback" not in done.stderr, done.stderr)
    return done.stdout + done.stderr


def commands(service, folder):
    folder = folder / "commands"
    folder.mkdir()
    with step("client.py over HTTP: images and video, in other formats, by password and by token"):
        password = {"VGGT_PASSWORD": wire.password_of("alice")}
        said = command(service, folder, "--user", "alice", "images", *FRAMES[:2], "--fetch-again", token=False, **password)
        number = re.search(r"^job   (\d+)$", said, re.M)[1]
        expect("the same bytes" in said and wire.is_glb((folder / "scene.glb").read_bytes()), said)
        command(service, folder, "video", CLIP, "--format", "ply", "--option", "fps=1", script=False)
        expect((folder / "scene.ply").read_bytes()[:3] == b"ply", "no PLY")
        said = command(service, folder, "images", FRAMES[0], code=1)
        expect("--overwrite" in said, said)
        detached = command(service, folder, "images", FRAMES[0], FRAMES[3], "--detach", "--name", "later")
        command(service, folder, "wait", detached.split()[1], "--format", "colmap.zip")
        expect(zipfile.is_zipfile(folder / "scene.colmap.zip"), "no archive")
    with step("client.py over HTTP: the other commands"):
        digits = re.search("[0-9a-f]{64}", said_of := command(service, folder, "status", number))[0]
        expect("done" in said_of, said_of)
        command(service, folder, "get", digits, "--out", "again.glb")
        expect((folder / "again.glb").read_bytes() == (folder / "scene.glb").read_bytes(), "other bytes")
        command(service, folder, "get", number, "--overwrite")
        expect("kitchen.glb" in command(service, folder, "rename", number, "kitchen"), "another name")
        expect("later.glb" in command(service, folder, "jobs") and "kitchen" in command(service, folder, "list"), "not listed")
        rerun = command(service, folder, "rerun", number, "--option", "max_points=300").split()[0]
        command(service, folder, "wait", rerun, "--out", "few.glb")
        for word in ("publish", "unpublish", "cancel"):
            command(service, folder, word, number)
        command(service, folder, "delete", number)
        expect("not_found" in command(service, folder, "status", number, code=1), "still there")
    with step("client.py over HTTP: mistakes"):
        command(service, folder, "jobs", code=2, token=False)
        command(service, folder, "images", code=2)
        command(service, folder, "images", FRAMES[0], "--option", "x", "--overwrite", code=1)
        command(service, folder, "images", folder / "none.jpg", "--overwrite", code=1)
        expect("not_logged_in" in command(service, folder, "--token", "vggt_x", "jobs", code=1), "no code")
        expect(len(list(folder.iterdir())) == 5, list(folder.iterdir()))


def restart(service):
    client = connect(service)
    with step("HTTP: a wait outlives a server that is killed, and its successor"):
        job = client.submit(FRAMES[:5] * 4, options={"conf_thres": 14})
        states = []

        def kill_once(now):
            states.append(now)
            if len(states) == 1:
                service.restart()

        expect(client.wait(job, on_change=kill_once).state == "done", "not done")
        expect(client.jobs(1)[0].id == job.id, "the session ended")


def no_server(service):
    with step("HTTP: no server, a name that cannot be resolved, the TCP port, and TLS where there is none"):
        raises(vggt_client.ConnectionLost, Client(service.url).jobs, "cannot connect")
        raises(vggt_client.ConnectionLost, Client("http://no-such-host.invalid:1").jobs, "cannot connect")
        patience, http_events.PATIENCE_S = http_events.PATIENCE_S, 0.0
        raises(vggt_client.ConnectionLost, lambda: Client(service.url, token="x").download(1))
        http_events.PATIENCE_S = patience
    service.start()
    with step("HTTP: the TCP port, and TLS where there is none"):
        for url in (f"http://127.0.0.1:{service.port}", service.url.replace("http:", "https:")):
            try:
                Client(url, token="x", timeout=10).jobs()
                expect(False, "an answer")
            except (vggt_client.ConnectionLost, vggt_client.ProtocolError) as e:
                expect(all(c.isprintable() for c in str(e)), e)
    service.kill()


def over_tls(program, folder):
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=vggt"
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *made.split(), *name, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    service = HttpService(
        program, folder / "tls", "--http", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key, "--stall-timeout", "5"
    )
    service.scheme = "https"
    service.start()
    try:
        with step("HTTPS: a certificate that nobody vouches for, and one for another name"):
            raises(vggt_client.CertificateRefused, Client(service.url).jobs, "certificate")
            named = Client(service.url.replace("127.0.0.1", "localhost"), cafile=certificate)
            raises(vggt_client.CertificateRefused, named.jobs, "certificate")
            raises(FileNotFoundError, lambda: Client(service.url, cafile=folder / "none.pem"))
            service.token = "x"
            expect("--cafile" in command(service, folder, "jobs", code=1), "no advice")
        with step("HTTPS: images, events, ranges and client.py"), connect(service, cafile=certificate) as client:
            scene = client.images(FRAMES[:2])
            expect(wire.is_glb(scene.glb), "no GLB")
            job = client.wait(client.submit(FRAMES[:3]), on_change=lambda job: None)
            expect(client.download(job, "points").size > 64, "no points")
            password = {"VGGT_PASSWORD": wire.password_of("alice")}
            words = ("--cafile", certificate, "--user", "alice", "get", scene.hash, "--out", "tls.glb")
            command(service, folder, *words, token=False, **password)
            expect((folder / "tls.glb").read_bytes() == scene.glb, "other bytes")
        with step("HTTPS: a refusal of an upload, and 100 mebibytes"), connect(service, cafile=certificate) as client:
            raises(vggt_client.BadRequest, lambda: client.submit(list(itertools.repeat(b"x" * (1 << 20), 8)), options={"no": 1}))
            if resumable(client):
                expect(client.wait(client.submit([FRAMES[0], FRAMES[1].read_bytes() + bytes(100 << 20)])).hash, "no hash")
    finally:
        service.kill()
