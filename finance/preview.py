"""What closing a period would freeze, shown before: totals by merchant, rows, and what was recorded after the cuts.

Belongs here: that value, made by reading only. Does not belong here: the rules of closing and closing itself
(`finance/closing.py`), how it looks on a terminal (`cli/commands/closing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.clock import Clock, utc_now
from contracts.errors import InputError, WarehouseError
from contracts.settings import Settings
from finance.books import closed_periods
from finance.certificate_tables import Table, left_out_table
from finance.closing import Gather, Proof, compared_cuts, obstacles, refuse_closed, statements_at
from finance.content_hash import is_number
from finance.late_facts import Remaining
from finance.periods import Period
from finance.reading import reading
from finance.statement import Statement

TOTALLED = "daily"
"""The report whose totals by merchant are shown: it covers every kind of fact that a day can have."""


@dataclass(frozen=True, kw_only=True)
class MerchantTotals:
    """A merchant's sums in one currency and one posting."""

    posting: str
    """Posting: in the period, or a late arrival for the period `late_for`."""
    late_for: str | None
    merchant_id: str
    currency: str
    sums: Mapping[str, int]
    """Column of amounts or counts -> its signed sum."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What closing a period would freeze."""

    period: Period
    obstacles: tuple[str, ...]
    """Why the period cannot be closed; empty: it can be closed."""
    cuts: Mapping[str, int]
    conclusion: str
    """The certificate's conclusion; empty if the reports cannot be made."""
    breaks_accepted: int | None
    left_out: Table | None = None
    """Aggregates that are left out of the figures; None: there are none."""
    rows: Mapping[str, int]
    """Report -> its number of rows."""
    checksums: Mapping[str, str]
    """Report -> SHA-256 of its content."""
    totals: tuple[MerchantTotals, ...]
    remaining: tuple[Remaining, ...]
    """What is recorded after the cuts, for all days."""

    def as_json(self) -> dict[str, Any]:
        """Return the preview as values that JSON can hold."""
        return {
            "period": str(self.period),
            "obstacles": list(self.obstacles),
            "cuts": dict(self.cuts),
            "conclusion": self.conclusion,
            "breaks_accepted": self.breaks_accepted,
            "left_out": [] if self.left_out is None else [list(row) for row in self.left_out.rows],
            "reports": {
                name: {"rows": rows, "content_sha256": self.checksums[name]} for name, rows in self.rows.items()
            },
            "totals": [{**vars(one), "sums": dict(one.sums)} for one in self.totals],
            "after_the_cuts": [
                {
                    "pod": one.pod,
                    "cut": one.cut,
                    "unknown": one.unknown,
                    "events": [
                        {"kind": kind.aggregate_type, "before": kind.before, "within": kind.within, "later": kind.later}
                        for kind in one.counts
                    ],
                }
                for one in self.remaining
            ],
        }


def preview_close(
    settings: Settings, period: Period, gather: Gather, *, is_empty_allowed: bool = False, clock: Clock = utc_now
) -> Preview:
    """Return what `close_period` would freeze now; locks and writes nothing. ConflictError if it is closed already."""
    with reading(settings) as lake:
        closed = closed_periods(settings.control_dsn)
        refuse_closed(period, [one.close for one in closed])
        proof, now = gather(lake), clock()
        found = obstacles(lake, settings, period, closed, proof, now, is_empty_allowed=is_empty_allowed)
        reasons = tuple(found)
        try:
            made = statements_at(lake, period, [one.close for one in closed], proof.evidence, now)
        except (InputError, WarehouseError):
            # The obstacles already say why the reports cannot be made.
            made = []
    return _preview(period, reasons, proof, made)


def _preview(period: Period, reasons: tuple[str, ...], proof: Proof, made: Sequence[Statement]) -> Preview:
    certificate = made[0].certificate if made else None
    totalled = next((one for one in made if one.report.name == TOTALLED), None)
    return Preview(
        period=period,
        obstacles=reasons,
        cuts=compared_cuts(proof.evidence),
        conclusion=certificate.conclusion if certificate else "",
        breaks_accepted=certificate.breaks_accepted if certificate else None,
        left_out=left_out_table(certificate) if certificate and certificate.left_out else None,
        rows={one.report.name: len(one.report.rows) for one in made},
        checksums={one.report.name: one.certificate.content_sha256 for one in made},
        totals=merchant_totals(totalled) if totalled else (),
        remaining=tuple(proof.remaining),
    )


def merchant_totals(statement: Statement) -> tuple[MerchantTotals, ...]:
    """Return the sums of a period's report by posting, currency and merchant."""
    columns = statement.report.columns
    names = ("posting", "late_for", "currency", "merchant_id")
    places = [columns.index(name) for name in names]
    numbers = [(index, name) for index, name in enumerate(columns) if is_number(name)]
    found: dict[tuple[str, str, str, str], dict[str, int]] = {}
    for row in statement.report.rows:
        posting, late_for, currency, merchant_id = (str(row[place] or "") for place in places)
        sums = found.setdefault((posting, late_for, currency, merchant_id), dict.fromkeys((n for _, n in numbers), 0))
        for index, name in numbers:
            sums[name] += int(str(row[index] or 0))
    return tuple(
        MerchantTotals(
            posting=posting, late_for=late_for or None, merchant_id=merchant_id, currency=currency, sums=sums
        )
        for (posting, late_for, currency, merchant_id), sums in sorted(found.items())
    )
