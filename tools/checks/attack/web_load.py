"""A client of the HTTP port whose user is its own, and what it remembers across kills of the server."""

import dataclasses
import threading
import time

from . import inputs, web
from .journal import BACK, LOST, WRONG, digest_of

USER = "carol"
DRAFTS = 3  # that are filled at the same time
PENDING = 6  # jobs; more would only wait
PAUSE_S = 0.2
LONG = 1 << 20  # bytes behind the end of a picture, so that parts are met in their midst
ACTIONS = {"submit": 10, "draft": 6, "append": 30, "rerun": 6, "link": 4, "unlink": 3, "remove": 6, "cancel": 4, "look": 10}


@dataclasses.dataclass
class Upload:
    path: str
    data: bytes
    kept: int = 0  # bytes that the server said it has


@dataclasses.dataclass
class Book:
    """What was acknowledged, beside what the journal has."""

    token: str = ""
    drafts: dict = dataclasses.field(default_factory=dict)  # uploads by job
    starting: set = dataclasses.field(default_factory=set)  # drafts whose start was not answered
    jobs: dict = dataclasses.field(default_factory=dict)  # how each stood when it was last seen
    removing: set = dataclasses.field(default_factory=set)  # jobs whose removal was not answered
    removed: list = dataclasses.field(default_factory=list)
    sources: set = dataclasses.field(default_factory=set)  # jobs that others were made of
    links: dict = dataclasses.field(default_factory=dict)  # job and number by path
    unlinking: set = dataclasses.field(default_factory=set)
    unlinked: list = dataclasses.field(default_factory=list)


class WebClient(threading.Thread):
    def __init__(self, service, journal, book, random, stop):
        super().__init__(daemon=True)
        self.service, self.journal, self.book, self.random, self.stop = service, journal, book, random, stop
        self.web = web.Web(service, book.token)

    def run(self):
        while not self.stop.is_set():
            action = self.random.choices(list(ACTIONS), list(ACTIONS.values()))[0]
            try:
                getattr(self, action)()
            except OSError:
                if not self.service.alive() or self.stop.is_set():
                    return
                self.journal.count("connections lost (HTTP)")
                self.stop.wait(PAUSE_S)
            except (AssertionError, ValueError, KeyError) as e:
                if not self.stop.is_set() and self.service.alive():
                    self.journal.problem(WRONG, f"HTTP {action}: {type(e).__name__}: {e}")

    def one(self, jobs):
        jobs = list(jobs)
        return self.random.choice(jobs) if jobs else None

    def in_state(self, *states):
        return [job for job, seen in self.book.jobs.items() if seen.get("state") in states]

    def pending(self):
        return len(self.in_state("queued", "running"))

    def taken(self, answer, what):
        """A job was made, or there was no place for it."""
        if answer.busy():
            self.journal.count("refused for want of a place (HTTP)")
            self.stop.wait(PAUSE_S)
            return None
        job = answer.expect(200, 201).json
        self.journal.submitted(USER, job["id"])
        self.book.jobs[job["id"]] = job
        self.journal.count(what)
        return job["id"]

    def picture(self):
        return inputs.noise(self.random.getrandbits(40))

    # Actions.

    def submit(self):
        if self.pending() >= PENDING:
            self.look()
            return
        pictures = [self.picture() for _ in range(self.random.choice((1, 1, 3)))]
        self.taken(self.web.submit(pictures), "jobs submitted (HTTP)")

    def draft(self):
        if len(self.book.drafts) >= DRAFTS:
            self.append()
            return
        job = self.web.draft()
        if job is None:
            return
        self.book.drafts[job] = []
        self.journal.count("jobs made empty")
        for _ in range(self.random.choice((1, 2))):
            self.announce(job)

    def announce(self, job):
        data = self.picture() + self.random.randbytes(self.random.randrange(LONG))
        name = f"{len(self.book.drafts[job])}.png"
        self.book.drafts[job].append(Upload(self.web.announce(job, name, len(data)), data))

    def append(self):
        """A part, or the start where all parts are there."""
        job = self.one(self.book.drafts.keys() - self.book.starting)
        if job is None:
            return
        if not self.book.drafts[job]:  # killed before the answer to an announcement
            self.announce(job)
        left = [upload for upload in self.book.drafts[job] if upload.kept < len(upload.data)]
        if not left:
            self.start_draft(job)
            return
        upload = left[0]
        offset = self.kept(upload)
        if offset is None or offset == len(upload.data):
            return
        size = self.random.choice((1, 1000, 100_000, LONG))
        part = upload.data[offset : offset + size]
        answer = self.web.append(upload.path, offset, part)
        if answer.status == 423:  # the part before, of which the end was not seen, is being flushed
            return
        upload.kept = int(answer.expect(204).headers["Upload-Offset"])
        if upload.kept != offset + len(part):
            self.journal.problem(WRONG, f"a part of {len(part)} bytes at {offset} ends at {upload.kept}")
        self.journal.count("parts")

    def kept(self, upload):
        """Compares what is there with what the server said before."""
        offset = self.web.offset(upload.path)
        if offset is None or offset < upload.kept:
            self.journal.problem(LOST, f"{upload.path}: {offset} of {upload.kept} bytes that were acknowledged")
            return None
        upload.kept = offset
        return offset

    def start_draft(self, job):
        self.book.starting.add(job)
        answer = self.web.ask("POST", f"/api/v1/jobs/{job}/start", b"")
        if self.taken(answer, "jobs started") is not None:
            del self.book.drafts[job]
        self.book.starting.discard(job)

    def rerun(self):
        source = self.one(set(self.in_state("done")) - self.book.removing)
        if source is None or self.pending() >= PENDING:
            return
        self.book.sources.add(source)
        options = {"conf_thres": round(self.random.uniform(1, 90), 6)}
        answer = self.web.ask("POST", f"/api/v1/jobs/{source}/rerun", options)
        self.taken(answer, "jobs run again")

    def link(self):
        job = self.one(set(self.in_state("done")) - self.book.removing)
        if job is None or len(self.book.links) >= 20:
            return
        made = self.web.ask("POST", f"/api/v1/jobs/{job}/links", {}).expect(201).json
        self.book.links[made["path"]] = (job, made["id"])
        self.book.sources.add(job)
        self.journal.count("links")

    def unlink(self):
        path = self.one(self.book.links.keys() - self.book.unlinking)
        if path is None:
            return
        job, number = self.book.links[path]
        self.book.unlinking.add(path)
        self.web.ask("DELETE", f"/api/v1/jobs/{job}/links/{number}").expect(204)
        self.unlinked(path)

    def unlinked(self, path):
        self.book.unlinking.discard(path)
        del self.book.links[path]
        self.book.unlinked.append(path)

    def remove(self):
        """A job that nothing else hangs on, with its result."""
        job = self.one(set(self.in_state("done", "failed", "cancelled")) - self.book.sources - self.book.removing)
        if job is None:
            return
        self.book.removing.add(job)
        with self.journal.lock:
            entry = self.journal.jobs.pop(job)
        self.journal.count("jobs removed")
        self.web.ask("DELETE", f"/api/v1/jobs/{job}").expect(204)
        self.removed(job, entry)

    def removed(self, job, _):
        seen = self.book.jobs.pop(job)
        self.book.removing.discard(job)
        self.book.removed.append(job)
        self.forget_file(seen)

    def forget_file(self, seen):
        digest = (seen.get("result") or {}).get("hash")
        with self.journal.lock:
            if digest in self.journal.files:
                self.journal.files[digest].deleted = True

    def cancel(self):
        job = self.one(self.in_state("queued", "running"))
        if job is None:
            return
        with self.journal.lock:
            entry = self.journal.jobs[job]
            entry.busy = True
        # Asked for first: a job that has ended meanwhile would be removed.
        seen = self.web.job(job).expect(200).json
        if seen["state"] not in ("queued", "running"):
            entry.busy = False
            self.book.jobs[job] = seen
            return
        self.book.removing.add(job)
        answer = self.web.ask("DELETE", f"/api/v1/jobs/{job}").expect(200, 204)
        with self.journal.lock:
            entry.busy = False
            if answer.status == 204:
                self.journal.jobs.pop(job)
            else:
                entry.cancelled = True
        if answer.status == 204:
            self.removed(job, entry)
            return
        self.book.removing.discard(job)
        self.book.jobs[job] = {**seen, "state": "cancelled"}
        self.journal.count("cancels (HTTP)")

    def look(self):
        for job in self.in_state("queued", "running")[:4]:
            self.book.jobs[job] = self.web.job(job).expect(200).json
        self.stop.wait(PAUSE_S / 4)


class Check(WebClient):
    """After a start: whether everything that was acknowledged is still so. What was not answered may have gone either way."""

    def __init__(self, service, journal, book, random):
        super().__init__(service, journal, book, random, threading.Event())

    def check(self):
        self.check_jobs()
        self.check_drafts()
        self.check_links()

    def check_jobs(self):
        for job in list(self.book.removing):
            answer = self.web.job(job)
            if answer.status == 200 and answer.json["state"] == "done" and not answer.json.get("result"):
                # Its file goes first: who asks again removes the rest.
                self.web.ask("DELETE", f"/api/v1/jobs/{job}").expect(204)
                answer = self.web.job(job)
            if answer.status == 404:
                with self.journal.lock:
                    self.journal.jobs.pop(job, None)
                self.removed(job, None)
            else:
                self.book.removing.discard(job)
                self.book.jobs[job] = seen = answer.expect(200).json
                self.journal.submitted(USER, job)
                self.journal.jobs[job].cancelled = seen["state"] == "cancelled"
        for job in self.book.removed[-10:]:
            if self.web.job(job).status != 404:
                self.journal.problem(BACK, f"removed job {job}")
        pending = self.in_state("queued", "running")
        done = [job for job in self.in_state("done") if job not in pending]
        for job in [*pending, *self.random.sample(done, min(4, len(done)))]:
            answer = self.web.job(job)
            if answer.status != 200:
                self.journal.problem(LOST, f"job {job} over HTTP: {answer.status} {answer.body[:200]}")
                continue
            self.book.jobs[job] = answer.json

    def check_drafts(self):
        for seen in self.web.ask("GET", "/api/v1/jobs").expect(200).json["jobs"]:
            if seen["state"] == "uploading" and seen["id"] not in self.book.drafts:
                # Made, and the answer did not come.
                self.web.ask("DELETE", f"/api/v1/jobs/{seen['id']}").expect(204)
        for job, uploads in list(self.book.drafts.items()):
            seen = self.web.job(job)
            if job in self.book.starting:
                self.book.starting.discard(job)
                if seen.status == 200 and seen.json["state"] != "uploading":
                    del self.book.drafts[job]
                    self.journal.submitted(USER, job)
                    self.book.jobs[job] = seen.json
                    continue
            if seen.status != 200 or seen.json["state"] != "uploading":
                self.journal.problem(LOST, f"draft {job}: {seen.status} {seen.body[:200]}")
                del self.book.drafts[job]
                continue
            for upload in uploads:
                self.kept(upload)
            known = {upload.path for upload in uploads}
            for path in {upload["url"] for upload in seen.json["uploads"]} - known:
                # Announced, and the answer did not come: the client does not know its path.
                self.web.ask("DELETE", path, headers=web.TUS).expect(204)

    def check_links(self):
        for path in list(self.book.unlinking):
            if self.web.ask("GET", path).status == 404:
                self.unlinked(path)
            self.book.unlinking.discard(path)
        for path in self.random.sample(sorted(self.book.links), min(5, len(self.book.links))):
            if (status := self.web.ask("GET", path).status) != 200:
                self.journal.problem(LOST, f"link to job {self.book.links[path][0]}: {status}")
        for path in self.book.unlinked[-5:]:
            if self.web.ask("GET", path).status != 404:
                self.journal.problem(BACK, "a removed link")

    def finish(self, seconds):
        """Fills and starts what is being filled, and waits for the results: the bytes must be those that were sent."""
        end = time.monotonic() + seconds
        while self.book.drafts and time.monotonic() < end:
            self.append()
        if self.book.drafts:
            self.journal.problem(LOST, f"{len(self.book.drafts)} drafts cannot be filled")
        for job, seen in self.book.jobs.items():
            if seen.get("state") != "done":
                continue
            answer = self.web.ask("GET", f"/api/v1/jobs/{job}/artifacts/glb")
            if answer.status != 200:
                self.journal.problem(LOST, f"result of job {job} over HTTP: {answer.status} {answer.body[:200]}")
                continue
            file = self.journal.files.get(seen["result"]["hash"])
            if file and digest_of(answer.body) != file.bytes_digest:
                self.journal.problem(LOST, f"job {job} has other bytes over HTTP")


def half_form(service, book, random):
    """Half of an upload has arrived."""
    body = web.form([bytes(1 << 20)])
    book.open = web.Web(service, book.token).begin("POST", "/api/v1/jobs", len(body), web.FORM, body[: len(body) // 2])
    return True


def half_part(service, book, random):
    """Half of a part has arrived."""
    client = web.Web(service, book.token)
    job = next((job for job, uploads in list(book.drafts.items()) if job not in book.starting and uploads), None)
    if job is None:
        return False
    upload = book.drafts[job][0]
    offset = client.offset(upload.path)
    left = upload.data[offset or 0 :]
    if len(left) < 2:
        return False
    headers = {**web.PART, "Upload-Offset": str(offset)}
    book.open = client.begin("PATCH", upload.path, len(left), headers, left[: len(left) // 2])
    time.sleep(random.uniform(0, 0.1))
    return True


def any_time(service, book, random):
    """Anything."""
    time.sleep(random.uniform(0.05, 1.5))
    return True


MOMENTS = (any_time, half_form, half_part)
