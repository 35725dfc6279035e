"""A server of its own for each check, on a free port of loopback with its own database and folder, and its operator."""

import os
import pathlib
import re
import select
import signal
import sqlite3
import subprocess
import time

from . import wire

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
DEMO_WEIGHTS = ("--demo",)
DECODER = "decode-worker"  # what the child process that decodes is called
START_S = 60  # longest start; it takes tenths of a second where nothing else runs
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class StartFailed(Exception):
    """The server ended, or printed no port; says what it wrote."""


def children(pid):
    """The processes that `pid` started and that have not been waited for, and theirs."""
    found = []
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # the process ended meanwhile
        return found
    for task in tasks:
        try:
            found += map(int, task.read_text().split())
        except OSError:  # the thread ended meanwhile
            continue
    return found + [grandchild for child in found for grandchild in children(child)]


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def is_decoder(pid):
    return DECODER.encode() in command_line(pid)[1:3]


def resident_mib(pid):
    """Memory of a process, in MiB; 0 once it has ended."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB / 1024
    except (OSError, IndexError):
        return 0


class Service:
    """`vggt serve` with the bundled weights, started by `start()`.

    `prefix` is a command line in front of the program's; it must start the program as its only child, or become it.
    `stderr` is a file or a handle for the log, by default a file in the folder. `environment` is added to the process's.
    """

    def __init__(self, program, folder, *options, host="127.0.0.1", users=("alice", "bob"), db=None, out=None,
                 weights=DEMO_WEIGHTS, prefix=(), stderr=None, environment=None, before=None):  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.program, self.folder, self.options, self.host = program, folder, options, host
        self.db, self.out = db or folder / "service.db", out or folder / "out"
        self.weights, self.prefix, self.stderr, self.before = weights, prefix, stderr, before
        self.environment = {**os.environ, **(environment or {})}
        self.log, self.process, self.port = folder / "log", None, 0
        self.log_before = 0  # length of the log before the last start
        for user in users:
            self.command("user", "add", user, "--password-stdin", stdin=wire.password_of(user) + "\n")

    # What an operator does.

    def command(self, *words, code=0, stdin="", timeout=120, out=None, **how):
        """Runs `vggt WORDS` on this database and folder; gives what it printed. `code` None accepts every exit code."""
        args = [self.program, *words, "--db", self.db, "--out-root", out or self.out]
        done = subprocess.run(
            list(map(str, args)), input=stdin, text=True, capture_output=True, timeout=timeout, env=self.environment, **how
        )
        if code is not None and done.returncode != code:
            raise AssertionError(f"vggt {' '.join(map(str, words))}: exit code {done.returncode}: {done.stderr.strip()}")
        return done if code is None else done.stdout

    def has_command(self, name):
        """Whether the program has such a subcommand."""
        said = subprocess.run([self.program, "--help"], capture_output=True, text=True, check=True).stdout
        return re.search(rf"^  {name}\b", said, re.M) is not None

    def rows(self, query, *values):
        """What SQLite says; for looking, and for what another program might do to the database."""
        with sqlite3.connect(self.db, timeout=30) as database:
            found = database.execute(query, values).fetchall()
        database.close()
        return found

    # The process.

    def start(self, seconds=START_S):
        args = [*self.prefix, self.program, "serve", "--host", self.host, "--port", self.port, "--db", self.db]
        args += ["--out-root", self.out, *self.weights, *self.options]
        self.log_before = len(self.log_text())
        log = self.stderr if self.stderr is not None else self.log.open("ab")
        try:
            self.process = subprocess.Popen(
                list(map(str, args)), stdout=subprocess.PIPE, stderr=log, env=self.environment, preexec_fn=self.before
            )
        finally:
            if self.stderr is None:
                log.close()
        self.port = self._printed_port(seconds)
        return self

    def _printed_port(self, seconds):
        printed, end = b"", time.monotonic() + seconds
        while b"\n" not in printed and time.monotonic() < end:
            if not select.select([self.process.stdout], [], [], 0.1)[0]:
                continue
            if not (more := os.read(self.process.stdout.fileno(), 4096)):
                break
            printed += more
        if found := re.search(rb"port (\d+)\n", printed):
            return int(found[1])
        code = self._finish(5)
        raise StartFailed(f"exit code {code}: {self.log_text()[-1500:].strip()}")

    def _finish(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    @property
    def pid(self):
        """Of the server itself."""
        return self._inner() or self.process.pid

    def _inner(self):
        if not self.prefix:
            return None
        found = [pid for pid in children(self.process.pid) if not is_decoder(pid)]
        return found[0] if found else None

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9, as a crash or the kernel would."""
        if not self.process:
            return
        for pid in {self.pid, self.process.pid}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process.stdout.close()

    def stop(self, seconds=60, by=signal.SIGTERM):
        """Ends it in good order; gives the exit code, None if it does not end in so many seconds."""
        os.kill(self.pid, by)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self.process.stdout.close()
        return code

    def restart(self):
        self.kill()
        return self.start()

    # What is seen from outside.

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def decoders(self):
        """The child processes that decode, by number."""
        return [pid for pid in children(self.pid) if is_decoder(pid)]

    def memory_mib(self):
        """Of the server and of its children."""
        return sum(map(resident_mib, [self.pid, *children(self.pid)]))

    def own_memory_mib(self):
        return resident_mib(self.pid)

    def handles(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def connect(self, user=None, **how):
        """A connection, logged in if a user is named."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        connection = wire.Connection(self.port, **{"host": host, **how})
        if user and not connection.login(user):
            connection.close()
            raise AssertionError(f"{user} cannot log in")
        return connection
