"""The body hash: it tells whether two commands with the same idempotency key have the same fields, and which differ.

Fields that equal their default are left out of the hash. So a new field with a default does not change the hash of
existing commands, and a client that repeats a command after a deployment gets its stored answer. Never change a
default: that would change the meaning of stored hashes.

Belongs here: the hash, and comparing it with a stored one. Does not belong here: who stores it (`execute.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

import msgspec

FIELD_HASH_BYTES = 6
"""Enough to tell two values of one field apart; the whole body's hash decides whether a command is the same."""


class Said(Protocol):
    """A command. Its class may list the fields (its own or of its parts) that were added after the first hashes."""

    @property
    def merchant_id(self) -> str:
        """The merchant of the command."""


def body_hash(command: Said) -> str:
    """Return the hash that distinguishes two commands under one key."""
    return _hash(command, msgspec.json.encode(_said(command), order="sorted"))


def field_hashes(command: Said) -> dict[str, str]:
    """Return a short hash of each field that does not equal its default: it tells which fields differ.

    Fields of COMPARED_LATER always have one: a stored request without it is from before the field was compared.
    """
    said = {**{name: getattr(command, name) for name in _compared_later(command)}, **_said(command)}
    return {
        name: hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=FIELD_HASH_BYTES).hexdigest()
        for name, value in said.items()
    }


def differing_fields(stored: Mapping[str, str], command: Said) -> list[str]:
    """Return the names of the fields in which a command differs from the one whose hashes were stored."""
    unknown = _compared_later(command) - set(stored)
    present = {name: value for name, value in field_hashes(command).items() if name not in unknown}
    return sorted(name for name in {*stored, *present} if stored.get(name) != present.get(name))


def has_body(command: Said, stored: str, hashes: Mapping[str, str] | None = None) -> bool:
    """Return whether `stored` is the hash of this command, in the present form or in the first form (with defaults).

    `hashes`: those of the fields, if they were stored. Fields that were not compared yet are left out.
    """
    unknown = set() if hashes is None else _compared_later(command) - set(hashes)
    if unknown and isinstance(command, msgspec.Struct):
        command = msgspec.structs.replace(command, **{n: d for n, d in _defaults(type(command)) if n in unknown})
    # The first hashes kept the fields in the order of their declaration.
    return stored == body_hash(command) or stored == _hash(command, msgspec.json.encode(_stated(command)))


def _compared_later(command: Said) -> frozenset[str]:
    return getattr(type(command), "COMPARED_LATER", frozenset())


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
    """Return a value as the first hashes covered it: with defaults, but without defaults of fields added later."""
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
    """Return the name and the default of every field; NODEFAULT, which equals no value, when a field has no default."""
    return tuple(
        (field.name, field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default)
        for field in msgspec.structs.fields(struct)
    )
