"""Removes this deployment's passwords from messages of other programs; DuckDB, for example, quotes the whole DSN.

Belongs here: which secrets there are. Does not belong here: removing one secret from a text (`derived/dsn.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote, urlsplit, urlunsplit

from contracts.settings import PodSettings, Settings
from derived.dsn import scrub


def scrubber(settings: Settings) -> Callable[[str], str]:
    """Return a function that removes every DSN and password of `settings` from a text and makes it one line."""
    pods = (dsn for pod in settings.pods for dsn in _dsns(pod))
    others = (settings.catalog_dsn, settings.read_models_dsn, settings.control_dsn, settings.dagster_dsn)
    readers = (settings.catalog_reader_dsn, settings.read_models_reader_dsn, settings.read_models_witness_dsn)
    dsns = [dsn for dsn in (*others, *readers, *pods) if dsn]
    urls = (settings.log_url, settings.carts_url, settings.cache_url)
    of_valkey = [secret for url in urls for secret in _secrets_of(url)]
    of_objects = settings.object_store.secret if settings.object_store else ""
    others_said = (*of_valkey, of_objects, *settings.alert_urls, *settings.digest_urls)
    secrets = [secret for secret in others_said if secret]

    def scrubbed(text: str) -> str:
        clean = " ".join(text.split())
        for dsn in dsns:
            clean = scrub(ValueError(clean), dsn)
        for secret in secrets:
            clean = clean.replace(secret, "***")
        return clean

    return scrubbed


def _secrets_of(url: str) -> tuple[str, ...]:
    password = urlsplit(url).password or ""
    return (url, password, unquote(password))


def _dsns(pod: PodSettings) -> tuple[str, ...]:
    return (pod.owner_dsn, pod.app_dsn, pod.relay_dsn, pod.reader_dsn, pod.witness_dsn)


def hide_password(dsn: str) -> str:
    """Return a DSN or URL without its password, to be shown to people."""
    parts = urlsplit(dsn)
    host = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit((parts.scheme, user + host, parts.path, parts.query, ""))
