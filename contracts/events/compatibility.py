"""Rules that check, by JSON Schemas, whether the present state types can read every event that may be stored.

Events are stored for years (in the lake and its backup, the log, the outboxes, and as parked events) and are never
rewritten. So after a change of a state type, all stored events must stay readable and keep their meaning. A committed
schema (`contracts/events/schemas/`) says what is stored under its version. We compare every committed schema with the
present type, not only the newest one. Events of the present version are read directly. Older events go through
upcasters, and we test these on examples of everything that the old schema allows.

Belongs here: the rules, pure. Does not belong here: reading the files (`schema_files.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from contracts.events.examples import examples

Schema = Mapping[str, Any]

ADD_DEFAULT = "give the field a default that says what it was before there was the field"
KEEP = (
    "keep it as it is, and add another field with a default beside it, or give the type a next version with an upcaster"
)
UPCAST = "let the upcaster take every state that the committed schema allows, and change no number that keeps its name"
SHOWN = 3
"""The largest number of failures of an upcaster that are listed."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between a present type and a stored schema."""

    place: str
    """Path of the field, e.g. ``lines[].quantity``."""
    rule: str
    """What was done, e.g. `the field was removed`."""
    is_breaking: bool
    way: str = ""
    """For a breaking change: what is allowed instead. For a new enum value: what readers need first."""

    @property
    def sentence(self) -> str:
        """The change as a sentence."""
        return f"{self.place}: {self.rule}" + (f"; {self.way}." if self.way else ".")


def changes(stored: Schema, now: Schema) -> list[Change]:
    """Return how `now` differs from `stored`: two JSON Schemas of one state type, as msgspec makes them."""
    return list(_Comparison(stored.get("$defs", {}), now.get("$defs", {})).of(stored, now, ""))


def breaking(stored: Schema, now: Schema) -> list[Change]:
    """Return the changes that make stored events unreadable, or let them mean something else."""
    return [change for change in changes(stored, now) if change.is_breaking]


def upcast_changes(
    stored: Schema, upcast: Callable[[dict[str, Any]], dict[str, Any]], read: Callable[[dict[str, Any]], object]
) -> list[Change]:
    """Return the problems of reading states of the older schema `stored`; at most SHOWN.

    `upcast` converts a state to the newest version; `read` accepts only states of the newest version. Both raise
    ValueError or msgspec.MsgspecError when they fail.
    """
    found: dict[str, Change] = {}
    for example in examples(stored):
        before = copy.deepcopy(example)
        try:
            upcasted = upcast(example)
            read(upcasted)
        except (ValueError, msgspec.MsgspecError) as error:
            found.setdefault(
                str(error), _broken("", f"an example cannot be read as the newest version: {error}", UPCAST)
            )
            continue
        if example != before or upcast(copy.deepcopy(before)) != upcasted:
            found.setdefault("pure", _broken("", "an upcaster changes what it is given, or gives two answers", UPCAST))
        for place, number in _numbers(before, ""):
            now = dict(_numbers(upcasted, "")).get(place, number)
            if now != number:
                found.setdefault(place, _broken(place, f"a number is changed, {number:,} to {now:,}", UPCAST))
    return list(found.values())[:SHOWN]


def _numbers(value: Any, place: str) -> Iterator[tuple[str, int]]:
    """Yield (path, number) for every number in the value."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield place, value  # type: ignore[misc]
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _numbers(part, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _numbers(part, f"{place}[{index}]")


@dataclass(frozen=True)
class _Comparison:
    stored_defs: Schema
    now_defs: Schema

    def of(self, stored: Schema, now: Schema, place: str) -> Iterator[Change]:
        stored, now = _resolved(stored, self.stored_defs), _resolved(now, self.now_defs)
        if "enum" in stored or "enum" in now:
            yield from _enums(stored, now, place)
            return
        olds, news = _alternatives(stored), _alternatives(now)
        for kind, old in olds.items():
            if kind not in news:
                yield _broken(place, f"{kind} is not allowed any more")
                continue
            yield from self._of_kind(kind, old, news[kind], place)
        for kind in news:
            if kind not in olds:
                yield Change(place=place or "the state", rule=f"{kind} is allowed, too", is_breaking=False)

    def _of_kind(self, kind: str, stored: Schema, now: Schema, place: str) -> Iterator[Change]:
        stored, now = _resolved(stored, self.stored_defs), _resolved(now, self.now_defs)
        if "enum" in stored or "enum" in now:
            yield from _enums(stored, now, place)
        elif kind == "object":
            yield from self._objects(stored, now, place)
        elif kind == "array":
            yield from _limits(stored, now, place)
            yield from self.of(stored.get("items", {}), now.get("items", {}), f"{place}[]")
        else:
            yield from _limits(stored, now, place)

    def _objects(self, stored: Schema, now: Schema, place: str) -> Iterator[Change]:
        olds, news = stored.get("properties", {}), now.get("properties", {})
        for name, old in olds.items():
            here = f"{place}.{name}" if place else name
            if name not in news:
                yield _broken(here, "the field was removed, and stored events have it")
                continue
            was_required, is_required = name in stored.get("required", ()), name in now.get("required", ())
            if is_required and not was_required:
                yield _broken(here, "the field is required now, and stored events may lack it", ADD_DEFAULT)
            if not was_required and not is_required and old.get("default") != news[name].get("default"):
                said = f"its default was {old.get('default')!r} and is {news[name].get('default')!r}"
                yield _broken(here, f"{said}: what stored events left out would mean something else")
            yield from self.of(old, news[name], here)
        for name in news:
            if name not in olds:
                here = f"{place}.{name}" if place else name
                if name in now.get("required", ()):
                    yield _broken(here, "the field is new and required, and stored events lack it", ADD_DEFAULT)
                else:
                    yield Change(place=here, rule="the field is new, with a default", is_breaking=False)


def _broken(place: str, rule: str, way: str = KEEP) -> Change:
    return Change(place=place or "the state", rule=rule, is_breaking=True, way=way)


def _resolved(schema: Schema, defs: Schema) -> Schema:
    """Follow `$ref`, and keep the keywords beside it, e.g. a default."""
    while "$ref" in schema:
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**defs[str(schema["$ref"]).rpartition("/")[2]], **beside}
    return schema


def _alternatives(schema: Schema) -> dict[str, Schema]:
    """Return the allowed alternatives by kind of JSON value; a schema without a type allows anything."""
    found: dict[str, Schema] = {}
    for one in schema.get("anyOf", [schema]):
        kind = "object" if "$ref" in one else str(one.get("type", "anything"))
        found[kind] = one
    return found


def _enums(stored: Schema, now: Schema, place: str) -> Iterator[Change]:
    olds, news = stored.get("enum"), now.get("enum")
    if olds is None or news is None:
        yield _broken(place, "it is a set of values on one side only")
        return
    for value in olds:
        if value not in news:
            yield _broken(place, f"the value {value!r} was removed, and stored events may have it")
    for value in news:
        if value not in olds:
            way = "readers must have been told one window before it is written"
            yield Change(place=place or "the state", rule=f"the value {value!r} is new", is_breaking=False, way=way)


def _limits(stored: Schema, now: Schema, place: str) -> Iterator[Change]:
    """Yield the changes of limits. A limit may be widened but not narrowed, so that stored values stay readable."""
    for name, is_narrower in _NARROWER.items():
        old, new = stored.get(name), now.get(name)
        if old == new:
            continue
        was, is_now = ("not limited" if limit is None else limit for limit in (old, new))
        rule = f"{name} was {was} and is {is_now}"
        if new is not None and (old is None or is_narrower(old, new)):
            yield _broken(place, f"{rule}: stored values may be outside", "narrow the command, not the event")
        else:
            yield Change(place=place or "the state", rule=rule, is_breaking=False)
    for name in ("format", "pattern", "multipleOf"):
        if now.get(name) is not None and stored.get(name) != now.get(name):
            yield _broken(place, f"{name} was {stored.get(name)!r} and is {now[name]!r}")


_NARROWER: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda old, new: new > old,
    "exclusiveMinimum": lambda old, new: new > old,
    "minLength": lambda old, new: new > old,
    "minItems": lambda old, new: new > old,
    "maximum": lambda old, new: new < old,
    "exclusiveMaximum": lambda old, new: new < old,
    "maxLength": lambda old, new: new < old,
    "maxItems": lambda old, new: new < old,
}
