"""A way to PostgreSQL that loses the reply to a COMMIT: the server has committed, and the client never hears of it.

Belongs here: that way. Does not belong here: what anybody makes of it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BYTES = 1 << 16


@dataclass(kw_only=True)
class LosingWay:
    """Passes everything on; when it is told to, it swallows the reply to a COMMIT and ends the connection."""

    dsn: str
    """Of the same database, by this way."""
    lost: int = 0
    """How many replies were lost so far."""
    _answered_first: int | None = field(default=None, repr=False)
    _writing: bytes = field(default=b"", repr=False)

    def lose(self, *, skipping: int = 0, writing: str = "") -> None:
        """Lose the reply to the next COMMIT, after `skipping` that are answered; only of transactions that say this."""
        self._writing = writing.encode()
        self._answered_first = skipping

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what a client says, until it or the way ends the connection."""
        is_losing = threading.Event()
        threading.Thread(target=self._answer, args=(client, server, is_losing), daemon=True).start()
        is_meant = False
        with suppress(OSError), client, server:
            while data := client.recv(BYTES):
                is_meant = is_meant or self._writing in data
                if data[:1] == b"Q" and data[5:11].upper() == b"COMMIT":
                    if is_meant and self._is_next():
                        is_losing.set()
                    is_meant = False
                server.sendall(data)

    def _is_next(self) -> bool:
        left = self._answered_first
        if left is not None:
            self._answered_first = left - 1 if left else None
        return left == 0

    def _answer(self, client: socket.socket, server: socket.socket, is_losing: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(BYTES):
                if is_losing.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def losing_way(dsn: str) -> Iterator[LosingWay]:
    """Open such a way to the database of `dsn` on loopback."""
    parts = urlsplit(dsn)
    listener = socket.create_server(("127.0.0.1", 0))
    way = LosingWay(dsn=dsn.replace(f":{parts.port}/", f":{listener.getsockname()[1]}/"))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((str(parts.hostname), int(parts.port or 5432)))
                threading.Thread(target=way.serve, args=(client, server), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listener:
        yield way
