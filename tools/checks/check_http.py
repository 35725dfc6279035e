#!/usr/bin/env python3
"""Checks that the curl examples of docs/http.md work as they stand, and that the OpenAPI document is valid.

    tools/checks/check_http.py                      against `vggt serve --demo` of the dev profile
    tools/checks/check_http.py --program dist/vggt  another program

Needs curl, jq and openapi-spec-validator. Prints each step; exit code 1 at the first that fails.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from attack import wire
from attack.service import REPOSITORY, TARGET
from openapi_spec_validator import OpenAPIV31SpecValidator
from steps import expect, step

sys.path.insert(0, str(REPOSITORY / "tools/python"))
from python_client.http import FRAMES, HttpService  # noqa: E402  (needs the path)
from vggt_client import Client  # noqa: E402

DOCS = REPOSITORY / "docs/http.md"
HOST = "localhost:4568"  # of the examples, and what there is in them:
USER, PASSWORD, JOB = "ann", "...", 7
# How long a locked database is waited for, and more on a busy machine.
LOCK_S = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, help="the vggt to run (target/debug/vggt)")
    parser.add_argument("--docs", type=pathlib.Path, default=DOCS, help="other documentation to take the examples from")
    args = parser.parse_args()
    program = (args.program or TARGET / "debug/vggt").resolve()
    with tempfile.TemporaryDirectory(prefix="check-http-") as folder:
        folder = pathlib.Path(folder)
        wire.password_of = lambda _: PASSWORD
        service = HttpService(program, folder / "service", "--http", "127.0.0.1:0", users=(USER,))
        service.start()
        try:
            valid_document(service)
            examples(service, folder / "examples", args.docs.read_text())
            locked_database(service)
        finally:
            service.kill()
    print("check_http: all passed", file=sys.stderr)


def answer(service, path):
    """The status and the JSON of an answer."""
    try:
        with urllib.request.urlopen(service.url + path, timeout=LOCK_S) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def valid_document(service):
    with step("the OpenAPI document is one of version 3.1"):
        _, document = answer(service, "/api/v1/openapi.json")
        expect(document["openapi"].startswith("3.1") and len(document["paths"]) > 20, document.get("openapi"))
        errors = [f"{list(e.absolute_path)}: {e.message}" for e in OpenAPIV31SpecValidator(document).iter_errors()]
        expect(not errors, "\n".join(errors[:20]))
    with step("a document that is not one is refused"):
        del document["info"]["title"]
        expect([*OpenAPIV31SpecValidator(document).iter_errors()], "the validator does not look")


def examples(service, folder, docs):
    folder.mkdir()
    for name, frame in zip(("a.jpg", "b.jpg"), FRAMES):
        shutil.copy(frame, folder / name)
    blocks = [block for block in re.findall(r"^```sh\n(.*?)^```$", docs, re.M | re.S) if re.search(r"\bcurl\b", block)]
    with step(f"{len(blocks)} blocks with curl, and the job with number {JOB}"):
        expect(len(blocks) >= 9 and sum(block.count("curl ") for block in blocks) >= 15, blocks)
        with Client(service.url) as client:
            client.login(USER, PASSWORD)
            for i in range(JOB):
                job = client.wait(client.submit(FRAMES[:2], options={"conf_thres": i}))
            expect(job.id == JOB, job)
    curl = folder / "bin/curl"
    curl.parent.mkdir()
    # A status of 400 or more is an exit code, and each call leaves a line.
    real = f"{shutil.which('curl')} --fail-with-body --show-error"
    curl.write_text(f'#!/bin/sh\necho called >>"{folder}/calls"\nexec {real} "$@"\n')
    curl.chmod(0o755)
    environment = {**os.environ, "PATH": f"{curl.parent}:{os.environ['PATH']}"}
    for block in blocks:
        first = block.splitlines()[0]
        with step(f"{first[:100]}{'...' if first != block.strip() else ''}"):
            run_block(service, folder, block, environment)
    with step("the jobs of the examples are done"), Client(service.url, token=environment["TOKEN"]) as client:
        made = [client.wait(job) for job in client.jobs() if job.id > JOB]
        expect(len(made) == 3 and all(job.hash for job in made), made)
        expect([job.name for job in made].count("Kitchen.glb") == 2, made)


def run_block(service, folder, block, environment):
    """Runs an example as it stands, with another port."""
    calls = folder / "calls"
    calls.write_text("")
    script = block.replace(HOST, service.url.removeprefix("http://"))
    bash = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(bash, cwd=folder, env=environment, capture_output=True, text=True, timeout=LOCK_S)
    expect(done.returncode == 0, f"exit code {done.returncode}\n{block}{done.stdout[-1500:]}{done.stderr}")
    expect(len(calls.read_text().splitlines()) == block.count("curl "), f"not every curl ran\n{block}")
    for name in re.findall(r" -o ([\w.]+)", block):
        expect((folder / name).stat().st_size > 0, f"no {name}")
    found = re.search(r'"token":"(vggt_[^"]+)"', done.stdout)
    if found and "TOKEN" not in environment:
        # As the reader takes it over.
        environment["TOKEN"] = found[1]


def locked_database(service):
    with step("/ready while another program holds the lock of the database"):
        expect(answer(service, "/ready")[0] == 200, "not ready before")
        database = sqlite3.connect(service.db, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        # The last answer holds for a second.
        end = time.monotonic() + LOCK_S
        while (found := answer(service, "/ready"))[0] == 200 and time.monotonic() < end:
            time.sleep(0.1)
        expect(found[0] == 503 and found[1]["missing"] == ["database"], found)
        expect(answer(service, "/health")[0] == 200, "not alive")
        database.execute("ROLLBACK")
        database.close()
        while (found := answer(service, "/ready"))[0] != 200 and time.monotonic() < end:
            time.sleep(0.1)
        expect(found[0] == 200, found)


if __name__ == "__main__":
    main()
