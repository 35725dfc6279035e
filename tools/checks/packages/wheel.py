"""The wheel, in a new environment of the system's Python, without an index and without other packages."""

import os
import pathlib
import re
import shutil
import sys
import zipfile

from . import REPOSITORY, expect, is_glb, only, run, step

SYSTEM_PYTHON = "/usr/bin/python3"


def run_part(dist, folder):
    package = only(dist, "*.whl")
    python = SYSTEM_PYTHON if os.access(SYSTEM_PYTHON, os.X_OK) else sys.executable
    venv = folder / "venv"
    with step(f"python -m venv, of {run(python, '--version').strip()}"):
        run(python, "-m", "venv", venv)
    pip = [venv / "bin/pip", "--disable-pip-version-check", "--no-input"]
    with step("pip install --no-index"):
        run(*pip, "install", "--no-index", package)
        run(*pip, "check")
    # Nothing of this process's Python and of the sources.
    environment = {"PATH": f"{venv}/bin:/usr/bin:/bin", "HOME": str(folder)}
    with step("the wheel has the program and the package of this commit"):
        expect((venv / "bin/vggt").read_bytes() == (dist / "vggt").read_bytes(), "another program")
        installed = next(pathlib.Path(venv).glob("lib/python3*/site-packages/vggt_client"))
        for source in (REPOSITORY / "tools/python/vggt_client").glob("*.[pt]y*"):
            expect((installed / source.name).read_bytes() == source.read_bytes(), source.name)
        expect((venv / "share/man/man1/vggt.1").exists(), "no man page")
        expect((venv / "share/bash-completion/completions/vggt").exists(), "no completions")
        names = zipfile.ZipFile(package).namelist()
        expect(any(name.endswith(".dist-info/sboms/vggt.cdx.json") for name in names), names)
        expect(any(name.endswith("/licenses/LICENSES.txt") for name in names), names)
    with step("vggt --version"):
        expect(re.match(r"vggt \d", run("vggt", "--version", env=environment)), "no version")
    with step("vggt export --demo"):
        run("vggt", "export", "--demo", "--out", "demo.glb", env=environment, cwd=folder)
        expect(is_glb((folder / "demo.glb").read_bytes()), "no GLB")
    with step("the package needs no other, and says so where it does"):
        script = "import vggt_client, sys; assert 'numpy' not in sys.modules; vggt_client.load_predictions('x')"
        said = run(venv / "bin/python", "-c", script, env=environment, code=1)
        expect("No module named 'numpy'" in said and "vggt-native[numpy]" in said, said)
    with step("the package against a served demo: tools/checks/check_client.py"):
        check = [venv / "bin/python", REPOSITORY / "tools/checks/check_client.py", "--installed", "--no-numpy"]
        run(*check, "--program", shutil.which("vggt", path=str(venv / "bin")), env=environment, cwd=folder)
    with step("pip uninstall leaves nothing"):
        run(*pip, "uninstall", "--yes", "vggt-native")
        left = [path for path in venv.rglob("*vggt*") if path.is_file()]
        expect(not left, left)
