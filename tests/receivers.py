"""Receivers of alerts on loopback: a webhook and a mail server, each in a thread, that keep what they were given."""

from __future__ import annotations

import email
import email.policy
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """What a webhook was sent; while `status` is not 200 it refuses."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.messages: list[dict[str, Any]] = []

    def url(self, path: str = "") -> str:
        """Return its address for Apprise, with a password that no log may show."""
        return f"json://tieout:geheim@127.0.0.1:{self.port}/{path}"

    def chat_url(self, channel: str) -> str:
        """Return its address as that of a chat server (Mattermost, whose incoming webhooks Slack's are like)."""
        return f"mmost://tieout@127.0.0.1:{self.port}/geheimgeheimgeheimgeheim?channel={channel}&image=no"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run a webhook."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if received.status == 200:
                received.messages.append(json.loads(body))
            self.send_response(received.status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Webhook(server.server_address[1])
    with _served(server):
        yield received


class Mailbox:
    """What a mail server was given."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mails: list[EmailMessage] = []

    def url(self, to: str) -> str:
        """Return its address for Apprise."""
        return f"mailto://127.0.0.1:{self.port}?from=tieout@example.org&to={to}&mode=insecure"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Run a mail server (SMTP, RFC 5321, as far as a client needs it)."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 mail.example.org\r\n")
            while line := self.rfile.readline():
                verb = line.split(b" ")[0].strip().upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    self._take()
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"QUIT":
                    return

        def _take(self) -> None:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b"."))
            mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
            assert isinstance(mail, EmailMessage)
            mailbox.mails.append(mail)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    mailbox = Mailbox(server.server_address[1])
    with _served(server):
        yield mailbox


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
