"""What a comparison says: verdict, classes of differences, and the result of one pair in one pod.

Belongs here: values that the comparison, its callers, the table of results and (later) repair agree on. Does not belong
here: how anything is compared (`reconcile/`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from contracts.scope import Scope

Scalar = str | int | bool | None
"""A value in a sample; timestamps are ISO 8601 text in UTC, money is an integer."""


class Verdict(StrEnum):
    """What is known after a comparison. "Could not look" is `unknown`, never a pass and never a failure."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"
    LATE = "late"
    """The copy did not reach the cut within its allowed lag; nothing was compared."""
    UNKNOWN = "unknown"
    """The comparison itself failed, or a side could not be read; `reason` says why."""


class DifferenceClass(StrEnum):
    """What is wrong with one key. Each key has one class: the first that fits, in this order."""

    MISSING = "missing"
    """The owner has it, the copy does not."""
    EXTRA = "extra"
    """The copy has it, the owner does not."""
    DUPLICATE = "duplicate"
    """One side has the key more than once."""
    STALE = "stale"
    """The copy has an older version than the owner had at the cut."""
    CURRENCY = "currency"
    """Both have it, in different currencies."""
    AMOUNT = "amount"
    """A sum of money other than tax differs."""
    TAX = "tax"
    """Only tax differs, as far as money goes."""
    DIFFERENT = "different"
    """Another column differs."""
    IDENTITY = "identity"
    """Figures of one store that must agree with each other do not."""
    PARKED = "parked"
    """An event could not be applied, and its aggregate waits behind it for longer than the copy may be late."""


WHOLE_KEY_CLASSES = frozenset({DifferenceClass.MISSING, DifferenceClass.EXTRA, DifferenceClass.DUPLICATE})
"""All other classes count as `different` in a result."""

SHOWN_KEYS = 50
"""Of how many differing keys per entity a stored or printed result holds the evidence."""

DIFFERENCES_KEPT = 10_000
"""How many differing keys per pair, pod and entity a comparison lists for the ledger of breaks."""


@dataclass(frozen=True, kw_only=True)
class ColumnDifference:
    """One column of one key. `difference` is right - left for integers.

    A side that has no such row has None; the difference then is what the copy's sum is off by.
    """

    column: str
    left: Scalar
    right: Scalar
    difference: int | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One key that does not agree, with what both sides say of it."""

    entity: str
    """What the key names, e.g. `order_lines` in the pair `oltp_lake.order`."""
    key: tuple[str | None, ...]
    kind: DifferenceClass
    merchant_id: str | None = None
    day: str | None = None
    currency: str | None = None
    columns: tuple[ColumnDifference, ...] = ()
    """The columns that differ; for a missing or extra key the money and quantities of the side that has it."""
    aggregate_key: str | None = None
    """The aggregate that the row belongs to (`contracts.ids.aggregate_key`): what a repair rebuilds; None for sums."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Rows, signed sums and content hash of both sides: of a whole pod, or of one merchant x day x currency."""

    entity: str
    merchant_id: str | None = None
    day: str | None = None
    currency: str | None = None
    left_rows: int
    right_rows: int
    left_sums: dict[str, int] = field(default_factory=dict)
    right_sums: dict[str, int] = field(default_factory=dict)
    is_equal: bool
    """Counts, sums and content hashes agree; equal sums with different content are not equal."""


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """What one comparison of one pair in one pod found."""

    pair: str
    pod: str
    verdict: Verdict
    cut: int | None
    """The cut at which both sides were compared; for a vector its lowest entry; None when there was none."""
    cut_vector: dict[str, str] = field(default_factory=dict)
    """Positions by partition (`cut` or `cut+chunk`) of a copy that chose the cut itself; empty otherwise."""
    compared: int = 0
    """Keys looked at, those of either side. 0 and `consistent`: both sides are empty, and `reason` says so."""
    missing: int = 0
    extra: int = 0
    different: int = 0
    duplicates: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    """Exact number of keys per class of difference."""
    levels: tuple[Level, ...] = ()
    """Pod totals of every entity, then a bounded number of the segments that differ."""
    segments_compared: int = 0
    segments_different: int = 0
    sample: tuple[Difference, ...] = ()
    """Bounded; the counts above are exact."""
    late_keys: int = 0
    """Aggregates left out because the copy has them parked."""
    late_aggregates: tuple[str, ...] = ()
    """Their keys, bounded as the sample is."""
    checked_at: datetime
    seconds: float
    reason: str = ""
    scope: Scope | None = None
    """What was looked at; None: everything. Nothing is said of a key outside of it."""
    epoch_opened_at: datetime | None = None
    """When the epoch of the cut was opened in the pod; None: none ever was. Its cuts are newer than all before it."""
    moment: int | None = None
    """The number that the ledger's counter gave before anything was read for it: whatever happened to a store before
    that number was given, this result has seen. None: it is not known, and time decides."""
    peak_memory_mb: float | None = None
    """The most that the comparing process had held until then; None: it was not measured."""
    is_memory_short: bool = False
    """Whether it fitted in the limit of memory with one thread only: a little more, and it does not at all."""

    @property
    def is_whole(self) -> bool:
        """Whether everything was looked at, not only what changed and a part of the rest."""
        return self.scope is None

    @property
    def differences(self) -> int:
        """The number of keys that do not agree."""
        return self.missing + self.extra + self.different + self.duplicates

    @property
    def is_sample_complete(self) -> bool:
        """Whether the sample lists every key that differs, so that a key it does not list agrees."""
        return len(self.sample) == self.differences and len(self.late_aggregates) == self.late_keys

    @property
    def is_of_keys(self) -> bool:
        """Whether keys were compared, so that something is known of those that are neither listed nor late.

        A copy of which a few keys are parked is late as a whole; all its other keys were compared all the same.
        """
        return self.verdict in (Verdict.CONSISTENT, Verdict.INCONSISTENT) or (
            self.verdict is Verdict.LATE and self.compared > 0
        )

    def bounded(self, keys: int = SHOWN_KEYS) -> PairResult:
        """Return the result with the first differing keys of every entity only, for people to look at."""
        taken: Counter[str] = Counter()
        sample = []
        for difference in self.sample:
            taken[difference.entity] += 1
            if taken[difference.entity] <= keys:
                sample.append(difference)
        scope = self.scope and replace(self.scope, ids=frozenset(sorted(self.scope.ids)[:keys]))
        return replace(self, sample=tuple(sample), late_aggregates=self.late_aggregates[:keys], scope=scope)

    def as_json(self) -> dict[str, Any]:
        """Return the result as values that JSON can hold, with a bounded sample."""
        shown = asdict(self.bounded())
        if self.scope is not None:
            shown["scope"]["ids"] = sorted(shown["scope"]["ids"])
        return {
            **shown,
            "checked_at": self.checked_at.isoformat(),
            "epoch_opened_at": self.epoch_opened_at.isoformat() if self.epoch_opened_at else None,
            "differences": self.differences,
            "is_whole": self.is_whole,
        }
