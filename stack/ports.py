"""Where what is started here listens: on loopback, at a port that is free.

Belongs here: finding such a port, for servers, the supervisor and Dagster's pages alike. Does not belong here: which
port each had the last time, and asks for again (each knows its own).
"""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_port(preferred: int | None = None) -> int:
    """Return a loopback TCP port nobody listens on: `preferred` if it is free, else one of the system's choice."""
    if preferred is not None and _is_free(preferred):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT is free for us, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
