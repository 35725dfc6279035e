"""A PostgreSQL server of a check's own: a cluster in a folder, on the loopback interface alone, that can be killed."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

START_S = 30
SETTINGS = ("listen_addresses=127.0.0.1", "ssl=off", "max_connections=200")


def programs():
    """Where Debian has the server's programs."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise SystemExit("no PostgreSQL: tools/setup --tests installs it")
    return found[-1].parent


class Cluster:
    def __init__(self, folder):
        self.bin, self.folder = programs(), folder
        folder.mkdir(mode=0o755)
        # It refuses to run as root; Debian's package makes the user.
        self.as_user = ()
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            folder.parent.chmod(0o755)
            self.as_user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None
        self.run("initdb", "--pgdata", folder / "data", "--username=vggt", "--auth=trust", "--encoding=UTF8", "--locale=C")

    def run(self, name, *args, as_user=True):
        words = [*(self.as_user if as_user else ()), self.bin / name, *args]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd="/", check=False)
        if done.returncode:
            raise AssertionError(f"{name}: {done.stderr.strip()}")
        return done.stdout

    def url(self, database="postgres"):
        return f"postgres://vggt@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def query(self, query, database="postgres"):
        """Rows as tuples of texts."""
        told = self.run("psql", self.url(database), "-qAtX", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", query, as_user=False)
        return [tuple(line.split("\t")) for line in told.splitlines()]

    def start(self):
        end = time.monotonic() + START_S
        options = [word for setting in (*SETTINGS, f"unix_socket_directories={self.folder}") for word in ("-c", setting)]
        while time.monotonic() < end:
            with (self.folder / "log").open("ab") as log:
                words = [*self.as_user, self.bin / "postgres", "-D", self.folder / "data", "-p", self.port, *options]
                self.process = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log, cwd="/")
            while self.process.poll() is None:
                if not subprocess.call([self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]):
                    return self
                time.sleep(0.02)
            # The children of one that was killed are about to end.
            time.sleep(0.1)
        raise AssertionError(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-500:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(START_S)
