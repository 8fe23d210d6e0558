"""Requests over several connections from one thread, for little processor time: the clients share it with the server.

Belongs here: sending requests that were put together before, and reading answers that state their length. Does not
belong here: what is asked (`bench/serving.py`).
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stack.ports import LOOPBACK

_LENGTH = b"content-length:"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What asking took: seconds, and the processor seconds of this thread."""

    seconds: float
    client: float


def ask_all(port: int, requests: Sequence[bytes], *, connections: int, status: int) -> Asked:
    """Send all requests, each connection its next one after an answer; SystemExit for an answer of another status."""
    opened = [socket.create_connection((LOOPBACK, port), timeout=60) for _ in range(connections)]
    try:
        for one in opened:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began, used = time.perf_counter(), time.thread_time()
        _exchange(opened, iter(requests), b"HTTP/1.1 %d " % status)
        return Asked(seconds=time.perf_counter() - began, client=time.thread_time() - used)
    finally:
        for one in opened:
            one.close()


def _exchange(connections: Sequence[socket.socket], requests: Iterator[bytes], expected: bytes) -> None:
    waiting = select.epoll()
    read: dict[int, bytes] = {}
    by_number = {connection.fileno(): connection for connection in connections}
    for number, connection in by_number.items():
        if (request := next(requests, None)) is not None:
            read[number] = b""
            waiting.register(number, select.EPOLLIN)
            connection.sendall(request)
    while read:
        ready = waiting.poll(60)
        if not ready:
            raise SystemExit("The interface has not answered for a minute.")
        for number, _ in ready:
            some = by_number[number].recv(1 << 16)
            if not some:
                raise SystemExit("The interface has closed a connection.")
            read[number] += some
            if not _is_whole(read[number]):
                continue
            if not read[number].startswith(expected):
                raise SystemExit(f"The interface answered {read[number][:400]!r}")
            if (request := next(requests, None)) is None:
                del read[number]
                waiting.unregister(number)
            else:
                read[number] = b""
                by_number[number].sendall(request)
    waiting.close()


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    head = head.lower()
    at = head.index(_LENGTH) + len(_LENGTH)
    return len(body) >= int(head[at:].split(b"\r\n", 1)[0])
