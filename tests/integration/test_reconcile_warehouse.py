"""The warehouse's stored tables against the lake's events: nothing differs while nothing is wrong, and any value that
was changed in any column of any of them is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import pytest

from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from derived.builds import building, record_cut_vector
from derived.lake import connect_lake
from derived.warehouse import build_warehouse
from reconcile.changed_rows import narrowed
from reconcile.compare import Limits
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.pairs import pairs_named
from reconcile.sightings import migrate as migrate_sightings
from reconcile.sightings import waiting_sightings
from reconcile.stored_pairs import FAMILY
from reconcile.sweep import SweepPlan
from stack.composition.comparison import build_reconcile_context
from stack.upkeep.asked import pairs_for
from tests.integration.reconcile_world import Shop, carrying, migrate_lake_of, open_shops
from witness.lake import LakeWitness

POD = "pod1"
STORED = """
    select schema_name || '.' || table_name, column_name, data_type from duckdb_columns()
    where database_name = 'lake' and schema_name in ('staging', 'intermediate', 'marts')
      and (schema_name, table_name) in (
          select (schema_name, table_name) from duckdb_tables() where database_name = 'lake')
    order by all
"""
OTHER = {
    "VARCHAR": "coalesce({0} || 'x', 'x')",
    "BIGINT": "coalesce({0} + 1, 1)",
    "INTEGER": "coalesce({0} + 1, 1)",
    "BOOLEAN": "not coalesce({0}, false)",
    "DATE": "coalesce({0} + 1, date '2010-12-01')",
    "TIMESTAMP WITH TIME ZONE": "coalesce({0} + interval 1 day, timestamptz '2010-12-01')",
}
"""Type -> another value than the present one, whatever that is."""


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """The shop of pod1, everything done that can be done, some of it in cuts of its own."""
    migrate_lake_of(settings)
    with open_shops(settings) as (shop, other):
        for one in (shop, other):
            one.everything()
            one.paid_by_card()
        yield shop


@pytest.fixture
def context(settings: Settings) -> ReconcileContext:
    real = build_reconcile_context(settings, lag_seconds_max=10)
    return replace(carrying(real, settings, ("lake",)), limits=Limits(sample=10_000))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A stored table: its name with the schema, its columns with their types, and the key of its pair's shape."""

    name: str
    columns: Mapping[str, str]

    @property
    def pair(self) -> str:
        return f"{FAMILY}.{self.name.split('.int_')[1]}"

    @property
    def key(self) -> Sequence[str]:
        (pair,) = pairs_named([self.pair])
        return pair.shapes[0].key

    def rows(self, lake: duckdb.DuckDBPyConnection) -> list[tuple[int, tuple[str, ...]]]:
        """Return number and key of the rows of POD."""
        keys = ", ".join(f"{name}::varchar" for name in self.key)
        found = lake.execute(f"select rowid, {keys} from lake.{self.name} where pod = '{POD}' order by all").fetchall()
        assert found, self.name
        return [(row[0], row[1:]) for row in found]

    def damage(
        self, lake: duckdb.DuckDBPyConnection, columns: Sequence[str], *, apart: bool = False
    ) -> set[tuple[tuple[str, ...], str]]:
        """Change each of these columns in some row, one commit; return (key, column). `apart`: no two in one row."""
        rows = self.rows(lake)
        assert not apart or len(rows) >= len(columns), self.name
        chosen = {column: rows[place % len(rows)] for place, column in enumerate(columns)}
        changes = ", ".join(
            f'"{column}" = case when rowid = {row} then {self._other(column)} else "{column}" end'
            for column, (row, _) in chosen.items()
        )
        touched = ", ".join(str(row) for row, _ in chosen.values())
        lake.execute(f"update lake.{self.name} set {changes} where rowid in ({touched})")
        return {(key, column) for column, (_, key) in chosen.items()}

    def _other(self, column: str) -> str:
        kind, name = self.columns[column], f'"{column}"'
        if column == "pod":
            return "'pod2'"
        if kind.endswith("[]"):
            return f"case when len({name}) > 0 then {name}[2:] end"
        return OTHER[kind].format(name)


def stored_tables(settings: Settings) -> list[Table]:
    with connect_lake(settings.catalog_dsn, settings.lake_data_path, read_only=True) as lake:
        rows = lake.execute(STORED).fetchall()
    found: dict[str, dict[str, str]] = {}
    for name, column, kind in rows:
        found.setdefault(name, {})[column] = kind
    return [Table(name=name, columns=columns) for name, columns in found.items()]


def compared(context: ReconcileContext, plan: SweepPlan | None = None) -> dict[str, PairResult]:
    """Compare the stored tables in POD as they are; nothing is built."""
    plans = {} if plan is None else {POD: plan}
    results = run_pairs(replace(context, build=None), [FAMILY], [POD], plans=plans)
    assert {one.verdict for one in results} <= {Verdict.CONSISTENT, Verdict.INCONSISTENT}, [
        (one.pair, one.reason) for one in results if one.reason
    ]
    return {one.pair: one for one in results}


def build(context: ReconcileContext, shop: Shop) -> None:
    """Build the warehouse twice, with changes in between, so that versions end in a later build."""
    assert context.build is not None
    for _ in range(2):
        with context.open_lake() as lake:
            cuts = {}
            for pod in context.pods:
                with context.take_cut(pod) as opened:
                    cuts[pod] = opened.cut
            assert all(context.lake_cut(lake, pod) >= cut for pod, cut in cuts.items())
        context.build(cuts)
        order, payment = shop.shipped()
        shop.give_back(order, payment)


def asked_for(settings: Settings, witness: LakeWitness) -> dict[str, tuple[str, ...]]:
    """Let the witness look; return the places that it saw, each with the pairs that are compared for it."""
    assert witness.look_once().trouble == ""
    return {one.place: pairs_for(one) for one in waiting_sightings(settings.control_dsn)}


def told_by_the_lake(context: ReconcileContext, settings: Settings) -> dict[str, set[str]]:
    """Return stored table -> the aggregates that the waiting sightings are narrowed to."""
    found: dict[str, set[str]] = {}
    with context.open_lake() as lake:
        for one in narrowed(lake, waiting_sightings(settings.control_dsn), list(context.pods)):
            assert (one.pod, one.aggregate_id is None) == (POD, False), one
            found.setdefault(one.place, set()).add(str(one.aggregate_id))
    return found


@pytest.mark.timeout(400)
def test_any_value_of_any_stored_table_that_was_changed_is_found(
    settings: Settings, context: ReconcileContext, shop: Shop
) -> None:
    migrate_sightings(settings.control_dsn)
    witness = LakeWitness(
        catalog_dsn=settings.catalog_dsn, control_dsn=settings.control_dsn, data_path=settings.lake_data_path
    )
    assert witness.look_once().trouble == ""
    build(context, shop)
    assert asked_for(settings, witness) == {}
    before = compared(context)
    assert {name: one.sample for name, one in before.items() if one.verdict is not Verdict.CONSISTENT} == {}
    assert all(one.compared > 0 and one.cut for one in before.values())
    tables = stored_tables(settings)
    assert {table.pair for table in tables} == set(before)

    damages = {}
    with connect_lake(settings.catalog_dsn, settings.lake_data_path) as lake:
        (snapshot,) = lake.execute("select max(snapshot_id) from lake.snapshots()").fetchone() or (0,)
        for table in tables:
            damages[table.pair] = table.damage(lake, [name for name in table.columns if name not in _names(table)])
    assert asked_for(settings, witness) == {table.name: (table.pair,) for table in tables}
    witness.close()
    # The lake says whose rows the snapshots changed; a comparison of these aggregates alone finds the same.
    small = replace(context, whole_orders_max=0)  # else a pod of so few orders is compared wholly
    ids = told_by_the_lake(context, settings)
    assert set(ids) == {table.name for table in tables}
    since_cut = min(one.cut or 0 for one in before.values())
    narrow = SweepPlan(since_cut=since_cut, parts=(), cut_parts=(), share=0.0)
    some = compared(small, replace(narrow, suspects=frozenset().union(*ids.values())))
    found = compared(context)
    for pair, damaged in damages.items():
        for result in (found[pair], some[pair]):
            seen = {(one.key, column.column) for one in result.sample for column in one.columns}
            assert damaged <= seen, (pair, [one for one in damaged if one not in seen])
        assert some[pair].scope is not None

    # What names a row: it is missing under its own name.
    with connect_lake(settings.catalog_dsn, settings.lake_data_path) as lake:
        for table in tables:
            lake.execute(
                f"create or replace table lake.{table.name} as from lake.{table.name} at (version => {snapshot})"
            )
            damages[table.pair] = table.damage(lake, _names(table))
    found = compared(context)
    for pair, damaged in damages.items():
        missing = {one.key for one in found[pair].sample if one.kind.value == "missing"}
        assert {key for key, _ in damaged} <= missing, (pair, damaged)

    # A comparison of some aggregates finds the same of them, and says nothing of others.
    keys = {one.aggregate_key for one in found[f"{FAMILY}.orders_history"].sample if one.kind.value == "missing"}
    (order_id, *_) = sorted(str(key).split("/", 2)[2] for key in keys)
    narrow = replace(narrow, suspects=frozenset({order_id}))
    assert compared(context, replace(narrow, since_cut=10**6))[f"{FAMILY}.orders_history"].scope is None
    some = compared(small, narrow)
    of_one = some[f"{FAMILY}.orders_history"]
    wrong = {str(one.aggregate_key).split("/", 2)[2] for one in of_one.sample}
    assert of_one.scope is not None and order_id in wrong <= of_one.scope.ids

    # Two of the tables are built again: they are right, where the build before stood, and the others are as they were.
    again = {"int_orders_history", "int_products_history"}
    rebuilt = build_warehouse(settings, since=dict.fromkeys(context.pods, 0), tables=sorted(again))
    assert {node.name for node in rebuilt.nodes if node.kind == "model"} == again
    assert rebuilt.is_complete and list(rebuilt.left_out) == []
    after = compared(context)
    mended = {table.pair for table in tables if table.name.partition(".")[2] in again}
    assert {pair: one.cut for pair, one in after.items()} == {pair: one.cut for pair, one in before.items()}
    assert {pair for pair, one in after.items() if one.verdict is Verdict.CONSISTENT} == mended
    # A build that has begun since may have written some of what the next one shows: then everything is built.
    with connect_lake(settings.catalog_dsn, settings.lake_data_path) as lake:
        record_cut_vector(lake)
    with building(settings, is_again=True) as other:
        assert not other.is_again


def _names(table: Table) -> list[str]:
    return ["pod", *table.key]
