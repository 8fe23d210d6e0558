"""Events, and answers of commands, of earlier schema versions are read as the newest one, by Python and by DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import msgspec
import pytest

from contracts.errors import StackError
from contracts.events.common import encode_payload
from contracts.events.examples import examples
from contracts.events.refund import RefundState
from contracts.events.schema_files import schema_of
from contracts.events.upcasting import UnreadableEventError, newest_payload, newest_sql, read_state, register
from oltp.commands.answers import decoded, encoded

EXAMPLE = next(examples(schema_of(RefundState)))
STATE = msgspec.convert(EXAMPLE, RefundState)


def renamed(state: dict[str, Any]) -> dict[str, Any]:
    """Version 1 called the reason a note."""
    return {name: value for name, value in state.items() if name != "note"} | {"reason": state["note"]}


def joined(state: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had the reference in two parts."""
    kind, number = state["reference_kind"], state["reference_number"]
    kept = {name: value for name, value in state.items() if not name.startswith("reference_")}
    return kept | {"external_reference": None if number is None else f"{kind}-{number}"}


FIRST = {name: value for name, value in EXAMPLE.items() if name not in ("reason", "external_reference")} | {
    "note": EXAMPLE["reason"],
    "reference_kind": "CN",
    "reference_number": "17",
}
SECOND = renamed(FIRST)
NEWEST = msgspec.structs.replace(STATE, external_reference="CN-17")


def payload(state: dict[str, Any]) -> str:
    return msgspec.json.encode({"state": state, "changed": ["status"], "cause": "break 7"}).decode()


@pytest.fixture
def evolved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the refund's state be at version 3."""
    monkeypatch.setattr(RefundState, "UPCASTERS", (renamed, joined))
    monkeypatch.setattr(RefundState, "SCHEMA_VERSION", 3)
    yield


@pytest.mark.usefixtures("evolved")
def test_every_version_is_read_as_the_newest() -> None:
    for version, state in ((1, FIRST), (2, SECOND), (3, msgspec.to_builtins(NEWEST))):
        assert read_state(RefundState, version, payload(state)) == NEWEST, version
    newest = encode_payload(None, NEWEST)
    assert newest_payload("refund", 3, newest) is newest, "what is new stays as it is, to the byte"
    kept = msgspec.json.decode(newest_payload("refund", 1, payload(FIRST)))
    assert (kept["changed"], kept["cause"]) == (["status"], "break 7")


@pytest.mark.usefixtures("evolved")
def test_no_digit_is_lost_on_the_way() -> None:
    large = {**FIRST, "amount_minor": 9_007_199_254_740_993, "note": 'Ä \u2028 {"state": 1}'}
    state = read_state(RefundState, 1, payload(large))
    assert (state.amount_minor, state.reason) == (large["amount_minor"], large["note"])


@pytest.mark.usefixtures("evolved")
@pytest.mark.parametrize(
    ("version", "text", "said"),
    [
        (4, payload(FIRST), "schema version 4 is not one of 1 to 3"),
        (0, payload(FIRST), "schema version 0 is not one of 1 to 3"),
        (1, payload({"note": "x"}), "cannot be brought from schema version 2 on (KeyError: 'reference_kind')"),
        (1, "{", "its payload cannot be read"),
        (2, "[]", "its payload cannot be read"),
        (2, '{"state": 3}', "its payload has no state"),
        (3, payload(FIRST), "unknown field"),
    ],
)
def test_what_cannot_be_read_says_why(version: int, text: str, said: str) -> None:
    with pytest.raises(UnreadableEventError) as refused:
        read_state(RefundState, version, text)
    assert said in str(refused.value)


@pytest.mark.usefixtures("evolved")
def test_duckdb_reads_what_python_reads() -> None:
    lake = duckdb.connect()
    register(lake)
    lake.execute("create table events (schema_version int, payload varchar)")
    rows = [(1, payload(FIRST)), (2, payload(SECOND)), (3, payload(msgspec.to_builtins(NEWEST))), (4, "{}"), (1, "{")]
    lake.executemany("insert into events values (?, ?)", rows)
    # A cursor is another connection to the same instance: it has the function, too.
    found = lake.cursor().execute(f"select {newest_sql('refund')} from events order by rowid").fetchall()
    assert [text and msgspec.json.decode(text)["state"] for (text,) in found] == [
        *[msgspec.to_builtins(NEWEST)] * 3,
        None,
        None,
    ]
    assert found[2][0] == rows[2][1], "what is new stays as it is, to the byte"


def test_answers_of_earlier_versions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = bytes(encoded(STATE)).decode()
    assert msgspec.json.decode(before, type=RefundState) == STATE, "of version 1 nothing is said"
    first, several = msgspec.json.encode(FIRST).decode(), msgspec.json.encode([FIRST, FIRST]).decode()
    monkeypatch.setattr(RefundState, "UPCASTERS", (renamed, joined))
    monkeypatch.setattr(RefundState, "SCHEMA_VERSION", 3)
    assert decoded(first, RefundState) == NEWEST
    assert decoded(several, list[RefundState]) == [NEWEST, NEWEST]
    third = bytes(encoded([NEWEST])).decode()
    assert decoded(third, list[RefundState]) == [NEWEST]
    with pytest.raises(StackError, match="What it did is done and stays"):
        decoded(before, RefundState)
    monkeypatch.setattr(RefundState, "UPCASTERS", ())
    monkeypatch.setattr(RefundState, "SCHEMA_VERSION", 1)
    with pytest.raises(StackError, match="schema version 3 is not one of 1 to 1"):
        decoded(third, list[RefundState])
