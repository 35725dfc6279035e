"""What a check of a finding is, and what it is given: a folder, servers, and what only some systems let it have."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable

from .service import Service

CHECKS = []
MEMORY_GROUPS = pathlib.Path("/sys/fs/cgroup/memory")  # control groups of version 1


class Failed(AssertionError):
    """The service does not hold; says what happened instead."""


class LeftOut(Exception):
    """This system lacks what the check needs; says what."""


def expect(condition, otherwise):
    if not condition:
        raise Failed(otherwise)


def attempt(act):
    """What `act` returns, or its error as text: for lines of figures."""
    try:
        return act()
    except (OSError, EOFError, ValueError, KeyError, AssertionError) as e:
        return f"{type(e).__name__}: {e}"


def eventually(condition, seconds, every=0.02):
    """Whether `condition()` becomes true within so many seconds."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(every)
    return bool(true)


@dataclasses.dataclass(frozen=True)
class Check:
    """One attack; `run` gets a `Bench`, returns a line of figures and raises `Failed` where the service does not hold."""

    finding: str
    title: str
    before: str
    run: Callable
    long: bool

    @property
    def name(self):
        return f"{self.run.__module__.rpartition('.')[2]}.{self.run.__name__}"


def check(finding, title, *, before, long=False):
    """Declares a check. `before` is what was seen when the finding was made; `long` ones need `run --all`."""

    def declare(run):
        CHECKS.append(Check(finding, title, before, run, long))
        return run

    return declare


class Bench(contextlib.ExitStack):
    """A folder and servers that are gone afterwards, whatever happened."""

    def __init__(self, program, folder):
        super().__init__()
        self.program, self.folder, self.services = program, folder, []
        folder.mkdir(parents=True)
        self.callback(shutil.rmtree, folder, ignore_errors=True)

    def service(self, *options, folder="service", start=True, **how):
        service = Service(self.program, self.folder / folder, *options, **how)
        self.services.append(service)
        self.callback(service.kill)
        return service.start() if start else service

    def run(self, *words, timeout=120, **how):
        """The program itself; gives subprocess's result with all that it printed."""
        args = [str(self.program), *map(str, words)]
        return subprocess.run(args, capture_output=True, text=True, errors="replace", timeout=timeout, **how)

    def option(self, names, command="serve"):
        """The option whose name matches `names`; a program without it has not been mended."""
        said = self.run(command, "--help").stdout
        found = re.search(rf"--(?:{names})(?= |$)", said, re.M)
        expect(found, f"`vggt {command}` has no option --{names}")
        return found[0]

    def tmpfs(self, name, mib):
        """A small disk of its own."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            raise LeftOut(f"cannot mount a tmpfs: {done.stderr.strip()}")
        self.callback(subprocess.run, ["umount", "-l", folder], capture_output=True)
        return folder

    def memory_group(self, mib):
        """A function that puts the process which calls it, and its children, under a limit of memory."""
        group = MEMORY_GROUPS / f"vggt-attack-{os.getpid()}"
        try:
            group.mkdir()
            self.callback(eventually, lambda: removed(group), 5)
            (group / "memory.limit_in_bytes").write_text(str(mib << 20))
        except OSError as e:
            raise LeftOut(f"no control group of version 1 can be made: {e}") from None
        return lambda: (group / "cgroup.procs").write_text(str(os.getpid()))

    def panics(self):
        """The first line of each panic in the servers' logs."""
        lines = (line for service in self.services for line in service.log_text().splitlines())
        return [line for line in lines if "panicked" in line]


def removed(group):
    """Removes a control group; only works once its processes are gone."""
    try:
        group.rmdir()
    except OSError:
        return not group.exists()
    return True
