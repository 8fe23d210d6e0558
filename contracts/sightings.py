"""A sighting: a write that a witness saw past the rules, or something that a store has lost.

A sighting names what the next comparison must look at. It is not a break: only a comparison makes a break.

Belongs here: the value, which witnesses write and the reconciler reads. Does not belong here: the table of sightings
(`reconcile/sightings.py`), how a witness sees something (`witness/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class SightingKind(StrEnum):
    """What a witness saw."""

    UNANNOUNCED = "unannounced"
    """A transaction wrote rows past the rules: without outbox rows in OLTP, without a moved position in a copy."""
    DECLARED = "declared"
    """A transaction of OLTP's owner said that it wrote past the rules, and why. It accuses nobody, and is compared."""
    LOST = "lost"
    """Something that a manifest, a catalog or a position names is not there any more, or is not what it was."""
    BLIND = "blind"
    """The witness could not see a stretch of time; a complete comparison takes its place."""


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One thing that a witness saw. Without an aggregate id, everything of the copy in the pod must be compared."""

    witness: str
    """The witness: `oltp`, `read_models`, `log`, `lake`, `search`, `carts` or `cache`."""
    kind: SightingKind
    pod: str
    """The pod whose facts are concerned; empty: all pods."""
    copy: str | None
    """The copy's name in `contracts/ownership.py`; None: OLTP itself."""
    place: str
    """Where it was seen: a table, a stream, a file."""
    aggregate_id: str | None = None
    aggregate_type: str | None = None
    """Of an event in the lake: the only type that it may have; None: not told."""
    cuts: tuple[int, int] | None = None
    """Of an event in the lake: the cuts (after, through] that it may belong to; None: not told."""
    what: str
    """One sentence for people: what was seen."""
    before: Mapping[str, Any] | None = None
    """The row before the write, as far as the store tells it."""
    after: Mapping[str, Any] | None = None
    transaction: str = ""
    """The transaction, snapshot or command that wrote it, in the store's own terms."""
    written_at: datetime | None = None
    """When it was written, by the store's clock; None when the store does not tell."""


@dataclass(frozen=True, kw_only=True)
class KeptSighting(Sighting):
    """A sighting with its number and the state of its comparison."""

    sighting_id: int
    seen_at: datetime
    compared_at: datetime | None = None
    """When a comparison that began after the sighting had looked at it; None: it is still to be looked at."""
    group_ids: tuple[int, ...] = field(default=())
    """The groups of breaks that were open for what it names, after that comparison; empty: everything agreed."""
