"""Row counts of a pod in one snapshot, for operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from contracts.events import STATE_TYPES
from contracts.settings import PodSettings
from oltp.store.tables import SCHEMA

ROOT_TABLES = {aggregate_type: f"{aggregate_type}s" for aggregate_type in STATE_TYPES}
"""Root table by aggregate type."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The rows of every root table of one pod, and its newest registered cut, in the same snapshot."""

    pod: str
    cut: int
    rows: Mapping[str, int]


def observe(pod: PodSettings) -> Observation:
    """Count the root tables' rows with the reader role, in one snapshot."""
    with psycopg.connect(pod.reader_dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        found = connection.execute("select coalesce(max(cut), 0) from oltp.cuts").fetchone()
        rows = {aggregate_type: _count(connection, table) for aggregate_type, table in ROOT_TABLES.items()}
    return Observation(pod=pod.pod, cut=found[0] if found else 0, rows=rows)


def _count(connection: psycopg.Connection, table: str) -> int:
    found = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, table))).fetchone()
    return int(found[0]) if found else 0
