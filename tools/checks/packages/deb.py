"""The Debian package: what lintian and systemd say, and its life in a bare Debian."""

import hashlib
import pathlib
import re
import shutil
import subprocess

from . import PASSWORD, TARGET, as_user, expect, is_glb, left_out, only, round_trip, run, served, step

# They make users and folders without systemd; taken away for the test of a system that has neither.
STANDALONE = ("systemd-standalone-sysusers", "systemd-standalone-tmpfiles")
DATABASE = "var/lib/vggt/vggt_app.db"
UNITS = {"vggt.service": "serve", "vggt-worker@.service": "worker"}


class Debian:
    """A bare Debian in a folder, with /dev and /proc."""

    def __init__(self, archive, folder):
        self.folder = folder
        folder.mkdir()
        run("tar", "--extract", "--numeric-owner", "--exclude=./dev/*", "--file", archive, "--directory", folder)
        run("mount", "--rbind", "/dev", folder / "dev")
        run("mount", "-t", "proc", "proc", folder / "proc")

    def run(self, *args, folder="/", user=None, home="/root", **how):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "DEBIAN_FRONTEND": "noninteractive"}
        return run(*args, preexec_fn=as_user(self.folder, folder, user), env=environment, **how)

    def install(self, package):
        shutil.copy(package, self.folder / "tmp")
        return self.run("dpkg", "--install", f"/tmp/{package.name}")

    def user(self, name):
        """Its number and its group's, or None."""
        found = re.search(rf"^{name}:[^:]*:(\d+):(\d+):", (self.folder / "etc/passwd").read_text(), re.MULTILINE)
        return found and (int(found[1]), int(found[2]))

    def unmount(self):
        for name in ("proc", "dev"):
            run("umount", "--lazy", self.folder / name)


def run_part(dist, folder):
    package = only(dist, "*.deb")
    looks(package, folder)
    archive = bare_debian()
    if archive is None:
        left_out("the package in a bare Debian", "mmdebstrap could not make one; is there a network?")
        return
    without_systemd(Debian(archive, folder / "without"), package)
    with_systemd(Debian(archive, folder / "with"), package)


def bare_debian():
    """A tar archive of the system that is running, without what is not needed; made once."""
    suite = re.search(r"^VERSION_CODENAME=(.*)$", pathlib.Path("/etc/os-release").read_text(), re.MULTILINE)
    archive = TARGET / f"tools/debian-{suite[1]}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        new = archive.with_suffix(".new")
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(STANDALONE)}", suite[1], "--format=tar", new]
        )
        if made.returncode != 0:
            return None
        new.rename(archive)
    return archive


def looks(package, folder):
    with step("lintian finds nothing"):
        found = run("lintian", "--fail-on", "error,warning", "--allow-root", package, timeout=600)
        found = [line for line in found.splitlines() if not line.startswith("running with root privileges")]
        expect(not found, found)
    with step("dpkg-deb: files belong to root, and none is open to others"):
        for line in run("dpkg-deb", "--contents", package).splitlines():
            mode, owner = line.split()[:2]
            expect(owner == "root/root" and mode[8] == "-" and "s" not in mode, line)
    with step("systemd-analyze verify"):
        run("dpkg-deb", "--extract", package, folder / "files")
        for name, command in UNITS.items():
            unit = (folder / "files/usr/lib/systemd/system" / name).read_text()
            settings = "".join(line for line in unit.splitlines(keepends=True) if not line.startswith("#"))
            expect("/usr/local" not in settings and f"ExecStart=/usr/bin/vggt {command} " in settings, unit)
            # It looks for the program.
            verified = folder / name
            verified.write_text(unit.replace("ExecStart=/usr/bin/", f"ExecStart={folder}/files/usr/bin/"))
            said = run("systemd-analyze", "verify", "--man=no", verified)
            expect("vggt" not in said, said)
        example = folder / "files/usr/share/doc/vggt/examples/vggt.env"
        expect("VGGT_WORKER_OPTIONS=" in example.read_text(), example)
    with step("man pages and completions are there, and docs with every license"):
        for name in ("man/man1/vggt.1.gz", "man/man1/vggt-export.1.gz", "bash-completion/completions/vggt",
                     "zsh/vendor-completions/_vggt", "fish/vendor_completions.d/vggt.fish", "doc/vggt/copyright",
                     "doc/vggt/LICENSES.txt.gz", "doc/vggt/vggt.cdx.json.gz", "doc/vggt/RELINK.md"):  # fmt: skip
            expect((folder / "files/usr/share" / name).stat().st_size > 0, name)
        for page in sorted((folder / "files/usr/share/man/man1").iterdir()):
            expect(re.match(r"vggt[a-z-]*\.1\.gz$", page.name) and ".TH" in run("gzip", "-dc", page), page)
        expect(b"vggt" in (folder / "files/usr/share/bash-completion/completions/vggt").read_bytes(), "no completions")


def without_systemd(debian, package):
    debian.run("dpkg", "--purge", *STANDALONE)
    before = files_of(debian)
    with step("dpkg --install where there is no systemd: the program, no user"):
        debian.install(package)
        expect(debian.user("vggt") is None and not (debian.folder / "var/lib/vggt").exists(), "a user")
        expect(re.match(r"vggt \d", debian.run("vggt", "--version")), "no version")
    with step("export --demo"):
        debian.run("vggt", "export", "--demo", "--out", "demo.glb", folder="/root")
        expect(is_glb((debian.folder / "root/demo.glb").read_bytes()), "no GLB")
    with step("dpkg --purge leaves nothing"):
        debian.run("dpkg", "--purge", "vggt")
        left = {name for name in files_of(debian) - before if not name.startswith(("root/", "tmp/", "var/log/", "var/lib/dpkg/"))}
        expect(not left, left)
    debian.unmount()


def files_of(debian):
    return {
        str(path.relative_to(debian.folder))
        for folder in ("etc", "lib", "root", "run", "tmp", "usr", "var")
        for path in (debian.folder / folder).resolve().rglob("*")
    }


def with_systemd(debian, package):
    with step("dpkg --install: a user and a folder of its own, and the service is not enabled"):
        debian.install(package)
        user = debian.user("vggt")
        expect(user and 0 < user[0] < 1000, f"the user vggt is {user}")
        expect("vggt:!" in (debian.folder / "etc/shadow").read_text(), "a password")
        home = (debian.folder / "var/lib/vggt").stat()
        expect((home.st_uid, home.st_gid, home.st_mode & 0o7777) == (*user, 0o700), home)
        expect(not list((debian.folder / "etc/systemd/system").rglob("vggt*")), "enabled")
    at_home = {"folder": "/var/lib/vggt", "user": user, "home": "/var/lib/vggt"}
    with step("the service as its user: user add, serve, a reconstruction"):
        debian.run("vggt", "user", "add", "alice", "--password-stdin", **at_home, stdin=None, input=PASSWORD + "\n")
        how = {"preexec_fn": as_user(debian.folder, "/var/lib/vggt", user), "env": {"HOME": "/var/lib/vggt"}}
        command = ["/usr/bin/vggt", "serve", "--demo", "--host", "127.0.0.1", "--port", 0]
        with served(command, **how) as connect, connect() as client:
            digits = round_trip(client)
    database = debian.folder / DATABASE
    digest = hashlib.sha256(database.read_bytes()).digest()
    (debian.folder / "var/cache/vggt").mkdir()

    def still_there():
        expect(hashlib.sha256(database.read_bytes()).digest() == digest, "another database")
        expect(list((debian.folder / "var/lib/vggt/out").rglob(f"{digits}*")), "the result is gone")
        expect(debian.user("vggt") == user, "another user")

    with step("an upgrade, and a removal: the database stays"):
        debian.install(package)
        still_there()
        debian.run("dpkg", "--remove", "vggt")
        expect(not (debian.folder / "usr/bin/vggt").exists(), "the program is still there")
        still_there()
        expect((debian.folder / "var/cache/vggt").exists(), "the weights are gone")
    with step("purge: the database stays, and the package says where; weights go"):
        said = debian.run("dpkg", "--purge", "vggt")
        expect("/var/lib/vggt" in said and not (debian.folder / "var/cache/vggt").exists(), said)
        still_there()
    with step("installed again: the same user, database and results"):
        debian.install(package)
        still_there()
        with served(command, **how) as connect, connect() as client:
            expect(is_glb(client.get(digits).glb), "no GLB")
        debian.run("vggt", "check", **at_home)
    debian.unmount()
