"""The processor time of a measurement: that of its own processes, and that of its PostgreSQL server.

Belongs here: reading both. Does not belong here: what is measured.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from stack.servers.postgres import EmbeddedPostgres


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Processor seconds of one piece of work."""

    client: float
    server: float


def cost_of(server: EmbeddedPostgres, work: Callable[[], None]) -> Cost:
    """Run `work` and return its cost; its child processes must have ended before it returns."""
    client, behind = _client_seconds(), server_seconds(server)
    work()
    return Cost(client=_client_seconds() - client, server=server_seconds(server) - behind)


def _client_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def server_seconds(server: EmbeddedPostgres) -> float:
    """Return the processor seconds of the server: of its running and of its ended processes."""
    parent = psutil.Process(int((server.data / "postmaster.pid").read_text().split("\n", 1)[0]))
    while True:
        own = parent.cpu_times()
        ended = own.children_user + own.children_system
        total = own.user + own.system + ended
        try:
            for child in parent.children():
                times = child.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
        own = parent.cpu_times()
        if own.children_user + own.children_system == ended:
            return total
