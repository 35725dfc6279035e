#!/usr/bin/env python3
"""Talks to `vggt serve` with nothing but Python's standard library.

    export VGGT_PASSWORD=...                 # else it is asked for
    tools/client.py --user ann images a.jpg b.jpg c.jpg --out scene.glb
    tools/client.py --user ann video clip.mp4 --out scene.glb --fetch-again
    tools/client.py --user ann get HASH --out scene.glb
    tools/client.py --server http://127.0.0.1:4568 --user ann images a.jpg b.jpg --format ply      over HTTP or HTTPS, with more
                                                                     commands; --server http://... --help lists them

Each call logs in, sends its request and writes the GLB. `--fetch-again` then fetches the same GLB by its hash on the same
connection and compares the two. A GLB is written under a temporary name and renamed, so a file that is there is whole.

The bytes, all integers being big-endian 32 bits: a request is 1 byte command, 4 bytes payload length, payload.

    1 login   JSON {"u": name, "p": password}           -> length, JSON [ok, is_vip]
    2 images  count, then (length, file) for each       -> name length, name, GLB length, GLB
    3 video   the file                                  -> as 2
    4 get     64 hex digits                             -> length, GLB

HTTP is spoken by the package vggt_client in the folder python beside this file, or as `pip install` has put it.

An error stands where the GLB would: it does not start with `glTF` and is shorter than 1 KiB. More in src/protocol/README.md.
Exit codes: 0 done, 1 failed, 2 not called correctly.
"""

import argparse
import contextlib
import getpass
import hashlib
import json
import os
import pathlib
import re
import socket
import struct
import sys
import tempfile

LOGIN, IMAGES, VIDEO, GET = 1, 2, 3, 4
PIECE = 1 << 20  # bytes read or sent at once
LONGEST_NAME = 1024
LONGEST_ERROR = 1023
LONGEST_LOGIN_REPLY = 1024


class Failure(Exception):
    """What is told in one line."""


class Connection:
    """One connection to a server; requests are answered one after the other."""

    def __init__(self, host, port, timeout):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def login(self, name, password):
        """Logs in; tells whether the user is a VIP."""
        payload = json.dumps({"u": name, "p": password}).encode()
        self._send_head(LOGIN, len(payload))
        self.socket.sendall(payload)
        ok, is_vip = json.loads(self._read(self._read_length(LONGEST_LOGIN_REPLY)))
        if not ok:
            raise Failure(f"cannot log in as {name!r}: the server refuses the name or the password")
        return is_vip

    def images(self, paths, out):
        """Sends images, writes the GLB to `out`; gives its hash."""
        lengths = [os.path.getsize(path) for path in paths]
        with self._last_words():
            self._send_head(IMAGES, 4 + sum(4 + length for length in lengths))
            self.socket.sendall(struct.pack(">I", len(paths)))
            for path, length in zip(paths, lengths):
                self.socket.sendall(struct.pack(">I", length))
                self._send_file(path, length)
        return self._receive_named(out)

    def video(self, path, out):
        """Sends a video, writes the GLB to `out`; gives its hash."""
        length = os.path.getsize(path)
        with self._last_words():
            self._send_head(VIDEO, length)
            self._send_file(path, length)
        return self._receive_named(out)

    def get(self, digits, out):
        """Writes a stored GLB to `out`."""
        payload = digits.encode()
        self._send_head(GET, len(payload))
        self.socket.sendall(payload)
        self._receive_glb(out)

    @contextlib.contextmanager
    def _last_words(self):
        """A server that hangs up during an upload may have said why."""
        try:
            yield
        except ConnectionError as lost:
            try:
                self._receive_named(Digest())
            except (OSError, UnicodeError):
                pass
            raise lost

    def _send_head(self, command, length):
        if length >= 1 << 32:
            raise Failure(f"cannot send {length} bytes in one request: 4 GiB is the most")
        self.socket.sendall(struct.pack(">BI", command, length))

    def _send_file(self, path, length):
        with open(path, "rb") as file:
            while length:
                piece = file.read(min(PIECE, length))
                if not piece:
                    raise Failure(f"cannot send {path!r}: it became shorter while it was read")
                self.socket.sendall(piece)
                length -= len(piece)

    def _read(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(min(PIECE, length - len(data)))
            if not piece:
                raise Failure("the server closed the connection before its reply was whole")
            data += piece
        return bytes(data)

    def _read_length(self, longest):
        (length,) = struct.unpack(">I", self._read(4))
        if length > longest:
            raise Failure(f"the reply announces {length} bytes where {longest} are the most: is this a vggt server?")
        return length

    def _receive_named(self, out):
        name = self._read(self._read_length(LONGEST_NAME)).decode()
        self._receive_glb(out)
        return name.removesuffix(".glb")

    def _receive_glb(self, out):
        length = self._read_length((1 << 32) - 1)
        start = self._read(min(4, length))
        if start != b"glTF":
            if 0 < length <= LONGEST_ERROR:
                raise Failure("the server answers " + (start + self._read(length - len(start))).decode(errors="replace"))
            raise Failure(f"the reply of {length} bytes is neither a GLB nor an error")
        out.write(start)
        length -= len(start)
        while length:
            piece = self._read(min(PIECE, length))
            out.write(piece)
            length -= len(piece)


class WholeFile:
    """A file that takes its name when all of it is written, and is gone otherwise."""

    def __init__(self, path):
        self.path = path
        self.file = tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or ".", suffix=".tmp", delete=False)

    def __enter__(self):
        return self.file

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                # Temporary files are for their owner's eyes; this one is an ordinary file from now on.
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(self.file.name, 0o666 & ~umask)
                os.replace(self.file.name, self.path)
        finally:
            if os.path.exists(self.file.name):
                os.unlink(self.file.name)


class Digest:
    """Something to write to that only keeps the SHA-256."""

    def __init__(self):
        self.sha256 = hashlib.sha256()

    def write(self, data):
        self.sha256.update(data)


def sha256_of(path):
    digest = Digest()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.write(piece)
    return digest.sha256.digest()


def hash_argument(text):
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("a hash is 64 hex digits, without .glb")
    return text.lower()


def arguments():
    parser = argparse.ArgumentParser(description="Sends images or a video to a vggt server and fetches the GLB.")
    parser.add_argument("--server", help="an address of HTTP, in place of host and port; --server http://... --help tells more")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4567)
    parser.add_argument("--user", required=True)
    parser.add_argument("--timeout", type=float, default=600, help="seconds to wait for the next byte (%(default)s)")
    actions = parser.add_subparsers(dest="action", required=True)
    images = actions.add_parser("images", help="send images, in this order")
    images.add_argument("files", nargs="+")
    video = actions.add_parser("video", help="send a video")
    video.add_argument("file")
    get = actions.add_parser("get", help="fetch a stored GLB")
    get.add_argument("hash", type=hash_argument)
    for action in (images, video, get):
        action.add_argument("--out", default="scene.glb", help="where the GLB goes (%(default)s)")
    for action in (images, video):
        action.add_argument("--fetch-again", action="store_true", help="fetch the GLB by its hash as well and compare")
    return parser.parse_args()


def run(args):
    password = os.environ.get("VGGT_PASSWORD")
    if password is None:
        password = getpass.getpass(f"password of {args.user}: ")
    connection = Connection(args.host, args.port, args.timeout)
    is_vip = connection.login(args.user, password)
    print("logged in" + (" as a VIP" if is_vip else ""))
    with WholeFile(args.out) as out:
        if args.action == "images":
            digits = connection.images(args.files, out)
        elif args.action == "video":
            digits = connection.video(args.file, out)
        else:
            digits = args.hash
            connection.get(digits, out)
    print(f"wrote {args.out} ({os.path.getsize(args.out)} bytes)\nhash  {digits}")
    if getattr(args, "fetch_again", False):
        digest = Digest()
        connection.get(digits, digest)
        if digest.sha256.digest() != sha256_of(args.out):
            raise Failure("the GLB fetched by its hash is another one")
        print("fetched again by its hash: the same bytes")


def http_command(words):
    """The package's command for a server with an address of HTTP; None where `words` name none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--server")
    server = parser.parse_known_args(words)[0].server
    if server is None:
        return None
    if not server.lower().startswith(("http://", "https://")):
        parser.error(f"cannot use --server {server}: expected http:// or https:// in front; the TCP port has --host and --port")
    sys.path.append(str(pathlib.Path(__file__).resolve().parent / "python"))
    try:
        from vggt_client import command
    except ImportError as e:
        sys.exit(f"error: cannot speak HTTP without the package vggt_client ({e}): keep tools/python beside this file")
    return command.main


def main():
    if command := http_command(sys.argv[1:]):
        return command()
    args = arguments()
    try:
        run(args)
    except (Failure, OSError, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
