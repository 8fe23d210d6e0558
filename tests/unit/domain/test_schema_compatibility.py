"""A state type may change only so that every stored event stays readable and means what it meant."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from contracts.events import STATE_TYPES, schema_files
from contracts.events.common import AggregateState, Upcaster
from contracts.events.compatibility import UPCAST, breaking, changes
from contracts.events.examples import examples
from contracts.events.schema_files import all_changes, breaking_sentences, committed
from docs import generate

Count = Annotated[int, msgspec.Meta(ge=0, le=100)]


class Part(msgspec.Struct, forbid_unknown_fields=True):
    sku: str
    quantity: Count


class Status(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Stored(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(max_length=10)]
    status: Status
    parts: list[Part]
    note: str | None
    released: int = 0


EXAMPLE = b'{"name":"a","status":"open","parts":[{"sku":"s","quantity":100}],"note":null}'


def changed(**fields: Any) -> type[msgspec.Struct]:
    """Return the stored type with other fields; None takes one away."""
    own: dict[str, Any] = {one.name: (one.type, one.default) for one in msgspec.structs.fields(Stored)}
    own |= fields
    named = [
        (name, given[0]) if given[1] is msgspec.NODEFAULT else (name, *given) for name, given in own.items() if given
    ]
    return msgspec.defstruct("Stored", named, kw_only=True, forbid_unknown_fields=True)


def part(**fields: Any) -> Any:
    return list[msgspec.defstruct("Part", list(fields.items()), forbid_unknown_fields=True)]  # type: ignore[misc]


NO = msgspec.NODEFAULT
ALLOWED = {
    "a field with a default": changed(added=(int, 0)),
    "a field with a default that is nothing": changed(added=(str | None, None)),
    "a longer text": changed(name=(Annotated[str, msgspec.Meta(max_length=20)], NO)),
    "a text of any length": changed(name=(str, NO)),
    "larger numbers in a part": changed(
        parts=(part(sku=str, quantity=Annotated[int, msgspec.Meta(ge=-5, le=200)]), NO)
    ),
    "null, too": changed(name=(Annotated[str, msgspec.Meta(max_length=10)] | None, NO)),
    "a new value": changed(status=(StrEnum("Status", {"OPEN": "open", "CLOSED": "closed", "LOST": "lost"}), NO)),
    "a required field that may be left out": changed(note=(str | None, None)),
}
FORBIDDEN = {
    "a field is gone": (changed(note=None), "note: the field was removed"),
    "a required field": (changed(added=(int, NO)), "added: the field is new and required"),
    "an optional field is required": (changed(released=(int, NO)), "released: the field is required now"),
    "another default": (changed(released=(int, 1)), "released: its default was 0 and is 1"),
    "another type": (changed(released=(str, "0")), "released: integer is not allowed any more"),
    "a number that loses precision": (changed(released=(float, 0)), "released: integer is not allowed any more"),
    "no null": (changed(note=(str, NO)), "note: null is not allowed any more"),
    "a shorter text": (
        changed(name=(Annotated[str, msgspec.Meta(max_length=9)], NO)),
        "name: maxLength was 10 and is 9",
    ),
    "a limit": (changed(released=(Count, 0)), "released: minimum was not limited and is 0"),
    "a smaller number in a part": (
        changed(parts=(part(sku=str, quantity=Annotated[int, msgspec.Meta(ge=0, le=99)]), NO)),
        "parts[].quantity: maximum was 100 and is 99",
    ),
    "a part loses a field": (changed(parts=(part(quantity=Count), NO)), "parts[].sku: the field was removed"),
    "a part gains a required field": (
        changed(parts=(part(sku=str, quantity=Count, colour=str), NO)),
        "parts[].colour: the field is new and required",
    ),
    "a value is gone": (
        changed(status=(StrEnum("Status", {"OPEN": "open"}), NO)),
        "status: the value 'closed' was removed",
    ),
    "any text in place of values": (changed(status=(str, NO)), "status: it is a set of values on one side only"),
    "one in place of many": (changed(parts=(Part, NO)), "parts: array is not allowed any more"),
}


def schema(state: type[msgspec.Struct]) -> dict[str, Any]:
    return msgspec.json.schema(state)


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_reads_what_is_stored(name: str) -> None:
    found = changes(schema(Stored), schema(ALLOWED[name]))
    assert found or name == "a required field that may be left out"
    assert [one for one in found if one.is_breaking] == []
    msgspec.json.decode(EXAMPLE, type=ALLOWED[name])


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_breaks_is_named_with_its_place_and_the_allowed_way(name: str) -> None:
    now, words = FORBIDDEN[name]
    found = breaking(schema(Stored), schema(now))
    assert any(one.sentence.startswith(words) for one in found) and all(one.way for one in found)


def test_nothing_differs_where_nothing_was_changed() -> None:
    assert changes(schema(Stored), schema(changed())) == []


def test_every_committed_version_is_read_by_the_types_of_now() -> None:
    assert breaking_sentences() == []
    assert {name for name, _ in all_changes()} == set(STATE_TYPES)


def make(**fields: Any) -> type[AggregateState]:
    """Return a state type of `thing`s with these fields (type, default), and `upcasters` if they are given."""
    upcasters = fields.pop("upcasters", ())
    names = [(name, given[0]) if given[1] is NO else (name, *given) for name, given in fields.items()]
    space = {"AGGREGATE_TYPE": "thing", "ID_FIELD": "thing_id", "UPCASTERS": upcasters}
    made = msgspec.defstruct("Thing", names, bases=(AggregateState,), namespace=space, kw_only=True, frozen=True)
    return made  # type: ignore[return-value]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Commit schemas, version by version, and let the last one be the type of now."""
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)

    def store(now: type[AggregateState], **versions: type[AggregateState]) -> None:
        monkeypatch.setattr(schema_files, "STATE_TYPES", {"thing": now})
        for path in tmp_path.iterdir():
            path.unlink()
        for version, state in versions.items():
            (tmp_path / f"thing.{version}.json").write_bytes(msgspec.json.encode(schema_files.schema_of(state)))

    return store


FIRST = {"thing_id": (str, NO), "price_minor": (int, NO), "label": (str | None, NO)}
SECOND = {"thing_id": (str, NO), "price_minor": (int, NO), "title": (str, NO)}
THIRD = {**SECOND, "seen_at": (datetime | None, None)}


def named(state: dict[str, Any]) -> dict[str, Any]:
    """Rename the label, which may be nothing."""
    return {"title": state["label"] or ""} | {name: value for name, value in state.items() if name != "label"}


def same(state: dict[str, Any]) -> dict[str, Any]:
    """Take what is there."""
    return dict(state)


def test_each_version_is_read_through_its_upcasters(stored: Callable[..., None]) -> None:
    third = make(**THIRD, upcasters=(named, same))
    assert third.SCHEMA_VERSION == 3
    stored(third, v1=make(**FIRST), v2=make(**SECOND, upcasters=(named,)), v3=third)
    assert list(committed("thing")) == [1, 2, 3]
    assert breaking_sentences() == []
    # What is required now is missing from versions 1 and 2: each is named.
    required = make(**{**THIRD, "seen_at": (datetime, NO)}, upcasters=(named, same))
    stored(required, v1=make(**FIRST), v2=make(**SECOND), v3=required)
    found = [sentence.partition(": ")[0] for sentence in breaking_sentences()]
    assert found == ["thing (stored as version 1)", "thing (stored as version 2)"]


def spoiled(state: dict[str, Any]) -> dict[str, Any]:
    return {**named(state), "price_minor": int(float(state["price_minor"]))}


def partial(state: dict[str, Any]) -> dict[str, Any]:
    return {"title": state["label"].strip()} | {name: value for name, value in state.items() if name != "label"}


NUMBERS = itertools.count()


def impure(state: dict[str, Any]) -> dict[str, Any]:
    return {**named(state), "title": f"number {next(NUMBERS)}"}


def lengthening(state: dict[str, Any]) -> dict[str, Any]:
    return {**named(state), "colour": "red"}


@pytest.mark.parametrize(
    ("upcaster", "said"),
    [
        (spoiled, "price_minor: a number is changed, 9,007,199,254,740,993 to 9,007,199,254,740,992"),
        (partial, "an example cannot be read as the newest version: it cannot be brought from schema version 1 on"),
        (impure, "an upcaster changes what it is given, or gives two answers"),
        (lengthening, "an example cannot be read as the newest version: Object contains unknown field `colour`"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_upcaster_that_is_not_pure_total_and_exact_is_named(
    stored: Callable[..., None], upcaster: Upcaster, said: str
) -> None:
    now = make(**SECOND, upcasters=(upcaster,))
    stored(now, v1=make(**FIRST), v2=now)
    assert any(said in sentence and UPCAST in sentence for sentence in breaking_sentences())


def test_a_version_that_may_be_stored_keeps_its_schema_and_its_upcaster(stored: Callable[..., None]) -> None:
    now = make(**SECOND, upcasters=(named,))
    stored(now, v2=now)
    (gone,) = breaking_sentences()
    assert gone.startswith("thing (stored as version 1): the state: its committed schema is gone")
    stored(make(**SECOND), v1=make(**SECOND), v2=make(**SECOND))
    (taken_back,) = breaking_sentences()
    assert "the type has version 1 now, and events of version 2 may be stored" in taken_back


def test_a_breaking_change_is_not_written_over_what_says_what_is_stored(
    stored: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(make(**SECOND), v1=make(**FIRST))
    file = tmp_path / "thing.v1.json"
    before = file.read_bytes()
    monkeypatch.setattr(generate, "documents", lambda: {file: "{}"})
    for arguments in ([], ["--check"]):
        assert generate.main(arguments) == 1
        said = capsys.readouterr().out
        assert "thing (stored as version 1): label: the field was removed" in said
        assert "a next version with an upcaster" in said and "not its committed schema" in said
    assert file.read_bytes() == before


def test_examples_keep_the_schema_and_try_each_field() -> None:
    for state in STATE_TYPES.values():
        found = list(examples(schema_files.schema_of(state)))
        for one in found:
            msgspec.convert(one, state)
        for field in msgspec.structs.fields(state):
            values = [one.get(field.encode_name, "absent") for one in found]
            assert len({msgspec.json.encode(value) for value in values}) > 1, (state, field.name)
            assert field.required != ("absent" in values), (state, field.name)
