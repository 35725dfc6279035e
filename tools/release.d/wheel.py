#!/usr/bin/env python3
"""Makes DIST/vggt_native-VERSION-py3-none-....whl: the program for pip, and the Python package vggt_client.

    wheel.py DIST --version VERSION --texts FOLDER

The program is a script of the wheel, so `vggt` starts without Python. The tags name every Linux on x86-64 that pip knows, since a
static program needs no library of the system: manylinux for those with glibc (2.17, whose systems have the oldest kernels that
such tags cover; 2014 is its older name, for pip before 20.3) and musllinux for those with musl, such as Alpine. FOLDER holds the
man pages and completions of write_texts in lib.sh, which go where a user's or a system's man and shells look.

With SOURCE_DATE_EPOCH set, the same files give the same bytes. Standard library only.
"""

import argparse
import base64
import hashlib
import os
import re
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "vggt_native"
PACKAGE = ROOT / "tools/python/vggt_client"
PLATFORMS = ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "musllinux_1_1_x86_64"]
# The oldest time that a ZIP archive can hold.
EARLIEST = 315532800
METADATA = """\
Metadata-Version: 2.1
Name: vggt-native
Version: {version}
Summary: Camera poses, depth maps and 3D points from photos or a video: the program vggt, and a Python client
License: MIT OR Apache-2.0
Keywords: vggt,3d-reconstruction,depth,camera-pose
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Classifier: Programming Language :: Rust
Classifier: Typing :: Typed
Requires-Python: >=3.9
Provides-Extra: numpy
Requires-Dist: numpy; extra == "numpy"
License-File: LICENSE-MIT
License-File: LICENSE-APACHE
License-File: LICENSES.txt
Description-Content-Type: text/markdown

{description}"""
WHEEL = """\
Wheel-Version: 1.0
Generator: vggt (tools/release.d/wheel.py)
Root-Is-Purelib: false
{tags}"""


class Wheel:
    """A ZIP archive with a record of what is in it."""

    def __init__(self, path, version, when):
        self.archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.info = f"{NAME}-{version}.dist-info"
        self.data = f"{NAME}-{version}.data"
        self.time = time.gmtime(max(when, EARLIEST))[:6]
        self.record = []

    def add(self, name, content, mode=0o644):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        self.record.append(f"{name},sha256={digest},{len(content)}\n")
        self._write(name, content, mode)

    def _write(self, name, content, mode=0o644):
        entry = zipfile.ZipInfo(name, self.time)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.create_system = 3  # Unix, whose modes follow
        entry.external_attr = (0o100000 | mode) << 16
        self.archive.writestr(entry, content)

    def close(self):
        name = f"{self.info}/RECORD"
        self._write(name, "".join([*self.record, f"{name},,\n"]).encode())
        self.archive.close()


def check_version(version):
    """The package names it too, for those who ask it at run time."""
    found = re.search(r'^__version__ = "(.*)"$', (PACKAGE / "__init__.py").read_text(), re.MULTILINE)
    if not found or found[1] != version:
        sys.exit(f"wheel: {PACKAGE}/__init__.py should say __version__ = {version!r}, as Cargo.toml does")


def make(dist, version, texts, when):
    tags = [f"py3-none-{platform}" for platform in PLATFORMS]
    path = dist / f"{NAME}-{version}-py3-none-{'.'.join(PLATFORMS)}.whl"
    wheel = Wheel(path, version, when)
    for file in sorted(PACKAGE.iterdir()):
        if file.suffix in (".py", ".typed") or file.name == "py.typed":
            wheel.add(f"vggt_client/{file.name}", file.read_bytes())
    wheel.add(f"{wheel.data}/scripts/vggt", (dist / "vggt").read_bytes(), 0o755)
    shared = [(f"man/man1/{page.name}", page) for page in sorted(texts.glob("man/*.1"))] + [
        ("bash-completion/completions/vggt", texts / "vggt.bash"),
        ("zsh/site-functions/_vggt", texts / "vggt.zsh"),
        ("fish/vendor_completions.d/vggt.fish", texts / "vggt.fish"),
    ]
    for name, file in shared:
        wheel.add(f"{wheel.data}/data/share/{name}", file.read_bytes())
    for file in (ROOT / "LICENSE-MIT", ROOT / "LICENSE-APACHE", dist / "LICENSES.txt"):
        wheel.add(f"{wheel.info}/licenses/{file.name}", file.read_bytes())
    wheel.add(f"{wheel.info}/licenses/RELINK.md", (dist / "RELINK.md").read_bytes())
    wheel.add(f"{wheel.info}/sboms/vggt.cdx.json", (dist / "vggt.cdx.json").read_bytes())
    description = (ROOT / "tools/python/README.md").read_text()
    wheel.add(f"{wheel.info}/METADATA", METADATA.format(version=version, description=description).encode())
    wheel.add(f"{wheel.info}/WHEEL", WHEEL.format(tags="".join(f"Tag: {tag}\n" for tag in tags)).encode())
    wheel.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--texts", type=Path, required=True)
    args = parser.parse_args()
    check_version(args.version)
    make(args.dist, args.version, args.texts, int(os.environ.get("SOURCE_DATE_EPOCH", 0)))


if __name__ == "__main__":
    main()
