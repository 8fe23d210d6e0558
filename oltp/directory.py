"""The directory: a table in the control database that says in which pod a merchant lives, and under which epoch.

Belongs here: assigning a merchant to a pod and finding it. Does not belong here: moving a merchant. A pod stores the
epoch with its merchants, so commands do not need the directory; only registering a merchant needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.errors import NotFoundError, StackError

_MIGRATE = """
create schema if not exists directory;
create table if not exists directory.placements (
    merchant_id text primary key,
    pod text not null,
    -- Grows by one whenever the merchant moves; fences commands of the pod it left.
    epoch bigint not null check (epoch >= 1),
    assigned_at timestamptz not null default clock_timestamp()
);
"""
_ASSIGN = """
insert into directory.placements (merchant_id, pod, epoch) values (%s, %s, 1)
on conflict (merchant_id) do nothing
"""
_FIND = "select pod, epoch from directory.placements where merchant_id = %s"
_ALL = "select merchant_id, pod, epoch from directory.placements"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a merchant lives; `epoch` grows with every move."""

    merchant_id: str
    pod: str
    epoch: int


def migrate_directory(control_dsn: str) -> None:
    """Create the directory in the control database; an existing directory stays unchanged."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('directory'))")
        connection.execute(_MIGRATE)


def assign(control_dsn: str, merchant_id: str, pod: str) -> Placement:
    """Place a merchant in `pod` unless it is placed already; return where it lives, which may be another pod."""
    with _connect(control_dsn) as connection:
        connection.execute(_ASSIGN, (merchant_id, pod))
        return _required(connection, merchant_id)


def pod_of(control_dsn: str, merchant_id: str) -> Placement:
    """Return where a merchant lives; NotFoundError when it is not registered."""
    with _connect(control_dsn) as connection:
        return _required(connection, merchant_id)


def placements(control_dsn: str) -> list[Placement]:
    """Return where every merchant lives."""
    with _connect(control_dsn) as connection:
        rows = connection.execute(_ALL).fetchall()
    return [Placement(merchant_id=merchant_id, pod=pod, epoch=epoch) for merchant_id, pod, epoch in rows]


@dataclass(frozen=True)
class Directory:
    """The directory as commands use it; only the registration of a merchant asks it."""

    control_dsn: str

    def assign(self, merchant_id: str, pod: str) -> Placement:
        """Place a merchant in `pod` unless it is placed already; return where it lives."""
        return assign(self.control_dsn, merchant_id, pod)


def _connect(control_dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(control_dsn)
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise StackError(f"The directory in the control database cannot be reached: {reason}") from None


def _required(connection: psycopg.Connection[tuple[Any, ...]], merchant_id: str) -> Placement:
    row = connection.execute(_FIND, (merchant_id,)).fetchone()
    if row is None:
        raise NotFoundError(f"Merchant {merchant_id!r} is in no pod; register it first.")
    return Placement(merchant_id=merchant_id, pod=row[0], epoch=row[1])
