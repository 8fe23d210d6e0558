"""log <-> lake and read models: checks whether the log still has the next cut of each of these copies.

A copy whose next cut is not in the log any more never continues, although it only seems late. Belongs here: that
comparison. Does not belong here: the content of the log (`reconcile/log_pairs.py`) or of a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pyarrow as pa

from contracts.errors import ComparisonError
from contracts.ownership import LAKE, READ_MODELS, SEARCH
from reconcile.compare import compare
from reconcile.copies.search import positions_in
from reconcile.log_pairs import await_log
from reconcile.pair import Findings, Pair, PodRun, Stage, Sweep
from reconcile.scratch import load, table
from reconcile.shapes import BIGINT, Column, Shape

VIEWS = tuple(copy.name for copy in READ_MODELS)
NEXT_SHAPE = Shape(name="next_cuts", key=("copy",), columns=(Column(name="cut", type=BIGINT),), merchant=None)
FLOORS = "select projection, min(cut) from read_models.positions where pod = %(pod)s group by projection"
LOOKS = 3
"""How often we look before a gap counts. Between two reads, a copy may have moved and the log may have been trimmed."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The next cut of a copy, and the first cut that the log has from there on."""

    copy: str
    needed: int
    logged: int | None
    """The first manifest's cut from `needed` on; None: the log has none."""

    @property
    def has_gap(self) -> bool:
        """Whether the log lacks the copy's next cut."""
        return self.logged != self.needed


def _compare_positions(run: PodRun) -> Findings:
    """Wait until the log has the cut, then compare each copy's next cut with the first one that the log has for it."""
    await_log(run)
    standings = {standing.copy: standing for standing in _look(run)}
    for _ in range(LOOKS - 1):
        if not any(standing.has_gap for standing in standings.values()):
            break
        again = {standing.copy: standing for standing in _look(run)}
        standings = {copy: again[copy] for copy in standings}
    rows = list(standings.values())
    _load(run, "next_needed", [(row.copy, row.needed) for row in rows])
    _load(run, "next_logged", [(row.copy, row.logged) for row in rows if row.logged is not None])
    return Findings(
        outcomes=[compare(run.connection, NEXT_SHAPE, table("next_needed"), table("next_logged"), run.context.limits)]
    )


def _look(run: PodRun) -> Iterator[Standing]:
    """Yield the standing of each copy. A copy that already has the run's cut needs nothing from the log."""
    next_logged_cut = run.context.next_logged_cut
    if next_logged_cut is None:
        raise ComparisonError("The log cannot be looked at: this run was given no reader of it.")
    for copy, cut in _floors(run).items():
        # Read the position before the log: trimming waits for the copy, so the log had this position's next cut at that
        # time.
        needed = cut + 1
        logged = next_logged_cut(run.pod, cut) if cut < run.cut else needed
        yield Standing(copy=copy, needed=needed, logged=logged)


def _floors(run: PodRun) -> dict[str, int]:
    """Return copy -> the cut up to which it has applied every partition."""
    dsn = run.context.read_models_dsn
    if dsn is None:
        raise ComparisonError("The read models cannot be looked at: this run was given no connection to them.")
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = {name: int(cut) for name, cut in connection.execute(FLOORS, {"pod": run.pod}).fetchall()}
    views = {name: found.get(name, 0) for name in VIEWS}
    return {LAKE.name: run.context.lake_cut(run.connection, run.pod), **views, **_of_index(run)}


def _of_index(run: PodRun) -> dict[str, int]:
    if run.context.search_index is None:
        raise ComparisonError("The search index cannot be looked at: this run was given no way to it.")
    folder = run.context.search_index(run.pod)
    positions = [] if folder is None else positions_in(folder)
    return {SEARCH.name: min((position.cut for position in positions), default=0)}


def _load(run: PodRun, name: str, rows: list[tuple[str, int]]) -> None:
    columns = {"copy": pa.array([row[0] for row in rows], pa.string())}
    load(run.connection, name, pa.table({**columns, "cut": pa.array([row[1] for row in rows], pa.int64())}).to_reader())


POSITION_PAIR = Pair(
    name="log_positions",
    left="lake and views: the cut that each needs next",
    right="log: the first cut that it has from there on",
    description=(
        "Whether lake and views can go on from the log: a copy whose next cut the log has lost, or was trimmed of, "
        "waits for ever and would only look late."
    ),
    cannot_catch="Cuts that are lost further ahead of a copy, until it comes there: `outbox_log` counts them.",
    copy="log",
    stage=Stage.OLTP,
    shapes=(NEXT_SHAPE,),
    compare=_compare_positions,
    sweep=Sweep.WHOLE,
)
