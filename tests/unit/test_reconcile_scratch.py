"""The scratch space: it takes disk instead of memory, says which limit was reached, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pytest

from contracts.events.upcasting import register
from reconcile.lake_side import at_cut, fold
from reconcile.pair import Findings, PodRun, compare_pair
from reconcile.pairs import PAIRS
from reconcile.scratch import limit_reached, load, scratch, single_threaded, table

LIMIT_MB = 192
"""The least that may be set."""

LAKE = """
attach '{file}' as lake;
create schema lake.raw;
create table lake.raw.events (
    pod varchar, cut bigint, "partition" integer, "position" bigint, chunk integer, event_id varchar,
    merchant_id varchar, aggregate_type varchar, aggregate_id varchar, aggregate_version bigint, payload varchar,
    schema_version integer default 1, directory_epoch bigint default 1, epoch varchar default '1'
);
"""


def test_what_is_compared_lies_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    with duckdb.connect() as connection, scratch(connection, memory_limit_mb=LIMIT_MB, folder=tmp_path) as ready:
        for number in range(8):
            # Numbers that nothing compresses: together four times what may be held.
            ready.execute(
                f"create table {table(f'side_{number}')} as "
                "select md5(i::varchar) || md5((i + 1)::varchar) as text from range(1000000) as t(i)"
            )
        ((held,),) = ready.execute("select sum(memory_usage_bytes) from duckdb_memory()").fetchall()
        on_disk = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
        # A sort of one side still has what it needs.
        found = ready.execute(
            f"select count(*) from (select text from {table('side_0')} intersect select text from {table('side_7')})"
        ).fetchall()
    assert found == [(1_000_000,)]
    assert on_disk > LIMIT_MB * 1_000_000
    assert held < LIMIT_MB * 1_000_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("orders", "lines"), [(40_000, 1), (2_500, 100), (12, 10_000)])
def test_states_are_taken_apart_within_the_limit_however_large_each_is(tmp_path: Path, orders: int, lines: int) -> None:
    line = {"order_line_id": "x" * 36, "sku": "S" * 30, "title": "T" * 60, "quantity": 3, "total_minor": 1_200}
    payload = json.dumps({"state": {"merchant_id": "m", "version": 1, "lines": [line] * lines}, "changed": []})
    with duckdb.connect() as connection, scratch(connection, memory_limit_mb=LIMIT_MB, folder=tmp_path) as ready:
        register(connection)
        ready.execute(LAKE.format(file=tmp_path / "lake.duckdb"))
        ready.execute(
            """insert into lake.raw.events
               select 'pod1', 1, 0, i, 0, 'event-' || i, 'm', 'order', 'order-' || i, 1, $payload, 1, 1, '1'
               from range($orders) as t(i)""",
            {"payload": payload, "orders": orders},
        )
        fold(ready, at_cut("pod1", 1), "order")
        (counted,) = ready.execute(f"select count(*), sum(quantity) from {table('lake_order_lines')}").fetchall()
        (roots,) = ready.execute(
            f"select count(*), count(distinct aggregate_id) from {table('lake_orders')}"
        ).fetchall()
        ready.execute("detach lake")
    assert counted == (orders * lines, 3 * orders * lines)
    assert roots == (orders, orders)


def test_what_killed_comparisons_left_is_removed_and_what_others_use_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left, used = tmp_path / f"tieout-compare-{ended.pid}-a", tmp_path / "tieout-compare-1-b"
    for folder in (left, used):
        folder.mkdir()
        (folder / "scratch.duckdb").write_bytes(b"large")
    with duckdb.connect() as connection, scratch(connection, folder=tmp_path):
        assert not left.exists()
        assert used.exists()


def test_a_limit_that_was_reached_is_named_with_its_setting(tmp_path: Path) -> None:
    with duckdb.connect() as connection, scratch(connection, memory_limit_mb=LIMIT_MB, folder=tmp_path) as ready:
        with pytest.raises(duckdb.OutOfMemoryException) as memory:
            ready.execute("select list(repeat('x', 1000) || i) from range(1000000) as t(i)").fetchall()
        assert "TIEOUT_COMPARISON_MEMORY_MB" in limit_reached(memory.value)
    with duckdb.connect() as connection:
        spilling = scratch(connection, memory_limit_mb=LIMIT_MB, disk_limit_mb=1, folder=tmp_path)
        with spilling as ready, pytest.raises(duckdb.Error) as disk:
            ready.execute("select md5(i::varchar) as a from range(20000000) as t(i) order by a limit 1 offset 9999999")
        assert "TIEOUT_SCRATCH_DISK_MB" in limit_reached(disk.value)
    full = duckdb.IOException("Could not write file: No space left on device")
    assert "TIEOUT_VAR_DIR" in limit_reached(full)
    assert limit_reached(ValueError("other")) == ""


def test_what_both_sides_take_on_disk_is_bounded_too(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    taken = []

    def endless() -> Iterator[pa.RecordBatch]:
        for _ in range(4_000):
            taken.append(1)
            yield pa.record_batch([pa.array([os.urandom(500).hex() for _ in range(1_000)])], schema=schema)

    with duckdb.connect() as connection, scratch(connection, disk_limit_mb=50, folder=tmp_path) as ready:
        with pytest.raises(duckdb.InterruptException) as disk:
            load(ready, "side", pa.RecordBatchReader.from_batches(schema, endless()))
        assert "TIEOUT_SCRATCH_DISK_MB" in limit_reached(disk.value)
    assert len(taken) < 4_000, "it would have taken 4 GB"
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_that_fits_with_one_thread_only_says_so() -> None:
    threads = []

    def compared(run: PodRun) -> Findings:
        ((number,),) = run.connection.execute("select current_setting('threads')").fetchall()
        threads.append(number)
        if number > 1:
            raise duckdb.OutOfMemoryException("failed to allocate")
        return Findings(outcomes=())

    with duckdb.connect() as connection:
        run = PodRun(context=cast(Any, None), connection=connection, pod="pod1", cut=1)
        pair = replace(PAIRS[0], compare=compared)
        connection.execute("set threads = 2")
        assert compare_pair(pair, run).is_memory_short
        connection.execute("set threads = 1")
        assert not compare_pair(pair, run).is_memory_short
    assert threads == [2, 1, 1]


def test_one_thread_is_used_for_a_while() -> None:
    with duckdb.connect() as connection:
        connection.execute("set threads = 2")
        with single_threaded(connection):
            assert connection.execute("select current_setting('threads')").fetchall() == [(1,)]
        assert connection.execute("select current_setting('threads')").fetchall() == [(2,)]
