"""Deleting all data of a copy, and noting that nothing is left.

Belongs here: how to wipe each store. Does not belong here: restoring it.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from contracts.announcements import ANNOUNCE_VIEW, VIEW_WRITER
from contracts.drills import Promise
from contracts.ownership import CopyKind
from contracts.text import counted
from derived.lake_connection import open_lake, transaction
from derived.read_models.known import roots_of
from derived.search.folders import PodFolder, base_folder
from derived.search.store import document_counts
from derived.search.writing import PodWriting
from drills.scene import Scene

BUILT = ("marts", "intermediate", "staging", "builds")
"""The schemas of the lake that warehouse builds create."""

RELATION = ("table or view", "tables and views")


def wipe_log(scene: Scene) -> None:
    """Delete the data of the log server, which must be stopped."""
    deleted, left = scene.system.delete_log()
    _note_gone(scene, "files of the log server", counted(deleted, "byte"), counted(left, "byte"), left == 0 < deleted)


def wipe_lake(scene: Scene) -> None:
    """Drop the lake's catalog and delete its files; no writer may run."""
    settings = scene.system.settings
    with open_lake(settings, read_only=True) as lake:
        events = int(lake.execute("select count(*) from lake.raw.events").fetchall()[0][0])
    left = scene.system.delete_lake()
    remains = counted(left, "catalog table or file", "catalog tables and files")
    _note_gone(scene, "lake", counted(events, "event"), remains, left == 0 < events)


def wipe_warehouse(scene: Scene) -> None:
    """Drop all tables and views that dbt built, and the records of the builds."""
    settings = scene.system.settings
    query = "select count(*) from {} where database_name = 'lake' and list_contains($schemas, schema_name)"

    with open_lake(settings) as lake:

        def relations() -> int:
            bound = {"schemas": list(BUILT)}
            return sum(
                int(lake.execute(query.format(source), bound).fetchall()[0][0])
                for source in ("duckdb_tables()", "duckdb_views()")
            )

        before = relations()
        with transaction(lake, by="a drill"):
            for schema in BUILT:
                lake.execute(f"drop schema if exists lake.{schema} cascade")
        left = relations()
    _note_gone(scene, "warehouse", counted(before, *RELATION), counted(left, *RELATION), left == 0 < before)


def wipe_view(scene: Scene) -> None:
    """Delete a view's rows, positions and parked events in one transaction."""
    name = scene.drill.copy.name
    # Delete children before their roots, and sums last, because triggers update the sums when rows change.
    rows = [table for root in roots_of(scene.drill.copy) for table in reversed(root.tables)]
    tables = [*rows, *scene.drill.copy.sums]
    with psycopg.connect(scene.system.settings.read_models_dsn) as connection:
        connection.execute(ANNOUNCE_VIEW, [VIEW_WRITER, [name]])
        # Take the same lock as consumers do before they write, so that no consumer writes between the deletes.
        connection.execute("select 1 from read_models.positions where projection = %s for update", [name])
        deleted = 0
        for table in tables:
            statement = sql.SQL("delete from read_models.{}").format(sql.Identifier(table))
            deleted += connection.execute(statement).rowcount
        for table in ("parked_events", "positions"):
            statement = sql.SQL("delete from read_models.{} where projection = %s").format(sql.Identifier(table))
            connection.execute(statement, [name])
        left = 0
        for table in tables:
            row = connection.execute(
                sql.SQL("select count(*) from read_models.{}").format(sql.Identifier(table))
            ).fetchone()
            left += int(row[0]) if row else 0
    _note_gone(scene, name, counted(deleted, "row"), counted(left, "row"), left == 0 < deleted)


def wipe_search(scene: Scene) -> None:
    """Delete the folders of all indexes, while their consumers run on."""
    settings = scene.system.settings

    def documents() -> int:
        return sum(sum(document_counts(settings, pod).values()) for pod in scene.pods)

    before = documents()
    for pod in scene.pods:
        folder = PodFolder(base_folder(settings), pod)
        writing = PodWriting(folder)
        writing.lock()  # no consumer writes into what is being deleted
        folder.wipe()
        writing.abandon()
    left = documents()
    _note_gone(scene, scene.drill.copy.name, counted(before, "document"), counted(left, "document"), left == 0 < before)


WIPES = {CopyKind.READ_MODEL: wipe_view, CopyKind.SEARCH: wipe_search}
"""By the kind of a copy that is rebuilt from the lake."""


def _note_gone(scene: Scene, subject: str, before: str, left: str, is_ok: bool) -> None:
    scene.note(
        Promise.IS_GONE,
        subject,
        expected="something there before, nothing left",
        seen=f"{before} before, {left} left",
        is_ok=is_ok,
    )
