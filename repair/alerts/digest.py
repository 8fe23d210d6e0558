"""The digest for finance: one message after each scheduled comparison.

It lists the comparisons with their verdicts, the totals of operations and finance per currency, and every unended break
with its age. Incidents that ended before anybody was alerted are counted only here.

Belongs here: that text, pure. Does not belong here: texts of incidents (`texts.py`), when a digest is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from contracts.breaks import BreakGroup, BreakState, team_of
from contracts.money import CURRENCY_EXPONENTS, format_minor
from contracts.text import are, counted
from contracts.verdicts import PairResult, Verdict

GROUPS_SHOWN = 30


class ComparedFigure(Protocol):
    """A total in one currency, with the values of operations and of finance; its name ends with its unit."""

    @property
    def pod(self) -> str:
        """The pod, or `all`."""

    @property
    def currency(self) -> str:
        """The currency."""

    @property
    def name(self) -> str:
        """Name of the total; it ends with the unit."""

    @property
    def operational(self) -> int | None:
        """The total of operations; None: there is none."""

    @property
    def finance(self) -> int | None:
        """The total of finance; None: there is none."""

    @property
    def difference(self) -> int | None:
        """Finance less operations; None when one side has no value."""


@dataclass(frozen=True, kw_only=True)
class Books:
    """The content of a digest."""

    results: Sequence[PairResult]
    figures: Sequence[ComparedFigure]
    """Totals over all pods, and those of single pods that differ."""
    groups: Sequence[BreakGroup]
    """The incidents that have not ended."""
    quiet: Sequence[BreakGroup]
    """Incidents that ended since the last digest and about which nobody was alerted."""
    run: str
    at: datetime
    closing: str = ""
    """Which month can be closed next, or why none can (`stack/looking/outlook.py`)."""


def digest_text(books: Books) -> tuple[str, str]:
    """Return title and text of a digest."""
    good = sum(result.verdict is Verdict.CONSISTENT for result in books.results)
    keys = sum(result.compared for result in books.results)
    others = ", ".join(
        f"{number} {verdict}"
        for verdict in (Verdict.INCONSISTENT, Verdict.LATE, Verdict.UNKNOWN)
        if (number := sum(result.verdict is verdict for result in books.results))
    )
    title = f"[Tieout] {books.at:%Y-%m-%d %H:%M} UTC: {good} of {counted(len(books.results), 'comparison')} consistent"
    lines = [
        f"{good} of {counted(len(books.results), 'comparison')} {are(good)} consistent; "
        f"{counted(keys, 'key was', 'keys were')} compared.",
        *_verdicts(books.results),
        "",
        *_figures(books.figures),
        "",
        *_breaks(books.groups, books.at),
        *_quiet(books.quiet),
        "",
        *([books.closing, ""] if books.closing else []),
        f"Run {books.run}. Look: tieout breaks list; tieout report daily; tieout periods.",
    ]
    return title + (f", {others}" if others else ""), "\n".join(lines)


def _verdicts(results: Sequence[PairResult]) -> list[str]:
    cuts = sorted({(result.pod, result.cut) for result in results if result.cut is not None and not result.cut_vector})
    lines = [f"Cuts: {', '.join(f'{pod} {cut}' for pod, cut in cuts)}."] if cuts else []
    for result in results:
        if result.verdict is Verdict.INCONSISTENT:
            lines.append(
                f"- {result.pair} in {result.pod}: {result.differences:,} of {counted(result.compared, 'key')} "
                f"{'differs' if result.differences == 1 else 'differ'}"
            )
        elif result.verdict is not Verdict.CONSISTENT:
            lines.append(f"- {result.pair} in {result.pod}: {result.verdict}: {result.reason}")
    return lines


def _figures(figures: Sequence[ComparedFigure]) -> list[str]:
    shown = [figure for figure in figures if figure.operational or figure.finance or figure.difference]
    if not shown:
        return ["No totals were compared."]
    lines = ["Operations against finance:"]
    for figure in shown:
        unit = figure.name.removesuffix("_minor").removesuffix("_micro").replace("_", " ")
        pod = "" if figure.pod == "all" else f" in {figure.pod}"
        left = _amount(figure, figure.operational)
        if figure.difference == 0:
            lines.append(f"- {figure.currency} {unit}{pod}: {left}, the same")
        else:
            right, off = _amount(figure, figure.finance), _amount(figure, figure.difference)
            lines.append(f"- {figure.currency} {unit}{pod}: operations {left}, finance {right}, difference {off}")
    return lines


def _amount(figure: ComparedFigure, value: int | None) -> str:
    if value is None:
        return "nothing"
    if figure.name.endswith("_minor") and figure.currency in CURRENCY_EXPONENTS:
        return f"{Decimal(format_minor(value, figure.currency)):,}"
    if figure.name.endswith("_micro"):
        return f"{Decimal(value).scaleb(-6):,.6f}"
    return f"{value:,}"


def _breaks(groups: Sequence[BreakGroup], now: datetime) -> list[str]:
    if not groups:
        return ["No breaks: nothing is open, nothing is accepted."]
    total = {state: sum(group.counts.get(state, 0) for group in groups) for state in BreakState}
    states = (BreakState.OPEN, BreakState.REPAIRING, BreakState.ESCALATED, BreakState.ACCEPTED)
    lines = [f"Breaks: {', '.join(f'{total[state]:,} {state}' for state in states)}."]
    for group in groups[:GROUPS_SHOWN]:
        counts = ", ".join(f"{group.counts[state]:,} {state}" for state in states if group.counts.get(state))
        lines.append(
            f"- {group.pair} in {group.pod}, {group.kind}: {counts}, for {age(now - group.opened_at)} "
            f"({team_of(group.pair)}, incident {group.group_id})"
        )
    others = len(groups) - GROUPS_SHOWN
    return [*lines, f"- and {counted(others, 'more incident')}"] if others > 0 else lines


def _quiet(groups: Sequence[BreakGroup]) -> list[str]:
    return [
        f"- {group.pair} in {group.pod}, {group.kind}: {counted(group.keys, 'key was', 'keys were')} found and "
        f"{'mended' if group.counts.get(BreakState.REPAIRED) else 'vanished'} before anyone was told "
        f"(incident {group.group_id})"
        for group in groups[:GROUPS_SHOWN]
    ]


def age(past: timedelta) -> str:
    """Return a duration as text in its two largest units."""
    minutes = max(0, int(past.total_seconds())) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
