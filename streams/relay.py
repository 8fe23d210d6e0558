"""The relay: publishes a pod's committed events to the log, cut by cut, each exactly once.

Belongs here: the one process per pod between outbox and log, the checks before it publishes, and its polling interval.
Does not belong here: what a cut is (`streams/cuts.py`), how its events are read (`streams/outbox_reading.py`), how an
entry is encoded (`streams/codec.py`).

After a crash at any step, the relay starts again. The content of a cut is a function of two stored snapshots, so it
computes the same entries with the same ids. The log recognizes entries that it already has by their checksums.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import adbc_driver_manager
import psycopg

from contracts.clock import Clock, utc_now
from contracts.errors import HistoryUnknownError, LogDivergedError, LogUnavailableError, RelayBusyError, StackError
from contracts.settings import PodSettings, Settings
from contracts.text import counted, one_line
from streams.cuts import (
    BEFORE_ALL,
    Cut,
    CutShape,
    configure_registering,
    current_epoch,
    cut_shape,
    cuts_from,
    first_cut,
    insert_cut,
    last_cut,
    look,
)
from streams.history import CutSource, check_same_history
from streams.log import EventLog, LogTail, Manifest, written_by_strangers
from streams.logs import build_log
from streams.outbox_reading import RELAY_LOCK, OutboxReader, held_by
from streams.publishing import CutPublication, check_publishable

logger = logging.getLogger("tieout.relay")

CUTS_READ = 1_000
RELAYING = "tieout relay"
REPUBLISHING = "tieout republish"
"""The task of a session that holds the relay lock; the session's application name begins with it."""
LOST_SERVER = (
    psycopg.OperationalError,
    adbc_driver_manager.OperationalError,
    LogUnavailableError,
)
"""Errors after which a retry can succeed: a server is unreachable, or the log is full until it is trimmed."""

Step = Callable[[str], None]
"""Called before each step that a crash may interrupt; tests raise from it."""

TakeLock = Callable[[psycopg.Connection[Any]], None]
"""Acquires the relay lock for a session, or raises RelayBusyError."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The polling interval of the relay: short after it found events; it grows while there are none."""

    busy_seconds: float = 0.005
    idle_seconds: float = 0.02
    growth: float = 1.5
    retry_seconds: float = 1.0
    """Wait before reconnecting after the connection to a server was lost."""


@dataclass(frozen=True, kw_only=True)
class DrainResult:
    """The result of a drain; `cut` is the last cut that is complete in the log, 0 when there is none."""

    pod: str
    cut: int
    cuts_published: int
    events_published: int


def build_relay(pod: PodSettings, settings: Settings, *, cut_sources: Sequence[CutSource] = ()) -> Relay:
    """Return the pod's relay for the deployment's log; `cut_sources` tell whether the database was restored."""
    log, shape = build_log(settings), cut_shape(settings)
    return Relay(pod=pod.pod, dsn=pod.relay_dsn, log=log, shape=shape, cut_sources=cut_sources)


class Relay:
    """Publishes the events of one pod. Each session of it holds the pod's relay lock until it ends."""

    def __init__(
        self,
        *,
        pod: str,
        dsn: str,
        log: EventLog,
        shape: CutShape,
        cut_sources: Sequence[CutSource] = (),
        pace: Pace | None = None,
        clock: Clock = utc_now,
        step: Step = lambda name: None,
    ) -> None:
        self.pod = pod
        self._cut_sources = cut_sources
        self._dsn = dsn
        self._log = log
        self._shape = shape
        self._pace = pace or Pace()
        self._clock = clock
        self._step = step

    def drain(self) -> DrainResult:
        """Publish everything that was committed before this call, and return the counts.

        Raises RelayBusyError when another relay holds the pod, EpochChangedError and LogDivergedError when the log
        does not continue what the database holds, StackError when a server cannot be reached.
        """
        try:
            with self._session() as session:
                session.register_if_new()
                return session.publish_registered()
        except LOST_SERVER as error:
            raise StackError(f"The outbox of {self.pod} could not be published: {one_line(error)}") from None

    def run(self, stop: threading.Event) -> None:
        """Publish continuously until `stop` is set; reconnect when PostgreSQL or the log was unreachable.

        Raises what `drain` raises, except for lost servers: a person must act, or the other relay must end.
        """
        while not stop.is_set():
            try:
                with self._session() as session:
                    self._publish_until(stop, session)
            except (*LOST_SERVER, HistoryUnknownError) as error:
                logger.warning("relay of %s waits for a server: %s", self.pod, one_line(error))
                stop.wait(self._pace.retry_seconds)

    def republish(self, from_cut: int, *, take_lock: TakeLock | None = None) -> DrainResult:
        """Publish the cuts from `from_cut` on again into a new generation, and switch consumers to it.

        Use it when the log lost entries. `take_lock` acquires the relay lock; by default it is tried once. Raises
        LogDivergedError when the outbox is pruned beyond `from_cut`, RelayBusyError when another relay holds the lock,
        StackError when a server cannot be reached.
        """
        try:
            with self._session(is_resuming=False, take_lock=take_lock) as session:
                return session.republish(from_cut)
        except LOST_SERVER as error:
            raise StackError(f"The outbox of {self.pod} could not be published again: {one_line(error)}") from None

    def close(self) -> None:
        """Close the connections to the log."""
        self._log.close()

    def _publish_until(self, stop: threading.Event, session: RelaySession) -> None:
        wait = self._pace.busy_seconds
        while not stop.is_set():
            registered = session.register_if_new()
            published = session.publish_registered().cuts_published if registered else 0
            wait = self._pace.busy_seconds if published else min(wait * self._pace.growth, self._pace.idle_seconds)
            stop.wait(wait)

    @contextmanager
    def _session(self, *, is_resuming: bool = True, take_lock: TakeLock | None = None) -> Iterator[RelaySession]:
        role = RELAYING if is_resuming else REPUBLISHING
        name = f"{role} {self.pod} on {socket.gethostname()}, process {os.getpid()}"[:63]
        with psycopg.connect(self._dsn, autocommit=True, application_name=name) as connection:
            connection.prepare_threshold = None
            configure_registering(connection)
            connection.execute("set plan_cache_mode = force_custom_plan; set enable_seqscan = off")
            (take_lock or self._lock)(connection)
            try:
                yield from self._holding(connection, name, is_resuming=is_resuming)
            finally:
                # Unlock explicitly, also after an error: PostgreSQL notices a closed session a moment later, and the
                # next relay tries the lock only once.
                with suppress(psycopg.Error):
                    connection.execute("select pg_advisory_unlock_all()")

    def _holding(self, connection: psycopg.Connection[Any], name: str, *, is_resuming: bool) -> Iterator[RelaySession]:
        """Yield the session of a connection that holds the lock."""
        with OutboxReader(self._dsn, application_name=f"{name[:55]} reader") as reader:
            session = RelaySession(
                pod=self.pod,
                connection=connection,
                reader=reader,
                log=self._log,
                shape=self._shape,
                registered_by=name,
                clock=self._clock,
                step=self._step,
            )
            if is_resuming:
                session.resume()
            # Checked before anything is registered or published: an empty log does not show that the database was
            # restored.
            manifest = self._log.tail(self.pod, 1).manifest
            check_same_history(connection, manifest, self.pod, self._cut_sources, is_proof_needed=True)
            yield session

    def _lock(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute("select pg_try_advisory_lock(%s, %s)", RELAY_LOCK).fetchone()
        if row is None or not row[0]:
            holder = held_by(connection) or "a session that has just ended"
            raise RelayBusyError(f"Pod {self.pod} is already published by {holder}; one relay per pod.")


class RelaySession:
    """One relay while it holds the lock; it knows the last published cut and its snapshot."""

    def __init__(
        self,
        *,
        pod: str,
        connection: psycopg.Connection[Any],
        reader: OutboxReader,
        log: EventLog,
        shape: CutShape,
        registered_by: str,
        clock: Clock,
        step: Step,
    ) -> None:
        self._pod = pod
        self._connection = connection
        self._reader = reader
        self._log = log
        self._shape = shape
        self._registered_by = registered_by
        self._clock = clock
        self._step = step
        self._epoch = current_epoch(connection)
        self._published = 0
        self._seen = BEFORE_ALL
        self._previous_epoch: str | None = None
        self._generation = 1

    def resume(self) -> None:
        """Continue after the end of the streams.

        Raises EpochChangedError or LogDivergedError when the database does not continue the log.
        """
        newest = last_cut(self._connection)
        if newest is not None:
            self._epoch.check(newest.cut, newest.epoch, f"cut {newest.cut}")
        tail = self._log.tail(self._pod, max(self._shape.partition_count, newest.partition_count if newest else 1))
        if tail.manifest is not None:
            where = f"the log's manifest of cut {tail.manifest.cut}"
            self._epoch.check(tail.manifest.cut, tail.manifest.epoch, where)
        self._check_tail(tail, newest.cut if newest else 0)
        self._generation = tail.generation
        self._resume_after(tail.manifest_cut or self._base(), tail.manifest)

    def _check_tail(self, tail: LogTail, newest: int) -> None:
        furthest = max([tail.manifest_cut, *tail.entry_cuts.values()])
        if furthest > newest and tail.strangers:
            own = tail.manifest.cut if tail.manifest else 0
            raise written_by_strangers(self._pod, tail.strangers, own + 1)
        if furthest > newest:
            raise LogDivergedError(
                f"The log of pod {self._pod} ends at cut {furthest}, but the database knows {counted(newest, 'cut')}: "
                "it lost commits, or another database was published here. When it is the right database, open a new "
                "epoch with `tieout open-epoch`."
            )
        if furthest > tail.manifest_cut + 1 and tail.manifest_cut:
            raise LogDivergedError(
                f"The log of pod {self._pod} holds entries of cut {furthest} but no manifest after "
                f"{tail.manifest_cut}: manifests were lost; republish from the next cut into a new generation."
            )

    def _base(self) -> int:
        """Return the cut up to which the outbox is pruned; 0 when nothing is pruned."""
        first = first_cut(self._connection)
        return 0 if first is None or first.cut == 1 else first.cut

    def _resume_after(self, cut: int, manifest: Manifest | None) -> None:
        self._published = cut
        if cut == 0:
            return
        found = cuts_from(self._connection, cut, limit=1)
        if not found or found[0].cut != cut:
            raise LogDivergedError(
                f"The log of pod {self._pod} ends at cut {cut}, which the database has pruned: the log lost cuts that "
                f"only the lake holds; republish from cut {self._base() + 1} into a new generation."
            )
        if manifest is not None and manifest.snapshot != found[0].snapshot:
            raise LogDivergedError(
                f"Cut {cut} of pod {self._pod} is another one in the database than in the log: the database was set "
                "back, or another one was published here. When it is the right database, open a new epoch with "
                "`tieout open-epoch`."
            )
        self._seen, self._previous_epoch = found[0].seen(), found[0].epoch

    def register_if_new(self) -> bool:
        """Register a cut if visible events are not in any cut; return whether there is a cut to publish."""
        known, seen = self._published, self._seen
        while True:
            registered, has_new = look(self._connection, seen)
            newest = last_cut(self._connection) if registered > known else None
            if newest is not None:
                # A reconciler, or this relay before a crash, has registered it. It may not contain all new events.
                known, seen = newest.cut, newest.seen()
                continue
            if not has_new:
                return registered > self._published
            self._step("register")
            with suppress(psycopg.errors.UniqueViolation):  # a reconciler registered first: look again, after its cut
                insert_cut(self._connection, self._shape, registered_by=self._registered_by)
                return True

    def publish_registered(self) -> DrainResult:
        """Publish every registered cut that is not in the log yet, in order."""
        cuts_published = events_published = 0
        for cut in self._registered():
            events_published += self._publish(cut, is_staged=False).events
            cuts_published += 1
        return DrainResult(
            pod=self._pod, cut=self._published, cuts_published=cuts_published, events_published=events_published
        )

    def republish(self, from_cut: int) -> DrainResult:
        """Publish all cuts from `from_cut` into a new generation, then make it the pod's log."""
        if from_cut <= self._base():
            raise LogDivergedError(
                f"The outbox of pod {self._pod} is pruned through cut {self._base()}; cuts before that are in the lake "
                f"only, so republish from cut {self._base() + 1} at the earliest."
            )
        self._resume_after(from_cut - 1, None)
        self._generation = self._log.begin_generation(self._pod, from_cut)
        events = cuts = 0
        for cut in self._registered():
            events += self._publish(cut, is_staged=True).events
            cuts += 1
        self._log.switch_generation(self._pod, self._generation)
        return DrainResult(pod=self._pod, cut=self._published, cuts_published=cuts, events_published=events)

    def _publish(self, cut: Cut, *, is_staged: bool) -> Manifest:
        self._check_computable(cut)
        publication = CutPublication(
            pod=self._pod, cut=cut, generation=self._generation, previous_epoch=self._previous_epoch
        )
        self._step("entries")
        # Always closed: a thread prefetches a large cut, and must end before its connection is closed.
        with closing(self._reader.events_of(cut, self._seen)) as batches:
            for batch in batches:
                for group in publication.add(batch):
                    self._log.append(self._pod, group)
                    self._step("entries")
        self._log.append(self._pod, publication.finish())
        self._step("manifest")
        manifest = publication.manifest(self._now())
        self._log.append_manifest(self._pod, manifest, is_staged=is_staged)
        self._published, self._seen, self._previous_epoch = cut.cut, cut.seen(), cut.epoch
        self._step("published")
        return manifest

    def _registered(self) -> Iterator[Cut]:
        """Yield the registered, unpublished cuts in order; the caller publishes each before it takes the next."""
        while found := cuts_from(self._connection, self._published + 1, limit=CUTS_READ):
            yield from found
            if len(found) < CUTS_READ:
                return

    def _now(self) -> datetime:
        return self._clock()

    def _check_computable(self, cut: Cut) -> None:
        if cut.cut != self._published + 1:
            raise LogDivergedError(
                f"Cut {self._published + 1} of pod {self._pod} is missing in the database; the next one is {cut.cut}."
            )
        self._epoch.check(cut.cut, cut.epoch, f"cut {cut.cut}")
        check_publishable(self._pod, cut)
