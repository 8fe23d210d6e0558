"""Roles and databases of the embedded servers, by the rule of least privilege.

Belongs here: which role may connect to which database. Does not belong here: tables and the rights on them (each
store's migration).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

POD_DATABASE = "tieout"
"""Name of the one database in each pod's server."""

POD_ROLES = ("tieout_owner", "tieout_app", "tieout_relay", "tieout_reader")
"""Roles for migrations; commands; relay and pruning; comparison. `oltp.store.migrate` grants their rights in a pod."""


WITNESS_ROLE = "tieout_witness"
"""The role of the witness in each pod and of the read models: it decodes the write-ahead log, and writes nothing."""


@dataclass(frozen=True, kw_only=True)
class ControlDatabase:
    """A database of the control cluster and the one role that owns it and may connect to it."""

    database: str
    role: str
    setting: str


TIME_LIMITS: Mapping[str, Mapping[str, str]] = {
    "tieout_owner": {"lock_timeout": "1min"},
    "tieout_app": {
        "statement_timeout": "2min",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
    },
    "tieout_relay": {"statement_timeout": "1h", "idle_in_transaction_session_timeout": "15min"},
    "tieout_reader": {
        "statement_timeout": "2h",
        "lock_timeout": "1min",
        "idle_in_transaction_session_timeout": "2h",
    },
    "tieout_query": {
        "default_transaction_read_only": "on",
        "statement_timeout": "10min",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "10min",
    },
}
"""How long a session of each role may make others wait. A migration that waits for a lock blocks all later sessions,
so the owner's lock timeout is short. Commands are short. A comparison of a large pod reads for long and holds its
snapshot during that time."""

LOOKING = ("pg_read_all_stats", "pg_use_reserved_connections")
"""PostgreSQL's predefined roles that let the reader see the sessions of a pod."""

RELAY_LOCK_FUNCTIONS = (
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
)
"""The functions of advisory locks with two keys; the relay's lock is such a lock (`streams/outbox_reading.py`)."""

CONTROL_DATABASES = (
    ControlDatabase(database="control", role="tieout_control", setting="TIEOUT_CONTROL_DSN"),
    ControlDatabase(database="lake_catalog", role="tieout_lake", setting="TIEOUT_CATALOG_DSN"),
    ControlDatabase(database="read_models", role="tieout_read_models", setting="TIEOUT_READ_MODELS_DSN"),
    ControlDatabase(database="dagster", role="tieout_dagster", setting="TIEOUT_DAGSTER_DSN"),
)

QUERY_ROLE = "tieout_query"
"""The role of people and their tools: it reads the lake's catalog and the views, and writes nothing."""

QUERY_DATABASES = (("lake_catalog", "TIEOUT_CATALOG_READER_DSN"), ("read_models", "TIEOUT_READ_MODELS_READER_DSN"))
"""The databases that this role may read, each with the setting of its DSN."""

WITNESSED_DATABASE = ("read_models", "TIEOUT_READ_MODELS_WITNESS_DSN")
"""The database of the control cluster that has a witness, with the setting of its DSN."""


def create_roles(superuser_dsn: str, passwords: Mapping[str, str]) -> None:
    """Create missing login roles, and set the password (role name -> password) and the time limits of each role.

    Open sessions keep their limits.
    """
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        known = {name for (name,) in connection.execute("select rolname from pg_roles").fetchall()}
        for role, password in passwords.items():
            verb = sql.SQL("alter" if role in known else "create")
            connection.execute(
                sql.SQL("{} role {} login nosuperuser nocreatedb nocreaterole password {}").format(
                    verb, sql.Identifier(role), sql.Literal(password)
                )
            )
            for name, value in TIME_LIMITS.get(role, {}).items():
                statement = sql.SQL("alter role {} set {} = {}")
                connection.execute(statement.format(sql.Identifier(role), sql.Identifier(name), sql.Literal(value)))


def let_decode(superuser_dsn: str, role: str) -> None:
    """Let `role` read the write-ahead log by a replication slot."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("alter role {} replication").format(sql.Identifier(role)))


def create_database(superuser_dsn: str, database: str, *, owner: str, template: str | None = None) -> None:
    """Create `database` for `owner` unless it exists. Only its owner and roles with a grant may connect.

    With `template` it becomes a copy of that database, with its rights. No session may be connected to the template.
    """
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        found = connection.execute("select 1 from pg_database where datname = %s", (database,)).fetchone()
        if found:
            return
        # Copying files is faster for a large template, but needs two checkpoints.
        strategy = sql.SQL("file_copy" if template else "wal_log")
        source = sql.SQL("template {} strategy {}").format(sql.Identifier(template or "template1"), strategy)
        connection.execute(
            sql.SQL("create database {} owner {} {}").format(sql.Identifier(database), sql.Identifier(owner), source)
        )
        connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(database)))


def allow_connections(superuser_dsn: str, database: str, roles: tuple[str, ...]) -> None:
    """Let `roles` connect to `database`; the owner of the database grants further rights."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("grant connect, temporary on database {} to {}").format(
                sql.Identifier(database), sql.SQL(", ").join(map(sql.Identifier, roles))
            )
        )


def reserve_relay_lock(superuser_dsn: str, database: str) -> None:
    """Let only the relay's role take the relay's lock in a pod's `database`, so that no other role blocks the relay."""
    with psycopg.connect(superuser_dsn, autocommit=True, dbname=database) as connection:
        for name in RELAY_LOCK_FUNCTIONS:
            function = sql.SQL("function pg_catalog.{}(integer, integer)").format(sql.Identifier(name))
            connection.execute(sql.SQL("revoke execute on {} from public").format(function))
            connection.execute(sql.SQL("grant execute on {} to tieout_relay").format(function))


def let_look(superuser_dsn: str) -> None:
    """Let the reader see how long transactions of other roles are open, even when no ordinary connection is left.

    The reserved connections need PostgreSQL 16 or newer: 15 reserves connections for superusers only.
    """
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        known = connection.execute("select rolname from pg_roles where rolname = any(%s)", (list(LOOKING),)).fetchall()
        for (role,) in known:
            connection.execute(sql.SQL("grant {} to tieout_reader").format(sql.Identifier(role)))


def drop_database(superuser_dsn: str, database: str) -> None:
    """Drop `database`, ending the sessions in it."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))


def count_tables(dsn: str) -> int:
    """Return how many tables a database has, without PostgreSQL's catalog."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchone()
    return int(row[0]) if row else 0


def prepare_pod(superuser_dsn: str, passwords: Mapping[str, str]) -> None:
    """Create a pod's roles and its database; the witness's role only if `passwords` has one for it."""
    roles = (*POD_ROLES, *(role for role in (WITNESS_ROLE,) if role in passwords))
    create_roles(superuser_dsn, {role: passwords[role] for role in roles})
    let_look(superuser_dsn)
    if WITNESS_ROLE in roles:
        let_decode(superuser_dsn, WITNESS_ROLE)
    create_database(superuser_dsn, POD_DATABASE, owner=POD_ROLES[0])
    allow_connections(superuser_dsn, POD_DATABASE, roles)
    reserve_relay_lock(superuser_dsn, POD_DATABASE)


def prepare_control(superuser_dsn: str, passwords: Mapping[str, str]) -> None:
    """Create the control cluster's databases, each with its own role."""
    roles = (*(item.role for item in CONTROL_DATABASES), QUERY_ROLE, WITNESS_ROLE)
    create_roles(superuser_dsn, {role: passwords[role] for role in roles})
    for item in CONTROL_DATABASES:
        create_database(superuser_dsn, item.database, owner=item.role)
    let_decode(superuser_dsn, WITNESS_ROLE)
    allow_connections(superuser_dsn, WITNESSED_DATABASE[0], (WITNESS_ROLE,))
    let_query(superuser_dsn, [database for database, _ in QUERY_DATABASES])


def let_query(superuser_dsn: str, databases: Iterable[str]) -> None:
    """Let QUERY_ROLE connect to `databases` and read all their tables, also tables that are created later."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("grant pg_read_all_data to {}").format(sql.Identifier(QUERY_ROLE)))
        for database in databases:
            grant = sql.SQL("grant connect on database {} to {}")
            connection.execute(grant.format(sql.Identifier(database), sql.Identifier(QUERY_ROLE)))
