"""Checks whether a pod's database continues the history of its copies, or was restored to an earlier state.

A database that was restored on its own server keeps its epoch, so only its cuts show the restore. Each copy knows when
its newest cut was registered. If the database has no such registration, it has another history. Belongs here: that
check. Does not belong here: how a copy is queried (`derived/known_cuts.py`), what to do then
(`derived/epoch_opening.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from contracts.errors import HistoryUnknownError, LogDivergedError
from streams.cuts import last_cut
from streams.epochs import cut_numbered
from streams.log import Manifest

logger = logging.getLogger("tieout.history")

OPEN_EPOCH = (
    "the database was set back, or another one was published here. When it is the right database, open a new epoch "
    "with `tieout open-epoch`."
)

# A copy that was restored, or that has applied a part of a large cut, may have the time of another cut or of an event.
# When the database has pruned the cut, the copy counts as matching.
HAS_MOMENT = """
select exists (select from oltp.cuts where cut between %(cut)s and %(cut)s + 1 and registered_at = %(moment)s)
    or exists (
        select from (select cut, registered_at from oltp.cuts where cut > 1 order by cut limit 1) as first
        where not exists (select from oltp.cuts where cut = 1)
          and (%(cut)s < first.cut
               or %(moment)s < first.registered_at and %(cut)s <= (select max(cut) from oltp.cuts))
    )
    or exists (select from oltp.cuts where registered_at = %(moment)s)
    or exists (select from oltp.outbox where recorded_at = %(moment)s)
"""


@dataclass(frozen=True, kw_only=True)
class KnownCut:
    """The newest cut of which a copy has any event."""

    cut: int
    moment: datetime | None
    """When it was registered in the pod; None: the copy does not know."""


@dataclass(frozen=True, kw_only=True)
class CutSource:
    """A store that can be queried for the newest cuts of its copies."""

    name: str
    newest: Callable[[str], Mapping[str, KnownCut]]
    """Pod -> newest cut by copy, without copies that have no cut. Raises the store's error when it does not answer."""


def check_same_history(
    connection: psycopg.Connection[Any],
    manifest: Manifest | None,
    pod: str,
    cut_sources: Sequence[CutSource],
    *,
    is_proof_needed: bool = False,
) -> None:
    """Raise LogDivergedError unless the database has the newest cuts that its log and its copies have.

    `manifest` is the log's last manifest; None: the log has none, or does not answer. With `is_proof_needed`, a source
    that does not answer raises HistoryUnknownError, unless the log ends with a cut that the database has identically.
    """
    # The log and the copies are read before the database: each of their cuts was registered before, so the database
    # must have it.
    known, silent = _asked(cut_sources, pod)
    if manifest is not None:
        _check_manifest(connection, pod, manifest)
    check_known(connection, pod, known, is_log_proof=manifest is not None)
    if silent and is_proof_needed and manifest is None:
        raise HistoryUnknownError(
            f"Whether the database of pod {pod} goes on from what was published is not known: the log has no manifest "
            f"of it, and {', '.join(silent)} did not answer. Nothing of it is published until they do."
        )


def check_known(
    connection: psycopg.Connection[Any], pod: str, known: Mapping[str, KnownCut], *, is_log_proof: bool
) -> None:
    """Raise LogDivergedError for a copy whose newest cut the database does not have.

    `is_log_proof`: the log ends with a cut of this database, so it is enough that the copy's cut number is registered.
    """
    newest = last_cut(connection)
    for copy, item in known.items():
        if newest is not None and item.cut <= newest.cut and (is_log_proof or item.moment is None):
            continue
        if item.moment is None or not _has_moment(connection, item):
            raise LogDivergedError(
                f"The {copy.replace('_', ' ')} has cut {item.cut} of pod {pod}, which the database does not have (its "
                f"newest is {newest.cut if newest else 0}): {OPEN_EPOCH}"
            )


def _asked(cut_sources: Sequence[CutSource], pod: str) -> tuple[dict[str, KnownCut], list[str]]:
    """Return the newest cut by copy, and the names of the sources that did not answer."""
    known: dict[str, KnownCut] = {}
    silent = []
    for source in cut_sources:
        try:
            known |= source.newest(pod)
        except Exception as error:  # any error of a store: it counts as no answer
            logger.warning("%s could not be asked for its newest cut of %s: %s", source.name, pod, error)
            silent.append(source.name)
    return known, silent


def _check_manifest(connection: psycopg.Connection[Any], pod: str, manifest: Manifest) -> None:
    newest, same = last_cut(connection), cut_numbered(connection, manifest.cut)
    # A cut that the database does not have, but that is not above its newest one, was pruned.
    if newest is None or manifest.cut > newest.cut or (same is not None and same.snapshot != manifest.snapshot):
        raise LogDivergedError(
            f"The log of pod {pod} has a cut {manifest.cut} that the database does not have: {OPEN_EPOCH}"
        )


def _has_moment(connection: psycopg.Connection[Any], item: KnownCut) -> bool:
    row = connection.execute(HAS_MOMENT, {"cut": item.cut, "moment": item.moment}).fetchone()
    return row is not None and bool(row[0])
