"""A lake with two pods' commerce and the warehouse over it, for tests; no pod and no log."""

from __future__ import annotations

import json
import random
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from contracts.events import STATE_TYPES
from derived.lake import LakeProjection, migrate_lake
from derived.lake_connection import bounds_of, open_lake
from derived.reports import MARTS, as_of
from tests.commerce import Change, Commerce, events_of
from tests.conftest import Cluster
from tests.derived_work import PARTITIONS, FakePod
from tests.values import pod_without_server, settings_of

PODS = ("pod1", "pod2")
SHOPS = {
    "pod1": (("united-kingdom", "GBP", True, 200_000), ("france", "EUR", False, 195_000)),
    "pod2": (("japan", "JPY", True, 100_000), ("kuwait", "KWD", False, 50_000)),
}

Contents = dict[str, list[str]]
"""Mart -> its rows as text, sorted."""


class World:
    """Feeds the lake cut by cut and looks into the marts."""

    def __init__(self, cluster: Cluster, folder: Path, seed: int) -> None:
        lake = folder / "lake"
        lake.mkdir()
        self.settings = settings_of(
            folder,
            pods=map(pod_without_server, PODS),
            var_dir=folder / "var",
            control_dsn=cluster.dsn("tieout_control", cluster.create("control", owner="tieout_control")),
            catalog_dsn=cluster.dsn("tieout_lake", cluster.create("lake", owner="tieout_lake")),
            lake_data_path=f"{lake}/",
            lake_threads=1,
        )
        migrate_lake(self.settings.catalog_dsn, f"{lake}/", pods=PODS, partition_count=PARTITIONS)
        self.lake = LakeProjection(self.settings.catalog_dsn, f"{lake}/", bounds=bounds_of(self.settings))
        self.pods = {pod: FakePod(pod=pod) for pod in PODS}
        self.commerce = {
            pod: Commerce(random.Random(seed + index), merchants=SHOPS[pod]) for index, pod in enumerate(PODS)
        }
        # One merchant who only ever gives samples away: days without a single entry in the journal.
        samples = Commerce(random.Random(seed + len(PODS)), merchants=(("samples-only", "GBP", True, 200_000),))
        given_away = {"pod2": [*samples.opening(), *samples.give_away()]}
        for pod in PODS:
            opening = [*self.commerce[pod].opening(), *self.commerce[pod].give_away()]
            self.cut(pod, [*opening, *given_away.get(pod, [])])

    def trade(self, pod: str, transactions: int) -> int:
        """Take a cut with that many transactions; return its number of events."""
        changes = [change for transaction in self.commerce[pod].transactions(transactions) for change in transaction]
        self.cut(pod, changes)
        return len(changes)

    def cut(self, pod: str, changes: list[Change]) -> list[dict[str, object]]:
        """Take a cut with these changes and apply it to the lake; return its events."""
        fake = self.pods[pod]
        since = fake.cut_number
        fake.cut_number += 1
        events = events_of(fake, changes)
        if pod == "pod2":
            # As programs wrote them that knew none of the fields with a default.
            events = [{**event, "payload": without_defaults(event)} for event in events]
        self.lake.apply(fake.step(fake.entries(events), since=since))
        return events

    def repeat_last_cut(self, pod: str) -> None:
        """Write the events of the pod's last cut into the lake a second time, past all guards."""
        with open_lake(self.settings) as connection:
            connection.execute(
                "insert into lake.raw.events from lake.raw.events where pod = ? and cut = ?",
                [pod, self.pods[pod].cut_number],
            )

    def marts(self, cuts: Mapping[str, int]) -> Contents:
        """Return every mart as of `cuts`."""
        with open_lake(self.settings, read_only=True) as connection:
            return {mart: sorted(map(str, as_of(connection, mart, cuts).to_pylist())) for mart in MARTS}

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return a query's rows, at the present."""
        with open_lake(self.settings, read_only=True) as connection:
            return connection.execute(query).fetchall()

    def stored(self) -> dict[str, list[str]]:
        """Return the rows of every stored table as text, sorted; columns by name, for one may have been added later."""
        with open_lake(self.settings, read_only=True) as connection:
            names = connection.execute(
                "select table_name from duckdb_tables() where schema_name = 'intermediate' order by 1"
            ).fetchall()
            return {
                name: sorted(
                    str(sorted(row.items()))
                    for row in connection.execute(f"from lake.intermediate.{name}").to_arrow_table().to_pylist()
                )
                for (name,) in names
            }


def without_defaults(event: Mapping[str, object]) -> str:
    """Return an event's payload without the fields that hold their default."""
    payload = json.loads(str(event["payload"]))
    payload["state"] = _stripped(payload["state"], STATE_TYPES[str(event["aggregate_type"])])
    return json.dumps(payload)


def _stripped(value: dict[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    kept = {}
    for field in msgspec.structs.fields(struct):
        if typing.get_origin(field.type) is list:
            (element,) = typing.get_args(field.type)
            parts = [_stripped(part, element) for part in value[field.name]]
            kept.update({field.name: parts} if parts or field.required else {})
        elif field.required or value.get(field.name, field.default) != field.default:
            kept[field.name] = value[field.name]
    return kept
