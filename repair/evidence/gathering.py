"""Gathers evidence: what outbox, lake, OLTP and views hold of the aggregates whose rows differ.

The order of reading is the lake's position, the outbox, the lake, OLTP, so that each read can only know more than the
one before. So an event that is not applied yet does not look like a lost one, and workers can go on during a repair.

Belongs here: reading what a repair of a pod needs. Does not belong here: conclusions (`repair/plan.py`), comparing
events (`repair/evidence/lake_events.py`), what the stores hold of one aggregate (`repair/evidence/aggregates.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from contracts.breaks import Break, BreakState
from contracts.ownership import KEYED, LAKE, OWNER_FAMILIES, Copy, CopyKind, mended_with
from contracts.settings import PodSettings, Settings
from derived.begun_builds import begun_since
from derived.builds import latest_build
from derived.defective import Omission
from derived.lake_backup import verified_cuts
from derived.lake_connection import open_lake
from derived.lake_schema import PARKED
from derived.leaving_out import left_out_aggregates
from derived.read_models.known import roots_of
from derived.search.store import document_counts
from repair import ledger
from repair.evidence.aggregates import aggregates_of
from repair.evidence.pods import Looks, look_at_pods
from repair.evidence.unsent import lost_event
from repair.evidence.wrong_cuts import wrong_cuts
from repair.remedies import DISPUTED_BEGINS
from repair.values import AggregateEvidence, Evidence, PodEvidence, ViewEvidence
from streams.lag import observe
from streams.logs import build_log
from streams.projection import Projection
from streams.reissue import newest_cut, unpruned_after

if TYPE_CHECKING:
    import duckdb

BuildProjection = Callable[[str], Projection]

CUT_ENTITIES = ("manifest_counts", "log_counts", "log_entries")
"""Entities whose keys begin with a cut."""

NEXT_CUTS = "next_cuts"
"""The entity whose key is the name of a copy."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """How far the warehouse is."""

    cuts: Mapping[str, int] = field(default_factory=dict)
    """Pod -> cut of the newest complete build."""
    begun_after: Mapping[str, int] = field(default_factory=dict)
    """Pod -> the cut after which builds read events that have begun since; empty: none has."""


def gather(settings: Settings, breaks: Sequence[Break], projection: BuildProjection) -> Evidence:
    """Return pod -> what the stores hold of the aggregates, cuts and views of these breaks. It changes nothing.

    If one of the aggregates has moved, the evidence has all pods. Raises the store's error when one cannot be read,
    because a plan needs all of the evidence.
    """
    by_pod: dict[str, list[Break]] = {}
    for item in breaks:
        by_pod.setdefault(item.pod, []).append(item)
    looked_at = {pod: [item for item in of_pod if _needs_evidence(item)] for pod, of_pod in by_pod.items()}
    with open_lake(settings, read_only=True) as lake:
        latest = latest_build(lake)
        built = Built() if latest is None else Built(cuts=latest.cuts, begun_after=begun_since(lake))
        keys = {
            pod: {item.aggregate_key for item in of_pod if item.aggregate_key is not None}
            for pod, of_pod in looked_at.items()
        }
        cuts = {
            pod: {int(item.key[0] or 0) for item in of_pod if item.entity in CUT_ENTITIES}
            for pod, of_pod in looked_at.items()
        }
        looks = look_at_pods(lake, settings, keys, cuts)
        left_out = _left_out(lake, looks, built.cuts)
        known = aggregates_of(settings, looks, left_out)
        return {
            pod: _gather_pod(
                settings, lake, looks, pod, looked_at.get(pod, []), projection, known[pod], left_out[pod], built
            )
            for pod in looks.found
        }


def _needs_evidence(item: Break) -> bool:
    """Return whether a repair of this break must know what the stores hold: not of carts, nor of the cache."""
    copy = mended_with(item.pair)
    return item.pair not in OWNER_FAMILIES and (copy is None or copy.kind not in (CopyKind.CART, CopyKind.CACHE))


def _left_out(
    lake: duckdb.DuckDBPyConnection, looks: Looks, built: Mapping[str, int]
) -> dict[str, dict[str, Omission]]:
    """Return pod -> aggregate key -> what finance leaves out; of an aggregate that has moved, by any pod's event."""
    by_pod = {pod: left_out_aggregates(lake, pod, built.get(pod, 0)) for pod in looks.found}
    moved = {key: one for found in by_pod.values() for key, one in found.items() if key in looks.moved}
    return {pod: {**moved, **found} for pod, found in by_pod.items()}


def _gather_pod(
    settings: Settings,
    lake: duckdb.DuckDBPyConnection,
    looks: Looks,
    name: str,
    breaks: Sequence[Break],
    projection: BuildProjection,
    known: Mapping[str, AggregateEvidence],
    left_out: Mapping[str, Omission],
    built: Built,
) -> PodEvidence:
    pod, found = settings.pod(name), looks.found[name]
    base_cut = max(found.base_cut, unpruned_after(pod))
    event_cuts = {event.event_id: event.cut for event in found.known}
    views = {copy.name: _view(settings, copy, pod, projection, breaks, found.lake_cut) for copy in KEYED}
    wrong = wrong_cuts(settings, pod, _log_cuts(breaks, event_cuts), base_cut)
    gaps = _gaps(settings, name, projection, breaks)
    backed_up_cut, is_logged = _backup(settings, pod) if gaps.get(LAKE.name, base_cut + 1) <= base_cut else (0, True)
    resumed = () if is_logged else (backed_up_cut + 1,)
    again = [cut for cut in (*wrong, *gaps.values(), *resumed) if cut > base_cut]
    return PodEvidence(
        pod=name,
        base_cut=base_cut,
        lake_reset_cut=found.reset_cut,
        built_cut=built.cuts.get(name, 0),
        begun_after_cut=built.begun_after.get(name),
        aggregates=known,
        damages=found.damages,
        damages_elsewhere=looks.damages_elsewhere(name),
        event_cuts=event_cuts,
        events_elsewhere=looks.events_elsewhere(name),
        wrong_log_cuts=wrong,
        disputed_event=_disputed_event(settings, name),
        lost_event=lost_event(lake, settings, pod, min(again)) if again else None,
        views=views,
        lake_parked=_lake_parked(lake, name),
        left_out={key: one.sentence for key, one in left_out.items()},
        gaps=gaps,
        backed_up_cut=backed_up_cut,
        is_logged_after_backup=is_logged,
    )


def _log_cuts(breaks: Iterable[Break], event_cuts: Mapping[str, int]) -> set[int]:
    """Return the cuts that breaks of the log name, directly or by an event."""
    cuts: set[int] = set()
    for item in breaks:
        name = item.key[0] or ""
        if item.entity in CUT_ENTITIES:
            cuts.add(int(name))
        elif item.entity == "log_events" and name in event_cuts:
            cuts.add(event_cuts[name])
    return cuts


def _disputed_event(settings: Settings, pod: str) -> str | None:
    """Return an event that differs between outbox and log and is escalated to a person; None: there is none."""
    states = [BreakState.ESCALATED]
    escalated = ledger.breaks(settings.control_dsn, states=states, pair="log_manifests", pod=pod, limit=None)
    return next((item.key[0] for item in escalated if item.reason.startswith(DISPUTED_BEGINS)), None)


def _gaps(settings: Settings, pod: str, projection: BuildProjection, breaks: Iterable[Break]) -> dict[str, int]:
    """Return copy -> its next cut, for the copies that breaks name and whose next cut the log does not have."""
    copies = {item.key[0] for item in breaks if item.entity == NEXT_CUTS}
    with closing(build_log(settings)) as log:
        seen = {copy: observe(projection(copy), pod, log) for copy in sorted(filter(None, copies))}
    return {copy: lag.applied_cut + 1 for copy, lag in seen.items() if lag.state == "gap"}


def _backup(settings: Settings, pod: PodSettings) -> tuple[int, bool]:
    """Return (last cut of the lake's verified backup, whether the log has the following cut or there is none)."""
    cut = verified_cuts(settings.lake_backup_path).get(pod.pod, 0)
    with closing(build_log(settings)) as log:
        following = [manifest.cut for manifest in log.manifests(pod.pod, cut, limit=1)]
    return cut, following == [cut + 1] or newest_cut(pod) <= cut


def _view(
    settings: Settings,
    copy: Copy,
    pod: PodSettings,
    projection: BuildProjection,
    breaks: Iterable[Break],
    lake_cut: int,
) -> ViewEvidence:
    if not any(
        item.pair in copy.found_by or (item.entity == NEXT_CUTS and item.key[0] == copy.name) for item in breaks
    ):
        return ViewEvidence()
    store = projection(copy.name)
    with closing(build_log(settings)) as log:
        has_gap = observe(store, pod.pod, log).state == "gap"
    state = store.state(pod.pod)
    # Read the pod after the view: every cut that the view has reached is registered by then.
    known_cut = max(newest_cut(pod), lake_cut)
    is_beyond = any(position.cut > known_cut for position in state.positions.values())
    return ViewEvidence(
        empty_tables=_empty_tables(settings, copy, pod.pod),
        has_gap=has_gap or is_beyond,
        parked=state.parked_keys,
    )


def _empty_tables(settings: Settings, copy: Copy, pod: str) -> frozenset[str]:
    """Return the root tables of a view, or kinds of documents, that have no row of a pod; none is counted for that."""
    if copy.kind is CopyKind.SEARCH:
        return frozenset(kind for kind, number in document_counts(settings, pod).items() if not number)
    with psycopg.connect(settings.read_models_dsn) as connection:
        found = []
        for root in roots_of(copy):
            query = psycopg.sql.SQL("select exists (select from {} where pod = %s)").format(
                psycopg.sql.Identifier("read_models", root.table)
            )
            if not connection.execute(query, (pod,)).fetchall()[0][0]:
                found.append(root.table)
    return frozenset(found)


def view_rows(settings: Settings, copy: Copy, pod: str) -> Mapping[str, int]:
    """Return root table of a view, or kind of document of the search index -> number of its rows of a pod."""
    if copy.kind is CopyKind.SEARCH:
        return document_counts(settings, pod)
    with psycopg.connect(settings.read_models_dsn) as connection:
        counts = {}
        for root in roots_of(copy):
            query = psycopg.sql.SQL("select count(*) from {} where pod = %s").format(
                psycopg.sql.Identifier("read_models", root.table)
            )
            counts[root.table] = int(connection.execute(query, (pod,)).fetchall()[0][0])
    return counts


def _lake_parked(lake: duckdb.DuckDBPyConnection, pod: str) -> frozenset[str]:
    rows: Collection[tuple[str]] = lake.execute(
        f"select distinct aggregate_key from {PARKED} where pod = ?", [pod]
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)
