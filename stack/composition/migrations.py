"""Migrates every store to the newest schema, in parallel.

Belongs here: which stores there are. Does not belong here: their schemas (each store's own module).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg

from contracts.errors import StackError
from contracts.settings import Settings
from stack.servers.versions import check_versions

LOCK = "tieout migrate"


def migrate_everything(settings: Settings) -> None:
    """Migrate pods, directory, lake, read models, comparison results and ledger; this creates tables and loses no data.

    Raises StackError when a server cannot be reached or has an unsupported version.
    """
    check_versions(settings)
    _check_object_store(settings)
    with _one_at_a_time(settings.control_dsn), ThreadPoolExecutor(max_workers=6) as pool:
        futures = [pool.submit(task) for task in _tasks(settings)]
    for future in futures:
        future.result()


@contextmanager
def _one_at_a_time(control_dsn: str) -> Iterator[None]:
    # Some stores do not support two migrations at once: the lake's catalog refuses the second.
    try:
        with psycopg.connect(control_dsn, autocommit=True) as connection:
            connection.execute("select pg_advisory_lock(hashtext(%s))", (LOCK,))
            yield
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"The control database cannot be reached: {reason}") from None


def _check_object_store(settings: Settings) -> None:
    """Raise StackError when the bucket of lake or backup is missing, or does not accept the key."""
    from derived.lake_connection import object_prefixes
    from derived.objects import check_reachable

    if settings.object_store is not None:
        for prefix in object_prefixes(settings):
            check_reachable(settings.object_store, prefix)


def _one_by_one(migrate: Callable[[str], None], dsns: Iterable[str]) -> None:
    for dsn in dsns:
        migrate(dsn)


def _in_turn(dsn: str, *migrations: Callable[[str], None]) -> None:
    for migrate in migrations:
        migrate(dsn)


def _tasks(settings: Settings) -> list[Callable[[], object]]:
    from api.keys.store import migrate_keys
    from derived.lake import migrate_lake
    from derived.lake_connection import bounds_of
    from derived.read_models.migrate import migrate as migrate_read_models
    from derived.webhooks.schema import migrate_webhooks
    from drills.records import migrate as migrate_drills
    from finance.books import migrate as migrate_books
    from finance.imports import migrate as migrate_imports
    from oltp.directory import migrate_directory
    from oltp.store.migrate import migrate as migrate_pod
    from reconcile.coverage import migrate as migrate_coverage
    from reconcile.figure_results import migrate as migrate_figures
    from reconcile.results import migrate as migrate_results
    from reconcile.rounds import migrate as migrate_rounds
    from reconcile.sightings import migrate as migrate_sightings
    from repair.alerts.queue import migrate as migrate_alerts
    from repair.alerts.unmet import migrate as migrate_unmet
    from repair.audit import migrate as migrate_audit
    from repair.ledger import migrate as migrate_ledger

    return [
        # One after the other: Alembic keeps the migration in progress in module state.
        lambda: _one_by_one(migrate_pod, [pod.owner_dsn for pod in settings.pods]),
        lambda: _in_turn(settings.control_dsn, migrate_directory, migrate_keys, migrate_webhooks),
        # One after the other: two transactions that create the same schema at once disturb each other.
        lambda: _in_turn(
            settings.control_dsn, migrate_results, migrate_figures, migrate_coverage, migrate_sightings, migrate_rounds
        ),
        lambda: _in_turn(settings.control_dsn, migrate_books, migrate_imports),
        lambda: _in_turn(settings.control_dsn, migrate_ledger, migrate_audit),
        lambda: migrate_alerts(settings.control_dsn),
        lambda: migrate_drills(settings.control_dsn),
        lambda: migrate_unmet(settings.control_dsn),
        lambda: migrate_read_models(settings.read_models_dsn),
        lambda: migrate_lake(
            settings.catalog_dsn,
            settings.lake_data_path,
            pods=[pod.pod for pod in settings.pods],
            partition_count=settings.partition_count,
            bounds=bounds_of(settings),
        ),
    ]
