"""Gathers evidence: what outbox, lake, OLTP and views hold of the aggregates whose rows differ.

The order of reading is the lake's position, the outbox, the lake, OLTP, so that each read can only know more than the
one before. So an event that is not applied yet does not look like a lost one, and workers can go on during a repair.

Belongs here: reading. Does not belong here: conclusions (`repair/plan.py`), comparing events
(`repair/evidence/lake_events.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from contracts.breaks import UNSETTLED, Break, BreakState
from contracts.events import STATE_TYPES
from contracts.events.changes import FieldChange, field_changes, state_digest
from contracts.events.common import AggregateState
from contracts.ownership import LAKE, OWNER_FAMILIES, READ_MODELS, Copy
from contracts.settings import PodSettings, Settings
from derived.builds import latest_build
from derived.defective import Omission
from derived.defects import Defect
from derived.lake_backup import verified_cuts
from derived.lake_connection import open_lake
from derived.lake_schema import PARKED
from derived.leaving_out import left_out_aggregates
from derived.read_models.known import roots_of
from oltp.store.mapping import MAPPINGS
from repair import ledger
from repair.believed import with_money_of
from repair.evidence.lake_events import Event, LakeFindings, look_at_lake, readable_payload
from repair.evidence.unsent import lost_event
from repair.evidence.wrong_cuts import wrong_cuts
from repair.ledger.decisions import Approval, approvals
from repair.remedies import DISPUTED_BEGINS
from repair.values import AggregateEvidence, DamageKind, EventDamage, Evidence, PodEvidence, ViewEvidence
from streams.lag import observe
from streams.logs import build_log
from streams.projection import Projection
from streams.reissue import newest_cut, unpruned_after

if TYPE_CHECKING:
    import duckdb

BuildProjection = Callable[[str], Projection]

FAULTS = "oltp_identities"
CUT_ENTITIES = ("manifest_counts", "log_counts", "log_entries")
"""Entities whose keys begin with a cut."""

NEXT_CUTS = "next_cuts"
"""The entity whose key is the name of a copy."""

OUTBOX_VERSIONS = """
select aggregate_version, aggregate_type, schema_version, payload::text from oltp.outbox
where merchant_id = %s and aggregate_type = %s and aggregate_id = %s
"""


def gather(settings: Settings, breaks: Sequence[Break], projection: BuildProjection) -> Evidence:
    """Return pod -> what the stores hold of the aggregates, cuts and views of these breaks. It changes nothing.

    Raises the store's error when one cannot be read, because a plan needs all of the evidence.
    """
    by_pod: dict[str, list[Break]] = {}
    for item in breaks:
        by_pod.setdefault(item.pod, []).append(item)
    with open_lake(settings, read_only=True) as lake:
        latest = latest_build(lake)
        built = {} if latest is None else latest.cuts
        return {
            pod: _gather_pod(settings, lake, settings.pod(pod), of_pod, projection, built.get(pod, 0))
            for pod, of_pod in by_pod.items()
        }


def _gather_pod(
    settings: Settings,
    lake: duckdb.DuckDBPyConnection,
    pod: PodSettings,
    breaks: Sequence[Break],
    projection: BuildProjection,
    built_cut: int,
) -> PodEvidence:
    looked_at = [item for item in breaks if item.pair not in OWNER_FAMILIES]
    keys = {item.aggregate_key for item in looked_at if item.aggregate_key is not None}
    cuts = {int(item.key[0] or 0) for item in looked_at if item.entity in CUT_ENTITIES}
    found = look_at_lake(lake, settings, pod, keys, cuts)
    keys |= {damage.aggregate_key for damage in found.damages}
    base_cut = max(found.base_cut, unpruned_after(pod))
    event_cuts = {event.event_id: event.cut for event in found.known}
    views = {copy.name: _view(settings, copy, pod, projection, looked_at, found.lake_cut) for copy in READ_MODELS}
    wrong = wrong_cuts(settings, pod, _log_cuts(looked_at, event_cuts), base_cut)
    gaps = _gaps(settings, pod.pod, projection, looked_at)
    backed_up_cut, is_logged = _backup(settings, pod) if gaps.get(LAKE.name, base_cut + 1) <= base_cut else (0, True)
    resumed = () if is_logged else (backed_up_cut + 1,)
    left_out = left_out_aggregates(lake, pod.pod, built_cut)
    again = [cut for cut in (*wrong, *gaps.values(), *resumed) if cut > base_cut]
    return PodEvidence(
        pod=pod.pod,
        base_cut=base_cut,
        lake_reset_cut=found.reset_cut,
        built_cut=built_cut,
        aggregates=_aggregates(settings, pod, sorted(keys), found, left_out),
        damages=found.damages,
        event_cuts=event_cuts,
        wrong_log_cuts=wrong,
        disputed_event=_disputed_event(settings, pod.pod),
        lost_event=lost_event(lake, settings, pod, min(again)) if again else None,
        views=views,
        lake_parked=_lake_parked(lake, pod.pod),
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


def _aggregates(
    settings: Settings,
    pod: PodSettings,
    keys: Sequence[str],
    found: LakeFindings,
    left_out: Mapping[str, Omission],
) -> dict[str, AggregateEvidence]:
    known: dict[str, list[Event]] = {}
    for event in found.known:
        known.setdefault(event.aggregate_key, []).append(event)
    faulty = _faulty(settings, pod.pod, keys)
    approved = approvals(settings.control_dsn, pod.pod, keys)
    with psycopg.connect(pod.reader_dsn) as connection:
        # Read row and newest event in one snapshot, so that a command that commits meanwhile shows in both or in
        # neither.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("set local timezone = 'UTC'")
        return {
            key: replace(
                _with_approval(
                    _aggregate(connection, key, known.get(key, []), found, left_out.get(key)), approved.get(key)
                ),
                is_faulty=key in faulty,
            )
            for key in keys
        }


def _with_approval(known: AggregateEvidence, approval: Approval | None) -> AggregateEvidence:
    return replace(known, is_approved=approval is not None and approval.digest == known.digest != "")


def _faulty(settings: Settings, pod: str, keys: Sequence[str]) -> set[str | None]:
    found = ledger.breaks(settings.control_dsn, states=UNSETTLED, pair=FAULTS, pod=pod, aggregate_keys=keys, limit=None)
    return {item.aggregate_key for item in found}


def _aggregate(
    connection: psycopg.Connection[Any],
    key: str,
    events: Sequence[Event],
    found: LakeFindings,
    left_out: Omission | None,
) -> AggregateEvidence:
    merchant_id, aggregate_type, aggregate_id = key.split("/", 2)
    state = _state(connection, merchant_id, aggregate_type, aggregate_id)
    stated = _stated(connection, merchant_id, aggregate_type, aggregate_id)
    extra = [damage for damage in found.damages if _is_extra(damage, key)]
    proper = {event.version for event in events} - {damage.version for damage in extra} | set(stated)
    # For a pruned cut, the outbox cannot prove that an event was never sent.
    provable = [damage for damage in extra if damage.cut > found.base_cut]
    version = None if state is None else state.version
    payload = None if version is None else stated.get(version) or found.payload(key, version)
    is_stated = state is not None and payload is not None and _says(payload, state)
    newest = max(proper, default=0)
    state_type = STATE_TYPES.get(aggregate_type)
    said = _state_in(stated.get(newest) or found.payload(key, newest), state_type)
    is_unexplained = left_out is not None and left_out.defect == Defect.UNEXPLAINED.name
    believed = None
    if left_out is not None and is_unexplained and left_out.aggregate_key == key:
        believed = with_money_of(_state_in(stated.get(left_out.version - 1), state_type), state)
    return AggregateEvidence(
        root_version=version,
        is_stated=is_stated,
        has_events=bool(events or stated),
        lowest_cut=min((event.cut for event in events), default=None),
        newest_version=newest,
        lost_versions=tuple(sorted(set(range(1, (version or 0) + 1)) - proper - {damage.version for damage in extra})),
        clashing=tuple(d.event_id for d in provable if version is None or d.version > version or d.version in proper),
        changes=_changes(said, believed, state, is_stated=is_stated),
        currencies=(getattr(said, "currency", None), getattr(state, "currency", None)),
        digest="" if state is None else state_digest(state),
        said=said,
        is_left_out=left_out is not None,
        is_unexplained=is_unexplained,
        believed=believed,
    )


def _stated(
    connection: psycopg.Connection[Any], merchant_id: str, aggregate_type: str, aggregate_id: str
) -> dict[int, str]:
    """Return version -> payload of the outbox's events of an aggregate, in the newest schema version."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(OUTBOX_VERSIONS, (merchant_id, aggregate_type, aggregate_id)).fetchall()
    return {row["aggregate_version"]: readable_payload(row) for row in rows}


def _changes(
    said: AggregateState | None, believed: AggregateState | None, state: AggregateState | None, *, is_stated: bool
) -> tuple[FieldChange, ...]:
    """Return the changes that a person would decide about; `believed` is the row with finance's amounts."""
    if not is_stated:
        return field_changes(said, state)
    return () if believed is None else field_changes(believed, state)


def _is_extra(damage: EventDamage, key: str) -> bool:
    return damage.kind is DamageKind.EXTRA and damage.aggregate_key == key


def _state(
    connection: psycopg.Connection[Any], merchant_id: str, aggregate_type: str, aggregate_id: str
) -> AggregateState | None:
    """Return the state of an aggregate in OLTP's tables, read with the query of the commands; None: there is no row."""
    state_type = STATE_TYPES.get(aggregate_type)
    if state_type is None:
        return None
    query = MAPPINGS[state_type].select(state_type.ID_FIELD)
    try:
        with connection.transaction():
            row = connection.execute(query, (merchant_id, aggregate_id)).fetchone()
    except psycopg.DataError:  # the id has a wrong format, because it comes from a damaged copy
        return None
    return None if row is None else msgspec.json.decode(row[0], type=state_type)


def _says(payload: str, state: AggregateState) -> bool:
    """Return whether an event's payload contains exactly this state."""
    return _state_in(payload, type(state)) == state


def _state_in(payload: str | None, state_type: type[AggregateState] | None) -> AggregateState | None:
    """Return the state in an event's payload; None when it has no state of this type."""
    if payload is None or state_type is None:
        return None
    try:
        return msgspec.convert(msgspec.json.decode(payload).get("state"), state_type)
    except msgspec.MsgspecError:
        return None


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
        empty_tables=frozenset(table for table, rows in view_rows(settings, copy, pod.pod).items() if not rows),
        has_gap=has_gap or is_beyond,
        parked=state.parked_keys,
    )


def view_rows(settings: Settings, copy: Copy, pod: str) -> Mapping[str, int]:
    """Return root table of a view -> number of its rows of a pod."""
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
