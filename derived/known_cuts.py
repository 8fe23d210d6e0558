"""What the copies know of a pod's newest cuts: with it, a database that was set back is noticed without the log.

Belongs here: asking each of them. Does not belong here: what follows from it (`streams/history.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

import duckdb
import psycopg

from contracts.settings import Settings
from derived.lake_backup import verified_chains
from derived.lake_connection import open_lake
from derived.lake_reads import lake_progress, pods
from streams.history import CutSource, KnownCut

NEWEST_OF_VIEWS = """
select distinct on (projection) projection, cut + (chunk > 0)::integer as cut, data_at
from read_models.positions where pod = %(pod)s and (cut > 0 or chunk > 0)
order by projection, cut desc, chunk desc
"""
HAS_VIEWS = "select to_regclass('read_models.positions') is not null"


def cut_sources_of(settings: Settings, lake: duckdb.DuckDBPyConnection | None = None) -> tuple[CutSource, ...]:
    """Return the copies that know cuts of a pod, besides its log: the views, the lake, the lake's backup.

    `lake` is an open connection to the lake; without it, each question opens one, which takes longer than to answer.
    """
    return (
        CutSource(name="the read models", newest=partial(_views, settings)),
        CutSource(name="the lake", newest=partial(_lake, settings, lake)),
        CutSource(name="the backup of the lake", newest=partial(_backup, settings)),
    )


def _views(settings: Settings, pod: str) -> Mapping[str, KnownCut]:
    with psycopg.connect(settings.read_models_dsn, autocommit=True) as connection:
        row = connection.execute(HAS_VIEWS).fetchone()
        if row is None or not row[0]:  # the table was never created
            return {}
        found = connection.execute(NEWEST_OF_VIEWS, {"pod": pod}).fetchall()
    return {name: KnownCut(cut=cut, moment=moment) for name, cut, moment in found}


def _lake(settings: Settings, known: duckdb.DuckDBPyConnection | None, pod: str) -> Mapping[str, KnownCut]:
    with nullcontext(known) if known is not None else open_lake(settings, read_only=True) as lake:
        if pod not in pods(lake):
            return {}
        progress = lake_progress(lake, pod)
    furthest = max(progress.positions.values(), default=None)
    if furthest is None or not (furthest.cut or furthest.chunk):
        return {}
    return {"lake": KnownCut(cut=furthest.cut + (1 if furthest.chunk else 0), moment=progress.data_at)}


def _backup(settings: Settings, pod: str) -> Mapping[str, KnownCut]:
    chain = verified_chains(settings.lake_backup_path).get(pod, [])
    if not chain:
        return {}
    return {"backup of the lake": KnownCut(cut=chain[-1].through_cut, moment=chain[-1].registered_at)}
