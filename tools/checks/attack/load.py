"""Clients that mix every kind of request and note in a journal what was acknowledged."""

import json
import random
import threading

from . import inputs, wire
from .journal import WRONG, digest_of

FEW, MANY = 1, 3  # images of a request
PAUSE_S = 0.3  # of a client that the queue has no place for
LOST_PAUSE_S = 0.1  # until a client tries again, unless it is stopped meanwhile
PENDING = 6  # jobs of a user; more would only wait
REFUSED = "ERROR_"


def is_unknown(answer):
    """Whether the server failed, as without its database: nothing is acknowledged, and it may have gone either way. What was asked about
    stays marked as busy until the next look."""
    return answer.get("error") == "ERROR_INTERNAL"


class Client(threading.Thread):
    """One client; `actions` are names of methods below with their weights."""

    def __init__(self, service, journal, user, actions, seed, stop, files=None):
        super().__init__(daemon=True)
        self.service, self.journal, self.user, self.stop = service, journal, user, stop
        self.random = random.Random(seed)
        self.names, self.weights = list(actions), list(actions.values())
        self.files = files  # how many it keeps: more are deleted
        self.connection = None

    def run(self):
        while not self.stop.is_set():
            try:
                if self.connection is None:
                    self.connection = self.service.connect(self.user)
                    self.journal.count("logins")
                getattr(self, self.next_action())()
            except (OSError, EOFError):
                # Killed, or this client was: every other cause is found by looking at what is there afterwards.
                self.leave()
                if not self.service.alive():
                    return
                if not self.stop.wait(LOST_PAUSE_S):
                    self.journal.count("connections lost")
            except (AssertionError, ValueError, KeyError) as e:
                if not self.stop.is_set() and self.service.alive():
                    self.journal.problem(WRONG, f"{self.user}: {type(e).__name__}: {e}")
                self.leave()
        self.leave()

    def next_action(self):
        if self.files is not None and self.journal.count_of_files(self.user) > self.files:
            return "delete"
        return self.random.choices(self.names, self.weights)[0]

    def leave(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    # Actions.

    def pictures(self):
        return [inputs.noise(self.random.getrandbits(40)) for _ in range(self.random.choice((FEW, FEW, MANY)))]

    def new_clip(self):
        # Bytes behind the last box make it another input, and no other video.
        return inputs.clip() + self.random.randbytes(8)

    def take(self, digest, data):
        if digest:
            self.journal.stored(self.user, digest, data)
            self.journal.count("reconstructions")
        else:
            self.refused(data.decode(errors="replace"))

    def refused(self, text):
        """A refusal for want of a place is an answer, and a failure while the database is away; any other is wrong."""
        if self.journal.database_fails and any(words in text for words in ("database failed", "could not store", "could not keep")):
            self.journal.count("refused without the database")
            self.stop.wait(PAUSE_S)
            return
        if not text.startswith(REFUSED) or "busy" not in text:
            self.journal.problem(WRONG, f"{self.user}: {text[:200]}")
        self.journal.count("refused for want of a place")
        self.stop.wait(PAUSE_S)

    def images(self):
        self.take(*self.connection.images(self.pictures()))

    def video(self):
        self.take(*self.connection.video(self.new_clip()))

    def submit(self):
        if self.journal.count_of_pending(self.user) >= PENDING:
            self.status()
            self.stop.wait(PAUSE_S)
            return
        upload = {"video": self.new_clip()} if self.random.random() < 0.2 else {"images": self.pictures()}
        answer = self.connection.submit(**upload)
        if "job" in answer:
            self.journal.submitted(self.user, answer["job"])
            self.journal.count("jobs submitted")
        else:
            self.refused(f"{answer.get('error')}: {answer.get('reason')}")

    def status(self):
        """Looks at the last jobs; those that are done become files like others."""
        with self.journal.lock:
            jobs = [(number, job) for number, job in self.journal.jobs.items() if job.user == self.user and not job.over]
        for number, job in jobs[-8:]:
            status = self.connection.status(number)
            with self.journal.lock:
                if not (job.busy or job.cancelled or job.over):
                    self.journal.check_job(self.connection, number, job, status)

    def cancel(self):
        number = self.journal.take_job(self.user, self.random)
        if number is None:
            return
        answer = self.connection.cancel(number)
        if is_unknown(answer):
            return
        state = answer.get("state")
        with self.journal.lock:
            job = self.journal.jobs[number]
            job.busy = False
            # Whatever it still does: it has been promised that it does not come to an end.
            job.cancelled = state not in ("done", "failed")
        self.journal.count("cancels" if job.cancelled else "cancels that came too late")

    def delete(self):
        digest = self.journal.take_file(self.user, self.random)
        if digest is None:
            return
        answer = self.connection.delete(digest)
        if is_unknown(answer):
            return
        if not answer.get("deleted"):
            self.journal.problem(WRONG, f"{self.user}: delete of {digest}: {answer}")
        with self.journal.lock:
            self.journal.files[digest].deleted = True
            self.journal.files[digest].busy = False
        self.journal.count("deletes")

    def publish(self):
        digest = self.journal.take_file(self.user, self.random)
        if digest is None:
            return
        public = self.random.random() < 0.5
        answer = self.connection.publish(digest, public)
        if is_unknown(answer):
            return
        if answer.get("public") != public:
            self.journal.problem(WRONG, f"{self.user}: visibility of {digest}: {answer}")
        with self.journal.lock:
            self.journal.files[digest].public = public
            self.journal.files[digest].busy = False
        self.journal.count("visibility changes")

    def fetch(self):
        digest = self.journal.take_file(self.user, self.random)
        if digest is None:
            return
        data = self.connection.get(digest)
        with self.journal.lock:
            file = self.journal.files[digest]
            file.busy = False
        if self.journal.database_fails and data.startswith(b"ERROR_INTERNAL"):
            self.journal.count("refused without the database")
        elif digest_of(data) != file.bytes_digest:
            self.journal.problem(WRONG, f"{self.user}: other bytes of {digest}: {data[:60]}")
        self.journal.count("fetches")

    def list(self):
        """All pages, small ones; a file of this user that nobody changes must be there."""
        digest = self.journal.take_file(self.user, self.random)
        listed = {file["hash"] for file in self.connection.all_files(limit=5)}
        if digest is not None:
            self.journal.files[digest].busy = False
            if digest not in listed:
                self.journal.problem(WRONG, f"{self.user}: the list lacks {digest}")
        self.journal.count("lists")

    def info(self):
        if self.connection.info().get("protocol") != 2:
            self.journal.problem(WRONG, "info")
        self.journal.count("infos")

    def again(self):
        """Closes the connection and logs in on another."""
        self.leave()

    def abort(self):
        """Leaves in the middle of an upload, or before its answer."""
        payload = wire.images_payload(self.pictures())
        if self.random.random() < 0.7:
            self.connection.send(wire.head(wire.IMAGES, len(payload)) + payload[: self.random.randrange(len(payload))])
        else:
            self.connection.request(wire.IMAGES, payload)
        self.leave()
        self.journal.count("aborted requests")

    def wrong_password(self):
        """For a name of its own, so that nobody is slowed down by it."""
        with self.service.connect(source=f"127.0.0.{self.random.randrange(100, 200)}") as connection:
            connection.request(wire.LOGIN, json.dumps({"u": "nobody", "p": "wrong"}).encode())
            if json.loads(connection.blob())[0]:
                self.journal.problem(WRONG, "a wrong password is accepted")
        self.journal.count("wrong passwords")


def start(service, journal, clients, users, actions, seed, files=None):
    """Starts so many clients; gives the event that stops them, and the threads."""
    stop = threading.Event()
    threads = [
        Client(service, journal, users[number % len(users)], actions, f"{seed} {number}", stop, files)
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    return stop, threads
