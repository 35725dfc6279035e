"""The container's image: what skopeo reads of it, and the program in its unpacked root."""

import hashlib
import json
import os
import re
import subprocess

from . import PASSWORD, as_user, expect, is_glb, only, round_trip, run, served, step

# /etc/containers/policy.json need not be there.
COPY = ("skopeo", "--insecure-policy", "copy", "--quiet")


def run_part(dist, folder):
    archive = only(dist, "*.oci.tar")
    version = re.search(r"vggt-(.*)\.oci\.tar", archive.name)[1]
    layout = folder / "layout"
    layout.mkdir()
    with step("the archive: a layout whose blobs are what their names say"):
        run("tar", "--extract", "--file", archive, "--directory", layout)
        for blob in (layout / "blobs/sha256").iterdir():
            expect(hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name, blob.name)
    name = f"{layout}:vggt:{version}"
    with step("skopeo inspect, of the layout and of the archive"):
        for source in (f"oci:{name}", f"oci-archive:{archive}", f"docker-archive:{archive}:vggt:{version}"):
            said = json.loads(run("skopeo", "inspect", source))
            expect((said["Architecture"], said["Os"], len(said["Layers"])) == ("amd64", "linux", 1), said)
            expect(said["Labels"]["org.opencontainers.image.version"] == version, said)
    with step("skopeo copy, to a folder and as docker has it"):
        run(*COPY, f"oci:{name}", f"dir:{folder}/dir")
        run(*COPY, f"oci-archive:{archive}", f"docker-archive:{folder}/docker.tar:vggt:{version}")
        run(*COPY, f"docker-archive:{archive}:vggt:{version}", f"oci:{folder}/back:vggt")
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{name}"))["config"]
    root = folder / "root"
    with step("the root: as the layer has it"):
        manifest = json.loads((folder / "dir/manifest.json").read_text())
        root.mkdir()
        for layer in manifest["layers"]:
            blob = folder / "dir" / layer["digest"].removeprefix("sha256:")
            run("tar", "--extract", "--gzip", "--numeric-owner", "--preserve-permissions", "--file", blob, "--directory", root)
        top = {path.name for path in root.iterdir()}
        expect(top == {"vggt", "etc", "tmp", "data", "usr"}, top)
        expect((root / "tmp").stat().st_mode & 0o7777 == 0o1777, "/tmp")
        expect((root / "vggt").read_bytes() == (dist / "vggt").read_bytes(), "another program")
    in_the_root(root, config)


def in_the_root(root, config):
    user, group = map(int, config["User"].split(":"))
    expect(f"vggt:x:{user}:{group}:" in (root / "etc/passwd").read_text(), "no such user")
    expect((root / "data").stat().st_uid == user != 0, "/data belongs to another")
    environment = dict(line.split("=", 1) for line in config["Env"])
    how = {"preexec_fn": as_user(root, config["WorkingDir"], (user, group)), "env": environment}
    entry = config["Entrypoint"]
    with step("the entry point, as the image's user, in the unpacked root: --version, export --demo"):
        expect(re.match(r"vggt \d", run(*entry, "--version", **how)), "no version")
        run(*entry, "export", "--demo", "--out", "demo.glb", **how)
        expect(is_glb((root / "data/demo.glb").read_bytes()), "no GLB")
    with step("user add, and the image's command: serve, a reconstruction, SIGTERM"):
        run(*entry, "user", "add", "alice", "--password-stdin", **how, stdin=None, input=PASSWORD + "\n")
        options = ["--demo", "--host", "127.0.0.1", "--port", 0]
        expect(config["StopSignal"] == "SIGTERM" and config["Cmd"] == ["serve"], config)
        with served([*entry, *config["Cmd"], *options], **how) as connect, connect() as client:
            round_trip(client)
    with step("nothing is written outside of the volume"):
        owned = [
            path for path in root.rglob("*") if path.lstat().st_uid == user and "data" not in path.parts[len(root.parts) :][:1]
        ]
        expect(not owned, owned)
    with step("a read-only root with a volume is enough"):
        run("mount", "--bind", root, root)
        run("mount", "--bind", root / "data", root / "data")
        run("mount", "-o", "remount,bind,ro", root)
        try:
            expect(not os.access(root / "tmp", os.W_OK), "still writable")
            run(*entry, "export", "--demo", "--out", "again.glb", **how)
        finally:
            subprocess.run(["umount", "--lazy", root / "data"], check=False)
            subprocess.run(["umount", "--lazy", root], check=False)
