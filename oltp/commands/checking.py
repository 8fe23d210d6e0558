"""The check that a command's fields have their types and limits; it runs once, before anything is read or written.

A field declares its limit in its type (`contracts/limits.py`). We check all fields, nested ones included, and raise an
error for the first violation; its sentence names command, field and limit. This is needed because Python does not check
types at run time, and an error from the database would come too late.

Belongs here: checks by declared type. Does not belong here: checks that depend on stored state (the commands).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from contracts.errors import InputError
from contracts.limits import Count, Limit, Moment, Text, UuidText, Whole
from contracts.text import visible

Check = Callable[[str, Any], None]
"""Called with (field path, value); returns nothing; raises `_RefusedError`."""


class _RefusedError(Exception):
    """A field that breaks its type or limit, and how."""


def check_fields(given: msgspec.Struct) -> None:
    """Raise InputError when a field of a command does not have its declared type, or breaks its limit."""
    try:
        _fields(type(given))("", given)
    except _RefusedError as refusal:
        raise InputError(f"{type(given).__name__}: {refusal}.") from None


def check_value(name: str, value: Any, limit: Limit) -> None:
    """Raise InputError when a value outside of a command, e.g. an idempotency key, breaks its limit."""
    try:
        _limited(_plain_check(limit), limit)(name, value)
    except _RefusedError as refusal:
        raise InputError(f"{refusal}.") from None


@cache
def _fields(struct: type[msgspec.Struct]) -> Check:
    checks = [
        (name, check_of(hint))
        for name, hint in get_type_hints(struct, include_extras=True).items()
        if name in struct.__struct_fields__
    ]

    def check(path: str, value: Any) -> None:
        if type(value) is not struct:
            raise _wrong_type(path, value, struct.__name__)
        prefix = f"{path}." if path else ""
        for name, check_field in checks:
            check_field(prefix + name, getattr(value, name))

    return check


def check_of(hint: Any) -> Check:
    """Return the check for values of a declared type."""
    if get_origin(hint) is Annotated:
        base, *notes = get_args(hint)
        limits = [note for note in notes if isinstance(note, Limit)]
        return _limited(check_of(base), *limits)
    if get_origin(hint) in (Union, types.UnionType):
        return _one_of(get_args(hint))
    if get_origin(hint) is list:
        return _each(check_of(*get_args(hint)))
    if issubclass(hint, StrEnum):
        return _member(hint)
    if issubclass(hint, msgspec.Struct):
        return _fields(hint)
    return _PLAIN[hint]


def _limited(check_type: Check, *limits: Limit) -> Check:
    def check(path: str, value: Any) -> None:
        check_type(path, value)
        for limit in limits:
            problem = limit.problem(len(value)) if isinstance(limit, Count) else limit.problem(value)
            if problem is not None:
                raise _RefusedError(f"{path} {problem}")

    return check


def _one_of(options: Sequence[Any]) -> Check:
    """Return the check for a union: a value of one of several types, or None or UNSET when declared."""
    empty = tuple(option for option in options if option in (types.NoneType, msgspec.UnsetType))
    *others, last = (check_of(option) for option in options if option not in empty)

    def check(path: str, value: Any) -> None:
        if isinstance(value, empty):
            return
        for other in others:
            with suppress(_RefusedError):
                return other(path, value)
        last(path, value)

    return check


def _each(check_item: Check) -> Check:
    def check(path: str, value: Any) -> None:
        if not isinstance(value, list | tuple):
            raise _wrong_type(path, value, "list")
        for number, item in enumerate(value):
            check_item(f"{path}[{number}]", item)

    return check


def _member(kinds: type[StrEnum]) -> Check:
    known = {str(kind) for kind in kinds}

    def check(path: str, value: Any) -> None:
        if not isinstance(value, str) or str(value) not in known:
            raise _RefusedError(f"{path} is {shown(value)}; it must be one of {', '.join(kinds)}")

    return check


def _exactly(kind: type, words: str) -> Check:
    def check(path: str, value: Any) -> None:
        if type(value) is not kind:
            raise _wrong_type(path, value, words)

    return check


def _text(path: str, value: Any) -> None:
    if type(value) is not str and not isinstance(value, StrEnum):
        raise _wrong_type(path, value, "text")


def _moment(path: str, value: Any) -> None:
    if type(value) is not datetime:
        raise _wrong_type(path, value, "date and time")


_PLAIN: dict[type, Check] = {
    str: _text,
    int: _exactly(int, "whole number"),
    bool: _exactly(bool, "true or false"),
    datetime: _moment,
}


def _plain_check(limit: Limit) -> Check:
    kinds: dict[type, type] = {Text: str, UuidText: str, Whole: int, Moment: datetime}
    return _PLAIN[kinds[type(limit)]]


def _wrong_type(path: str, value: Any, expected: str) -> _RefusedError:
    return _RefusedError(f"{path or 'it'} is {shown(value)}, not a {expected}")


def shown(value: Any) -> str:
    """Return a short text for a value, or for its type, without control characters."""
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, str):
        return f"'{visible(value[:40])}{'...' if len(value) > 40 else ''}'"
    return f"a {type(value).__name__}"
