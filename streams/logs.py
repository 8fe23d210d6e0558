"""Chooses the adapter of a deployment's log by the scheme of its URL.

Belongs here: that choice. Does not belong here: the port (`log.py`) and the adapters (`valkey_log.py`), which no other
module needs to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from contracts.errors import SettingsError
from contracts.settings import Settings
from streams.log import EventLog
from streams.valkey_log import ValkeyLog

ADAPTERS: Mapping[str, Callable[[str], EventLog]] = dict.fromkeys(("redis", "rediss", "unix"), ValkeyLog)
"""Scheme of the URL -> adapter."""


def build_log(settings: Settings) -> EventLog:
    """Return the deployment's log; SettingsError when no adapter has the scheme of its URL."""
    check_url(settings.log_url)
    return ADAPTERS[urlsplit(settings.log_url).scheme](settings.log_url)


def check_url(log_url: str) -> None:
    """Raise SettingsError when no adapter has the scheme of a URL."""
    scheme = urlsplit(log_url).scheme
    if scheme not in ADAPTERS:
        known = ", ".join(f"{one}://" for one in ADAPTERS)
        begins = f"begins with {scheme}://" if scheme else "has no scheme"
        raise SettingsError(f"TIEOUT_LOG_URL {begins}; the log may be at {known}.")
