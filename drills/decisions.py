"""Observations of decisions that are based on a copy, and of rebuilds: whether they restored all data.

Belongs here: observations for some copies only. Does not belong here: observations for all copies (`drills/probes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, cast

import psycopg

from contracts.drills import Promise
from contracts.errors import PropagationError
from contracts.ids import aggregate_key
from contracts.ownership import LAKE
from contracts.text import counted
from contracts.waiting import comes_true
from derived.reports import Report, read_report
from derived.retention import prune_outboxes
from drills.answers import ask
from drills.copies import LOOKED_AT
from drills.scene import PATIENCE_SECONDS, Scene
from drills.stores import store_of
from drills.system import Ran
from drills.trading import Sale, merchant_of, refusal
from streams.cuts import first_cut
from streams.lag import trim_log

if TYPE_CHECKING:
    from derived.keyed.projection import KeyedProjection

REBUILD_PATIENCE_SECONDS = 1.0


def refuses(scene: Scene, pod: str, wrong: Mapping[str, Callable[[], object]]) -> None:
    """Note whether OLTP refuses decisions that look right in the stale copy and are wrong in OLTP."""
    met = {what: refusal(attempt) for what, attempt in wrong.items()}
    scene.note(
        Promise.STALE_DECISIONS_FAIL,
        pod,
        expected="each refused by OLTP",
        seen="; ".join(f"{what}: {name or 'let through'}" for what, name in met.items()),
        is_ok=bool(met) and all(met.values()),
    )


def nothing_is_forgotten(scene: Scene) -> None:
    """Trim the log and prune the outboxes as the schedules do; note whether all events that the lake lacks are kept."""
    lake, settings = store_of(LAKE, scene.system), scene.system.settings
    with lake.log() as log:
        kept = {pod: trim_log(log, pod).kept_from_cut for pod in scene.pods}
    prune_outboxes(settings)
    for pod in scene.pods:
        sold = [sale.order.order_id for sale in scene.trader.sales if sale.pod == pod]
        in_lake = lake.counts(pod, sold, after_cut=0)
        missing = [order_id for order_id in sold if not in_lake.get(order_id)]
        with psycopg.connect(settings.pod(pod).reader_dsn) as connection:
            row = connection.execute(
                "select count(distinct aggregate_id) from oltp.outbox "
                "where event_type = 'order_placed' and aggregate_id = any(%s)",
                [missing],
            ).fetchone()
        in_outbox, lake_cut = int(row[0]) if row else 0, lake.standing(pod).cut
        scene.note(
            Promise.NOTHING_IS_FORGOTTEN,
            pod,
            expected="orders that the lake lacks, all in the outbox; the log kept from the lake's cut on",
            seen=f"the lake at cut {lake_cut} lacks {counted(len(missing), 'order')}, the outbox has {in_outbox} of "
            f"them; the log is kept from cut {kept[pod]}",
            is_ok=bool(missing) and in_outbox == len(missing) and kept[pod] <= max(lake_cut, 1),
        )


def rebuild_waits(scene: Scene, sale: Sale) -> None:
    """Rebuild a view's row from a lake without its newest events; note whether this is refused and the row stays."""
    before = ask(scene.system, LOOKED_AT, sale)
    key = aggregate_key(merchant_of(sale.pod), "order", sale.order.order_id)
    refused = ""
    with closing(cast("KeyedProjection", scene.system.projection(LOOKED_AT.name))) as model:
        try:
            model.rebuild(sale.pod, [key], deadline_seconds=REBUILD_PATIENCE_SECONDS)
        except PropagationError as error:
            refused = str(error)
    after = ask(scene.system, LOOKED_AT, sale)
    scene.note(
        Promise.STALE_DECISIONS_FAIL,
        f"rebuilding an order of {sale.pod} from the lake",
        expected="refused, and the row as it was",
        seen=f"{refused or 'done'}; the row is {'as it was' if after.facts == before.facts else 'another'}",
        is_ok=bool(refused) and bool(before.facts) and after.facts == before.facts,
    )


def log_is_whole(scene: Scene, pod: str, *, through_cut: int) -> None:
    """Wait until the log has every cut again that the outbox still has; note its first and last cut."""
    with psycopg.connect(scene.system.settings.pod(pod).reader_dsn, autocommit=True) as connection:
        first = first_cut(connection)
    # A pruned database keeps its first cut only as a base for the next one; only the lake has that cut's events.
    start = 1 if first is None or first.cut == 1 else first.cut + 1
    present = (0, 0)

    def is_whole() -> bool:
        nonlocal present
        with scene.store.log() as log:
            found = log.manifests(pod, 0, limit=1)
            present = (found[0].cut if found else 0, log.tail(pod, 1).manifest_cut)
        return present[0] == start and present[1] >= through_cut

    comes_true(is_whole, seconds=PATIENCE_SECONDS)
    scene.note(
        Promise.IS_REBUILT,
        pod,
        expected=f"cuts {start} to {through_cut} or more",
        seen=f"cuts {present[0]} to {present[1]}",
        is_ok=present[0] == start and present[1] >= through_cut,
    )


def was_restored(scene: Scene, backed_up: Ran, restored: Ran) -> None:
    """Note whether the backup was taken and restored, with all its events."""
    events = sum(int(segment["events"]) for segment in restored.answer or [])
    scene.note(
        Promise.IS_REBUILT,
        "tieout restore-lake",
        expected="exit code 0, and the events of the backup",
        seen=f"backup: exit code {backed_up.exit_code}; restore: exit code {restored.exit_code}, "
        f"{counted(events, 'event')}" + _complaint(backed_up, restored),
        is_ok=backed_up.exit_code == restored.exit_code == 0 and events > 0,
    )


def was_rebuilt(scene: Scene, rebuilt: Ran) -> None:
    """Note whether a view was rebuilt in every pod."""
    rows = {row["pod"]: int(row["aggregates"]) for row in rebuilt.answer or []}
    scene.note(
        Promise.IS_REBUILT,
        f"tieout rebuild {scene.drill.copy.name}",
        expected="exit code 0, and aggregates in every pod",
        seen=f"exit code {rebuilt.exit_code}, aggregates: {rows}" + _complaint(rebuilt),
        is_ok=rebuilt.exit_code == 0 and set(rows) == set(scene.pods) and all(rows.values()),
    )


def reports_the_same(scene: Scene, before: Report, rebuilt: Ran) -> None:
    """Note whether a report as of the cuts before the wipe equals the report made then, in every row."""
    seen, is_ok = f"exit code {rebuilt.exit_code}" + _complaint(rebuilt), False
    if rebuilt.exit_code == 0:
        again = read_report(scene.system.settings, before.name, cuts=before.cuts)
        is_ok = bool(before.rows) and again.rows == before.rows and again.columns == before.columns
        seen += f", {counted(len(again.rows), 'row')}, {'the same' if is_ok else 'others'} at {dict(before.cuts)}"
    scene.note(
        Promise.IS_REBUILT,
        "tieout rebuild warehouse",
        expected=f"exit code 0; the {before.name} as of the cuts before, {counted(len(before.rows), 'row')}, the same",
        seen=seen,
        is_ok=is_ok,
    )


def _complaint(*ran: Ran) -> str:
    return "".join(f"; {one.complaint}" for one in ran if one.exit_code != 0)
