"""An S3-compatible object store: its address and key, and prefixes that are used like folders.

Belongs here: the values, and the statements that configure a DuckDB connection with them. Does not belong here: reading
and writing objects (`derived/objects.py`), the settings' names (`contracts/settings.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from contracts.errors import SettingsError

SCHEME = "s3://"


def is_object_path(path: object) -> bool:
    """Return whether a path is a prefix of an object store, not a folder."""
    return str(path).startswith(SCHEME)


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """Address and access key of an object store; the lake and its backup use the same one."""

    endpoint: str = ""
    """``https://host:port``, or ``http://...`` without encryption; empty: Amazon S3 in `region`."""
    region: str = "us-east-1"
    key_id: str
    secret: str = field(repr=False)

    @property
    def host(self) -> str:
        """Host and port, without the scheme; empty for Amazon S3."""
        return urlsplit(self.endpoint).netloc

    @property
    def is_encrypted(self) -> bool:
        """Whether connections use TLS."""
        return not self.endpoint.startswith("http://")

    def secret_statements(self, prefixes: Iterable[str]) -> list[str]:
        """Return the statements that let a DuckDB connection use this store, but only below these prefixes.

        They hold the secret: run them, never log them.
        """
        parts = {"key_id": self.key_id, "secret": self.secret, "region": self.region}
        if self.host:
            # Such a server has the bucket in the URL's path; Amazon S3 has it in the host name.
            parts |= {"endpoint": self.host, "url_style": "path"}
        said = ", ".join(f"{name} {_quoted(value)}" for name, value in parts.items())
        return [
            f"create secret tieout_{number} (type s3, provider config, {said}, use_ssl {str(self.is_encrypted).lower()}"
            f", scope {_quoted(prefix)})"
            for number, prefix in enumerate(dict.fromkeys(prefixes))
        ]


@dataclass(frozen=True, kw_only=True)
class ObjectFolder:
    """A prefix of an object store, used like a folder: ``folder / "name"`` works, and `str` gives the address."""

    address: str
    """``s3://bucket/prefix``, without a slash at its end."""
    store: ObjectStore = field(repr=False)

    def __truediv__(self, name: str) -> ObjectFolder:
        """Return the folder or object `name` below this prefix."""
        return ObjectFolder(address=f"{self.address}/{name}", store=self.store)

    def __str__(self) -> str:
        """Return its address."""
        return self.address

    @property
    def key(self) -> str:
        """Bucket and key, as ``bucket/prefix/name``."""
        return self.address.removeprefix(SCHEME)


def checked_prefix(name: str, path: str) -> str:
    """Return `path` without a slash at its end; SettingsError names setting `name` if it is no valid prefix."""
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.\-]{2,62}(/[^\s/?#*\[\]]+)*/*", path):
        raise SettingsError(
            f"Setting {name} is {path!r}; an object store's prefix is written s3://bucket/prefix, in which the bucket "
            "has lower-case letters, digits, dots and hyphens."
        )
    return path.rstrip("/")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
