"""Finds events that republishing the log would lose: log, lake or backup have them, but the outbox does not any more.

When an outbox row is deleted after its publication, its event is still in the copies, possibly only in the log. Belongs
here: finding such events. Does not belong here: what is done about them (`repair/drafting.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

import duckdb
import psycopg

from contracts.ids import aggregate_key
from contracts.settings import PodSettings, Settings
from derived.lake_backup import file_rows, verified_chains
from derived.lake_connection import bounds_of, open_beside
from derived.lake_reads import lake_positions
from derived.lake_schema import EVENTS, PARKED
from derived.objects import Folder
from repair.evidence.wrong_cuts import entries, manifest_of
from repair.values import LostEvent
from streams.log import EventLog, Manifest
from streams.logs import build_log
from streams.reissue import ReissuedCut, newest_cut, placed_events, reissued_cuts
from streams.step_planning import floor_cut

CUTS_AT_ONCE = 500
COLUMNS = (
    "event_id, merchant_id || '/' || aggregate_type || '/' || aggregate_id as aggregate_key, aggregate_version, cut"
)
OF_LAKE = f"""
    select {COLUMNS} from {EVENTS} where pod = $pod and list_contains($cuts, cut)
    union
    select event_id, aggregate_key, cast(event ->> 'aggregate_version' as bigint), cut
    from {PARKED} where pod = $pod and list_contains($cuts, cut)
"""
# If the outbox has another event with the same version, this one is forged, not lost.
HAS_VERSION = """
select exists (
    select from oltp.outbox
    where aggregate_type = %s and aggregate_id = %s and aggregate_version = %s
)
"""

Row = tuple[str, str, int, int]
"""Event id, aggregate key, version, cut."""


def lost_event(
    lake: duckdb.DuckDBPyConnection, settings: Settings, pod: PodSettings, from_cut: int
) -> LostEvent | None:
    """Return an event of a cut from `from_cut` on that a copy has and the outbox does not; None: there is none."""
    lake_cut = floor_cut(lake_positions(lake, pod.pod))
    differing: dict[int, set[str]] = {}
    with closing(build_log(settings)) as log:
        for reissued in reissued_cuts(pod, range(from_cut, newest_cut(pod) + 1)):
            manifest = manifest_of(log, pod.pod, reissued.cut)
            if manifest is not None and manifest.partitions == reissued.manifest.partitions:
                continue
            if found := _lost_with_entry(log, pod, reissued, manifest, lake_cut):
                return found
            differing[reissued.cut] = _ids(reissued)
            if len(differing) == CUTS_AT_ONCE:
                if found := _in_copies(lake, settings, pod, differing):
                    return found
                differing = {}
    return _in_copies(lake, settings, pod, differing)


def _ids(reissued: ReissuedCut) -> set[str]:
    return set(reissued.events.column("event_id").to_pylist())


def _lost_with_entry(
    log: EventLog, pod: PodSettings, reissued: ReissuedCut, manifest: Manifest | None, lake_cut: int
) -> LostEvent | None:
    """Return an event of a cut that only the log has, or that its manifest counts but that no store has; None: none."""
    if manifest is None:
        return None
    ids = _ids(reissued)
    rows: list[Row] = []
    is_unreadable = False
    for at, events in entries(log, pod.pod, manifest):
        if events is None:
            is_unreadable = True
            continue
        for row in placed_events(events, pod=pod.pod, epoch=manifest.epoch, at=at).to_pylist():
            key = aggregate_key(row["merchant_id"], row["aggregate_type"], row["aggregate_id"])
            rows.append((row["event_id"], key, row["aggregate_version"], reissued.cut))
    if found := _first_lost(pod, rows, {reissued.cut: ids}):
        return found
    # The lake has verified the cuts that it has against their manifests; for them `_in_copies` checks the events.
    if is_unreadable and manifest.events > len(ids) and lake_cut < reissued.cut:
        return LostEvent(event_id=None, aggregate_key=None, cut=reissued.cut)
    return None


def _in_copies(
    lake: duckdb.DuckDBPyConnection, settings: Settings, pod: PodSettings, sent: Mapping[int, set[str]]
) -> LostEvent | None:
    """Return an event of these cuts that lake or backup has and the outbox (`sent`: cut -> event ids) has not."""
    if not sent:
        return None
    bound = {"pod": pod.pod, "cuts": sorted(sent)}
    if found := _first_lost(pod, lake.execute(OF_LAKE, bound).fetchall(), sent):
        return found
    with open_beside(bounds_of(settings)) as connection:
        for file in _files(settings, pod.pod, min(sent), max(sent)):
            query = f"select {COLUMNS} from {file_rows(file)} as e where pod = $pod and list_contains($cuts, cut)"
            if found := _first_lost(pod, connection.execute(query, bound).fetchall(), sent):
                return found
    return None


def _files(settings: Settings, pod: str, lowest: int, highest: int) -> Iterator[Folder]:
    folder = settings.lake_backup_path
    for segment in verified_chains(folder).get(pod, []):
        if segment.from_cut <= highest and lowest <= segment.through_cut:
            yield folder / segment.file


def _first_lost(pod: PodSettings, rows: list[Row], sent: Mapping[int, set[str]]) -> LostEvent | None:
    suspects = [row for row in rows if row[0] not in sent[row[3]]]
    if not suspects:
        return None
    with psycopg.connect(pod.reader_dsn, autocommit=True) as connection:
        for event_id, key, version, cut in suspects:
            _, aggregate_type, aggregate_id = key.split("/", 2)
            row = connection.execute(HAS_VERSION, (aggregate_type, aggregate_id, version)).fetchone()
            if row is not None and not row[0]:
                return LostEvent(event_id=event_id, aggregate_key=key, cut=cut)
    return None
