"""A client that sends whatever it is told, for attacks; the bytes are specified in src/protocol/README.md."""

import contextlib
import json
import socket
import struct
import time

LOGIN, IMAGES, VIDEO, GET, LIST, DELETE, PUBLISH, SUBMIT, STATUS, CANCEL, OPTIONS, INFO, PAGE = range(1, 14)
UNKNOWN = 99  # no command of any version
UNKNOWN_ANSWER = b"UNKNOWN_COMMAND"
IPV6_FREEBIND = 78  # of linux/in6.h; Python has no name for it
HEAD = struct.Struct(">BI")
LENGTH = struct.Struct(">I")
PIECE = 1 << 20  # bytes read at once
OVER = ("done", "failed", "cancelled")
# Longest wait for one answer. Long, since checks may share the machine with builds; nothing waits for it where all is well.
TIMEOUT_S = 60


class Closed(EOFError):
    """The server closed the connection before the answer was whole."""


def head(command, length):
    return HEAD.pack(command, length)


def images_payload(images):
    return LENGTH.pack(len(images)) + b"".join(LENGTH.pack(len(image)) + image for image in images)


def is_glb(data):
    return data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data)


def password_of(user):
    return f"pw-{user}"


class Connection(contextlib.AbstractContextManager):
    """One connection to a server on this machine; `source` is the address it comes from."""

    def __init__(self, port, *, host="127.0.0.1", source=None, timeout=TIMEOUT_S):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout)
        if source:
            if family == socket.AF_INET6:
                # An address of a network that is routed to this machine, without being configured.
                self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            self.socket.bind((source, 0))
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(min(length - len(data), PIECE))
            if not piece:
                raise Closed(f"closed after {len(data)} of {length} bytes")
            data += piece
        return bytes(data)

    def blob(self):
        return self.read(LENGTH.unpack(self.read(LENGTH.size))[0])

    def request(self, command, payload=b""):
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        # In two steps: an upload would be copied once more otherwise.
        self.send(head(command, len(payload)))
        self.send(payload)

    def ask(self, command, payload=b""):
        """The answer's bytes."""
        self.request(command, payload)
        return self.blob()

    def ask_json(self, command, payload=b""):
        return json.loads(self.ask(command, payload))

    def login(self, user, password=None):
        """Whether the server accepts the name and the password."""
        return self.ask_json(LOGIN, {"u": user, "p": password or password_of(user)})[0]

    def named_glb(self):
        """The hash and the GLB of commands 2 and 3, or "" and the error."""
        name = self.blob().decode()
        return name.removesuffix(".glb"), self.blob()

    def images(self, images):
        self.request(IMAGES, images_payload(images))
        return self.named_glb()

    def video(self, clip):
        self.request(VIDEO, clip)
        return self.named_glb()

    def submit(self, images=None, video=None):
        """JOB, or the refusal, as the server answers."""
        payload = b"\3" + video if images is None else b"\2" + images_payload(images)
        return self.ask_json(SUBMIT, payload)

    def status(self, job):
        return self.ask_json(STATUS, {"job": job})

    def cancel(self, job):
        return self.ask_json(CANCEL, {"job": job})

    def get(self, digest):
        return self.ask(GET, digest.encode())

    def delete(self, digest):
        return self.ask_json(DELETE, {"hash": digest})

    def publish(self, digest, public):
        return self.ask_json(PUBLISH, {"hash": digest, "public": public})

    def files(self):
        """The list of the user's newest files, or the refusal."""
        answer = self.ask_json(LIST)
        return answer.get("files", answer)

    def all_files(self, limit=1000):
        """The list of all of the user's files, page by page."""
        files, cursor = [], None
        while True:
            answer = self.ask(PAGE, {"before": cursor, "limit": limit})
            if answer == UNKNOWN_ANSWER:  # a server that knows no pages
                return self.files()
            page = json.loads(answer)
            if "error" in page:
                return page
            files += page["files"]
            cursor = page["next"]
            if cursor is None:
                return files

    def info(self):
        return self.ask_json(INFO)

    def wait(self, job, seconds=120, until=OVER):
        """The job's status once its state, or its stage, is one of `until`, or what it is after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            status = self.status(job)
            over = status.get("state") in (*until, *OVER) or status.get("stage") in until
            if over or "error" in status or time.monotonic() > end:
                return status
            time.sleep(0.02)

    def closed_after(self, seconds):
        """Seconds until the server closes the connection, None if it does not within so many; answers are dropped."""
        start = time.monotonic()
        while (left := start + seconds - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self.socket.recv(PIECE):
                    return time.monotonic() - start
            except TimeoutError:
                return None
            except ConnectionError:
                return time.monotonic() - start
        return None
