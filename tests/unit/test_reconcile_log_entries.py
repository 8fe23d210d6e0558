"""Reading entries of the log back: one at a time, and of their payloads only the MD5 is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from contracts.errors import ManifestMismatchError
from reconcile.context import LoggedEntry
from reconcile.log_checksum import ROWS_AT_ONCE
from reconcile.log_entries import NO_ENTRY, ReadBack
from reconcile.scratch import load, scratch, table
from streams.codec import STORED_SCHEMA

ENTRY_BYTES = 20 << 20
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def events(first: int, payloads: list[str | None]) -> pa.Table:
    """Return what an entry with these payloads holds."""
    number = len(payloads)
    values = {
        "position": range(first, first + number),
        "event_id": [f"event-{first + at}" for at in range(number)],
        "aggregate_version": [1] * number,
        "schema_version": [1] * number,
        "directory_epoch": [1] * number,
        "occurred_at": [NOW] * number,
        "recorded_at": [NOW] * number,
        "payload": payloads,
    }
    texts = dict.fromkeys(STORED_SCHEMA.names, ["text"] * number)
    return pa.table({name: list((texts | values)[name]) for name in STORED_SCHEMA.names}, schema=STORED_SCHEMA)


def entry(cut: int, fetch: Callable[[], pa.Table | None], stated_events: int = 1) -> LoggedEntry:
    """Return the first entry of a cut, in partition 2."""
    return LoggedEntry(
        cut=cut, partition=2, chunk=0, epoch="e", stated_events=stated_events, stated_checksum="", fetch=fetch
    )


def unreadable() -> pa.Table | None:
    """Stand for an entry that is not one."""
    raise ManifestMismatchError("It cannot be decoded.")


@pytest.mark.parametrize("is_compared_with_the_lake", [True, False])
def test_one_entry_at_a_time_is_held(tmp_path: Path, is_compared_with_the_lake: bool) -> None:
    held = []
    before = pa.total_allocated_bytes()

    def fetch() -> pa.Table:
        held.append(pa.total_allocated_bytes() - before)
        return events(1, ["p" * (ENTRY_BYTES // 100)] * 100)

    read_back = ReadBack("pod1", [entry(cut, fetch, 100) for cut in (1, 2, 3)])
    if is_compared_with_the_lake:
        with duckdb.connect() as connection, scratch(connection, folder=tmp_path) as ready:
            load(ready, "rows", read_back.rows())
            ((rows,),) = ready.execute(f"select count(*) from {table('rows')}").fetchall()
    else:
        rows = sum(read_back.checked()[1].column("events").to_pylist())
    assert rows == 300
    assert len(held) == 3 and max(held) < ENTRY_BYTES / 10


def test_payloads_are_compared_by_what_the_databases_make_of_them(tmp_path: Path) -> None:
    payloads = ["{}", None, "", "\N{POUND SIGN} \N{TEACUP WITHOUT HANDLE}", *(str(n) for n in range(ROWS_AT_ONCE))]
    broken = events(900, ["ab"])
    at = STORED_SCHEMA.names.index("payload")
    no_utf8 = pa.array([b"\xff\xfe"]).view(pa.string())
    broken = broken.set_column(at, STORED_SCHEMA.field("payload"), no_utf8)
    read_back = ReadBack(
        "pod1", [entry(1, lambda: events(1, payloads)), entry(2, unreadable), entry(3, lambda: broken)]
    )
    with duckdb.connect() as connection, scratch(connection, folder=tmp_path) as ready:
        load(ready, "rows", read_back.rows())
        rows = ready.execute(
            f'select cut, "partition", payload_md5 from {table("rows")} order by "position"'
        ).fetchall()
        expected = ready.execute(
            "select md5(p) from (select unnest($1) as p, unnest($2) as turn) order by turn",
            [payloads, list(range(len(payloads)))],
        ).fetchall()
    assert rows[:-1] == [(1, 2, digest) for (digest,) in expected]
    assert rows[-1] == (3, 2, hashlib.md5(b"\xff\xfe", usedforsecurity=False).hexdigest())


def test_an_entry_that_cannot_be_read_has_no_checksum_and_no_events() -> None:
    _, found = ReadBack("pod1", [entry(1, unreadable), entry(2, lambda: events(1, ["{}"]))]).checked()
    assert found.column("events").to_pylist() == [0, 1]
    assert [text == NO_ENTRY for text in found.column("checksum").to_pylist()] == [True, False]
