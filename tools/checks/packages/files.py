"""The hashes, their signature, and that packages do not depend on who makes them."""

import os
import shutil
import subprocess

from . import REPOSITORY, expect, left_out, run, step

SUMS = "SHA256SUMS"


def run_part(dist, folder):
    with step("SHA256SUMS: right, and of every file"):
        run("sha256sum", "--check", "--strict", "--quiet", SUMS, cwd=dist)
        listed = {line.split("  ", 1)[1] for line in (dist / SUMS).read_text().splitlines()}
        there = {str(path.relative_to(dist)) for path in dist.rglob("*") if path.is_file()}
        there -= {SUMS, f"{SUMS}.minisig"}
        expect(listed == there, f"not the same files: {sorted(listed ^ there)}")
    same_again(dist, folder / "again")
    signature(dist, folder / "signed")


def same_again(dist, again):
    head = run("git", "-C", REPOSITORY, "rev-parse", "--short=12", "HEAD").strip()
    if commit_of(dist).removesuffix("-dirty") != head:
        left_out("the same files give the same packages", f"{dist} is of {commit_of(dist)}, and this is {head}")
        return
    with step("the same files give the same packages, with another umask, time zone and language"):
        # Hard links and copies: what is executable stays so.
        shutil.copytree(dist, again, ignore=shutil.ignore_patterns("*.deb", "*.whl", "*.oci.tar", "sources", "vggt-cuda"))
        (again / "container/rootfs/tmp").chmod(0o755)
        git = ["git", "-C", REPOSITORY, "log", "-1"]
        environment = {
            **os.environ,
            "SOURCE_DATE_EPOCH": run(*git, "--format=%ct").strip(),
            "VGGT_COMMIT": commit_of(dist),
            **{"TZ": "Asia/Kolkata", "LC_ALL": "C", "HOME": "/"},
        }
        script = REPOSITORY / "tools/release.d/packages"
        run("sh", "-c", 'umask 077 && exec "$@"', "sh", script, again, cwd="/", env=environment, timeout=600)
        for pattern in ("*.deb", "*.whl", "*.oci.tar"):
            for one in dist.glob(pattern):
                expect(run("cmp", one, again / one.name) == "", one.name)


def commit_of(dist):
    """As the packages have it."""
    package = next(dist.glob("*.deb"))
    changelog = "./usr/share/doc/vggt/changelog.gz"
    text = run("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" | gzip -d', "sh", package, changelog)
    return text.split("Commit ", 1)[1].split(";")[0]


def signature(dist, folder):
    with step("minisign: tools/release signs SHA256SUMS, and what was changed is refused"):
        folder.mkdir()
        shutil.copy(dist / SUMS, folder)
        run("minisign", "-G", "-W", "-p", folder / "key.pub", "-s", folder / "key")
        script = "set -eu; . tools/lib.sh; . tools/release.d/lib.sh; sign_sums"
        environment = {**os.environ, "MINISIGN_KEY": str(folder / "key"), "VGGT_COMMIT": commit_of(dist)}
        signatures = []
        for _ in range(2):
            run("bash", "-c", f'{script} "$1"', "sign", folder, cwd=REPOSITORY, env=environment)
            signatures.append((folder / f"{SUMS}.minisig").read_bytes())
        expect(signatures[0] == signatures[1], "another signature")
        said = run("minisign", "-V", "-p", folder / "key.pub", "-m", folder / SUMS)
        expect(f"commit {commit_of(dist)}" in said, said)
        with (folder / SUMS).open("a") as file:
            file.write("0" * 64 + "  vggt\n")
        refused = subprocess.run(["minisign", "-V", "-p", folder / "key.pub", "-m", folder / SUMS], capture_output=True)
        expect(refused.returncode != 0, "the changed file passes")
