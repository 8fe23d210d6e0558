"""The witness of the lake: it reads DuckLake's catalog, and sees each snapshot that no writer of ours made.

Whoever of ours changes the events says so in the snapshot (`derived/lake_connection.py`); every other snapshot that
touched them is a sighting. The files that the catalog names are looked for, too: new ones at once, all of them in a
rotation, in which some of them are read. Belongs here: a look, and how far it has come. Does not belong here: what a
snapshot touched and which file is wrong (`witness/lake_seen.py`, `witness/file_memory.py`), comparing rows.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.object_store import is_object_path
from contracts.ownership import LAKE, WAREHOUSE
from contracts.sightings import Sighting, SightingKind
from reconcile.connections import Connection, Connections
from reconcile.sightings import keep_sightings
from reconcile.witness_states import keep_position, kept_position
from witness.file_memory import FileMemory
from witness.lake_seen import (
    Snapshot,
    file_sighting,
    files_after,
    files_of,
    has_events,
    is_still_named,
    last_snapshot,
    snapshots_after,
    stranger_sightings,
)
from witness.watching import Look

NAME = "lake"
CHANNEL = "tieout_witness"
"""PostgreSQL's channel for the heartbeat: it leaves nothing in the catalog."""
BEAT_SECONDS = 15.0
ROTATION_SECONDS = 600.0
"""All files are looked for within this time."""
FILES_MIN = 20
"""Files that one look of the rotation takes at least."""

IS_THERE = "select to_regclass('ducklake_snapshot') is not null and to_regclass('ducklake_data_file') is not null"


@dataclass(kw_only=True)
class LakeWitness:
    """Looks at the catalog and the files. `catalog_dsn` may read the catalog, and nothing more is asked of it."""

    catalog_dsn: str
    control_dsn: str
    data_path: str
    name: str = NAME
    pod: str = ""
    interval_seconds: float = 0.5
    beat_seconds: float = BEAT_SECONDS
    _beats: dict[str, float] = field(default_factory=dict)
    """What heartbeats say that were not seen yet, and when each was written, by the monotonic clock."""
    _beaten: float | None = None
    _heard: list[str] = field(default_factory=list)
    _listening: Connection | None = None
    _rotated: tuple[str, int] = ("", 0)
    """The last file that the rotation has looked for; the next look goes on after it."""
    _memory: FileMemory = field(default_factory=FileMemory)
    _seen_files: set[tuple[str, int]] = field(default_factory=set)
    """The files of the present rotation."""
    _known_wrong: set[tuple[str, int]] = field(default_factory=set)
    """Files that are wrong and were said: each is said once, until it is right again."""
    _connections: Connections = field(default_factory=Connections)

    def look_once(self) -> Look:
        """Look at the snapshots and files that are new, and at some of the others; store what is seen."""
        catalog = self._connections.to(self.catalog_dsn)
        proven = self._beat(catalog)
        if not catalog.execute(IS_THERE).fetchall()[0][0]:
            return Look(sightings=0, trouble="There is no lake: run `tieout migrate`.", proven_seconds_ago=proven)
        stored = kept_position(self._connections.to(self.control_dsn), NAME, self.pod)
        last = last_snapshot(catalog)
        before = Snapshot.of_position(stored)
        if before is None:
            # Before the first event there is nothing that could have been missed.
            blind = self._blind("No earlier look is known.", last) if has_events(catalog) else []
            return Look(sightings=self._keep(blind, last), proven_seconds_ago=proven)
        if reason := _break_of_history(catalog, before, last):
            return Look(sightings=self._keep(self._blind(reason, last), last), proven_seconds_ago=proven)
        new = snapshots_after(catalog, before.number)
        last = new[-1] if new else before
        sightings = stranger_sightings(catalog, new) if new else []
        sightings += self._wrong_files(catalog, before.number, last.number)
        return Look(sightings=self._keep(sightings, last), proven_seconds_ago=proven)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _blind(self, reason: str, last: Snapshot) -> list[Sighting]:
        """Return what asks to compare everything in the lake."""
        return [
            Sighting(
                witness=NAME,
                kind=SightingKind.BLIND,
                pod=self.pod,
                copy=copy.name,
                place=f"catalog, {copy.name}",
                what=f"{reason} What was done before snapshot {last.number} was not seen.",
                transaction=f"before snapshot {last.number} {last.identity}",
            )
            for copy in (LAKE, WAREHOUSE)
        ]

    def _wrong_files(self, catalog: Connection, before: int, last: int) -> list[Sighting]:
        """Return what is wrong with the files of new snapshots, and with the next ones of the rotation."""
        if is_object_path(self.data_path):
            return []  # an object store is asked by comparisons alone: each question there costs money
        files = files_of(catalog, self.data_path, after_snapshot=before)
        limit = self._files_at_once(catalog)
        some = files_after(catalog, self.data_path, self._rotated, limit)
        self._rotated = some[-1].key if len(some) == limit else ("", 0)
        self._seen_files |= {one.key for one in some}
        if len(some) < limit:
            self._memory.keep_only(self._seen_files)
            self._seen_files = set()
        self._memory.earn(self.interval_seconds)
        looked = {one.key: one for one in [*files, *some]}
        wrong = {key: reason for key, one in looked.items() if (reason := one.wrong())}
        self._known_wrong -= set(looked) - set(wrong)
        said = {key: reason for key, reason in wrong.items() if key not in self._known_wrong}
        self._known_wrong |= set(said)
        said |= {key: reason for key, one in looked.items() if key not in wrong and (reason := self._memory.wrong(one))}
        # A file that compaction has replaced meanwhile is named no more.
        return [
            file_sighting(looked[key], reason, last)
            for key, reason in said.items()
            if is_still_named(catalog, looked[key])
        ]

    def _files_at_once(self, catalog: Connection) -> int:
        ((count,),) = catalog.execute("select count(*) from ducklake_data_file where end_snapshot is null").fetchall()
        return max(FILES_MIN, round(2 * int(count) * self.interval_seconds / ROTATION_SECONDS) + 1)

    def _beat(self, catalog: Connection) -> float | None:
        """Send a heartbeat if one is due; return how long ago the newest was sent that has come back."""
        if self._beaten is None or time.monotonic() - self._beaten >= self.beat_seconds:
            self._listen(catalog)
            said, self._beaten = secrets.token_hex(16), time.monotonic()
            self._beats[said] = self._beaten
            catalog.execute("select pg_notify(%s, %s)", [CHANNEL, said])
        seen = [self._beats.pop(said) for said in self._heard if said in self._beats]
        self._heard.clear()
        return time.monotonic() - max(seen) if seen else None

    def _listen(self, catalog: Connection) -> None:
        if self._listening is not catalog:
            catalog.add_notify_handler(lambda note: self._heard.append(note.payload))
            catalog.execute(f"listen {CHANNEL}")
            self._listening = catalog

    def _keep(self, sightings: Sequence[Sighting], last: Snapshot) -> int:
        control = self._connections.to(self.control_dsn)
        with control.transaction():
            count = keep_sightings(control, sightings)
            keep_position(control, NAME, self.pod, last.position)
        return count


def _break_of_history(catalog: Connection, before: Snapshot, last: Snapshot) -> str:
    """Return why the catalog does not continue what was seen; empty when it does."""
    if last.number < before.number:
        return f"The catalog was set back, from snapshot {before.number} to {last.number}."
    present = snapshots_after(catalog, before.number - 1, limit=2)
    if present and present[0].number == before.number:
        if present[0].identity != before.identity:
            return f"The catalog was replaced: snapshot {before.number} is another one than before."
        return ""
    if present and present[0].number > before.number + 1:
        return f"The catalog does not have the snapshots from {before.number + 1} any more."
    return ""
