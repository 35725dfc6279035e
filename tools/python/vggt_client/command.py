"""The commands of `tools/client.py` over HTTP.

    export VGGT_PASSWORD=...                 # else it is asked for; or VGGT_TOKEN with a named token
    client.py --server http://127.0.0.1:4568 --user ann images a.jpg b.jpg c.jpg --out scene.glb
    client.py --server https://vggt.example.org video clip.mp4 --format colmap.zip --option fps=2
    client.py --server ... images *.jpg --detach      prints the job's number and returns
    client.py --server ... wait 7, get 7 --format ply, jobs, list, rename 7 NAME, cancel 7, rerun 7 --option conf_thres=60, ...

Files appear complete or not at all, and replace none without --overwrite. Exit codes: 0 done, 1 failed, 2 not called correctly.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from .errors import CertificateRefused, Error, printable
from .http_client import HttpClient
from .replies import Job

DIGITS = 64  # of a hash, in place of a job's number


def main(words: Optional[List[str]] = None) -> int:
    """Runs a command line; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(words)
    try:
        options = dict(map(_option, getattr(args, "option", None) or []))
        with HttpClient(args.server, timeout=args.timeout, token=_token(args), cafile=args.cafile) as client:
            _log_in(client, args, parser)
            _run(client, args, options)
    except CertificateRefused as e:
        return _failed(f"{e}; if you trust it, give its authority's file with --cafile")
    except FileExistsError as e:
        return _failed(f"{printable(str(e.filename))!r} exists already; --overwrite replaces it")
    except (Error, OSError, ValueError) as e:
        return _failed(str(e))
    except KeyboardInterrupt:
        return 130
    return 0


def _failed(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="address that begins with http:// or https://")
    parser.add_argument("--user", help="who logs in, unless there is a token")
    parser.add_argument("--token", help="a named token; better in VGGT_TOKEN, where other users of the machine do not see it")
    parser.add_argument("--cafile", help="PEM file of the authority that the server's certificate is of")
    parser.add_argument("--timeout", type=float, help="seconds to wait for the next byte")
    actions = parser.add_subparsers(dest="action", required=True)
    images = actions.add_parser("images", help="send images, in this order")
    images.add_argument("files", nargs="+")
    video = actions.add_parser("video", help="send a video")
    video.add_argument("file")
    for name, what in _OF_A_JOB.items():
        actions.add_parser(name, help=what).add_argument("job", type=_job if name == "get" else int)
    actions.choices["rename"].add_argument("name")
    for name, what in (("jobs", "list jobs, newest first"), ("list", "list results, newest first")):
        actions.add_parser(name, help=what).add_argument("--limit", type=int, help="how many, all by default")
    for name in ("images", "video", "wait", "get"):
        files = actions.choices[name]
        files.add_argument("--out", help="where the file goes; scene. and the format by default")
        formats = "glb, ply, html, colmap.zip or another one of docs/http.md (%(default)s)"
        files.add_argument("--format", default="glb", help=formats)
        files.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    for name in ("images", "video", "rerun"):
        command = actions.choices[name]
        command.add_argument("--option", action="append", metavar="NAME=VALUE", help="of the reconstruction; may be repeated")
        command.add_argument("--name", help="what the result is called")
    for name in ("images", "video"):
        actions.choices[name].add_argument("--detach", action="store_true", help="print the job's number and do not wait")
        actions.choices[name].add_argument("--fetch-again", action="store_true", help="fetch the file again and compare")
    return parser


_OF_A_JOB: Dict[str, str] = {
    "get": "fetch the file of a job, or of a result by its hash",
    "status": "tell how a job stands",
    "wait": "wait for a job, then fetch its file",
    "cancel": "cancel a job; one that has ended stays",
    "rerun": "run a job that is done again with other options",
    "rename": "give the result of a job another name",
    "publish": "let everybody who knows the hash fetch the result on the TCP port",
    "unpublish": "take that back",
    "delete": "remove a job that has ended, with its result; cancel another",
}


def _job(text: str) -> Any:
    return text.lower() if len(text) == DIGITS else int(text)


def _option(text: str) -> Any:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"cannot use --option {text!r}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _token(args: argparse.Namespace) -> Optional[str]:
    given: Optional[str] = args.token
    # Who names a user means the user's password.
    return given or (None if args.user else os.environ.get("VGGT_TOKEN") or None)


def _log_in(client: HttpClient, args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if _token(args):
        return
    if not args.user:
        parser.error("who asks? give --user, or a token in VGGT_TOKEN")
    password = os.environ.get("VGGT_PASSWORD")
    if password is None:
        password = getpass.getpass(f"password of {args.user}: ")
    client.login(args.user, password)


def _run(client: HttpClient, args: argparse.Namespace, options: Dict[str, Any]) -> None:
    action = args.action
    if getattr(args, "name", None) and action != "rename":
        options["name"] = args.name
    if action in ("images", "video"):
        _check_target(args)
        if action == "images":
            sent = client.submit(args.files, options=options)
        else:
            sent = client.submit(video=args.file, options=options)
        print(f"job   {sent.id}", flush=True)
        if not args.detach:
            _wait_and_fetch(client, sent, args)
    elif action == "wait":
        _check_target(args)
        _wait_and_fetch(client, args.job, args)
    elif action == "get":
        _check_target(args)
        _fetch(client, client.job_of(args.job) if isinstance(args.job, str) else args.job, args)
    elif action == "jobs":
        for job in client.jobs(args.limit):
            print(_line(job))
    elif action == "list":
        for file in client.list(args.limit):
            print(f"{file.hash}  {file.size:>12}  {'public ' if file.public else 'private'}  {file.name}")
    elif action == "delete":
        client.remove(args.job)
    else:
        print(_line(_changed(client, args, options)))


def _changed(client: HttpClient, args: argparse.Namespace, options: Dict[str, Any]) -> Job:
    if args.action == "status":
        return client.status(args.job)
    if args.action == "cancel":
        return client.cancel(args.job)
    if args.action == "rerun":
        return client.rerun(args.job, options=options)
    if args.action == "rename":
        return client.rename(args.job, args.name)
    return client.share(args.job, args.action == "publish")


def _target(args: argparse.Namespace) -> str:
    out: Optional[str] = args.out
    # A frame's format has a folder.
    return out or "scene." + args.format.rpartition("/")[2]


def _check_target(args: argparse.Namespace) -> None:
    """Before anything is sent."""
    if not args.overwrite and not getattr(args, "detach", False) and os.path.lexists(_target(args)):
        raise FileExistsError(0, "", _target(args))


def _wait_and_fetch(client: HttpClient, job: Any, args: argparse.Namespace) -> None:
    told: List[str] = []

    def tell(now: Job) -> None:
        stage = now.stage or now.state
        if [stage] != told[-1:]:
            told.append(stage)
            print(f"      {stage}", file=sys.stderr, flush=True)
        for warning in now.warnings:
            if warning.text not in told:
                told.insert(0, warning.text)
                print(f"warning: {warning.text}", file=sys.stderr)

    done = client.wait(job, on_change=tell)
    _fetch(client, done, args)
    if done.hash:
        print(f"hash  {done.hash}")
    if getattr(args, "fetch_again", False):
        if client.download(done, args.format).data != Path(_target(args)).read_bytes():
            raise ValueError("the file that was fetched again is another one")
        print("fetched again: the same bytes")


def _fetch(client: HttpClient, job: Any, args: argparse.Namespace) -> None:
    file = client.download(job, args.format, out=_target(args), overwrite=args.overwrite)
    print(f"wrote {_target(args)} ({file.size} bytes)")


def _line(job: Job) -> str:
    more = job.reason or job.stage or ""
    if job.ahead is not None:
        more = f"{job.ahead} before it"
    if job.fraction is not None:
        more += f" {100 * job.fraction:.0f} %"
    return f"{job.id:>6}  {job.state:<9}  {job.hash or '-'}  {job.name or ''}  {more}".rstrip()
