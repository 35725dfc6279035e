"""Low: links that somebody planted under the names of temporary files were followed."""

import os
import subprocess

from . import inputs
from .finding import check, expect
from .service import StartFailed

PRECIOUS = "precious\n"
# Links under every name that the process's number gives, then the program under the same number.
PLANT = """
for n in "" $(seq -f -%g 200); do ln -s "$1/victim" "$1/.scene.glb.$$$n.tmp"; done
exec "$2" export --demo --max-frames 1 --out "$1/scene.glb"
"""


@check("low", "links under the names of temporary files", before="overwrote the link's target; later: refused to write")
def export(bench):
    victim = bench.folder / "victim"
    victim.write_text(PRECIOUS)
    done = subprocess.run(
        ["sh", "-c", PLANT, "sh", str(bench.folder), str(bench.program)], capture_output=True, text=True, check=False
    )
    expect(victim.read_text() == PRECIOUS, "vggt export overwrote the target of a link")
    expect(not (bench.folder / "scene.glb").is_symlink(), "the output is a link")
    expect(done.returncode == 0, f"names that are taken stop it: {done.stderr.strip()[-200:]}")
    return "written beside them, the target is as it was"


@check("low", "out/.lock and out/.tmp as links", before="target truncated, target's folder emptied")
def service(bench):
    victim, other = bench.folder / "victim", bench.folder / "other"
    victim.write_text(PRECIOUS)
    (other / "keep").mkdir(parents=True)
    (other / "keep/file").write_text(PRECIOUS)
    said = []
    for name, target in ((".lock", victim), (".tmp", other), (".jobs", other)):
        service = bench.service(folder=f"service{name}", start=False)
        service.out.mkdir(exist_ok=True)
        (service.out / name).unlink(missing_ok=True)
        (service.out / name).symlink_to(target)
        try:
            service.start(15)
            with service.connect("alice") as alice:
                alice.images([inputs.noise(1)])
            service.kill()
            said.append(f"{name}: starts")
        except StartFailed:
            said.append(f"{name}: refused")
        expect(victim.read_text() == PRECIOUS, f"{name}: the target of the link was truncated")
        expect((other / "keep/file").exists(), f"{name}: the folder that the link names was emptied")
        expect(os.listdir(other) == ["keep"], f"{name}: the folder that the link names holds {os.listdir(other)}")
    return ", ".join(said)
