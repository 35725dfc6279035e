"""A proxy that cuts connections: after so many bytes of a request, or of an answer."""

import contextlib
import socket
import threading
import urllib.parse


class Cutter:
    """Passes on what it gets until a connection has had so many bytes, and counts the connections that it cut."""

    def __init__(self, url, *, request=None, answer=None):
        parts = urllib.parse.urlsplit(url)
        self.to = parts.hostname, parts.port
        self.request, self.answer, self.cuts = request, answer, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{parts.scheme}://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # Wakes accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.to)
                for one, other, most in ((client, server, self.request), (server, client, self.answer)):
                    threading.Thread(target=self._pass_on, args=(one, other, most), daemon=True).start()

    def _pass_on(self, source, target, left):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if left is not None:
                    piece, left = piece[:left], left - len(piece)
                target.sendall(piece)
                if left is not None and left <= 0:
                    self.cuts += 1
                    break
            else:
                target.shutdown(socket.SHUT_WR)
                return
        for end in (source, target):
            with contextlib.suppress(OSError):
                # Without it, the close waits for the other thread's call.
                end.shutdown(socket.SHUT_RDWR)
            end.close()
