"""The units of systemd, and the file of variables that they read."""

import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from steps import expect, step

from .compose import assignments

WORKER = "deploy/systemd/vggt-worker@.service"
SERVICE = "tools/release.d/vggt.service"
VARIABLES = "deploy/systemd/vggt.env.example"
INSTALLED = "/usr/local/bin/vggt"
DEVICES = ("cpu", "cuda:0")
# Where the sandboxes differ: a card's files, and code that its driver writes.
OF_CARDS = {"PrivateDevices", "MemoryDenyWriteExecute", "DeviceAllow", "DevicePolicy"}
SANDBOX = re.compile(r"Protect|Private|Restrict|SystemCall|Capability|Ambient|NoNew|Lock|Memory|Device|UMask|RemoveIPC|OOM|LimitNOFILE")


def settings(path):
    """Name and value of each line, in order."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [line.partition("=")[::2] for line in lines]


def check(root, program):
    variables = {name: " ".join(shlex.split(value)) for name, value in assignments((root / VARIABLES).read_text()).items()}
    options = {name: variables.pop(name) for name in list(variables) if re.match(r"VGGT_(SERVE|WORKER)_OPTIONS", name)}
    with step("systemd: the command lines of vggt"):
        for path in (WORKER, SERVICE):
            unit = dict(settings(root / path))
            for device in DEVICES:
                words = re.sub(r"\$(\w+)", lambda found: options[found[1]], unit["ExecStart"]).replace("%i", device).split()
                expect(words[0] == INSTALLED, f"{path}: {words[0]}")
                program.accepts(path, words[1:])
            program.knows(path, words[1], {name: value for name, value in variables.items() if value})
            program.has_time(path, words[1:], int(unit["TimeoutStopSec"]))
    with step("systemd: both units have the same sandbox"):
        worker, service = (
            [line for line in settings(root / path) if SANDBOX.match(line[0]) and line[0] not in OF_CARDS] for path in (WORKER, SERVICE)
        )
        differ = set(worker) ^ set(service)
        expect(sorted(worker) == sorted(service), f"different: {sorted(differ)}")
    if shutil.which("systemd-analyze"):
        with step("systemd-analyze verify"), tempfile.TemporaryDirectory(prefix="vggt-units-") as folder:
            for path in (WORKER, SERVICE):
                verify(root / path, Path(folder), program.path)
    else:
        print("left out: systemd-analyze verify, there is no systemd; tools/setup --tests installs it", flush=True)


def verify(path, folder, program):
    # It looks for the program. A template is read as it is, as one of a made-up instance.
    unit = folder / path.name
    unit.write_text(path.read_text().replace(f"={INSTALLED} ", f"={program} "))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    # Units of this machine that are loaded along may have faults of their own.
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    expect(not said and done.returncode == 0, "\n".join(said) or f"exit code {done.returncode}: {done.stderr.strip()}")
