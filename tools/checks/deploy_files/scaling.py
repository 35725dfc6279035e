"""The query of KEDA in a real PostgreSQL server: it must count the jobs that workers would run if there were enough of them."""

import pathlib
import random
import re
import tempfile

from attack.postgres import Cluster
from steps import expect, step

from . import documents_of

DATABASE = "vggt"
USERS = 6
ROUNDS = 12
SIZES = ("small", "medium", "large")
CLAIM = "src/store/queue/claim.rs"
NOW = "2026-11-30 00:00:00.000000"


def check(root, _program):
    with step("the query of KEDA counts what workers would take"), tempfile.TemporaryDirectory(prefix="vggt-deploy-") as folder:
        cluster = Cluster(pathlib.Path(folder) / "postgres").start()
        try:
            counts(root, cluster)
        finally:
            cluster.stop()


def claimable(root):
    """The rows that a worker may take now, as the program says it."""
    text = (root / CLAIM).read_text()
    found = re.search(r'const CLAIMABLE: &str = "((?:[^"\\]|\\.|\\\n)*)"', text)
    expect(found, f"{CLAIM} has no CLAIMABLE")
    return re.sub(r"\\\n\s*", "", found[1])


def counts(root, cluster):
    query = lambda sql: cluster.query(sql, DATABASE)  # noqa: E731
    cluster.query(f"CREATE DATABASE {DATABASE}")
    for migration in sorted((root / "migrations/postgres").glob("*/up.sql")):
        query(migration.read_text())
    query((root / "deploy/kubernetes/scaler.sql").read_text())
    query(f"INSERT INTO users (username, password_hash) SELECT 'user' || n, '' FROM generate_series(1, {USERS}) AS n")
    scaled = next(d for d in documents_of((root / "deploy/kubernetes/scaling.yaml").read_text()) if d["kind"] == "ScaledObject")
    metadata = scaled["spec"]["triggers"][0]["metadata"]
    cap = re.search(r"greatest\((\d+) - busy", metadata["query"])[1]
    as_scaler = f"SET SESSION AUTHORIZATION {metadata['userName']};"
    numbers = random.Random(7)
    seen = set()
    for number in range(ROUNDS):
        query("DELETE FROM jobs; " + "; ".join(insert(numbers) for _ in range(0 if number == 0 else numbers.randrange(1, 60))))
        sizes = SIZES if number % 2 == 0 else SIZES[:2]
        only = ", ".join(f"'{size}'" for size in sizes)
        counted = int(query(as_scaler + re.sub(r"size IN \([^)]*\)", f"size IN ({only})", metadata["query"]))[0][0])
        ran = run_all(query, claimable(root), cap, only)
        expect(counted == ran, f"round {number}: the query counts {counted}, workers with {sizes} run {ran}")
        seen.add(counted)
    expect(len(seen) > ROUNDS // 2, f"the rounds were too much alike: {sorted(seen)}")


def insert(numbers):
    """A job in any state; one that waits may have a pause behind it or before it."""
    state = numbers.choice(("queued", "queued", "queued", "running", "done", "failed"))
    pause = numbers.choice(("NULL", "NULL", "now() - interval '1 minute'", "now() + interval '1 hour'"))
    pause = pause if state == "queued" else "NULL"
    # Few users have many jobs.
    user = min(numbers.randrange(1, USERS + 1), numbers.randrange(1, USERS + 1))
    return (
        "INSERT INTO jobs (user_id, kind, original_name, options_json, input_key, dir, created_at, state, size, priority, not_before) "
        f"VALUES ({user}, 'images', 'a', '{{}}', 'k', 'd', '{NOW}', '{state}', '{numbers.choice(SIZES)}', "
        f"{numbers.randrange(2)}, {pause})"
    )


def run_all(query, rows, cap, only):
    """How many run once nothing is left that a worker with these sizes may take: one job after the other, by the program's own rule."""
    rows = rows.replace("$1", cap).replace("$2", "FALSE").replace("$3", f"ARRAY[{only}]")
    take = f"UPDATE jobs SET state = 'running' WHERE id = (SELECT j.id {rows} ORDER BY j.id LIMIT 1)"
    query(f"DO $$ BEGIN LOOP {take}; EXIT WHEN NOT FOUND; END LOOP; END $$")
    return int(query(f"SELECT count(*) FROM jobs WHERE state = 'running' AND size IN ({only})")[0][0])
