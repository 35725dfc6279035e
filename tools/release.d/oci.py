#!/usr/bin/env python3
"""Makes DIST/vggt-VERSION.oci.tar: the container image of the Containerfile, without a container engine.

    oci.py DIST --version VERSION

The archive is an OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/`), which podman, skopeo and containerd read, and
has the `manifest.json` that `docker load` wants. What is in the image is said once, in DIST/Containerfile: this reads the few
instructions that it has and stops at others. All files belong to root except where COPY says otherwise.

With SOURCE_DATE_EPOCH and VGGT_COMMIT set, the same files give the same bytes. Standard library only.
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import sys
import tarfile
from pathlib import Path

LAYOUT = {"imageLayoutVersion": "1.0.0"}
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
# Of zlib: more costs time and saves nothing here.
LEVEL = 6


class Unreadable(Exception):
    """The Containerfile has something that this does not know."""


class Image:
    """What the instructions of a Containerfile add up to: the files of one layer, and the settings."""

    def __init__(self, context):
        self.context, self.files, self.config = context, {}, {"Env": []}

    def follow(self, text):
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if line.strip() and not line.startswith("#"):
                instruction, _, rest = line.strip().partition(" ")
                follow = getattr(self, f"do_{instruction.lower()}", None)
                if follow is None:
                    raise Unreadable(f"cannot follow the instruction {line!r}")
                follow(rest.strip())
        return self

    def do_from(self, base):
        if base != "scratch":
            raise Unreadable(f"an image on top of {base!r} cannot be made without an engine; expected scratch")

    def do_copy(self, rest):
        *flags, to = shlex.split(rest)
        owner, sources = 0, []
        for word in flags:
            if word.startswith("--chown="):
                owner = int(word.removeprefix("--chown=").split(":")[0])
            elif word.startswith("--"):
                raise Unreadable(f"COPY has the flag {word}")
            else:
                sources.append(word)
        for source in sources:
            path = self.context / source
            if path.is_dir():
                # As engines have it: the content of a folder, and the folder that it goes to.
                self._add(to, path, owner)
                for below in sorted(path.rglob("*")):
                    self._add(os.path.join(to, below.relative_to(path)), below, owner)
            else:
                self._add(os.path.join(to, path.name) if to.endswith("/") else to, path, owner)

    def _add(self, to, path, owner):
        name = to.strip("/")
        for parent in reversed(Path(name).parents[:-1]):
            self.files.setdefault(str(parent), (None, 0))
        if name:
            self.files[name] = (path, owner)

    def do_user(self, user):
        self.config["User"] = user

    def do_workdir(self, folder):
        self.config["WorkingDir"] = folder

    def do_env(self, rest):
        self.config["Env"] += shlex.split(rest)

    def do_volume(self, folder):
        self.config.setdefault("Volumes", {})[folder] = {}

    def do_expose(self, port):
        self.config.setdefault("ExposedPorts", {})[f"{port}/tcp"] = {}

    def do_stopsignal(self, signal):
        self.config["StopSignal"] = signal

    def do_entrypoint(self, words):
        self.config["Entrypoint"] = json.loads(words)

    def do_cmd(self, words):
        self.config["Cmd"] = json.loads(words)

    def layer(self, time):
        """The files as a tar archive."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, (path, owner) in sorted(self.files.items()):
                entry = tarfile.TarInfo(name)
                entry.mtime, entry.uid, entry.gid = time, owner, owner
                if path is None or path.is_dir():
                    # As it is everywhere: all may write to /tmp, and delete what is theirs.
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                    tar.addfile(entry)
                else:
                    entry.size, entry.mode = path.stat().st_size, 0o755 if os.access(path, os.X_OK) else 0o644
                    with path.open("rb") as file:
                        tar.addfile(entry, file)
        return archive.getvalue()


class Layout:
    """An image layout that becomes one archive."""

    def __init__(self):
        self.members = {"oci-layout": encode(LAYOUT)}

    def blob(self, media_type, data):
        """Adds a blob; gives its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self.members[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def write(self, path, time):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for folder in ("blobs", "blobs/sha256"):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, time
                tar.addfile(entry)
            for name, data in sorted(self.members.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(data), 0o644, time
                tar.addfile(entry, io.BytesIO(data))


def encode(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def path_of(descriptor):
    return "blobs/" + descriptor["digest"].replace(":", "/")


def labels(version):
    return {
        "org.opencontainers.image.title": "vggt",
        "org.opencontainers.image.description": "Camera poses, depth and 3D points from photos or a video",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": os.environ.get("VGGT_COMMIT", "unknown"),
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
    }


def make(image, version, time):
    layout = Layout()
    tar = image.layer(time)
    layer = layout.blob(LAYER, gzip.compress(tar, LEVEL, mtime=0))
    created = datetime.datetime.fromtimestamp(time, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = layout.blob(
        CONFIG,
        encode(
            {
                "created": created,
                "architecture": "amd64",
                "os": "linux",
                "config": {**image.config, "Labels": labels(version)},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
                "history": [{"created": created, "created_by": "Containerfile"}],
            }
        ),
    )
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": labels(version)}
    described = layout.blob(MANIFEST, encode(manifest))
    # The image's name, as podman and as containerd look for it.
    described["annotations"] = {
        "org.opencontainers.image.ref.name": f"vggt:{version}",
        "io.containerd.image.name": f"docker.io/library/vggt:{version}",
    }
    described["platform"] = {"architecture": "amd64", "os": "linux"}
    layout.members["index.json"] = encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]})
    # Of `docker save`, by which older dockers and podman know the image's name.
    layout.members["manifest.json"] = encode(
        [{"Config": path_of(config), "RepoTags": [f"vggt:{version}"], "Layers": [path_of(layer)]}]
    )
    return layout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--version", required=True)
    args = parser.parse_args()
    time = int(os.environ.get("SOURCE_DATE_EPOCH", 0))
    image = Image(args.dist).follow((args.dist / "Containerfile").read_text())
    make(image, args.version, time).write(args.dist / f"vggt-{args.version}.oci.tar", time)


if __name__ == "__main__":
    try:
        main()
    except (Unreadable, OSError) as error:
        sys.exit(f"oci: {error}")
