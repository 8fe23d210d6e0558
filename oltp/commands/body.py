"""What tells two commands under one idempotency key apart: a hash of what their callers said.

What equals its default counts as not said. So a field that a command gains later, with a default, leaves the hashes of
all commands as they were: a client that repeats a command across a deployment gets its stored answer. Hence a default
is never changed: it would change what was said.

Belongs here: the hash, and comparing it with a stored one. Does not belong here: who stores it (`execute.py`).
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Protocol

import msgspec


class Said(Protocol):
    """A command; its class may name the fields, of itself or of its parts, that it gained after the first hashes."""

    @property
    def merchant_id(self) -> str:
        """The merchant that it is for."""


def body_hash(command: Said) -> str:
    """Return the hash by which two commands under one key are told apart."""
    return _hash(command, msgspec.json.encode(_said(command), order="sorted"))


def has_body(command: Said, stored: str) -> bool:
    """Return whether `stored` is the hash of this command, also if it was stored when hashes covered defaults."""
    # The first hashes had the fields in the order of their declaration.
    return stored == body_hash(command) or stored == _hash(command, msgspec.json.encode(_stated(command)))


def _hash(command: Said, body: bytes) -> str:
    return hashlib.sha256(type(command).__name__.encode() + b"\n" + body).hexdigest()


def _said(value: Any) -> Any:
    """Return a value as plain data, each struct without the fields that equal their defaults."""
    if isinstance(value, msgspec.Struct):
        return {
            name: _said(present)
            for name, default in _defaults(type(value))
            if (present := getattr(value, name)) != default
        }
    if isinstance(value, list | tuple):
        return [_said(one) for one in value]
    return value


def _stated(value: Any) -> Any:
    """Return a value as the first hashes saw it: with its defaults, but without those of fields that came later."""
    if isinstance(value, msgspec.Struct):
        later: frozenset[str] = getattr(type(value), "ADDED_LATER", frozenset())
        return {
            name: _stated(present)
            for name, default in _defaults(type(value))
            if (present := getattr(value, name)) is not msgspec.UNSET
            if name not in later or present != default
        }
    if isinstance(value, list | tuple):
        return [_stated(one) for one in value]
    return value


@cache
def _defaults(struct: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    """Return the name and the default of every field; NODEFAULT, which equals nothing, where there is none."""
    return tuple(
        (field.name, field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default)
        for field in msgspec.structs.fields(struct)
    )
