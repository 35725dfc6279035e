"""M8: in a container half-written files were never swept, since process 1 always lives."""

import os

from . import inputs
from .finding import check, expect


@check("M8", "half-written files of process 1 are found and swept", before="11 files, 40 MB, after 25 kills in a container")
def process_one(bench):
    service = bench.service()
    with service.connect("alice") as alice:
        digest, _ = alice.images([inputs.noise(1)])
    day = next(service.out.rglob(f"{digest}.glb")).parent
    service.kill()
    # As versions before left them: process 1 was the server, and the number of this process is one that lives as well.
    left = [day / f".{'e' * 64}.glb.{pid}.tmp" for pid in (1, os.getpid())]
    for path in left:
        path.write_bytes(b"glTF half")
    said = service.command("check", code=None).stdout
    service.start()
    still = [path.name[-12:] for path in left if path.exists()]
    expect(not still, f"left after a start: {still}; vggt check said: {said.strip().splitlines()[-1:]}")
    with service.connect("alice") as alice:
        expect(len(alice.files()) == 1, "the whole file is gone too")
    return "2 of 2 swept at the start"
