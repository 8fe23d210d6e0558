"""Free ports on loopback, for the processes that we start.

Belongs here: finding such a port for servers, the supervisor and Dagster's pages. Does not belong here: which port each
of them had the last time (each module stores its own).
"""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_port(preferred: int | None = None) -> int:
    """Return a free TCP port on loopback: `preferred` if it is free, else a port that the operating system chooses."""
    if preferred is not None and _is_free(preferred):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set the same option: they can bind a port in TIME_WAIT, but not a port that a process listens on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
