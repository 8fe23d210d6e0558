"""The result of a comparison: verdict, classes of differences, and the result of one pair in one pod.

Belongs here: values that the comparison, its callers, the table of results and repair agree on. Does not belong here:
how anything is compared (`reconcile/`).
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
    """The verdict of a comparison. If a side could not be read, it is `unknown`: never a pass and never a failure."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"
    LATE = "late"
    """The copy did not reach the cut within its allowed lag; nothing was compared."""
    UNKNOWN = "unknown"
    """The comparison itself failed, or a side could not be read; `reason` says why."""


class DifferenceClass(StrEnum):
    """How one key differs. Each key has one class: the first one that fits, in this order."""

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
    """An amount other than tax differs."""
    TAX = "tax"
    """Of the amounts, only tax differs."""
    DIFFERENT = "different"
    """Another column differs."""
    IDENTITY = "identity"
    """Figures of one store that must agree with each other differ."""
    PARKED = "parked"
    """An event could not be applied, and its aggregate has been parked for longer than the largest allowed lag."""


WHOLE_KEY_CLASSES = frozenset({DifferenceClass.MISSING, DifferenceClass.EXTRA, DifferenceClass.DUPLICATE})
"""Classes of whole keys. A result counts all other classes as `different`."""

SHOWN_KEYS = 50
"""The largest number of differing keys per entity in a stored or printed result."""

DIFFERENCES_KEPT = 10_000
"""The largest number of differing keys per pair, pod and entity that a comparison gives to the ledger of breaks."""


@dataclass(frozen=True, kw_only=True)
class ColumnDifference:
    """One column of one key. `difference` is right - left for integers.

    A side without the row has None; then the difference is the error of the copy's sum.
    """

    column: str
    left: Scalar
    right: Scalar
    difference: int | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One key that differs, with the values of both sides."""

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
    """The aggregate of the row (`contracts.ids.aggregate_key`), which a repair rebuilds; None for sums."""


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
    """Whether counts, sums and content hashes all agree. Equal sums with different content are not equal."""


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """What one comparison of one pair in one pod found."""

    pair: str
    pod: str
    verdict: Verdict
    cut: int | None
    """The cut at which both sides were compared; the lowest cut of a cut vector; None when there was no cut."""
    cut_vector: dict[str, str] = field(default_factory=dict)
    """Partition -> position (`cut` or `cut+chunk`) when compared at the copy's own positions; else empty."""
    compared: int = 0
    """Number of compared keys, of either side. With 0 and `consistent`, both sides are empty; `reason` says so."""
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
    """Number of aggregates that were left out because the copy has them parked."""
    late_aggregates: tuple[str, ...] = ()
    """Keys of these aggregates; bounded like the sample."""
    checked_at: datetime
    seconds: float
    reason: str = ""
    scope: Scope | None = None
    """What was compared; None: everything. The result says nothing about a key outside of the scope."""
    epoch_opened_at: datetime | None = None
    """When the epoch of the cut was opened in the pod; None: none ever was. Cuts of a later epoch are newer."""
    moment: int | None = None
    """The number that we took from the ledger's counter before the comparison read anything. The result has seen every
    change of a store that was made before this number was taken. None: it is not known; then time decides.
    """
    peak_memory_mb: float | None = None
    """Peak memory of the comparing process until then, in megabytes; None: it was not measured."""
    is_memory_short: bool = False
    """Whether the comparison fitted in its memory limit only with one thread; a little more data will not fit."""

    @property
    def is_whole(self) -> bool:
        """Whether the comparison was complete, not incremental."""
        return self.scope is None

    @property
    def differences(self) -> int:
        """The number of keys that differ."""
        return self.missing + self.extra + self.different + self.duplicates

    @property
    def is_sample_complete(self) -> bool:
        """Whether the sample lists every key that differs. If so, every other key agrees."""
        return len(self.sample) == self.differences and len(self.late_aggregates) == self.late_keys

    @property
    def is_of_keys(self) -> bool:
        """Whether keys were compared, so that the result also holds for keys that are neither listed nor late.

        A copy with a few parked keys has the verdict late, but all its other keys were compared.
        """
        return self.verdict in (Verdict.CONSISTENT, Verdict.INCONSISTENT) or (
            self.verdict is Verdict.LATE and self.compared > 0
        )

    def bounded(self, keys: int = SHOWN_KEYS) -> PairResult:
        """Return the result with at most `keys` differing keys per entity, late aggregates and ids of the scope."""
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
