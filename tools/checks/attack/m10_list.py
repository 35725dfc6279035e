"""M10: the list of many files took memory without bound, and the own client refused it."""

import json
import os
import sqlite3
import time

from . import wire
from .finding import check, expect

FILES = 100_000
READERS = 28  # connections that ask and do not read
REPLY_BYTES = 8 << 20
HELD_S = 3
GROWN_MIB = 250  # for all of them; it was 1.15 GB


def with_files(bench):
    service = bench.service()
    day = "2026-01-01"
    with sqlite3.connect(service.db, timeout=30) as database:
        database.executemany(
            "insert into glb_files (hashed_name, original_name, file_path, user_id, file_size, created_at, is_public)"
            " values (?, ?, ?, 1, 1000, ?, 0)",
            (
                (f"{number:064x}", f"images_{number}.glb", f"out/{day}/{number:064x}.glb", f"{day} 00:00:00.{number:06}")
                for number in range(FILES)
            ),
        )
    database.close()
    return service


@check("M10", "a reply of the list is bounded", before="16.5 MB a reply for 100 000 files")
def reply(bench):
    service = with_files(bench)
    with service.connect("alice") as alice:
        answer = alice.ask(wire.LIST)
    files = json.loads(answer)["files"]
    expect(len(answer) <= REPLY_BYTES, f"{len(answer)} bytes")
    expect(files[0]["hash"] == f"{FILES - 1:064x}", "the newest is not the first")
    return f"{len(answer)} bytes, {len(files)} of {FILES} files, newest first"


@check("M10", "connections that ask and do not read take bounded memory", before="28 of them: 1.15 GB, 974 MB of it kept")
def unread(bench):
    service = with_files(bench)
    with service.connect("alice") as alice:
        alice.ask(wire.LIST)
    before = service.own_memory_mib()
    held = [service.connect("alice") for _ in range(READERS)]
    for connection in held:
        connection.request(wire.LIST)
    highest, end = 0, time.monotonic() + HELD_S
    while time.monotonic() < end:
        highest = max(highest, service.own_memory_mib())
        time.sleep(0.1)
    for connection in held:
        connection.close()
    expect(highest - before < GROWN_MIB, f"{before:.0f} MiB, then {highest:.0f} MiB with {READERS} that do not read")
    return f"{before:.0f} MiB, then {highest:.0f} MiB with {READERS} that do not read"


@check("M10", "pages list all of them", before="no pages")
def pages(bench):
    service = with_files(bench)
    largest = 0
    with service.connect("alice") as alice:
        cursor, listed = None, []
        while True:
            answer = alice.ask(wire.PAGE, {"before": cursor})
            expect(answer != wire.UNKNOWN_ANSWER, "no command 13")
            page = json.loads(answer)
            expect("error" not in page, f"after {len(listed)} files: {page}")
            expect(page["files"] or page["next"] is None, f"after {len(listed)} files an empty page, and not the last")
            largest = max(largest, len(answer))
            listed += [file["hash"] for file in page["files"]]
            if (cursor := page["next"]) is None:
                break
    expected = [f"{number:064x}" for number in reversed(range(FILES))]
    expect(listed == expected, f"{len(listed)} files listed, or in another order")
    expect(largest < REPLY_BYTES, f"a page has {largest} bytes")
    return f"{len(listed)} files, newest first, pages of {largest} bytes at most"


@check("M10", "the own client lists all of them", before="refuses the reply above some 102 000 files")
def client(bench):
    service = with_files(bench)
    with_more = FILES + 5000
    service.rows(
        "insert into glb_files (hashed_name, original_name, file_path, user_id, file_size, created_at, is_public)"
        " select 'f' || substr(hashed_name, 2), original_name, 'out/x/' || hashed_name, 1, 1000, created_at, 0"
        f" from glb_files limit {with_more - FILES}"
    )
    done = bench.run(
        *("client", "list", "--json", "--user", "alice", "--port", service.port),
        env={**os.environ, "VGGT_PASSWORD": wire.password_of("alice")},
    )
    expect(done.returncode == 0, f"vggt client list: {done.stderr.strip()[-200:]}")
    listed = json.loads(done.stdout)
    listed = listed.get("files", listed) if isinstance(listed, dict) else listed
    different = {file["hash"] for file in listed}
    expect(len(listed) == len(different) == with_more, f"{len(listed)} listed, {len(different)} different, of {with_more}")
    return f"{len(listed)} listed"
