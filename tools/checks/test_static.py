#!/usr/bin/env python3
"""The steps of tools/checks/test_static, which gives this process a network of its own and the right to change its root."""

import argparse
import base64
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

from compare_tensors import difference, tensors
from steps import Failed, expect, step

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
IMAGES = REPOSITORY / "tests/data/frames/formats"
CLIPS = REPOSITORY / "tests/data/frames/clips"
HEIF = REPOSITORY / "tests/data/frames/heif"
CHECKPOINT = REPOSITORY / "model/tests/data/tiny"
DEMO = REPOSITORY / "model/demo/frames"

# Every container and every codec that a release must read; 20 frames each, ten a second.
VIDEOS = [
    *("h264.mp4", "h264.mov", "h264.mkv", "h264.ts", "h264_10bit.mp4", "hevc.mp4", "vp8.webm", "vp9.webm"),
    *("av1.mp4", "av1.mkv", "mpeg4.avi", "mjpeg.avi", "mjpeg.mov", "prores.mov"),
]
# HEVC, AV1, H.264 and JPEG in HEIF, with tiles, 8 to 12 bits and transparency.
HEIF_IMAGES = ["grid.heic", "ten_bits.heic", "gray.avif", "twelve_bits.avif", "alpha.avif", "avc.heif", "jpeg.heif"]
# Intel's first without AVX and its first with AVX2 and FMA.
PROCESSORS = ["Nehalem", "Haswell"]
# What qemu plays takes some fifty times as long; a lost answer must not hang the run.
LIMIT_S = 300
# Relative to a tensor's largest value: processors add up in other orders and widths. Found were 1e-6.
TOLERANCE = 1e-5
PASSWORD = "correct horse"


class Root:
    """An empty folder that becomes the root of the processes which are started in it."""

    def __init__(self, folder, program):
        self.folder = folder
        shutil.copy(program, folder / "vggt")

    def add(self, source, to):
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
        copy(source, self.folder / to)

    def start(self, *args, environment=None, before=(), **how):
        """Starts the program, or what stands before it, with nothing in its environment but `environment`."""

        def enter():
            os.chroot(self.folder)
            os.chdir("/")

        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        return subprocess.Popen(
            [*before, "/vggt", *map(str, args)], env=environment or {}, preexec_fn=enter, text=True, **pipes
        )

    def run(self, *args, code=0, stdin="", **how):
        """Runs the program to its end, which must be exit code `code`; gives what it printed, standard error last."""
        process = self.start(*args, **how, stdin=subprocess.PIPE)
        return finish(process, args, code, stdin)

    def bytes(self, name):
        return (self.folder / name).read_bytes()


def finish(process, args, code=0, stdin=None):
    try:
        out, err = process.communicate(stdin, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed(f"{args} takes longer than {LIMIT_S} s") from None
    out, err = out or "", err or ""
    if process.returncode != code or "panicked" in err:
        raise Failed(f"{' '.join(map(str, args))}\nexit code {process.returncode} instead of {code}\n{out}{err}")
    return out + err if code else out


def summary(root, *args, **how):
    return json.loads(root.run("export", "--json", *args, **how))


def is_glb(data):
    return data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data) > 1024


def exports(root):
    with step("the program starts"):
        expect(re.match(r"vggt \d", root.run("--version")), "no version")
    with step("export --demo: the bundled images"):
        expect(summary(root, "--demo", "--out", "demo.glb")["frames"] == 8, "not 8 frames")
        expect(is_glb(root.bytes("demo.glb")), "no GLB")
    with step("export --demo: a page with the same GLB inside"):
        summary(root, "--demo", "--out", "demo.html")
        pieces = re.findall(rb'<script class="glb" type="model/gltf-binary;base64">([^<]*)</script>', root.bytes("demo.html"))
        expect(b"".join(map(base64.b64decode, pieces)) == root.bytes("demo.glb"), "another GLB")
    with step("export --demo: images of every format"):
        said = summary(root, "--demo", "images", "--out", "images.glb")
        expect(said["frames"] == len(list(IMAGES.iterdir())), said)
        expect(is_glb(root.bytes("images.glb")), "no GLB")
    with step("export --demo: HEIC and AVIF"):
        said = summary(root, "--demo", *(f"heif/{name}" for name in HEIF_IMAGES), "--out", "heif.glb")
        expect(said["frames"] == len(HEIF_IMAGES), said)
    for name in VIDEOS:
        with step(f"export --demo: {name}"):
            said = summary(root, "--demo", f"clips/{name}", "--fps", 5, "--out", "clip.glb")
            expect(said["frames"] == 10, said)
            expect(is_glb(root.bytes("clip.glb")), "no GLB")
    with step("export: a file without images is refused"):
        said = root.run("export", "--demo", "clips/sound.m4a", code=1)
        expect("sound.m4a" in said, said)


def users_and_server(root, outside):
    with step("user add"):
        root.run("user", "add", "alice", "--password-stdin", stdin=PASSWORD + "\n")
        expect("alice" in root.run("user", "list"), "alice is not on the list")
    with step("serve: starts, on a name"):
        log = outside / "serve.log"
        with log.open("w") as stderr:
            server = root.start("serve", "--demo", "--host", "localhost", "--port", 0, stderr=stderr)
        line = server.stdout.readline()
        expect(line.startswith("Manager TCP Server running on port "), line + log.read_text())
        port = line.split()[-1]
    try:
        client(root, port)
        with step("serve: ends in good order"):
            server.send_signal(signal.SIGTERM)
            finish(server, ["serve"])
            expect("panicked" not in log.read_text(), log.read_text())
    finally:
        server.kill()
    with step("check: rows and files agree"):
        root.run("check")


def client(root, port):
    def ask(action, *args, host="localhost", user="alice"):
        login = ["--user", user, "--host", host, "--port", port, "--json"]
        return json.loads(root.run("client", action, *args, *login, environment={"VGGT_PASSWORD": PASSWORD}))

    with step("client login, info"):
        ask("login")
        ask("info")
    with step("client images, get: the same bytes"):
        said = ask("images", "frames", "--out", "images.glb")
        ask("get", said["hash"], "--out", "again.glb")
        expect(is_glb(root.bytes("images.glb")), "no GLB")
        expect(root.bytes("images.glb") == root.bytes("again.glb"), "other bytes")
    with step("client video, list, delete"):
        said = ask("video", "clips/h264.mp4", "--out", "video.glb")
        expect(is_glb(root.bytes("video.glb")), "no GLB")
        expect(len(ask("list")) == 2, ask("list"))
        ask("delete", said["hash"])
        expect(len(ask("list")) == 1, ask("list"))
    with step("tools/client.py from outside: images, get"):
        args = [REPOSITORY / "tools/client.py", "--user", "alice", "--port", port, "images", *sorted(DEMO.iterdir())]
        process = subprocess.Popen(
            [*map(str, args), "--out", str(root.folder / "outside.glb"), "--fetch-again"],
            env={**os.environ, "VGGT_PASSWORD": PASSWORD},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        finish(process, ["client.py"])
        expect(is_glb(root.bytes("outside.glb")), "no GLB")


def certificates(folder):
    """A CA, and a certificate of it for the names of static_hub.py; gives the paths of CA, certificate and key."""
    ca, ca_key, request, certificate, key, names = (
        folder / name for name in ("ca.pem", "ca.key", "hub.csr", "hub.pem", "hub.key", "names")
    )
    names.write_text("subjectAltName=DNS:hub.test,DNS:cdn.test\n")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for args in (
        [*new, "-x509", "-days", "2", "-subj", "/CN=CA of a test", "-keyout", ca_key, "-out", ca],
        [*new, "-subj", "/CN=hub.test", "-keyout", key, "-out", request],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2"]
        + ["-extfile", names, "-out", certificate],
    ):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)
    return ca, certificate, key


def fetches(root, outside):
    ca, certificate, key = certificates(outside)
    root.add(ca, "ca.pem")
    repo = outside / "repo"
    repo.mkdir()
    for name in ("model.pt", "config.json"):
        shutil.copy(CHECKPOINT / name, repo)
    hub = subprocess.Popen(
        [HERE / "static_hub.py", repo, certificate, key], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        expect(hub.stdout.readline() == "ready\n", "the hub does not start")
        for scheme in ("http", "https"):
            fetch(root, scheme)
        fetch_failures(root)
    finally:
        hub.kill()


def fetch(root, scheme):
    home = {"HF_HOME": f"/{scheme}", "HF_ENDPOINT": f"{scheme}://hub.test", "SSL_CERT_FILE": "/ca.pem"}
    with step(f"fetch over {scheme}, names found by the name server on this machine"):
        path = root.run("fetch", "--repo", "org/net", environment=home).strip()
        expect(root.bytes(path.lstrip("/")) == (CHECKPOINT / "model.pt").read_bytes(), "other bytes")
    with step(f"fetch over {scheme}, names found by VGGT_NAME_SERVER"):
        root.run("fetch", "--repo", "org/net", "--cache", "other",
                 environment={**home, "VGGT_NAME_SERVER": "127.0.0.1:53"})  # fmt: skip
        shutil.rmtree(root.folder / "other")
    with step("export with the weights that were fetched"):
        said = summary(root, "--repo", "org/net", "--offline", "frames", "--max_frames", 2, environment=home)
        expect(said["frames"] == 2, said)


def fetch_failures(root):
    def refused(*says, **environment):
        said = root.run("fetch", "--repo", "org/net", "--cache", "empty", code=1, environment=environment)
        for text in says:
            expect(text in said, said)

    with step("fetch: a CA that is not trusted is refused, by the built-in roots"):
        refused("UnknownIssuer", HF_ENDPOINT="https://hub.test")
    with step("fetch: a name that is not there"):
        refused("has no address", "other.test", HF_ENDPOINT="http://other.test")
    with step("fetch: no name server"):
        refused("VGGT_NAME_SERVER", HF_ENDPOINT="http://hub.test", VGGT_NAME_SERVER="127.0.0.1:54")
    with step("fetch: /etc/hosts and /etc/resolv.conf count where they are"):
        root_etc = root.folder / "etc"
        root_etc.mkdir()
        (root_etc / "hosts").write_text("127.0.0.1 from.hosts\n")
        (root_etc / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch test\n")
        for host, file in (("from.hosts", "config.json"), ("hub", "config.json")):
            root.run("fetch", "--repo", "org/net", "--file", file, "--cache", f"cache-{host}",
                     environment={"HF_ENDPOINT": f"http://{host}"})  # fmt: skip
        shutil.rmtree(root_etc)


def monitors(root):
    record = ("monitor", "--seconds", "1", "--json")
    with step("monitor --json without /proc: says what is missing"):
        said = root.run(*record, code=1)
        expect("/proc/stat" in said and "mounted" in said, said)
    with step("monitor --json with /proc"):
        (root.folder / "proc").mkdir()
        # In a namespace of its own, so that nothing is mounted here that a clean-up could walk into.
        mount = 'mount --rbind /proc "$1/proc" && exec env -i "$(PATH=$PATH:/usr/sbin command -v chroot)" "$@"'
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mount, "sh", str(root.folder), "/vggt", *record],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = json.loads(finish(process, record))
        expect(said["sessions"][0]["ram_gb"]["max"] > 0, said)


def processors(program, outside):
    def predictions(name, source, player):
        saved = outside / f"{name}.safetensors"
        args = [*player, program, "export", "--demo", "--no_cache", *source, "--max_frames", "2", "--save_predictions", saved]
        process = subprocess.Popen(
            [*map(str, args), "--out", str(outside / "o.glb")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        finish(process, args)
        return dict(tensors(saved))

    sources = {"images": [], **{name: [CLIPS / name] for name in VIDEOS}}
    here = {name: predictions("here", source, []) for name, source in sources.items()}
    for processor in PROCESSORS:
        for name, source in sources.items():
            with step(f"export --demo on {processor}, as on this processor: {name}"):
                there = predictions(processor, source, ["qemu-x86_64", "-cpu", processor])
                expect(there.keys() == here[name].keys(), "other tensors")
                # Decoders are exact.
                found = {tensor: difference(here[name][tensor], there[tensor]) for tensor in there}
                expect(found["images"] == 0, "other pixels")
                expect(max(found.values()) <= TOLERANCE, found)


def loopback_up():
    """Switches on the loopback of this process's network."""
    SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP | IFF_RUNNING))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=pathlib.Path)
    program = parser.parse_args().program.resolve()
    loopback_up()
    with tempfile.TemporaryDirectory() as inside, tempfile.TemporaryDirectory() as outside:
        root, outside = Root(pathlib.Path(inside), program), pathlib.Path(outside)
        for source, to in ((IMAGES, "images"), (CLIPS, "clips"), (HEIF, "heif"), (DEMO, "frames")):
            root.add(source, to)
        exports(root)
        users_and_server(root, outside)
        fetches(root, outside)
        monitors(root)
        processors(program, outside)
    print("test_static: all passed", file=sys.stderr)


if __name__ == "__main__":
    main()
