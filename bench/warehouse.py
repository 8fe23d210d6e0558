"""The cost of an incremental warehouse build on a lake that is ten times larger, for the same number of new events.

    python -m bench.warehouse [--events N] [--rounds N] [--json]

Belongs here: incremental builds on a small and a large lake, in turns, so that both have the same machine load; the
first build of each; the time of the reports. Does not belong here: how events get into the lake (`bench/derived.py`).
The new events of a round are 1 % of the small lake, for both. The generated commerce is the same as in the tests; it is
exact, so all dbt tests pass.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure, measured
from bench.servers import own_postgres
from contracts.errors import WarehouseError
from derived.lake import LakeProjection, migrate_lake
from derived.reports import REPORTS, read_report
from derived.warehouse import BuildResult, build_warehouse, parse
from stack.servers.bootstrap import create_database
from stack.servers.postgres import EmbeddedPostgres
from tests.commerce import Commerce, events_of
from tests.derived_work import PARTITIONS, FakePod
from tests.values import settings_of

POD = "pod1"
CUT_TRANSACTIONS = 2_000
GOAL = 1.3
TIMES_LARGER = 10


class Feed:
    """A separate lake with events of generated commerce."""

    def __init__(self, server: EmbeddedPostgres, folder: Path, name: str) -> None:
        for database in (name, "control"):
            create_database(server.superuser_dsn(), database, owner="postgres")
        data = folder / name
        data.mkdir()
        self.settings = settings_of(
            folder / "var",
            control_dsn=server.superuser_dsn("control"),
            catalog_dsn=server.superuser_dsn(name),
            lake_data_path=f"{data}/",
        )
        migrate_lake(self.settings.catalog_dsn, f"{data}/", pods=[POD], partition_count=PARTITIONS)
        self.lake = LakeProjection(self.settings.catalog_dsn, f"{data}/")
        self.commerce = Commerce(random.Random(1))
        self.pod = FakePod(pod=POD)
        self.count = 0

    def fill(self, events: int) -> int:
        """Write about `events` events to the lake, cut by cut; return the exact number."""
        start = self.count
        while self.count - start < events:
            missing = events - (self.count - start)
            self._cut(min(CUT_TRANSACTIONS, missing // 2 + 1))
        return self.count - start

    def _cut(self, transactions: int) -> None:
        since = self.pod.cut_number
        self.pod.cut_number += 1
        changes = [] if since else self.commerce.opening()
        for transaction in self.commerce.transactions(transactions):
            changes += transaction
        entries = self.pod.entries(events_of(self.pod, changes))
        self.pod.events.clear()
        self.lake.apply(self.pod.step(entries, since=since))
        self.count += len(changes)

    def build(self) -> BuildResult:
        """Build incrementally; an error ends the benchmark."""
        result = build_warehouse(self.settings)
        if not result.is_complete:
            raise WarehouseError(f"The build failed: {[(node.name, node.message) for node in result.test_failures]}")
        return result


def measure(*, events: int = 10_000, rounds: int = 5) -> list[Figure]:
    """Fill two lakes, build both, then add to both and build in turns; return the figures."""
    with own_postgres() as (server, folder):
        small, large = Feed(server, folder, "small"), Feed(server, folder, "large")
        parse_seconds = _seconds(lambda: parse(small.settings))
        figures = [Figure(name="parse the dbt project", value=parse_seconds, unit="s")]
        for name, feed, size in (("small", small, events), ("large", large, events * TIMES_LARGER)):
            filled = feed.fill(size)
            figures.append(
                Figure(name=f"first build, {name} lake of {filled:,} events", value=_cost(feed)[0], unit="s")
            )
            _cost(feed)  # warm up: the process has built both lakes once before the measured builds
        figures += _compare(small, large, events // 100, rounds)
        figures += _reports(large)
        small.lake.close()
        large.lake.close()
    return figures


def _compare(small: Feed, large: Feed, new_events: int, rounds: int) -> list[Figure]:
    costs: dict[str, list[tuple[float, float]]] = {"small": [], "large": []}
    for _ in range(rounds):
        for name, feed in (("small", small), ("large", large)):
            feed.fill(new_events)
            costs[name].append(_cost(feed))
    # Use the minimum over the rounds; longer rounds include other work of the machine.
    wall = {name: min(seconds for seconds, _ in items) for name, items in costs.items()}
    cpu = {name: statistics.median(seconds for _, seconds in items) for name, items in costs.items()}
    ratio = wall["large"] / wall["small"]
    return [
        Figure(name=f"reference: {new_events:,} new events, small lake", value=wall["small"], unit="s"),
        Figure(name=f"{new_events:,} new events, large lake", value=wall["large"], unit="s"),
        Figure(name="ratio", value=ratio, unit="", goal=f"<= {GOAL}", is_met=ratio <= GOAL),
        Figure(name="ratio of CPU seconds", value=cpu["large"] / cpu["small"], unit=""),
        Figure(name="CPU of an incremental build, large lake", value=cpu["large"], unit="s"),
    ]


def _reports(feed: Feed) -> list[Figure]:
    return [
        Figure(name=f"report {name}, large lake", value=_seconds(lambda: read_report(feed.settings, name)), unit="s")  # noqa: B023
        for name in REPORTS
    ]


def _cost(feed: Feed) -> tuple[float, float]:
    start = time.process_time()
    seconds = feed.build().seconds
    return seconds, time.process_time() - start


def _seconds(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


if __name__ == "__main__":
    raise SystemExit(
        measured(measure, events="events of the small lake", rounds="builds of each lake that are compared")
    )
