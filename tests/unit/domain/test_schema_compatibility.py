"""A state type may change only so that every stored event stays readable and means what it meant."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from contracts.events import STATE_TYPES, schema_files
from contracts.events.compatibility import breaking, changes
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


def test_versions_are_compared_each_and_not_only_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that was added in version 2 and is required in version 3 breaks version 1 alone."""
    first, second = schema(changed()), schema(changed(added=(int, 0)))
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    monkeypatch.setattr(schema_files, "STATE_TYPES", {"thing": changed(added=(int, NO))})
    for version, text in ((1, first), (2, second), (10, schema(changed(added=(int, NO))))):
        (tmp_path / f"thing.v{version}.json").write_bytes(msgspec.json.encode(text))
    assert list(committed("thing")) == [1, 2, 10]
    sentences = breaking_sentences()
    assert [sentence.partition(": ")[0] for sentence in sentences] == [
        "thing (stored as version 1)",
        "thing (stored as version 2)",
    ]


def test_a_breaking_change_is_not_written_over_what_says_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    monkeypatch.setattr(schema_files, "STATE_TYPES", {"thing": changed(note=None)})
    file = tmp_path / "thing.v1.json"
    file.write_bytes(msgspec.json.encode(schema(Stored)))
    before = file.read_bytes()
    monkeypatch.setattr(generate, "documents", lambda: {file: "{}"})
    for arguments in ([], ["--check"]):
        assert generate.main(arguments) == 1
        said = capsys.readouterr().out
        assert "thing (stored as version 1): note: the field was removed" in said and "not its committed schema" in said
    assert file.read_bytes() == before
