"""H3: a removed user became the next added one, and sessions outlived passwords."""

import sqlite3

from . import inputs, wire
from .finding import check, eventually, expect
from .service import REPOSITORY

ADDRESS = "127.0.0.9"
OLD_DATABASE = REPOSITORY / "tests/data/store/python_service.sql"


def refused(answer):
    """Whether an answer of the list is a refusal."""
    return isinstance(answer, dict) and answer.get("error") == "ERROR_NOT_LOGGED_IN"


def add(service, user):
    service.command("user", "add", user, "--password-stdin", stdin=wire.password_of(user) + "\n")


@check("H3", "a removed user's session does not become the next user's", before="bob lists, fetches and deletes carol's files")
def removed(bench):
    service = bench.service("--session-by-address", 60, host="0.0.0.0")
    bob, running = (service.connect("bob", source=ADDRESS) for _ in range(2))
    # Closed with its user: what of the answer may still be read differs.
    running.request(wire.IMAGES, wire.images_payload(inputs.slow_pictures(1, 60)))
    observer = service.connect("alice")
    eventually(lambda: observer.info().get("running"), 10)
    service.command("user", "remove", "bob", "--yes")
    add(service, "carol")
    carol = service.connect("carol")
    digest, glb = carol.images([inputs.noise(77)])
    expect(digest, f"carol's images: {glb[:100]}")
    expect(refused(bob.files()), f"bob's connection lists: {bob.files()}")
    expect(not wire.is_glb(bob.get(digest)), "bob's connection fetches carol's private file")
    answer = bob.delete(digest)
    expect("deleted" not in answer, f"bob's connection deletes carol's file: {answer}")
    with service.connect(source=ADDRESS) as again:
        expect(refused(again.files()), "a new connection from bob's address lists carol's files")
    eventually(lambda: observer.info().get("running") == 0, 30)
    names = [file["hash"] for file in carol.files()]
    expect(names == [digest], f"carol has {len(names)} files, she made one: bob's job was stored as hers")
    return "list, get, delete and a new connection from his address are refused; nothing of his is stored as hers"


@check("H3", "sessions end with the password, and when the user is disabled", before="they outlive both")
def sessions_end(bench):
    service = bench.service("--session-by-address", 60, host="0.0.0.0")

    def ends(what, *words, stdin=""):
        bob = service.connect("bob", source=ADDRESS)
        service.command("user", *words, stdin=stdin)
        expect(refused(bob.files()), f"{what}: the open connection still lists")
        with service.connect(source=ADDRESS) as again:
            expect(refused(again.files()), f"{what}: a new connection from the address still lists")
        return bob

    ends("new password", "passwd", "bob", "--password-stdin", stdin="other\n")
    service.command("user", "passwd", "bob", "--password-stdin", stdin=wire.password_of("bob") + "\n")
    bob = ends("disabled", "disable", "bob")
    service.command("user", "enable", "bob")
    with service.connect("bob", source=ADDRESS) as other:
        expect(not refused(other.files()), "enabled again: cannot log in")
        service.command("user", "vip", "bob", "on")
        expect(not refused(other.files()), "a new VIP has lost the session")
    bob.close()
    return "ended by passwd and disable on the open and on a new connection; kept by vip"


@check("H3", "no id is given twice", before="the highest id is given again")
def ids(bench):
    service = bench.service(start=False)
    before = service.rows("select max(id) from users")[0][0]
    service.command("user", "remove", "bob", "--yes")
    add(service, "carol")
    (after,) = service.rows("select id from users where username = 'carol'")[0]
    expect(after > before, f"carol has the id {after}, which bob had")
    return f"ids 1 and {before}, then {after}"


@check("H3", "an older database: no id that it ever referenced is given again", before="the highest id is given again")
def older_database(bench):
    service = bench.service(start=False, users=())
    with sqlite3.connect(service.db) as database:
        database.executescript(OLD_DATABASE.read_text())
        database.execute("pragma foreign_keys = off")
        # The older service left rows of users who are gone.
        columns = [row[1] for row in database.execute("pragma table_info(glb_files)")]
        values = {"hashed_name": "'" + "e" * 64 + "'", "user_id": "4711", "id": "4712"}
        query = ", ".join(values.get(column, column) for column in columns)
        database.execute(f"insert into glb_files ({', '.join(columns)}) select {query} from glb_files limit 1")
    database.close()
    add(service, "frieda")
    (user,) = service.rows("select id from users where username = 'frieda'")[0]
    expect(user > 4711, f"frieda has the id {user}, files of a user 4711 are there")
    expect(service.rows("pragma integrity_check") == [("ok",)], "the database is damaged")
    owned = service.rows("select count(*) from glb_files where user_id = ?", user)[0][0]
    expect(owned == 0, f"the new user has {owned} files of others")
    return f"the next user after rows of 4711 is {user}"
