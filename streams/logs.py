"""Chooses the adapter of a deployment's log by the scheme of its URL.

Belongs here: that choice. Does not belong here: the port (`log.py`) and the adapters (`valkey_log.py`), which no other
module needs to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from contracts.errors import SettingsError
from contracts.settings import Settings
from streams.log import ANSWER_SECONDS, EventLog
from streams.valkey_log import ValkeyLog


class Adapter(Protocol):
    """How a log is made of its URL. Nothing is asked yet."""

    def __call__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS) -> EventLog:
        """Return the log; each of its calls waits so long for an answer."""


ADAPTERS: Mapping[str, Adapter] = dict.fromkeys(("redis", "rediss", "unix"), ValkeyLog)
"""By the scheme of the URL."""


def build_log(settings: Settings, *, answer_seconds: float = ANSWER_SECONDS) -> EventLog:
    """Return the deployment's log; SettingsError when no adapter knows its URL."""
    return log_at(settings.log_url, answer_seconds=answer_seconds)


def log_at(log_url: str, *, answer_seconds: float = ANSWER_SECONDS) -> EventLog:
    """Return the log at a URL; SettingsError when no adapter knows it."""
    check_url(log_url)
    return ADAPTERS[urlsplit(log_url).scheme](log_url, answer_seconds=answer_seconds)


def check_url(log_url: str) -> None:
    """Raise SettingsError when no adapter has the scheme of a URL."""
    scheme = urlsplit(log_url).scheme
    if scheme not in ADAPTERS:
        known = ", ".join(f"{one}://" for one in ADAPTERS)
        begins = f"begins with {scheme}://" if scheme else "has no scheme"
        raise SettingsError(f"TIEOUT_LOG_URL {begins}; the log may be at {known}.")
