"""What a server has acknowledged, as its clients remember it, and whether it is still true."""

import collections
import dataclasses
import hashlib
import threading

from . import wire

DIED = "died"  # stands in the reason of a job that failed since the server died three times while it ran
DEATHS = 3
# Ways to be wrong, as they are counted.
LOST, BACK, HALF, WRONG = "lost", "come back", "half-written", "wrong answer"


def digest_of(data):
    return hashlib.sha256(data).hexdigest()


@dataclasses.dataclass
class File:
    user: str
    bytes_digest: str
    public: bool = False
    deleted: bool = False
    busy: bool = False  # a request that changes it has not been answered


@dataclasses.dataclass
class Job:
    user: str
    cancelled: bool = False
    busy: bool = False
    deaths: int = 0  # of the server while the job ran
    bytes_digest: str = ""  # of its result, once it was fetched
    over: bool = False  # seen to be over; not looked at again before the end


class Journal:
    """Files and jobs by hash and number, for any number of clients at once."""

    def __init__(self):
        self.lock = threading.RLock()
        self.files, self.jobs = {}, {}
        self.counts, self.problems = collections.Counter(), []
        self.database_fails = False  # whether the database goes away while the server runs

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def problem(self, kind, text):
        with self.lock:
            self.problems.append((kind, text))

    # What clients were told.

    def stored(self, user, digest, data):
        if not wire.is_glb(data):
            self.problem(HALF, f"{user} is sent a GLB that is not whole: {digest}")
        with self.lock:
            # The cache gives the same file again, perhaps one that is being deleted.
            self.files.setdefault(digest, File(user, digest_of(data)))

    def submitted(self, user, job):
        with self.lock:
            self.jobs[job] = Job(user)

    def take_file(self, user, random):
        """A file of the user that nobody else changes meanwhile, marked as busy."""
        with self.lock:
            free = [digest for digest, file in self.files.items() if file.user == user and not (file.busy or file.deleted)]
            if not free:
                return None
            digest = random.choice(free)
            self.files[digest].busy = True
            return digest

    def take_job(self, user, random, cancelled=False):
        """A job that is not over as far as is known, or a cancelled one, marked as busy."""
        with self.lock:
            free = [
                number
                for number, job in list(self.jobs.items())[-20:]
                if (user is None or job.user == user) and not (job.busy or job.over) and job.cancelled == cancelled
            ]
            if not free:
                return None
            number = random.choice(free)
            self.jobs[number].busy = True
            return number

    def count_of_files(self, user):
        with self.lock:
            return sum(file.user == user and not file.deleted for file in self.files.values())

    def count_of_pending(self, user):
        with self.lock:
            return sum(job.user == user and not (job.over or job.cancelled) for job in self.jobs.values())

    # Whether it is still so. Requests that were on their way when the server died may have gone either way.

    def settle(self, listed):
        """Takes what is there for files whose request was not answered; `listed` are the users' lists by hash."""
        with self.lock:
            for digest, file in self.files.items():
                if not file.busy:
                    continue
                file.busy = False
                found = listed[file.user].get(digest)
                file.deleted = found is None
                file.public = bool(found and found["public"])

    def check_files(self, listed):
        for digest, file in self.files.items():
            found = listed[file.user].get(digest)
            if file.deleted and found:
                self.problem(BACK, f"deleted file {digest} of {file.user}")
            elif not file.deleted and not found:
                self.problem(LOST, f"file {digest} of {file.user}")
            elif found and found["public"] != file.public:
                self.problem(LOST, f"visibility of {digest} of {file.user}")

    def check_bytes(self, connection, digest):
        file = self.files[digest]
        data = connection.get(digest)
        if self.database_fails and data.startswith(b"ERROR_INTERNAL"):
            return
        if digest_of(data) != file.bytes_digest:
            kind = HALF if data[:4] == b"glTF" else LOST
            self.problem(kind, f"file {digest} of {file.user}: {len(data)} other bytes: {data[:60]}")

    def check_job(self, connection, number, job, status):
        """A job's status against what was acknowledged."""
        if self.database_fails and status.get("error") == "ERROR_INTERNAL":
            return
        state = status.get("state")
        if job.busy:
            # A cancel that was not answered: what it is now holds from now on.
            job.busy = False
            job.cancelled = state == "cancelled"
        if "error" in status:
            self.problem(LOST, f"job {number}: {status}")
        elif job.cancelled and state != "cancelled":
            self.problem(BACK, f"cancelled job {number}: {status}")
            job.cancelled = False  # told once
        elif not job.cancelled and state == "cancelled":
            self.problem(LOST, f"job {number} was cancelled by nobody")
        elif state == "failed":
            self._check_failed(number, job, status)
        elif state == "done" and not job.over:
            self._check_result(connection, number, job, status["hash"])
        job.over = state in wire.OVER and not job.cancelled

    def _check_failed(self, number, job, status):
        reason = status.get("reason", "")
        if DIED not in reason:
            self.problem(LOST, f"job {number} failed: {reason}")
        elif job.deaths < DEATHS:
            self.problem(LOST, f"job {number} failed after {job.deaths} deaths: {reason}")
        else:
            self.count("failed after three deaths")

    def _check_result(self, connection, number, job, digest):
        if (file := self.files.get(digest)) and (file.deleted or file.busy):
            return
        data = connection.get(digest)
        if not wire.is_glb(data):
            self.problem(LOST, f"job {number} is done, its file {digest}: {data[:60]}")
            return
        self.stored(job.user, digest, data)
        self.count("results fetched")
