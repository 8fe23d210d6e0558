"""Where the HTTP interface of this stack is: its port is kept, so that addresses stay valid.

Belongs here: choosing, storing and finding the address, and asking whether it answers. Does not belong here: the server
(`stack/upkeep/serving.py`).
"""

from __future__ import annotations

import http.client
from pathlib import Path

from contracts.settings import Settings
from stack import files, ports

ANSWER_SECONDS = 2.0


def choose_port(settings: Settings) -> int:
    """Return the port of the last start if it is free, else the preferred one, else any."""
    try:
        last = int((settings.var_dir / "api" / "port").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = settings.api_port
    port = ports.free_port(last)
    return port if port == last else ports.free_port(settings.api_port)


def store_address(settings: Settings, port: int) -> str:
    """Store and return the address."""
    address = f"http://{ports.LOOPBACK}:{port}"
    files.write_private(settings.var_dir / "api" / "port", f"{port}\n")
    files.write_private(settings.var_dir / "api" / "url", f"{address}\n")
    return address


def api_url(settings: Settings) -> str | None:
    """Return the address, or None when the interface was never started here."""
    return stored_address(settings.var_dir)


def stored_address(var_dir: Path) -> str | None:
    """Return the same for the stack of a var folder."""
    path = var_dir / "api" / "url"
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def is_ready(address: str) -> bool:
    """Return whether the interface answers."""
    host = address.partition("://")[2]
    connection = http.client.HTTPConnection(host, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/v1/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
