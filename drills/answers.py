"""Queries to each copy about a sale, and the data age that the copy reports.

Belongs here: querying a copy in the same way as its readers. Does not belong here: checking that the answer is right.
"""

from __future__ import annotations

from datetime import datetime

from contracts.clock import utc_now
from contracts.drills import Promise
from contracts.ownership import LAKE, Copy, CopyKind
from derived.lake_connection import open_lake
from derived.lake_reads import lake_progress
from derived.reports import Report, read_report
from drills.answer import Answer
from drills.copies import drilled
from drills.scene import Scene
from drills.stores import store_of
from drills.system import System
from drills.trading import Sale

PAUSE_SECONDS = 0.2


def ask(system: System, copy: Copy, sale: Sale) -> Answer:
    """Ask a copy about a sale."""
    if copy.kind in (CopyKind.READ_MODEL, CopyKind.SEARCH, CopyKind.CACHE):
        return drilled(copy).ask(system, sale)
    if copy.name == LAKE.name:
        return _ask_lake(system, sale)
    return _of_report(ask_report(system), sale.pod)


def ask_report(system: System, name: str = "trial-balance") -> Report:
    """Read a finance report from the present build."""
    return read_report(system.settings, name)


def _ask_lake(system: System, sale: Sale) -> Answer:
    settings, order_id = system.settings, sale.order.order_id
    with open_lake(settings, read_only=True) as lake:
        progress = lake_progress(lake, sale.pod)
        facts = lake.execute(
            "select event_id, aggregate_version, event_type from lake.raw.events "
            "where pod = ? and aggregate_type = 'order' and aggregate_id = ? order by aggregate_version",
            [sale.pod, order_id],
        ).fetchall()
    cut = min((position.cut for position in progress.positions.values()), default=0)
    return Answer(facts=facts, cut=cut, data_at=progress.data_at, age_seconds=_age(progress.data_at))


def _of_report(report: Report, pod: str) -> Answer:
    return Answer(facts=report.rows, cut=report.cuts[pod], data_at=report.data_at, age_seconds=report.age_seconds)


def _age(data_at: datetime | None) -> float | None:
    return None if data_at is None else (utc_now() - data_at).total_seconds()


def serves_what_it_has(scene: Scene, sale: Sale, before: Answer, *, copy: Copy | None = None) -> None:
    """Note whether the copy still gives the same answer about a sale as before it was broken."""
    asked = copy or scene.drill.copy
    try:
        now = ask(scene.system, asked, sale)
        is_ok = bool(now.facts) and now.facts == before.facts
        seen = f"{'the same' if is_ok else f'another: {now.facts}'}, at cut {now.cut}"
    except Exception as error:  # any exception means that the copy did not serve
        seen, is_ok = f"{type(error).__name__}: {error}", False
    scene.note(
        Promise.SERVES_WHAT_IT_HAS,
        f"{asked.name} of {sale.pod}",
        expected=f"what it said at cut {before.cut}",
        seen=seen,
        is_ok=is_ok,
    )


def says_its_age(scene: Scene, sale: Sale, *, copy: Copy | None = None) -> None:
    """Ask twice, and note whether both answers have the same cut and cut time, and the second a greater age."""
    asked = copy or scene.drill.copy
    first = ask(scene.system, asked, sale)
    scene.pause(PAUSE_SECONDS)
    second = ask(scene.system, asked, sale)
    grows = first.age_seconds is not None and second.age_seconds is not None and second.age_seconds > first.age_seconds
    scene.note(
        Promise.SAYS_ITS_AGE,
        f"{asked.name} of {sale.pod}",
        expected="a cut, its moment, and an age that grows",
        seen=f"cut {first.cut} of {first.data_at}, {first.age_seconds} s old; then cut {second.cut}, "
        f"{second.age_seconds} s old",
        is_ok=grows and first.cut == second.cut > 0 and first.data_at == second.data_at,
    )


def await_sale(scene: Scene, sale: Sale, *, copy: Copy | None = None) -> Answer:
    """Wait until a copy has a sale completely, with its payment, and return the answer."""
    store = store_of(copy or scene.drill.copy, scene.system)
    goal = store.goal(sale.pod)
    scene.require(
        lambda: store.standing(sale.pod).has_reached(goal),
        f"{store.copy.name} has not reached cut {goal} of {sale.pod}, which holds order {sale.order.order_id}",
    )
    return ask(scene.system, store.copy, sale)
