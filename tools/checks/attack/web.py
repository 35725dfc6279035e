"""The HTTP port, request by request: http.client with the errors of sockets alone, and nothing that hides an answer."""

import base64
import http.client
import json
import re

from . import wire
from .finding import eventually

TIMEOUT_S = 60
BOUNDARY = "boundary-of-a-check"
TUS = {"Tus-Resumable": "1.0.0"}


def port_of(service):
    """Where HTTP is served since the last start of a service with `--http 127.0.0.1:0`; the log says so after the start."""
    found = lambda: re.search(r", HTTP on [^,]*:(\d+),", service.log_text()[service.log_before :])  # noqa: E731
    if not eventually(found, TIMEOUT_S):
        raise AssertionError("the log does not say where HTTP is served")
    return int(found()[1])


def form(pictures, options=None):
    """A body of `multipart/form-data`."""
    parts = [(f'name="files"; filename="{number}.png"', data) for number, data in enumerate(pictures)]
    if options is not None:
        parts.append(('name="options"', json.dumps(options).encode()))
    body = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts
    )
    return body + f"--{BOUNDARY}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body or b"null")

    def expect(self, *statuses):
        assert self.status in statuses, f"{self.status}: {self.body[:300].decode(errors='replace')}"
        return self

    def busy(self):
        """Whether it is refused for want of a place."""
        return self.status in (429, 503)


class Web:
    """A user of the HTTP port; each request has a connection of its own."""

    def __init__(self, service, token=None):
        self.port, self.token = port_of(service), token

    def login(self, user):
        login = {"username": user, "password": wire.password_of(user)}
        self.token = self.ask("POST", "/api/v1/sessions", login).expect(201).json["token"]
        return self

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def headers(self, more=None):
        login = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {**login, **(more or {})}

    def ask(self, method, path, body=None, headers=None):
        headers = self.headers(headers)
        if isinstance(body, dict):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = self.connection()
        try:
            connection.request(method, path, body, headers)
            return Answer(connection.getresponse())
        except http.client.HTTPException as e:
            raise ConnectionError(f"{method} {path}: {type(e).__name__}: {e}") from e
        finally:
            connection.close()

    def begin(self, method, path, length, headers, data):
        """A request of which only `data` of its body is sent; the connection, which stays open."""
        connection = self.connection()
        connection.putrequest(method, path)
        for name, value in {**self.headers(headers), "Content-Length": str(length)}.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        return connection

    # What is asked for.

    def submit(self, pictures, options=None):
        return self.ask("POST", "/api/v1/jobs", form(pictures, options), FORM)

    def job(self, number):
        return self.ask("GET", f"/api/v1/jobs/{number}")

    def draft(self):
        """A job without its files, or None for want of a place."""
        made = self.ask("POST", "/api/v1/jobs", {})
        return None if made.busy() else made.expect(201).json["id"]

    def announce(self, job, name, length):
        """The path of an upload."""
        named = base64.b64encode(name.encode()).decode()
        headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": f"filename {named}"}
        made = self.ask("POST", f"/api/v1/jobs/{job}/uploads", b"", headers)
        return made.expect(201).headers["Location"]

    def offset(self, path):
        """How much of an upload is kept, None if there is none."""
        answer = self.ask("HEAD", path, headers=TUS).expect(200, 404)
        return None if answer.status == 404 else int(answer.headers["Upload-Offset"])

    def append(self, path, offset, data):
        return self.ask("PATCH", path, data, {**PART, "Upload-Offset": str(offset)})
