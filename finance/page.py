"""A report as one printable page: totals and charts, then the table, then the certificate. It loads nothing.

Belongs here: HTML. Does not belong here: the figures, the certificate's values, the drawings (`finance/charts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from contracts.tying import Tying
from finance.certificate import Standing
from finance.certificate_tables import certificate_tables, grouped_table, totals_table, with_thousands
from finance.charts import charts_of
from finance.content_hash import is_number
from finance.presentation import heading, moment, shown_rows
from finance.statement import Statement, certificate_file

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
FIGURES_ID = "figures"
"""HTML id of the table of figures; verification reads the table back."""
CERTIFICATE_ID = "certificate"
"""HTML id of the element with the certificate as data; the page does not show it."""
ASIDE = frozenset({"last_recorded_at"})
"""Columns that are shown on the screen and left out in print, because paper is too narrow."""
PAPER_POINTS = 273 / 25.4 * 72
"""Printable width of A4 landscape, in points."""
POINTS_MAX = 8.0
CHARACTER_EM, CELL_EM = 0.56, 0.75
"""Width of a digit in the page's font, and a cell's space around its text, both in multiples of the font size."""
TEXT_MAX = 18
"""Characters; a longer text is broken into lines."""
STAMPS = {Standing.AS_OF: "As of its cuts", Standing.PRELIMINARY: "Preliminary", Standing.CLOSED: "Closed"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the figures: its heading, and how its cells look."""

    name: str

    @property
    def heading(self) -> str:
        """The column's name for people."""
        return heading(self.name)

    @property
    def attribute(self) -> Markup:
        """The HTML class attribute of its cells."""
        named = "number" if is_number(self.name) else "short" if self.name.endswith(("_date", "_month", "_for")) else ""
        chosen = " ".join(item for item in (named, "aside" if self.name in ASIDE else "") if item)
        return Markup(f' class="{chosen}"') if chosen else Markup()


def html_file(statement: Statement) -> bytes:
    """Return the report as an HTML file; the same statement gives the same bytes."""
    report, certificate = statement.report, statement.certificate
    columns = [Column(name=name) for name in report.columns]
    cells = [_cells(report.columns, row) for row in shown_rows(report)]
    printed = [place for place, name in enumerate(report.columns) if name not in ASIDE]
    totals = [one for one in (totals_table(statement), grouped_table(statement)) if one is not None]
    text = _template().render(
        title=statement.title,
        name=statement.name,
        period=statement.period.words if statement.period else "Everything up to the cuts below",
        stamp=STAMPS[statement.standing],
        is_final=statement.standing is not Standing.PRELIMINARY,
        conclusion=certificate.conclusion,
        is_good=certificate.conclusion.startswith(Tying.TIES),
        facts=_facts(statement),
        totals=[(one, print_points(one.headings, one.rows)) for one in totals],
        figures_points=print_points(
            [columns[place].heading for place in printed], [[row[place] for place in printed] for row in cells]
        ),
        figures_id=FIGURES_ID,
        certificate_id=CERTIFICATE_ID,
        columns=columns,
        rows=[list(zip(columns, row, strict=True)) for row in cells],
        charts=charts_of(report),
        certificate=_script_json(certificate_file(statement)),
        tables=certificate_tables(statement, has_totals=False),
    )
    return text.encode()


def print_points(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> float:
    """Return the font size, in points, at which a table fits the width of the paper.

    Texts and headings are broken into lines; numbers are not.
    """
    widths = [
        max(
            [min(max(map(len, heading.split()), default=0), TEXT_MAX)]
            + [len(row[place]) if row[place][-1:].isdigit() else min(len(row[place]), TEXT_MAX) for row in rows]
        )
        for place, heading in enumerate(headings)
    ]
    needed = sum(width * CHARACTER_EM + CELL_EM for width in widths)
    return round(min(POINTS_MAX, PAPER_POINTS / needed), 1) if needed else POINTS_MAX


def _cells(columns: Sequence[str], row: Sequence[str]) -> list[str]:
    return [
        with_thousands(text) if is_number(name) and text else _text(text)
        for name, text in zip(columns, row, strict=True)
    ]


def _text(text: str) -> str:
    # HTML parsers turn a carriage return in the file into a line feed, so write it as a character reference.
    return escape(text).replace("\r", Markup("&#13;"))


def _facts(statement: Statement) -> list[tuple[str, str]]:
    report, certificate = statement.report, statement.certificate
    facts = [
        ("Stands at", ", ".join(f"{pod} cut {cut}" for pod, cut in sorted(report.cuts.items())) or "no pod"),
        ("Data as of", moment(report.data_at.isoformat() if report.data_at else None)),
        ("Closed at" if statement.standing is Standing.CLOSED else "Made at", moment(certificate.made_at)),
        ("Rows", f"{len(report.rows):,}"),
        ("SHA-256 of the content", certificate.content_sha256),
    ]
    if certificate.breaks_unsettled is not None:
        breaks = f"{certificate.breaks_unsettled:,} open, {certificate.breaks_accepted or 0:,} accepted"
        facts.insert(3, ("Differences", breaks))
    return facts


def _script_json(data: bytes) -> str:
    # Only "<" could end a script element, so escape it.
    return data.decode().replace("<", "\\u003c")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
