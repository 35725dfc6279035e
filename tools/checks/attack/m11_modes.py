"""M11: started by hand, everything could be read by every user of the machine."""

import os
import stat

from . import inputs, wire
from .finding import check, eventually, expect


@check("M11", "what the service creates is its user's alone", before="hashes, uploads and GLBs read as nobody")
def created(bench):
    umask = os.umask(0o022)
    try:
        service = bench.service("--no-cache")
        alice, sender = service.connect("alice"), service.connect("alice")
        digest, _ = alice.images([inputs.noise(1)])
        job = alice.submit(inputs.slow_to_decode(1, count=20))["job"]
        sender.send(wire.head(wire.VIDEO, 1 << 20) + b"private" * 1000)
        eventually(lambda: any((service.out / ".tmp").glob("*")), 5)
        alice.wait(job, 20, until=("running",))
        paths = [service.out, *service.out.rglob("*"), *service.folder.glob("service.db*")]
        open_ones = [path for path in paths if path.exists() and path.stat().st_mode & 0o077]
    finally:
        os.umask(umask)
    names = [f"{stat.filemode(path.stat().st_mode)} {path.relative_to(service.folder)}" for path in open_ones]
    expect(any(path.name == f"{digest}.glb" for path in paths), "the GLB is not where it was looked for")
    expect(not names, f"{len(names)} of {len(paths)} are open to others: {', '.join(names[:4])}")
    return f"{len(paths)} files and folders, none open to others"


@check("M11", "what exists keeps its mode and is warned about", before="no warning")
def existing(bench):
    service = bench.service(start=False)
    service.out.mkdir(exist_ok=True)
    service.out.chmod(0o755)
    service.start()
    mode = stat.S_IMODE(service.out.stat().st_mode)
    expect(mode == 0o755, f"the folder's mode became {mode:o}")
    warned = [line for line in service.log_text().splitlines() if "WARN" in line and str(service.out.name) in line]
    expect(warned, "no warning about a folder that others may read")
    return warned[0].strip()[-120:]
