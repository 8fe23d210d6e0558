"""A build by Dagster names the first rows of a failed test; models tell rows and columns, checks what they demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import dagster as dg
import duckdb
from dagster_dbt import DbtCliInvocation

from assets.model_metadata import COLUMN_LINEAGE, ROW_COUNT, described
from assets.warehouse import WarehouseTranslator, failed_tests
from derived.builds import Build, PodCut


class Ended:
    """A dbt command that has ended; without `results` it had run nothing."""

    def __init__(self, results: list[dict[str, Any]] | None) -> None:
        self.results = results

    def get_artifact(self, name: str) -> dict[str, Any]:
        """Return the file that dbt left."""
        if self.results is None:
            raise FileNotFoundError(name)
        return {"results": self.results}


def result(name: str, status: str, compiled: str) -> dict[str, Any]:
    return {"unique_id": f"test.tieout.{name}.1a2b", "status": status, "compiled_code": compiled}


def named(results: list[dict[str, Any]] | None) -> list[str]:
    return failed_tests(duckdb.connect(), cast("DbtCliInvocation", Ended(results)))


def test_failed_tests_are_named_with_their_first_keys() -> None:
    results = [
        result("whole", "pass", "select 'o1' as order_id where false"),
        result("net", "fail", "select 'm' as merchant_id, 7 as net_minor"),
        result("sums", "fail", "select 1 as row_count"),
    ]
    assert named(results) == ["net (the first: merchant_id=m)", "sums"]


def test_a_command_that_ran_nothing_names_nothing() -> None:
    assert named(None) == []


def node(folder: str, name: str, *columns: str, kind: str = "model") -> dict[str, Any]:
    """Return what dbt's manifest has of a model or source."""
    return {
        "resource_type": kind,
        "package_name": "t",
        "database": "lake",
        "schema": folder,
        "name": name,
        "columns": {column: {"data_type": "varchar"} for column in columns},
        "original_file_path": f"{name}.sql",
    }


HISTORY = """
with joined as (
    select staged.* exclude (cut), cut as first_cut from lake.staging.stg_orders as staged
    union all by name
    select standing.* exclude (last_cut) from lake.intermediate.int_orders_history as standing
)
select order_id, lines, first_cut, lead(first_cut) over (partition by order_id order by first_cut) as last_cut
from joined"""
LINES = """
with orders as (select * exclude (lines), unnest(lines) as line from lake.intermediate.int_orders_history)
select order_id, line.quantity * 2 as pairs, count(*) as line_count from orders group by all"""
EVENTS = "select cut, unnest(state) from (select cut, from_json(payload, 'x').state as state from lake.raw.events)"


def test_a_model_that_was_built_has_its_rows_and_the_columns_that_its_columns_come_from(tmp_path: Path) -> None:
    lake = duckdb.connect()
    lake.execute("attach ':memory:' as lake; create schema lake.intermediate; create schema lake.marts")
    lake.execute("create view lake.marts.order_lines as select unnest([1, 2])")
    lake.execute("create table lake.intermediate.int_orders_history as select unnest([1, 2, 3]) as version")
    columns = ("order_id", "lines")
    models = [
        node("staging", "stg_orders", "cut", *columns),
        node("intermediate", "int_orders_history", *columns, "first_cut", "last_cut"),
        node("marts", "order_lines", "order_id", "pairs", "line_count"),
        node("marts", "unread", "order_id"),
    ]
    source = node("raw", "events", "cut", "payload", kind="source")
    manifest = {"nodes": {f"model.t.{one['name']}": one for one in models}, "sources": {"source.t.events": source}}
    compiled = tmp_path / "compiled" / "t"
    compiled.mkdir(parents=True)
    for one, sql in zip(models, (EVENTS, HISTORY, LINES, "select from where"), strict=True):
        (compiled / f"{one['name']}.sql").write_text(sql)

    outputs = [dg.Output(None, one["name"], metadata={"unique_id": f"model.t.{one['name']}"}) for one in models]
    build = Build(build_id="b", pods={"pod1": PodCut(since_cut=1, cut=7, data_at=None)}, connection=lake)
    tested = dg.AssetCheckResult(asset_key=["marts", "order_lines"], check_name="sums", passed=True)
    found = list(described([*outputs, tested], build, manifest, tmp_path))

    assert found.pop() is tested
    assert {(one.metadata["build_id"].value, one.metadata["cuts"].value) for one in found} == {("b", "pod1:7")}
    assert [one.metadata.get(ROW_COUNT) for one in found] == [None, *map(dg.IntMetadataValue, (3, 2)), None], (
        "staging, a table, a view, and one that cannot be read"
    )
    assert [one.metadata["unique_id"] for one in found] == [one.metadata["unique_id"] for one in outputs]
    told = [one.metadata[COLUMN_LINEAGE].value.deps_by_column for one in found if COLUMN_LINEAGE in one.metadata]
    read = [
        {name: ["/".join((*dep.asset_key.path, dep.column_name)) for dep in deps] for name, deps in each.items()}
        for each in told
    ]
    payload = ["lake/events/payload"]
    assert read[0] == {"cut": ["lake/events/cut"], "order_id": payload, "lines": payload}
    assert read[1] == {
        "order_id": ["staging/stg_orders/order_id"],
        "lines": ["staging/stg_orders/lines"],
        "first_cut": ["staging/stg_orders/cut"],
        "last_cut": ["staging/stg_orders/cut", "staging/stg_orders/order_id"],
    }, "itself is no parent"
    assert read[2] == {
        "order_id": ["intermediate/int_orders_history/order_id"],
        "pairs": ["intermediate/int_orders_history/lines"],
        "line_count": [],
    }
    assert len(read) == 3, "what cannot be read is not told"


def test_a_check_says_what_its_test_demands() -> None:
    test = {"name": "sums", "description": "Days\n sum up.", "resource_type": "test", "attached_node": "model.t.orders"}
    model = {"name": "orders", "resource_type": "model", "fqn": ["t", "marts", "orders"], "config": {}}
    model |= {"unique_id": "model.t.orders"}
    manifest = {
        "nodes": {"test.t.sums": test | {"depends_on": {"nodes": ["model.t.orders"]}}, "model.t.orders": model},
        "parent_map": {"test.t.sums": ["model.t.orders"]},
    }
    spec = WarehouseTranslator().get_asset_check_spec(dg.AssetSpec(["marts", "orders"]), manifest, "test.t.sums", None)
    assert spec is not None and (spec.name, spec.description) == ("sums", "Days sum up.")
