"""The pods as the interface uses them: in which one a merchant lives, its commands, and a connection for reads.

Belongs here: finding the pod, and repeating a command where the merchant has moved meanwhile. Does not belong here:
commands (`oltp/commands/`), the directory (`oltp/directory.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from api.positions import Position
from contracts.errors import PodFencedError, StackError
from contracts.settings import Settings
from oltp.commands.execute import Command, CommandPod, build_command_pod, execute
from oltp.directory import Placement, pod_of
from oltp.gateway import PaymentGateway
from oltp.transaction import Expected, Notes

CONNECTIONS_MAX = 12
"""Connections of this process to one pod; they are opened on demand."""
HOME_SECONDS_MAX = 30.0
"""How long we remember where a merchant lives. A pod that it has left refuses its commands, and then we look again."""
RETRY_SECONDS = 5.0
"""While the directory does not answer, we ask it this seldom."""
FENCED_ATTEMPTS = 3

_WHERE = """
select pg_current_wal_insert_lsn()::text, pg_snapshot_xmax(pg_current_snapshot())::text::bigint, (
    select xmin::text::bigint from oltp.idempotency_keys where merchant_id = %s and idempotency_key = %s
)
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command's answer, and how to find where its write is."""

    answer: Any
    where: Callable[[], Position | None]
    is_replayed: bool = False

    @cached_property
    def position(self) -> Position | None:
        """Where the write is; asked once, when it is needed. None: the pod cannot say now."""
        return self.where()


@dataclass(frozen=True, kw_only=True)
class _Home:
    placement: Placement
    read_at: float


class Pods:
    """All pods. Thread-safe. Close it at the end."""

    def __init__(self, settings: Settings, *, gateway: PaymentGateway | None = None) -> None:
        self._settings = settings
        self._gateway = gateway
        self._lock = threading.Lock()
        self._pods: dict[str, CommandPod] = {}
        self._homes: dict[str, _Home] = {}

    @property
    def names(self) -> list[str]:
        """Return the names of all pods."""
        return [pod.pod for pod in self._settings.pods]

    def pod(self, name: str) -> CommandPod:
        """Return the named pod; it connects at first use."""
        with self._lock:
            if name not in self._pods:
                self._pods[name] = build_command_pod(
                    self._settings.pod(name),
                    control_dsn=self._settings.control_dsn,
                    gateway=self._gateway,
                    connections_max=CONNECTIONS_MAX,
                )
            return self._pods[name]

    def home(self, merchant_id: str) -> CommandPod:
        """Return the pod in which the merchant lives; NotFoundError when the directory does not know it."""
        return self.pod(self.placement(merchant_id).pod)

    def known_home(self, merchant_id: str) -> CommandPod | None:
        """Return the same without any I/O; None: ask `home`."""
        known = self._homes.get(merchant_id)
        if known is None or _is_old(known):
            return None
        return self._pods.get(known.placement.pod)

    def placement(self, merchant_id: str) -> Placement:
        """Return where the merchant lives and since when; NotFoundError when the directory does not know it."""
        known = self._homes.get(merchant_id)
        if known is None or _is_old(known):
            known = self._look_up(merchant_id, known)
        return known.placement

    def forget(self, merchant_id: str) -> None:
        """Look in the directory again the next time, because the pod says that the merchant has moved."""
        self._homes.pop(merchant_id, None)

    def execute(
        self,
        command: Command[Any],
        *,
        idempotency_key: str,
        traceparent: str | None = None,
        expects: Expected | None = None,
    ) -> Done:
        """Run a command in its merchant's pod; where the merchant has moved meanwhile, once more in its new pod."""
        for attempt in range(FENCED_ATTEMPTS):
            pod, notes = self.home(command.merchant_id), Notes()
            try:
                answer = execute(
                    pod,
                    command,
                    idempotency_key=idempotency_key,
                    traceparent=traceparent,
                    notes=notes,
                    expects=expects,
                )
            except PodFencedError:
                self.forget(command.merchant_id)
                if attempt == FENCED_ATTEMPTS - 1:
                    raise
                continue
            return self.done(pod, command, idempotency_key, answer, notes)
        raise AssertionError("The last attempt returns or raises.")

    def done(self, pod: CommandPod, command: Command[Any], idempotency_key: str, answer: Any, notes: Notes) -> Done:
        """Return what a command has answered, and how to find where its write is."""
        where = partial(_position, pod, command.merchant_id, idempotency_key, notes)
        return Done(answer=answer, where=where, is_replayed=notes.is_replayed)

    @contextmanager
    def reading(self, merchant_id: str) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection to the merchant's pod for one read; give it back soon."""
        with connection_of(self.home(merchant_id)) as connection:
            yield connection

    def close(self) -> None:
        """Close every pod."""
        with self._lock:
            for pod in self._pods.values():
                pod.close()

    def _look_up(self, merchant_id: str, known: _Home | None) -> _Home:
        try:
            home = _Home(placement=pod_of(self._settings.control_dsn, merchant_id), read_at=time.monotonic())
        except StackError:
            if known is None:
                raise
            # The pod itself refuses the commands of a merchant that has left it. We ask again later.
            home = _Home(placement=known.placement, read_at=time.monotonic() - HOME_SECONDS_MAX + RETRY_SECONDS)
        self._homes[merchant_id] = home
        return home


def _is_old(home: _Home) -> bool:
    return time.monotonic() - home.read_at > HOME_SECONDS_MAX


@contextmanager
def connection_of(pod: CommandPod) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection of a pod; StackError when it gives none."""
    try:
        with pod.connections.connection() as connection:
            yield connection
    except (PoolTimeout, psycopg.OperationalError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"{pod.pod}'s database cannot be reached: {reason}") from None


def _position(pod: CommandPod, merchant_id: str, idempotency_key: str, notes: Notes) -> Position | None:
    """Return where the write of a command is; None when the pod cannot say: the command is done all the same."""
    if notes.lsn:
        return Position(pod=pod.pod, lsn=notes.lsn, xid=notes.xid)
    try:
        with connection_of(pod) as connection:
            row = connection.execute(_WHERE, (merchant_id, idempotency_key)).fetchone()
    except StackError:
        return None
    if row is None or row[2] is None:
        return None
    return Position(pod=pod.pod, lsn=row[0], xid=_whole_xid(row[2], row[1]))


def _whole_xid(low: int, newest: int) -> int:
    """Return the 64-bit id of a transaction from its lower 32 bits; `newest` is an id that is not older."""
    whole = (newest & ~0xFFFFFFFF) | low
    return whole if whole <= newest else whole - (1 << 32)
