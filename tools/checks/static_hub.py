#!/usr/bin/env python3
"""A hub, and the name server that knows it, for tools/checks/test_static.

Serves, on loopback and on the ports that nobody has to name:
  53   a name server: hub.test and cdn.test are 127.0.0.1, there is nothing else
  80   a hub (HTTP) whose repo org/net holds the files of FOLDER; model.pt lies on cdn.test, as the hub does it
  443  the same (HTTPS), with CERTIFICATE and KEY
Prints "ready" when all three answer, and runs until it is ended.
"""

import argparse
import hashlib
import http.server
import json
import pathlib
import socketserver
import ssl
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = {"hub.test", "cdn.test"}
TYPE_A, CLASS_IN, NXDOMAIN = 1, 1, 3


class NameServer(socketserver.BaseRequestHandler):
    """One question of RFC 1035 in a datagram, one answer."""

    def handle(self):
        query, socket = self.request
        at, labels = 12, []
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode("ascii").lower())
            at += 1 + length
        question = query[12 : at + 5]
        kind = int.from_bytes(query[at + 1 : at + 3], "big")
        known = ".".join(labels) in NAMES
        answer = b""
        if known and kind == TYPE_A:
            # A pointer to the question's name, A, IN, a minute, four bytes.
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"
        flags = 0x8180 if known else 0x8180 | NXDOMAIN
        counts = (1, 1 if answer else 0, 0, 0)
        header = query[:2] + flags.to_bytes(2, "big") + b"".join(n.to_bytes(2, "big") for n in counts)
        socket.sendto(header + question + answer, self.client_address)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download asks for."""

    folder: pathlib.Path
    scheme: str
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        files = sorted(path.name for path in self.folder.iterdir())
        parts = self.path.strip("/").split("/")
        if self.path == "/api/models/org/net/revision/main":
            listing = json.dumps({"siblings": [{"rfilename": name} for name in files]})
            self.send(200, listing.encode(), with_body)
        elif parts[:3] == ["org", "net", "resolve"] and parts[-1] in files:
            content = (self.folder / parts[-1]).read_bytes()
            if parts[-1] == "model.pt":
                headers = {
                    "Location": f"{self.scheme}://cdn.test/cdn/model.pt",
                    "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                    "X-Linked-Size": str(len(content)),
                }
                self.send(302, b"", with_body, headers)
            else:
                # What git calls a file.
                blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                self.send(200, content, with_body, {"ETag": f'"{blob}"'})
        elif parts[0] == "cdn" and parts[-1] in files and self.headers["Host"] == "cdn.test":
            self.send(200, (self.folder / parts[-1]).read_bytes(), with_body)
        else:
            self.send(404, b"", with_body)

    def send(self, status, body, with_body, headers=None):
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def hub(folder, port, context=None):
    """A hub that listens on `port`."""
    scheme = "https" if context else "http"
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", port), type("AnyHub", (Hub,), {"folder": folder, "scheme": scheme})
    )
    if context:
        # The handshake belongs to the connection's own thread, which the first read does.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("certificate")
    parser.add_argument("key")
    args = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.certificate, args.key)
    servers = [
        socketserver.ThreadingUDPServer(("127.0.0.1", 53), NameServer),
        hub(args.folder, 80),
        hub(args.folder, 443, context),
    ]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
