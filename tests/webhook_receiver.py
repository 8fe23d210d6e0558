"""A merchant's endpoint on loopback that answers as a test says, and keeps what it was sent.

Belongs here: the receiver, and checking a message as a merchant would. Does not belong here: what tests expect.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Received:
    """One message."""

    path: str
    message_id: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def is_signed_with(self, secret: str) -> bool:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.message_id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return wanted in self.headers["webhook-signature"].split(" ")


Answer = int | Callable[[Received], int]


@dataclass(kw_only=True)
class Receiver:
    """Every path is an endpoint of its own. `answers`: path -> status, or what computes it; else 204."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    tried: list[Received] = field(default_factory=list)
    """Every message, taken or not."""
    taken: list[Received] = field(default_factory=list)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait(self, is_there: Callable[[], bool], seconds: float = 20.0) -> None:
        until = time.monotonic() + seconds
        while not is_there():
            assert time.monotonic() < until, f"{len(self.tried)} tried, {len(self.taken)} taken"
            time.sleep(0.02)

    def of(self, path: str) -> list[dict[str, Any]]:
        return [one.event for one in self.taken if one.path == path]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) < int(self.headers["Content-Length"]):
                return  # whoever sent it was killed in the middle
            headers = {name.lower(): value for name, value in self.headers.items()}
            message = Received(path=self.path, message_id=headers["webhook-id"], headers=headers, body=body)
            found.tried.append(message)
            answer = found.answers.get(self.path, 204)
            status = answer if isinstance(answer, int) else answer(message)
            if status == 0:
                # No HTTP at all.
                self.wfile.write(b"\x00\xff garbage\r\n\r\n")
                self.close_connection = True
                return
            if 200 <= status < 300:
                found.taken.append(message)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"http://127.0.0.1:{found.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Receiver(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
