"""What OLTP and the events say of single aggregates; of one that has moved, over all pods.

Versions of an aggregate grow over pods, and of two events the newer one is that with the higher (directory epoch,
version). Its row is read where its merchant lives. Belongs here: one value per aggregate. Does not belong here: which
pods are looked at (`repair/evidence/pods.py`), what the aggregate needs (`repair/remedies.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from contracts.breaks import UNSETTLED
from contracts.events import STATE_TYPES
from contracts.events.changes import FieldChange, field_changes, state_digest
from contracts.events.common import AggregateState
from contracts.settings import Settings
from derived.defective import Omission
from derived.defects import Defect
from oltp.store.mapping import MAPPINGS
from repair import ledger
from repair.believed import with_money_of
from repair.evidence.lake_events import LakeFindings, readable_payload
from repair.evidence.pods import Looks
from repair.ledger.decisions import Approval, approvals
from repair.values import AggregateEvidence, DamageKind, EventDamage

FAULTS = "oltp_identities"

OUTBOX_VERSIONS = """
select event_id::text, aggregate_version, directory_epoch, aggregate_type, schema_version, payload::text
from oltp.outbox
where merchant_id = %s and aggregate_type = %s and aggregate_id = %s
"""

Connections = Mapping[str, psycopg.Connection[Any]]
"""Pod -> a connection to it, in one snapshot."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One event that a pod has sent."""

    event_id: str
    pod: str
    directory_epoch: int
    version: int
    payload: str | None
    """In the newest schema version; None: the event is not in the outbox any more."""


def aggregates_of(
    settings: Settings, looks: Looks, left_out: Mapping[str, Mapping[str, Omission]]
) -> dict[str, dict[str, AggregateEvidence]]:
    """Return pod -> aggregate key -> what the stores hold of it, for all keys of `looks`.

    `left_out`: pod -> aggregate key -> what finance leaves out.
    """
    by_home: dict[str, set[str]] = {}
    for pod, keys in looks.keys.items():
        for key in keys:
            by_home.setdefault(looks.residence.home(key, pod), set()).add(key)
    known = {home: _of_home(settings, home, sorted(keys), looks, left_out) for home, keys in by_home.items()}
    return {
        pod: {key: known[looks.residence.home(key, pod)][key] for key in sorted(keys)}
        for pod, keys in looks.keys.items()
    }


def _of_home(
    settings: Settings, home: str, keys: Sequence[str], looks: Looks, left_out: Mapping[str, Mapping[str, Omission]]
) -> dict[str, AggregateEvidence]:
    faulty = _faulty(settings, home, keys)
    approved = approvals(settings.control_dsn, home, keys)
    pods = sorted({pod for key in keys for pod in looks.of(key, home)})
    with _snapshots(settings, pods) as connections:
        return {
            key: replace(
                _with_approval(
                    _aggregate(connections, key, home, looks.of(key, home), left_out.get(home, {}).get(key)),
                    approved.get(key),
                ),
                is_faulty=key in faulty,
                is_homeless=looks.residence.is_nowhere(key),
            )
            for key in keys
        }


@contextmanager
def _snapshots(settings: Settings, pods: Collection[str]) -> Iterator[Connections]:
    """Yield a connection to each pod.

    Row and newest event of an aggregate are read in one snapshot, so that a command that commits meanwhile shows in
    both or in neither.
    """
    connections = {pod: psycopg.connect(settings.pod(pod).reader_dsn) for pod in pods}
    try:
        for connection in connections.values():
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.execute("set local timezone = 'UTC'")
        yield connections
    finally:
        for connection in connections.values():
            connection.close()


def _with_approval(known: AggregateEvidence, approval: Approval | None) -> AggregateEvidence:
    return replace(known, is_approved=approval is not None and approval.digest == known.digest != "")


def _faulty(settings: Settings, pod: str, keys: Sequence[str]) -> set[str | None]:
    found = ledger.breaks(settings.control_dsn, states=UNSETTLED, pair=FAULTS, pod=pod, aggregate_keys=keys, limit=None)
    return {item.aggregate_key for item in found}


def _aggregate(
    connections: Connections, key: str, home: str, found: Mapping[str, LakeFindings], left_out: Omission | None
) -> AggregateEvidence:
    merchant_id, aggregate_type, aggregate_id = key.split("/", 2)
    state = _state(connections[home], merchant_id, aggregate_type, aggregate_id)
    extra = [damage for one in found.values() for damage in one.damages if _is_extra(damage, key)]
    sent = _sent(connections, key, found, {damage.event_id for damage in extra})
    line = _line(sent)
    version = None if state is None else state.version
    payload = None if version is None else _payload(line.get(version), key, found)
    is_stated = state is not None and payload is not None and _says(payload, state)
    newest = max(line, default=0)
    state_type = STATE_TYPES.get(aggregate_type)
    said = _state_in(_payload(line.get(newest), key, found), state_type)
    is_unexplained = left_out is not None and left_out.defect == Defect.UNEXPLAINED.name
    believed = None
    if left_out is not None and is_unexplained and left_out.aggregate_key == key:
        before = line.get(left_out.version - 1)
        believed = with_money_of(_state_in(None if before is None else before.payload, state_type), state)
    return AggregateEvidence(
        home=home,
        sent=_spans(sent) if len(found) > 1 else {},
        root_version=version,
        is_stated=is_stated,
        has_events=bool(sent or extra),
        first_cuts=_first_cuts(key, found),
        newest_version=newest,
        lost_versions=tuple(sorted(set(range(1, (version or 0) + 1)) - set(line) - {one.version for one in extra})),
        clashing=tuple(
            damage.event_id for damage in extra if _is_clashing(connections, damage, home, version, sent, found)
        ),
        changes=_changes(said, believed, state, is_stated=is_stated),
        currencies=(getattr(said, "currency", None), getattr(state, "currency", None)),
        digest="" if state is None else state_digest(state),
        said=said,
        is_left_out=left_out is not None,
        is_unexplained=is_unexplained,
        believed=believed,
    )


def _sent(connections: Connections, key: str, found: Mapping[str, LakeFindings], extra: Collection[str]) -> list[Sent]:
    """Return the events of an aggregate that any store has, without those (`extra`) that were perhaps never sent."""
    sent: dict[str, Sent] = {}
    for pod, one in found.items():
        for event in one.known:
            if event.aggregate_key == key and event.event_id not in extra:
                sent[event.event_id] = Sent(
                    event_id=event.event_id,
                    pod=pod,
                    directory_epoch=event.directory_epoch,
                    version=event.version,
                    payload=None,
                )
        sent |= {event.event_id: event for event in _stated(connections[pod], pod, key)}
    return list(sent.values())


def _stated(connection: psycopg.Connection[Any], pod: str, key: str) -> Iterator[Sent]:
    """Yield the outbox's events of an aggregate."""
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(OUTBOX_VERSIONS, key.split("/", 2)).fetchall():
            yield Sent(
                event_id=row["event_id"],
                pod=pod,
                directory_epoch=row["directory_epoch"],
                version=row["aggregate_version"],
                payload=readable_payload(row),
            )


def _line(sent: Iterable[Sent]) -> dict[int, Sent]:
    """Return version -> its event, without events that a later residence of the merchant has supplanted."""
    line: dict[int, Sent] = {}
    ordered = sorted(sent, key=lambda event: (-event.directory_epoch, event.payload is None))
    for _, residence in groupby(ordered, key=lambda event: event.directory_epoch):
        later_from = min(line, default=None)
        for event in residence:
            if later_from is None or event.version < later_from:
                line.setdefault(event.version, event)
    return line


def _payload(event: Sent | None, key: str, found: Mapping[str, LakeFindings]) -> str | None:
    """Return what an event says; of one that the outbox has not, only if it is the newest in lake or backup."""
    if event is None or event.payload is not None:
        return None if event is None else event.payload
    newest = found[event.pod].newest.get(key)
    return newest[1] if newest is not None and newest[0] == (event.directory_epoch, event.version) else None


def _spans(sent: Iterable[Sent]) -> dict[str, tuple[int, int]]:
    """Return pod -> first and last version that it has sent, in the order of the versions."""
    versions: dict[str, list[int]] = {}
    for event in sent:
        versions.setdefault(event.pod, []).append(event.version)
    return dict(sorted(((pod, (min(of), max(of))) for pod, of in versions.items()), key=lambda item: item[1]))


def _first_cuts(key: str, found: Mapping[str, LakeFindings]) -> dict[str, int]:
    cuts = {pod: [event.cut for event in one.known if event.aggregate_key == key] for pod, one in found.items()}
    return {pod: min(of_pod) for pod, of_pod in cuts.items() if of_pod}


def _is_extra(damage: EventDamage, key: str) -> bool:
    return damage.kind is DamageKind.EXTRA and damage.aggregate_key == key


def _is_clashing(
    connections: Connections,
    damage: EventDamage,
    home: str,
    version: int | None,
    sent: Iterable[Sent],
    found: Mapping[str, LakeFindings],
) -> bool:
    """Return whether an extra event is proven not to be one that the outbox of its pod has lost.

    Only its own pod's events and row prove that: another pod may have a version of the same number. Where the merchant
    lives no more, a row that is gone proves nothing.
    """
    # For a pruned cut, the outbox cannot prove that an event was never sent.
    if damage.cut <= found[damage.pod].base_cut:
        return False
    if any(event.pod == damage.pod and event.version == damage.version for event in sent):
        return True
    if any(event.event_id == damage.event_id for pod, one in found.items() if pod != damage.pod for event in one.known):
        return True
    if damage.pod == home:
        return version is None or damage.version > version
    left = _state(connections[damage.pod], *damage.aggregate_key.split("/", 2))
    return left is not None and damage.version > left.version


def _changes(
    said: AggregateState | None, believed: AggregateState | None, state: AggregateState | None, *, is_stated: bool
) -> tuple[FieldChange, ...]:
    """Return the changes that a person would decide about; `believed` is the row with finance's amounts."""
    if not is_stated:
        return field_changes(said, state)
    return () if believed is None else field_changes(believed, state)


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
