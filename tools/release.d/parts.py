"""What is inside the programs of a release and no crate: cargo does not know of it."""

import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]


class Missing(Exception):
    """Something that a release must tell and that cannot be found."""


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_of(name, folders):
    """The one of a crate that there is in one version."""
    found = [folder for (crate, _), folder in folders.items() if crate == name]
    if len(found) != 1:
        raise Missing(f"there should be one crate {name}, and there are {len(found)}")
    return found[0]


@dataclass
class Part:
    """Something inside a program that is no crate."""

    name: str
    version: str
    license: str
    about: str
    purl: str
    texts: list = field(default_factory=list)  # files, or the text itself
    kind: str = "library"
    sources: list = field(default_factory=list)  # files that go along

    def component(self):
        component = {
            "type": self.kind,
            "bom-ref": self.purl,
            "name": self.name,
            "version": self.version,
            "description": self.about,
            "scope": "required",
            "licenses": [{"expression": self.license}],
            "purl": self.purl,
        }
        if self.sources:
            component["externalReferences"] = [
                {
                    "type": "distribution",
                    "url": f"sources/{quote(source.name)}",
                    "hashes": [{"alg": "SHA-256", "content": sha256(source)}],
                }
                for source in self.sources
            ]
        return component


def debian_source(prefix, name, license, about, texts):
    """A library that tools/ffmpeg_static built from Debian's source package."""
    descriptions = sorted((prefix / "sources").glob(f"{name}_*.dsc"))
    if len(descriptions) != 1:
        raise Missing(f"{prefix}/sources should hold one {name}_*.dsc, and holds {len(descriptions)}")
    fields = descriptions[0].read_text()
    version = re.search(r"^Version: (.*)$", fields, re.MULTILINE)[1]
    files = re.search(r"^Checksums-Sha256:\n((?: .*\n)+)", fields, re.MULTILINE)[1]
    sources = [descriptions[0]] + [prefix / "sources" / line.split()[2] for line in files.splitlines()]
    return Part(
        name,
        version,
        license,
        about,
        f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch=source",
        [prefix / text for text in texts],
        sources=[source for source in sources if source.exists()],
    )


def debian_package(file, name, license, about):
    """A static library of this machine, found by the file that was linked."""
    owner = run("dpkg-query", "--search", str(Path(file).resolve())).split(": ")[0]
    package = owner.split(":")[0]
    version = run("dpkg-query", "--show", "--showformat=${Version}", owner)
    return Part(
        name,
        version,
        license,
        about,
        f"pkg:deb/debian/{package}@{quote(version, safe='')}?arch=amd64",
        [Path("/usr/share/doc") / package / "copyright"],
    )


def archive_of_gcc(name):
    path = run("gcc", f"-print-file-name={name}").strip()
    if not os.path.isabs(path):
        raise Missing(f"gcc knows no {name}")
    return path


def web_parts():
    """What the web app is made of besides this project's own code, as tools/build_web found it in its bundles."""
    try:
        inside = json.loads((ROOT / "web/dist/licenses.json").read_text())
    except FileNotFoundError:
        raise Missing("web/dist/licenses.json is not there: run tools/build_web") from None
    return [
        Part(
            part["name"],
            part["version"],
            part["license"],
            "Part of the web app",
            f"pkg:npm/{quote(part['name'], safe='/')}@{part['version']}",
            [part["text"]],
        )
        for part in inside
    ]


def other_parts(static, ffmpeg, folders):
    """What cargo does not know. `static`: with the C library; `folders`: of the crates, by name and version."""
    sqlite_head = (folder_of("libsqlite3-sys", folders) / "sqlite3/sqlite3.h").read_text()
    sqlite = re.search(r'^#define SQLITE_VERSION +"(.*)"', sqlite_head, re.MULTILINE)[1]
    blessing = re.sub(
        r"^\*\* ?", "", re.search(r"The author disclaims.*?(?=^\*{5})", sqlite_head, re.M | re.S)[0], flags=re.M
    )
    font = next(folder_of("dejavu", folders).glob("assets/dejavu-fonts-ttf-*"))
    font_version = font.name.removeprefix("dejavu-fonts-ttf-")
    rust = run("rustc", "--version").split()[1]
    demo = ROOT / "model/demo/demo.safetensors"
    parts = [
        debian_source(
            ffmpeg,
            "ffmpeg",
            "LGPL-2.1-or-later",
            "libavcodec, libavformat, libavutil and libswscale, linked statically",
            ["FFmpeg-LICENSE.md", "FFmpeg-COPYING.LGPLv2.1"],
        ),
        debian_source(ffmpeg, "dav1d", "BSD-2-Clause", "The decoder of AV1, linked statically", ["dav1d-COPYING"]),
        debian_package(archive_of_gcc("libz.a"), "zlib", "Zlib", "Deflate, for FFmpeg, linked statically"),
        Part(
            "SQLite",
            sqlite,
            "blessing",
            "The database, inside the crate libsqlite3-sys",
            f"pkg:generic/sqlite@{sqlite}",
            [blessing],
        ),
        Part(
            "DejaVu Sans",
            font_version,
            "Bitstream-Vera",
            "The font of plots, inside the crate dejavu",
            f"pkg:generic/dejavu-fonts@{font_version}",
            [font / "LICENSE"],
            "data",
        ),
        Part(
            "Rust's standard library",
            rust,
            "MIT OR Apache-2.0",
            "With the crates that it is made of, under the same terms",
            f"pkg:generic/rust-std@{rust}",
            [ROOT / "LICENSE-APACHE"],
        ),
        Part(
            "vggt demo checkpoint",
            sha256(demo)[:12],
            "MIT OR Apache-2.0",
            "Weights of the --demo network, trained from scratch for this project; the version begins its SHA-256",
            f"pkg:generic/vggt-demo-checkpoint@{sha256(demo)[:12]}",
            [ROOT / "LICENSE-APACHE"],
            "machine-learning-model",
        ),
        debian_package(
            archive_of_gcc("libgcc_eh.a"),
            "libgcc",
            "GPL-3.0-or-later WITH GCC-exception-3.1",
            "The compiler's run-time library, linked statically; the exception leaves the program its own terms",
        ),
    ]
    parts += web_parts()
    if static:
        glibc = debian_package(
            archive_of_gcc("libc.a"), "glibc", "LGPL-2.1-or-later", "The C library, linked statically"
        )
        # Debian's notice names the LGPL without its text.
        glibc.texts.append(ffmpeg / "FFmpeg-COPYING.LGPLv2.1")
        parts.append(glibc)
    return parts
